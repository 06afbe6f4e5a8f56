/**
 * Answers of a virtio-ism device that break the draft, for tests of its drivers.
 *
 * @module
 */
import type { LieFamily } from "./lie.ts";

/** What a virtio-ism device can be told to do wrong, once each unless told otherwise; the last two always. */
export const ISM_LIES = [
  /** The last chunk of a reply begins at the end of the area. */
  "ism-chunk-outside",
  /** The second chunk of a reply is its first once more (of a region of two or more). */
  "ism-chunk-overlap",
  /** `num` is 2^32 with as many chunks as there are. */
  "ism-num-large",
  /** `num` is 0. */
  "ism-num-zero",
  /** `size` in the reply to ATTACH is one byte more than the chunks hold. */
  "ism-size-lie",
  /** `ack` is 77. */
  "ism-bad-ack",
  /** `ev_type` is 3. */
  "ism-unknown-event",
  /** The used length of an event buffer is 8 bytes short. */
  "ism-short-event",
  /** `chunk_size` is not a power of two. */
  "ism-chunk-size",
  /** There are no shared memory capabilities. */
  "ism-no-shm",
] as const;

/** Name of such a lie. */
export type IsmLie = typeof ISM_LIES[number];

/** All of them. */
export const ISM_FAMILY: LieFamily<IsmLie> = {
  who: "a virtio-ism device",
  prefix: "ism-",
  names: ISM_LIES,
  fixed: ["ism-chunk-size", "ism-no-shm"],
};
