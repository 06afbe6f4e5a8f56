/**
 * Requests that were answered, in arrays of the caller's.
 *
 * @module
 */
import { UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";

/** Filled by `BlockQueue.complete`; made once and used for every call. */
export class RequestBurst {
  /** Slots of the answered requests, in the order of their answers. They are the caller's until `release` or the next `submit`. */
  readonly slots: Uint16Array<ArrayBuffer>;
  /** Beside `slots`: 0 OK, 1 IOERR, 2 UNSUPP (`BLK_STATUS`). */
  readonly statuses: Uint8Array<ArrayBuffer>;
  /** Beside `slots`: bytes of data that were read or written (of a discard or write zeroes request, its segments); 0 of a request that failed. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** How many entries are valid. */
  count = 0;

  /** An empty one. @param capacity most requests of one call @throws UsageError */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 32768) {
      throw new UsageError(`a burst of ${shown(capacity)} requests`);
    }
    this.slots = new Uint16Array(capacity);
    this.statuses = new Uint8Array(capacity);
    this.lengths = new Uint32Array(capacity);
  }
}
