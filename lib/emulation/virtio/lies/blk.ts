/**
 * Answers of a block device that break the standard, for tests of its drivers.
 *
 * @module
 */
import type { LieFamily } from "./lie.ts";

/** What a block device can be told to do wrong, once each unless told otherwise. */
export const BLK_LIES = [
  /** The status byte is 7. */
  "blk-status-unknown",
  /** The status byte is not written, though the used length says so. */
  "blk-status-unwritten",
  /** The used length is one byte short. */
  "blk-length-short",
  /** The used length is 0. */
  "blk-length-zero",
  /** An honest failure: IOERR. */
  "blk-io-error",
  /** An honest failure: UNSUPP. */
  "blk-unsupported",
  /** The request is never answered. */
  "blk-silence",
] as const;

/** Name of such a lie. */
export type BlkLie = typeof BLK_LIES[number];

/** All of them. */
export const BLK_FAMILY: LieFamily<BlkLie> = {
  who: "a block device",
  prefix: "blk-",
  names: BLK_LIES,
};
