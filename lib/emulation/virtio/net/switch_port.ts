/**
 * A port of an embedded switch: what the switch asks of it, and what is counted there.
 *
 * @module
 */
import type { ReceiveFilter } from "./filter.ts";
import type { NetFrame } from "./frame.ts";
import type { FrameBurst } from "./frame_burst.ts";

/** What became of a frame at a port. */
export const DELIVERY = {
  delivered: 0,
  /** No receive buffers, or not enough of them. */
  noRoom: 1,
  /** Longer than the port's buffers or MTU. */
  tooLong: 2,
  /** No driver is running, or it broke a rule just now. */
  notReceiving: 3,
} as const;

/** Indices of a port's counters. */
export const COUNTER = {
  /** Frames that entered the switch from this port. */
  framesIn: 0,
  bytesIn: 1,
  /** Frames that the port got. */
  framesOut: 2,
  bytesOut: 3,
  /** Dropped on the way in: shorter than an Ethernet header. */
  runt: 4,
  /** Dropped on the way in: the link is down. */
  linkDown: 5,
  /** Dropped on the way in: no other port takes the destination. */
  noPort: 6,
  /** Dropped on the way out: no receive buffers. */
  noRoom: 7,
  /** Dropped on the way out: longer than buffers or MTU. */
  tooLong: 8,
  /** Dropped on the way out: no running driver, or the link is down. */
  notReceiving: 9,
} as const;

/** Name of a counter. */
export type CounterName = keyof typeof COUNTER;
/** Number of counters. */
export const COUNTERS: number = Object.keys(COUNTER).length;

/** A port, as the switch sees it. Bytes are counted without virtio headers. */
export interface SwitchPort {
  /** PCI address of the function. */
  readonly name: string;
  /** What it takes. */
  readonly filter: ReceiveFilter;
  /** All that `filter` may be, always the same ones. Default: that one. */
  readonly filters?: readonly ReceiveFilter[];
  /** By `COUNTER`. */
  readonly counters: Float64Array;
  /** Its driver runs and its link is up. */
  readonly receiving: boolean;
  /** Its driver stopped it, and may go on with it or with another function in its place. Default false. */
  readonly suspended?: boolean;
  /** It has more receive buffers than when it last had too few. */
  readonly hasRoom: boolean;
  /** Puts a frame into its receive queue, unpublished. @returns one of `DELIVERY` */
  deliver(frame: NetFrame): number;
  /**
   * The same for `count` frames of one destination that go together, from `from` on, as far as each goes its plain way: what becomes of the next one
   * `deliver` says. @returns how many it got
   */
  deliverBurst(frames: FrameBurst, from: number, count: number): number;
  /** Publishes what was delivered. */
  flush(): void;
  /** Goes on with its transmit queues. @returns frames taken */
  transmit(budget: number): number;
  /** What it waits for, or who waits for it, has changed: its function is to be polled and armed again. */
  wake?(): void;
}
