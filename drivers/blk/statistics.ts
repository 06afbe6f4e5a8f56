/**
 * Counters of a block device.
 *
 * @module
 */

/** Their places. */
export const COUNT = {
  reads: 0,
  readBytes: 1,
  writes: 2,
  writtenBytes: 3,
  flushes: 4,
  others: 5,
  failures: 6,
  notifications: 7,
} as const;

/** Counters of a device since it was opened, all queues together; a reset does not clear them. Requests are counted when they are queued. */
export interface BlkStatistics {
  /** Read requests. */
  readonly reads: number;
  /** Bytes that were asked for. */
  readonly readBytes: number;
  /** Write requests. */
  readonly writes: number;
  /** Bytes that were to be written. */
  readonly writtenBytes: number;
  /** Flush requests. */
  readonly flushes: number;
  /** Discard, write zeroes and get id requests. */
  readonly others: number;
  /** Requests that were answered with another status than OK. */
  readonly failures: number;
  /** Doorbells that were rung. */
  readonly notifications: number;
  /** Interrupts that were taken from eventfds. */
  readonly interrupts: number;
  /** Times that the device was reset after the first start. */
  readonly resets: number;
}
