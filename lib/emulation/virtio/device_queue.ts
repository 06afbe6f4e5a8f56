/**
 * The device's side of a virtqueue, whatever its layout.
 *
 * @module
 */
import type { DmaTable } from "../../vfio/vfio_user/dma_table.ts";
import type { Chain } from "./chain.ts";

/** What a queue needs of the device that it belongs to. */
export interface DeviceQueueOwner {
  /** The client's memory. */
  readonly dma: DmaTable;
  /** The driver broke rule `rule`: stop the device. The queue is broken already. */
  violation(rule: string, message: string, queue: number): void;
  /** Send a used buffer notification for this queue. */
  interrupt(queue: number): void;
}

/** What the driver wrote into the registers of a queue, and what was negotiated for it. */
export interface DeviceQueueSetup {
  /** Number of the queue. */
  readonly index: number;
  /** Entries; a power of two up to 32768 for a split ring. */
  readonly size: number;
  /** IOVA of the descriptor area. */
  readonly descriptorArea: bigint;
  /** IOVA of the driver area (split: available ring). */
  readonly driverArea: bigint;
  /** IOVA of the device area (split: used ring). */
  readonly deviceArea: bigint;
  /** INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** EVENT_IDX was negotiated. */
  readonly eventIndex: boolean;
}

/**
 * The device's side of one queue. No call allocates or throws on what the driver did: a violation is told to the owner, the queue is
 * broken from then on, and a broken queue is empty and takes nothing.
 *
 * A burst is: `pop` … `pushUsed` …, then one `publish`. Before sleeping: `arm`. While busy: `suppress`.
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

  /** Chains that the driver made available and that were not popped yet. */
  available(): number;
  /** Takes the next chain. @returns its id, or −1 when there is none */
  pop(into: Chain): number;
  /** Gives the chain that was popped last back, as if it had not been popped. It may be repeated, last first. */
  unpop(): void;
  /**
   * Returns a chain, of whose device-writable part `lengthBytes` were written. Invisible until `publish`.
   * @throws UsageError when the device does not hold this chain: a mistake of the device
   */
  pushUsed(id: number, lengthBytes: number): void;
  /** Makes what was pushed visible, and notifies the driver when it wants to be. @returns whether it was notified */
  publish(): boolean;
  /** Asks the driver not to notify (a hint). */
  suppress(): void;
  /** Asks to be notified when more than `beyond` (default 0) chains are available. @returns true when they are already */
  arm(beyond?: number): boolean;
}
