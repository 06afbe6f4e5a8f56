/**
 * The seam `DeviceModel`: what a virtio device does, behind whatever carries its registers.
 *
 * @module
 */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { DmaTable } from "../sockets/dma_table.ts";
import type { RegionArea } from "../vfio/device.ts";
import type { ServedMapping } from "../sockets/vfio_user/server/served_device.ts";
import type { DeviceControls } from "./device_control.ts";
import type { DevicePart } from "../virtio/spec/device_parts.ts";
import type { DeviceQueue } from "./virtio/queue/device_queue.ts";

/** Something that a driver did and that the standard forbids, or that a device model could not carry out. */
export interface Violation {
  /** PCI address of the function; of a managed device that of its management function, and its id: `0000:01:00.0/5`. */
  readonly function: string;
  /** Virtqueue, when it concerns one. */
  readonly queue?: number;
  /** Rule id of the protocol reference, or a section of the standard. */
  readonly rule: string;
  /** What was done, with the numbers. */
  readonly message: string;
}

/** A network interface, as the emulated kernel shows it. */
export interface NetInterface {
  /** `52:54:00:12:34:56` */
  readonly mac: string;
  /** In bytes. */
  readonly mtu: number;
  /** What the host uses it for, one phrase each. */
  readonly hostUse?: readonly string[];
}

/** What the core offers its model. */
export interface DeviceCore {
  /** PCI address of the function. */
  readonly name: string;
  /** Features that were negotiated; 0 before FEATURES_OK, on the legacy interface before first use. */
  readonly negotiatedFeatures: bigint;
  /**
   * A driver uses the legacy interface: features 0–31 only, no VERSION_1, and config space may be written before features are final
   * (virtio 1.2 §2.2.3, §3.1.2). True from its first write on, false again after a reset. Absent: never.
   */
  readonly legacy?: boolean;
  /** All features that it offers, those of rings and transport included. */
  readonly offered: bigint;
  /** True while the device may touch memory: from DRIVER_OK (on the legacy interface: from first use) to reset or violation, with a client and Bus Master Enable. */
  readonly live: boolean;
  /** The client's memory; null while no client is attached. Its ranges may change between two calls of the model. */
  readonly dma: DmaTable | null;
  /** MSI-X vectors that the driver can name: 0 while it does not use MSI-X. */
  readonly vectors: number;
  /** Sends MSI-X vector `vector`, for devices whose drivers bind vectors to other things than queues. @returns false when it cannot be sent now */
  raiseVector(vector: number): boolean;
  /** The owner of the function stopped it while a driver ran (device parts): that driver may go on, here or on another function. Absent: never. */
  readonly stopped?: boolean;
  /** Where `DeviceModel.notifyArea` begins on the platform; undefined or absent where that is not known. */
  readonly notifyAddress?: bigint | undefined;
  /**
   * A front end stands between the driver and this device: it says which queues are in use, and answers control commands itself where it does not
   * negotiate their queue. Absent: none does.
   */
  readonly behindFrontEnd?: boolean;
  /** The enabled queue; undefined when there is none or the device is not live. */
  queue(index: number): DeviceQueue | undefined;
  /** The driver of a live device disabled the queue, and may go on with it, here or on another device. Absent: no transport can do that. */
  paused?(index: number): boolean;
  /** The model changed its config space: bump the generation, raise the config interrupt. */
  configChanged(): void;
  /**
   * Something other than this device's driver gave it work or changed what `arm` has to ask for, such as another port of its switch: it is
   * polled and armed again. Absent where everything is polled.
   */
  wake?(): void;
  /** Notes something that the driver must not do and that the device can live with. @param of the device that it is about, where it is not this one */
  report(rule: string, message: string, queue?: number, of?: string): void;
  /** Reports, sets DEVICE_NEEDS_RESET and stops the device. */
  violation(rule: string, message: string, queue?: number): void;
  /**
   * Calls `handler` whenever `fd` is readable or its other end is gone (level-triggered), also without a driver; `poll` follows when there is
   * one. The descriptor stays the model's. Absent where there is no loop that could wait for it: look at it in `poll`.
   */
  readonly watch?: ((fd: OwnedFd, handler: () => void) => void) | undefined;
  /** Ends `watch`; to be called before the descriptor is closed. One that is not watched is fine. */
  readonly unwatch?: ((fd: OwnedFd) => void) | undefined;
}

/** A shared memory region. */
export interface SharedMemoryArea {
  /** 1 to 255: its id. */
  readonly id: number;
  /** In bytes. */
  readonly sizeBytes: number;
}

