/**
 * How a channel is made.
 *
 * @module
 */

/** `poll` looks until there is something; `event` sleeps until the other side notifies; `adaptive` does the one and then the other. */
export type ChannelWait = "poll" | "event" | "adaptive";

/** Options of both sides. */
export interface IsmChannelOptions {
  /** Default `adaptive`, or `poll` when the driver has no interrupts. */
  readonly wait?: ChannelWait;
  /** How long an adaptive wait looks before it sleeps, in microseconds. Default 50. */
  readonly spinMicroseconds?: number;
  /** Vector that notifications come by, one of `VirtioIsm.regionVectors`. Default: as events. */
  readonly vector?: number;
}

/** Options of the side that creates. */
export interface IsmChannelCreateOptions extends IsmChannelOptions {
  /** Bytes that can be under way in each direction: a power of two from 64 to 2^30. Default 1,048,576. */
  readonly capacityBytes?: number;
  /** devid of the only device that may connect. Default: any of the domain that knows the token. */
  readonly peer?: bigint;
}
