/**
 * Answers of a block device that break the standard, for tests of its drivers.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";

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

/** A lie, and when it is told. */
export class BlkLiePlan {
  /** Which. */
  readonly lie: BlkLie;
  #before: number;
  #left: number;

  /** Reads `name`, `name:after` or `name:after:times`. @throws UsageError */
  constructor(text: string) {
    const [name, after = "0", times = "1", ...rest] = text.split(":");
    const lie = BLK_LIES.find((one) => one === name);
    if (lie === undefined || rest.length > 0 || ![after, times].every((one) => /^[0-9]{1,9}$/.test(one))) {
      throw new UsageError(`${JSON.stringify(text)} is not a lie that a block device can tell`, {
        hint: `one of ${BLK_LIES.join(", ")}; then optionally :after:times`,
      });
    }
    this.lie = lie;
    this.#before = Number(after);
    this.#left = Number(times);
  }

  /** Counts one request. @returns whether it is lied about */
  take(): boolean {
    if (this.#before > 0) {
      this.#before--;
      return false;
    }
    if (this.#left <= 0) return false;
    this.#left--;
    return true;
  }
}
