/**
 * The seam `VirtioTransport`: how a virtio device's registers are reached, whatever carries them.
 *
 * @module
 */
import type { EventFd, MappedMemory, Parcel } from "../../../ffi/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import type { RegionArea } from "../../vfio/device.ts";
import type { LentRegister } from "../../vfio/doorbell.ts";
import type { InterruptVector } from "../../wait/interrupt_vector.ts";
import type { Lifeline } from "../../wait/lifeline.ts";
import type { LegacyNotifyArea } from "../admin/legacy_access.ts";
import type { Profile } from "../spec/features.ts";
import type { QueueState } from "../spec/queue_state.ts";
import type { QueueView } from "../view/queue_view.ts";

export type { Profile };

/** Kind of interrupt in use. `intx` is the interrupt line, on any bus; `msi` are messages that the driver programs (virtio-mmio). */
export type InterruptKind = "msix" | "msi" | "intx" | "none";

/** Where the rings of a queue are, as IOVAs. */
export interface QueueAddresses {
  /** Number of descriptors. */
  readonly size: number;
  /** Descriptor table, or packed descriptor ring. */
  readonly descriptorArea: bigint;
  /** Available ring, or the driver's event suppression. */
  readonly driverArea: bigint;
  /** Used ring, or the device's event suppression. */
  readonly deviceArea: bigint;
}

/**
 * Readies the driver's side of a queue for another device that takes its rings over. Called while no device uses them.
 * @param offersAgain all that was not returned; else the device knows what was in its predecessor's hands @returns where the device begins
 * @throws ClosedError, or why the queue is broken
 */
export type QueueTakeover = (offersAgain: boolean) => QueueState;

/** Notifies the device of one queue (reference 1.6, 2.2). */
export interface Doorbell {
  /** Tells the device that buffers are available. `nextOffset`/`nextWrap` matter with NOTIFICATION_DATA only. */
  ring(nextOffset: number, nextWrap: number): void;
  /**
   * The same for another thread of this process; undefined, or absent, where a notification needs this thread. @throws SyscallError
   * @internal
   */
  lend?(parcel: Parcel): LentDoorbell | undefined;
}

/** A queue's doorbell as another thread gets it: plain data. */
export interface LentDoorbell {
  /** What is written. */
  readonly identifier: number;
  /** With the next place to be filled in the upper bits (NOTIFICATION_DATA). */
  readonly withData: boolean;
  /** Where. */
  readonly register: LentRegister;
}

/** A shared memory region (reference 1.7), or what a device has in its place. */
export interface SharedMemory {
  /** Size of the region. */
  readonly sizeBytes: number;
  /**
   * Maps it, or whole pages of it. What is mapped is closed with the function at the latest. A device may let parts of a region be mapped only while
   * they mean something, and for reading only.
   * @throws UsageError (not whole pages of the region), UnsupportedError (this part cannot be mapped, or not so; it may still be reached by `read`
   * and `write`), SyscallError
   */
  map(area?: RegionArea, options?: { writable?: boolean }): MappedMemory;
  /** Reads exactly `into.length` bytes without a mapping. */
  read(offset: number, into: Uint8Array<ArrayBuffer>): void;
  /** Writes exactly `from.length` bytes without a mapping; 1, 2, 4 and 8 bytes are one access of that width. */
  write(offset: number, from: Uint8Array<ArrayBuffer>): void;
  /** A register of the region that is written to notify, looked up once. @throws UsageError outside the region, or unaligned */
  doorbell(offset: number, width: 1 | 2 | 4): { write(value: number): void };
}

/**
 * The states of a device's queues: in profile `queue-state` they outlive its reset (reference 6), behind a transport virtqueue the disabling of a queue
 * (class VQ_STATE; reference 4.1).
 */
