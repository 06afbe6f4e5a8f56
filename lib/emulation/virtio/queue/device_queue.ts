/**
 * The device's side of a virtqueue, whatever its layout.
 *
 * @module
 */
import type { DmaTable } from "../../../sockets/dma_table.ts";
import type { QueueState } from "../../../virtio/spec/queue_state.ts";
import type { Burst } from "./burst.ts";
import type { Chain } from "./chain.ts";

/** What a queue needs of the device that it belongs to. */
export interface QueueDevice {
  /** The client's memory. */
  readonly dma: DmaTable;
  /** The driver broke rule `rule`: stop the device. The queue is broken already. */
  violation(rule: string, message: string, queue: number): void;
  /** The driver did what it must not, and the device can go on. */
  report?(rule: string, message: string, queue: number): void;
  /** Send a used buffer notification for this queue. */
  interrupt(queue: number): void;
}

/** What the driver wrote into the registers of a queue, and what was negotiated for it. */
export interface DeviceQueueSetup {
  /** Number of the queue. */
  readonly index: number;
  /** Ring layout; default split. */
  readonly layout?: "split" | "packed";
  /** Entries, 1 to 32768; a power of two for a split ring. */
  readonly size: number;
  /** IOVA of the descriptor area (split: descriptor table; packed: descriptor ring). */
  readonly descriptorArea: bigint;
  /** IOVA of the driver area (split: available ring; packed: driver event suppression). */
  readonly driverArea: bigint;
  /** IOVA of the device area (split: used ring; packed: device event suppression). */
  readonly deviceArea: bigint;
  /** INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** EVENT_IDX was negotiated. */
  readonly eventIndex: boolean;
  /** IN_ORDER was negotiated: chains are returned in the order in which they were popped. */
  readonly inOrder?: boolean;
  /**
   * Loads may overtake one another: each flags of a packed ring, and what is read behind a store, is loaded atomically. Default: what this processor
   * needs.
   */
  readonly acquiresEach?: boolean;
  /** With `inOrder`: what is returned in one burst goes into as few used elements as the standard lets it. */
  readonly usedBatches?: boolean;
  /** With `inOrder` and a split ring: chains may begin at any descriptor, as some drivers have it. */
  readonly anyHead?: boolean | undefined;
  /**
   * Go on where the ring's memory says that a device left it with all chains returned (`DeviceQueue.leave`). Not together with `state`.
   */
  readonly left?: boolean;
  /** Where to go on (QUEUE_STATE); default: a fresh ring. The used index of a split ring is then taken from the ring itself. */
  readonly state?: QueueState;
}

/**
 * The device's side of one queue. No call allocates or throws on what the driver did: a violation is told to the device, the queue is
 * broken from then on, and a broken queue is empty and takes nothing.
 *
 * A burst is: `pop` … `pushUsed` …, then one `publish`; `popBurst` and `pushBurst` do the same for many chains of one buffer in one call, and may be mixed
 * with the others. Before sleeping: `arm`. While busy: `suppress`.
 */
export interface DeviceQueue {
  /** Number of the queue. */
  readonly index: number;
  /** Ring layout. */
  readonly layout: "split" | "packed";
  /** Entries. */
  readonly size: number;
  /** A violation was found. */
  readonly broken: boolean;
  /** Chains that were popped and not pushed back. */
  readonly inFlight: number;
  /** Chains that were popped since the queue was enabled. */
  readonly taken: number;

  /**
   * Where the device stands, as what was published says (reference 6.1). A chain that was popped counts as taken, whether it was pushed back
   * or not: what is in flight is for the driver to offer again.
   */
  state(): QueueState;
  /**
   * What is wrong with the position that a notification carried (NOTIFICATION_DATA; reference 1.6); undefined when nothing is.
   * An old notification, from before chains that are there by now, is in order.
   */
  checkNotification(nextOffset: number, nextWrap: number): string | undefined;

  /** Chains that the driver made available and that were not popped yet; no more than `atMost` are looked for. */
  available(atMost?: number): number;
  /** Takes the next chain. @returns its id (split: below `size`; packed: any 16 bits), or −1 when there is none */
  pop(into: Chain): number;
  /**
   * Takes the next chains, up to `most` and what `into` holds, as long as each is one buffer in memory that this process maps, all device-readable or
   * all device-writable. Of any other chain, one that breaks a rule too, it takes none, and says nothing: the next is for `pop`.
   * @returns how many; 0: there are none, or the next is for `pop`
   */
  popBurst(into: Burst, most: number, deviceWrites: boolean): number;
  /** Gives the chain that was popped last back, as if it had not been popped. It may be repeated, last first. */
  unpop(): void;
  /**
   * Returns a chain, of whose device-writable part `lengthBytes` were written. Invisible until `publish`.
   * @throws UsageError when the device does not hold this chain, or with `inOrder` holds an older one: a mistake of the device
   */
  pushUsed(id: number, lengthBytes: number): void;
  /**
   * Returns the first `count` chains of a burst, each with as many bytes as `written` says. Invisible until `publish`.
   * @throws UsageError as `pushUsed`
   */
  pushBurst(from: Burst, count: number): void;
  /** Makes what was pushed visible, and notifies the driver when it wants to be. @returns whether it was notified */
  publish(): boolean;
  /** Publishes everything, and leaves the device's place in the ring's memory for `DeviceQueueSetup.left`. */
  leave(): void;
  /** Asks the driver not to notify (a hint). */
  suppress(): void;
  /** Asks to be notified when more than `beyond` (default 0) chains are available. @returns true when they are already */
  arm(beyond?: number): boolean;
}
