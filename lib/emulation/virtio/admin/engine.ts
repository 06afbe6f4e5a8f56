/**
 * The seam between the front of an owner (PF) and what answers its administration queues.
 *
 * @module
 */
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { GroupMember } from "./handler.ts";

/** What the front offers. Queues are counted from 0 among the administration queues. */
export interface AdminFront {
  /** PCI address of the owner. */
  readonly name: string;
  /** The device may touch memory, and ADMIN_VQ was negotiated. */
  readonly live: boolean;
  /** An enabled administration queue of a live device. */
  queue(index: number): DeviceQueue | undefined;
  /** Where the owner's notify addresses of its members begin (`notifyBytes` of the engine). */
  readonly notifyArea: { readonly bar: number; readonly offset: number };
  /** Notes what the driver must not do and the device can live with. `queue` is an administration queue. */
  report(rule: string, message: string, queue?: number): void;
  /** Reports, sets DEVICE_NEEDS_RESET and stops the device. */
  violation(rule: string, message: string, queue?: number): void;
}

/** What answers the administration queues of one owner. */
export interface AdminEngine {
  /** Largest size of each administration queue; as many as there are queues. */
  readonly queueSizes: readonly number[];
  /** Bytes of the owner's BAR behind its doorbells that are notify addresses of members: 2 a member, or 0 in all. */
  readonly notifyBytes: number;
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
  /** A write to the notify addresses, `offset` bytes from the first. */
  notifyWritten(offset: number, from: Uint8Array): void;
  /** NumVFs of the owner took effect; 0: VF Enable was cleared. */
  vfsEnabled(count: number): void;
}

/** A VF's place in the group of its PF. */
export interface GroupPlace {
  /** The VF is there: called once. */
  join(member: GroupMember): void;
  /** It is gone. May be called twice, or without `join`. */
  leave(): void;
}