export interface QueueStateAccess {
  /** The feature that has to be negotiated for it; 0n: none. */
  readonly feature: bigint;
  /**
   * The state of a queue that was stopped.
   * @param size descriptors that the queue had
   * @throws UnsupportedError (not offered), UsageError (profile `queue-state`: before a reset or after ACKNOWLEDGE; N-6.2, N-6.3), DeviceError for a
   * state that cannot be
   */
  read(queue: number, layout: "split" | "packed", size: number): QueueState;
  /**
   * Sets the state that a queue starts from, before it is enabled.
   * @param size descriptors that the queue will have
   * @throws UnsupportedError (QUEUE_STATE not negotiated), UsageError before FEATURES_OK or after DRIVER_OK (N-6.1), for an enabled queue, or for a state
   * outside the queue
   */
  write(queue: number, state: QueueState, size: number): void;
}

/** Of a device whose other side can be lost and come back. */
export interface DeviceAbsence {
  /** It is lost now: nothing is answered until it is back. */
  readonly away: boolean;
  /** How often it came back. */
  readonly returns: number;
  /**
   * Calls `handler` when it is back and its queues run again. The device is as its driver brought it to DRIVER_OK; what went to the one before by way of
   * a queue (commands) the handler says again. What it rejects with is why the device is gone. @returns forgets the handler
   */
  onReturn(handler: () => Promise<void>): () => void;
}

/** A virtio device, before anything is negotiated. Every call is synchronous; after `close()` it is a `ClosedError`. */
export interface VirtioTransport extends Disposable {
  /** Function or path, for messages. */
  readonly name: string;
  /** What carries the registers. */
  readonly kind: "pci-modern" | "pci-legacy-admin" | "mmio" | "transport-vq" | "vhost-user";
  /** Meaning of bits 39–42. */
  readonly profile: Profile;
  /**
   * The legacy interface (virtio 1.4 §2.2.3, §3.1.1): 32 feature bits, no VERSION_1 and no FEATURES_OK, rings in one contiguous area, and the
   * structures of the legacy device types.
   */
  readonly legacy: boolean;
  /** Queues have the size that the device says, and no other: legacy PCI. Default: the driver chooses, up to that. */
  readonly fixedQueueSizes?: boolean;
  /** Virtio device id: 1 net, 2 block, 4 entropy, … */
  readonly deviceId: number;
  /** Queues that the device has (admin queues not counted). */
  readonly queueCount: number;
  /** Administration queues (ADMIN_VQ; reference 2.2): their first number and how many; `count` 0 when the device has none. Absent where there can be none. */
  readonly adminQueues?: { readonly first: number; readonly count: number };
  /** Feature bits that are about what this transport carries, and that it handles: accepted unasked when they are offered. Default none. */
  readonly ownFeatures?: bigint;
  /** VF Migration Capable of a PF: then no command may be sent to its VFs (N-3.7). Absent: no PF, or it is not. */
  readonly vfMigrationCapable?: boolean;
  /** DMA memory that the device can reach. */
  readonly dma: DmaSpace;
  /**
   * The addresses of `dma` are an IOMMU's: the device must take ACCESS_PLATFORM, without which it may use them as physical ones (reference 1.2).
   * Default: false.
   */
  readonly needsAccessPlatform?: boolean;
  /** True after `close`. */
  readonly closed: boolean;
  /** Of a device that another process serves: a `Waiter` watches it during a sleep, a queue that is found empty while polling. */
  readonly lifeline?: Lifeline | undefined;
  /** Calls `handler` once when this transport is closed: whoever waits for the device hears of it. @returns forgets it @internal */
  onClose?(handler: () => void): () => void;

  /** Features offered, as far as this transport can carry them. */
  readDeviceFeatures(): bigint;
  /** Writes what the driver accepts, and remembers it: FEATURES_OK fixes it. @throws UsageError for a bit that this transport or profile cannot carry. */
  writeDriverFeatures(bits: bigint): void;
  /** As written last. */
  readonly driverFeatures: bigint;
  /**
   * The device goes on with a driver that negotiated with another: what it accepted there, without writing it here, where it came with the
   * device's state (device parts). Absent where no driver can move to. @throws UsageError for bits that cannot be carried
   */
  adoptDriverFeatures?(bits: bigint): void;

