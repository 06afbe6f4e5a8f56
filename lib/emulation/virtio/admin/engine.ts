/**
 * The seam between the core of an owner (PF) and what answers its administration queues.
 *
 * @module
 */
import type { DeviceCore } from "../../device_model.ts";
import type { GroupMember, NotifyArea } from "./handler.ts";

/** What answers the administration queues of one owner. */
export interface AdminEngine {
  /** Largest size of each administration queue; as many as there are queues. */
  readonly queueSizes: readonly number[];
  /** Bytes of the owner's BAR behind its doorbells that are notify addresses of members: 2 a member, or 0 in all. */
  readonly notifyBytes: number;
  /**
   * Called once, before anything else.
   * @param firstQueue number of its first administration queue @param notifyArea where the notify addresses of its members begin (`notifyBytes`)
   */
  connect(owner: DeviceCore, firstQueue: number, notifyArea: NotifyArea): void;
  /** The function is gone for good. May be called twice, or without `connect`. */
  close(): void;
  /** Device reset of the owner, or its client is gone: forget everything of the driver. */
  reset(): void;
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
