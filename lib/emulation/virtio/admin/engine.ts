/**
 * The seam between the front of an owner (PF) and what answers its administration queues.
 *
 * @module
 */
import type { DeviceQueue } from "../device_queue.ts";

/** What the front offers. Queues are counted from 0 among the administration queues. */
export interface AdminFront {
  /** PCI address of the owner. */
  readonly name: string;
  /** The device may touch memory, and ADMIN_VQ was negotiated. */
  readonly live: boolean;
  /** An enabled administration queue of a live device. */
  queue(index: number): DeviceQueue | undefined;
  /** Notes what the driver must not do and the device can live with. `queue` is an administration queue. */
  report(rule: string, message: string, queue?: number): void;
  /** Reports, sets DEVICE_NEEDS_RESET and stops the device. */
  violation(rule: string, message: string, queue?: number): void;
}

/** What answers the administration queues of one owner. */
export interface AdminEngine {
  /** Largest size of each administration queue; as many as there are queues. */
  readonly queueSizes: readonly number[];
  /** Called once, before anything else. */
  connect(front: AdminFront): void;
  /** The function is gone for good. May be called twice, or without `connect`. */
  close(): void;
  /** Device reset of the owner, or its client is gone: forget everything of the driver. */
  reset(): void;
  /** The driver notified this queue. Work is done in `poll`. */
  notified(queue: number): void;
  /** Does pending work, at most `budget` commands. @returns how many were done; 0 means idle */
  poll(budget: number): number;
  /** Before sleeping: ask for notifications on every queue. @returns true when work arrived meanwhile */
  arm(): boolean;
  /** NumVFs of the owner took effect; 0: VF Enable was cleared. */
  vfsEnabled(count: number): void;
}
