/**
 * Sets of numbers as arrays of le64, as LIST_QUERY, LIST_USE and CAP_ID_LIST_QUERY have them.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";

/** Highest number that such a set may have. */
const MAX_ID = 0xffff;

/**
 * The shortest bitmap that has a bit for each id: (largest id + 1) / 64 words, rounded up, at least one.
 * @throws UsageError for what is no 16-bit number
 */
export function encodeIdBitmap(ids: Iterable<number>): Uint8Array<ArrayBuffer> {
  let largest = 0;
  const list = [...ids];
  for (const id of list) {
    if (!Number.isInteger(id) || id < 0 || id > MAX_ID) {
      throw new UsageError(`${id} in a set of 16-bit numbers`);
    }
    largest = Math.max(largest, id);
  }
  const bytes = new Uint8Array(Math.ceil((largest + 1) / 64) * 8);
  // Little-endian words: bit n of word n / 64 is bit n mod 8 of byte n / 8.
  for (const id of list) bytes[id >> 3]! |= 1 << (id & 7);
  return bytes;
}

/** Numbers in a bitmap of any length, ascending; what lies past its end counts as zero. Numbers above 0xffff are left out. */
export function decodeIdBitmap(bytes: Uint8Array): number[] {
  const ids: number[] = [];
  const end = Math.min(bytes.length, (MAX_ID + 1) / 8);
  for (let at = 0; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === 0) continue;
    for (let bit = 0; bit < 8; bit++) if ((byte >> bit & 1) === 1) ids.push(8 * at + bit);
  }
  return ids;
}