  /** What this transport's text calls a register that has a name of its own on PCI: `Status` for `device_status`. Default: as on PCI. */
  registerName?(register: string): string;
  /** Why `device_status` may read as all ones, besides that the function is gone. Default: as on PCI, whose memory decoding may be off. */
  readonly allOnesReason?: string;

  /** `device_status`. */
  readStatus(): number;
  /** Writes the byte as it is; `VirtioDevice` keeps the order of N-1.1. */
  writeStatus(status: number): void;
  /** Writes 0 and waits until 0 reads back. @throws TimeoutError naming the device when it never does. */
  reset(timeoutMs?: number): void;

  /** Bytes of the device-specific config space; 0 when there is none. */
  readonly configSizeBytes: number;
  /** Changes whenever the config space does. */
  configGeneration(): number;
  /** One access of that width. @throws UsageError outside the config space or unaligned. */
  readConfig(offset: number, width: 1 | 2 | 4): number;
  /** One access of that width. @throws UsageError as `readConfig`, or for a value that does not fit */
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void;

  /** Largest size that the device takes; 0 when there is no such queue. */
  queueMaxSize(queue: number): number;
  /**
   * Programs size and addresses, then enables.
   * @param takeover for a transport whose device can be lost and come back @throws DeviceError when the device does not keep what was written.
   */
  enableQueue(queue: number, addresses: QueueAddresses, takeover?: QueueTakeover): void;
  /** Whether the queue is set up. */
  queueEnabled(queue: number): boolean;
  /** Stops a queue, which keeps where it stands until the device is reset. Absent where only a reset stops one. */
  disableQueue?(queue: number): void;
  /** Resets one queue and waits (RING_RESET negotiated). It has no vector afterwards. Absent where no queue can be reset alone. @throws UnsupportedError, TimeoutError */
  readonly resetQueue?: ((queue: number, timeoutMs?: number) => void) | undefined;
  /** The registers of a queue as they stand, for people who look at them. */
  queueView(queue: number): QueueView;
  /** Profile `queue-state` (reference 6), and behind a transport virtqueue. Absent where states can neither be read nor written: `requireQueueState` says why. */
  readonly queueState?: QueueStateAccess | undefined;
  /** Of a VF that is driven through its owner: where it is notified; null for commands. Absent elsewhere. */
  readonly notifyPlace?: LegacyNotifyArea | null;
  /** After `enableQueue`. */
  doorbell(queue: number): Doorbell;

  /** Why it has no interrupts, where it could have some by its nature; else undefined. */
  readonly interruptLack?: string | undefined;
  /** What is on now, where it may be another than was asked for: a device that takes no messages is driven by its line (N-7.3). Absent: what was asked for. */
  readonly interruptKind?: InterruptKind;
  /** Vectors that the device has of a kind; 1 for a line when it has one. */
  interruptCount(kind: InterruptKind): number;
  /**
   * Turns interrupts on: one vector object each.
   * @param eventFds to be signalled, `count` of them; the transport's from now on, whatever happens. Default: new ones. @throws UnsupportedError
   */
  enableInterrupts(kind: InterruptKind, count: number, eventFds?: readonly EventFd[]): InterruptVector[];
  /** Turns them off and closes their eventfds. */
  disableInterrupts(): void;
  /** Vector of configuration changes (MSI-X, MSI); null for none. MSI-X is read back. @throws DeviceError when the device refuses. */
  setConfigVector(vector: number | null): void;
  /** Vector of a queue (MSI-X, MSI), set before it is enabled; null for none. MSI-X is read back. @throws DeviceError when the device refuses. */
  setQueueVector(queue: number, vector: number | null): void;
  /** Reads and clears what the line was raised for: 1 queue, 2 config. */
  readInterruptStatus(): number;

  /** Absent where nobody serves the device who could come back. */
  readonly absence?: DeviceAbsence;

  /** Shared memory region by id (reference 1.7); undefined when there is none. Absent where there can be none. */
  sharedMemory?(id: number): SharedMemory | undefined;

  /** Releases what it holds. May be called again. */
  close(): void;
}