/** Shared memory regions of a device (reference 1.7). Offsets count from a region's start; accesses never cross its end. */
export interface ModelSharedMemory {
  /** The regions, constant. */
  readonly areas: readonly SharedMemoryArea[];
  /** Fills `into`. */
  read(id: number, offset: number, into: Uint8Array): void;
  /** Takes `from`, which is only valid during the call; the width of a register's write is its length. */
  write(id: number, offset: number, from: Uint8Array): void;
  /**
   * The file behind whole pages of a region, for the driver's process to map. The file stays the model's, open for reading only unless `writable`.
   * @returns undefined when there is nothing to map there @throws SyscallError, such as EACCES when it must not be mapped so
   */
  map(id: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined;
  /** Where an eventfd stands for a write of `sizeBytes` (0: of any size) to a region; constant. */
  doorbells(id: number): readonly RegionArea[];
  /** The doorbell at `offset` was rung at least once. */
  rang(id: number, offset: number): void;
}

/** Places in a BAR where a driver notifies queues of other devices than this one: those that it manages. Offsets count from its start. */
export interface ModelNotifyArea {
  /** In bytes. */
  readonly sizeBytes: number;
  /** Where eventfds stand for writes; constant. One eventfd for each list. */
  readonly doorbells: readonly (readonly RegionArea[])[];
  /** A driver wrote there. */
  written(offset: number, from: Uint8Array): void;
  /** The doorbell of the list that begins at `offset` was rung at least once. */
  rang(offset: number): void;
}

/** The state of a device type as device parts (virtio 1.4 §2.13). Queues, features and status are the core's. */
export interface ModelParts {
  /** What a driver that accepted these features can have set and no part holds; undefined when parts hold all. */
  lack?(accepted: bigint): string | undefined;
  /** Parts of the device type, in order of their selectors. */
  get?(): readonly DevicePart[];
  /** Most bytes that they can ever take, headers included. Absent: there are none. */
  readonly mostBytes?: number;
  /** Why a part of the device type cannot be taken; undefined when it can. Nothing changes. */
  problem?(part: DevicePart, accepted: bigint): string | undefined;
  /** Takes a part that `problem` has nothing against. The device is stopped. */
  set?(part: DevicePart): void;
  /** `start` was called for a driver that ran on another function: forget what only this one's queues meant. `set` may follow. */
  restored?(): void;
  /** The function was stopped, or goes on. Nothing is in flight. */
  stopChanged?(): void;
}

/** A virtio device's behaviour. */
export interface DeviceModel {
  /** Virtio device id. */
  readonly deviceId: number;
  /** Feature bits of the device type (0–23, 50–63) that it offers; the core adds ring and transport bits. */
  readonly features: bigint;
  /** Largest size of each queue; as many as there are queues. */
  readonly queueSizes: readonly number[];
  /** Bytes of device-specific configuration; 0 for none. */
  readonly configSizeBytes: number;
  /** Class code of the PCI function that carries it. */
  readonly classCode: number;
  /** Shown by sysfs, for network devices. */
  readonly netInterface?: NetInterface;
  /** Its state as device parts. Absent: parts do not hold all of it, and a running device cannot be restored from them. */
  readonly parts?: ModelParts;
  /** Its shared memory regions, if it has any. */
  readonly sharedMemory?: ModelSharedMemory;
  /** Where queues of other devices are notified, if it manages some. */
  readonly notifyArea?: ModelNotifyArea;
  /** MSI-X vectors for `raiseVector`, beside those of the queues and of config changes. Default 0. */
  readonly extraVectors?: number;
  /** It shares its driver's memory with others: `DmaRegion.file` is wanted. Default false. */
  readonly keepsDmaFiles?: boolean;
  /** Address spaces of its driver beside `DeviceCore.dma`, by id from 1 on: filled by that driver. Absent: none. */
  readonly addressSpaces?: readonly DmaTable[];

  /** What may be done to it from outside. Absent: nothing that is its own. */
  readonly controls?: DeviceControls;

  /** Called once, before anything else. */
  connect(core: DeviceCore): void;
  /** The function is gone for good: let go of everything shared. May be called twice, or without `connect`. */
  close?(): void;
  /** What is wrong with a subset of `features` (bits that need others); undefined when nothing is. FEATURES_OK is then refused. */
  checkFeatures?(accepted: bigint): string | undefined;
  /** `configSizeBytes` of configuration as it is now, or more, of which no driver sees the rest. Absent where there is none. */
  config?(): Uint8Array;
  /** `writeConfig` is called before FEATURES_OK too. Default false: such a write breaks 1.1 and is reported. */
  readonly configWritableAlways?: boolean;
  /** Absent where nothing is writable: writes are ignored. */
  writeConfig?(offset: number, from: Uint8Array): void;
  /** DRIVER_OK was set: queues and features are final. On the legacy interface, which has no such moment, features are, and queues may follow. */
  start?(): void;
  /**
   * Device reset or client gone: forget everything of the driver.
   * @param suspended it is a device reset of a running driver that negotiated QUEUE_STATE: the queues' states are kept (N-6.3), so it may be back soon
   */
  reset?(suspended?: boolean): void;
  /** The device may touch memory again, though its driver did nothing to it: Bus Master Enable was set. It is polled; others that it carries are not. */
  resumed?(): void;
  /** The driver notified this queue. Work is done in `poll`. */
  notified?(queue: number): void;
  /** Does pending work of all queues, at most `budget` buffers. @returns how many were moved; 0 means idle. */
  poll(budget: number): number;
  /** Before sleeping: ask for notifications on every queue. @returns true when work arrived meanwhile. */
  arm(): boolean;
  /** After `arm`: poll again after so many milliseconds even when nothing rings; undefined: no need. */
  readonly wakeAfterMs?: number | undefined;
}
