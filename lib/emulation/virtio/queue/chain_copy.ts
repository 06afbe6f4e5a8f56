/**
 * Copies between the memories of two clients without making an object.
 *
 * @module
 */
import type { DmaRegion } from "../../../sockets/dma_table.ts";
import type { Chain } from "./chain.ts";

/** Up to here going word by word costs less than a view of the source: measured with memory that another processor had written. */
const WORDS_BYTES = 96;
/** The same of going byte by byte. */
const SINGLE_BYTES = 16;
/** Up to here the number of a word is an unsigned 32-bit integer, which costs less to count with. */
const INTEGER_BYTES = 2 ** 34;

/**
 * Copies `count` bytes from position `fromPosition` of the device-readable part of `from` to position `toPosition` of the
 * device-writable part of `to`. Both parts must reach that far: the caller has compared `readableBytes` and `writableBytes`.
 */
export function copyChain(
  from: Chain,
  fromPosition: number,
  to: Chain,
  toPosition: number,
  count: number,
): void {
  let source = 0;
  while (source < from.readableCount && fromPosition >= from.lengths[source]!) {
    fromPosition -= from.lengths[source++]!;
  }
  let target = to.readableCount;
  while (target < to.count && toPosition >= to.lengths[target]!) toPosition -= to.lengths[target++]!;

  while (count > 0 && source < from.readableCount && target < to.count) {
    const left = from.lengths[source]! - fromPosition;
    const room = to.lengths[target]! - toPosition;
    let part = count;
    if (left < part) part = left;
    if (room < part) part = room;
    copyBytes(
      from.regions[source]!,
      from.offsets[source]! + fromPosition,
      to.regions[target]!,
      to.offsets[target]! + toPosition,
      part,
    );
    count -= part;
    fromPosition += part;
    toPosition += part;
    if (fromPosition === from.lengths[source]!) {
      source++;
      fromPosition = 0;
    }
    if (toPosition === to.lengths[target]!) {
      target++;
      toPosition = 0;
    }
  }
}

/** Copies `count` bytes from one mapping to another, both ranges inside their mappings. */
export function copyBytes(
  from: DmaRegion,
  fromOffset: number,
  to: DmaRegion,
  toOffset: number,
  count: number,
): void {
  const source = from.bytes, target = to.bytes;
  const wide = fromOffset >= INTEGER_BYTES || toOffset >= INTEGER_BYTES;
  if (count > WORDS_BYTES || wide || fromOffset % 4 !== 0 || toOffset % 4 !== 0) {
    if (count > SINGLE_BYTES) {
      target.set(source.subarray(fromOffset, fromOffset + count), toOffset);
      return;
    }
    for (let at = 0; at < count; at++) target[toOffset + at] = source[fromOffset + at]!;
    return;
  }
  const words = from.words32, into = to.words32;
  const first = (fromOffset / 4) >>> 0, place = (toOffset / 4) >>> 0;
  const whole = count >>> 2;
  for (let word = 0; word < whole; word++) into[place + word] = words[first + word]!;
  for (let at = 4 * whole; at < count; at++) target[toOffset + at] = source[fromOffset + at]!;
}
