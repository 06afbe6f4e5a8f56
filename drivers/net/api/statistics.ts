/**
 * Counters of a network device.
 *
 * @module
 */

/** Places of those of one direction. */
export const COUNT = { frames: 0, bytes: 1, dropped: 2, notifications: 3 } as const;

/** Counters of one direction. */
export interface QueueStatistics {
  /** Frames that were handed out, or queued to be sent. */
  readonly frames: number;
  /** Bytes of frames, without the virtio header. */
  readonly bytes: number;
  /** Received frames of no length; sends that found no free buffer. */
  readonly dropped: number;
  /** Doorbells that were rung. */
  readonly notifications: number;
}

/** Counters of a device since it was opened; a reset does not clear them. */
export interface NetStatistics {
  /** All receive queues together. */
  readonly received: QueueStatistics;
  /** All transmit queues together. */
  readonly transmitted: QueueStatistics;
  /** Interrupts that were taken from eventfds. */
  readonly interrupts: number;
  /** Times that the device was reset after the first start. */
  readonly resets: number;
}
