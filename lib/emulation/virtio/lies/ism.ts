/**
 * Answers of a virtio-ism device that break the draft, for tests of its drivers.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";

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

/** A lie, and when it is told. */
export class IsmLiePlan {
  /** Which. */
  readonly lie: IsmLie;
  #before: number;
  #left: number;

  /** Reads `name`, `name:after` or `name:after:times`. @throws UsageError */
  constructor(text: string) {
    const [name, after = "0", times = "1", ...rest] = text.split(":");
    const lie = ISM_LIES.find((one) => one === name);
    if (lie === undefined || rest.length > 0 || ![after, times].every((one) => /^[0-9]{1,9}$/.test(one))) {
      throw new UsageError(`${JSON.stringify(text)} is not a lie that a virtio-ism device can tell`, {
        hint: `one of ${ISM_LIES.join(", ")}; then optionally :after:times`,
      });
    }
    this.lie = lie;
    this.#before = Number(after);
    this.#left = Number(times);
  }

  /** Counts one occasion for this lie. @returns whether to tell it now */
  take(lie: IsmLie): boolean {
    if (lie !== this.lie) return false;
    if (this.#before > 0) {
      this.#before--;
      return false;
    }
    if (this.#left <= 0) return false;
    this.#left--;
    return true;
  }
}
