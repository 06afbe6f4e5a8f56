/**
 * Copies between the memories of two clients without making an object.
 *
 * @module
 */
import type { DmaRegion } from "../../../sockets/dma_table.ts";
import type { Chain } from "./chain.ts";

/** From here on one view object per copy costs less than going word by word: measured with memory that another process wrote. */
const BULK_BYTES = 96;

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
  if (count >= BULK_BYTES) {
    target.set(source.subarray(fromOffset, fromOffset + count), toOffset);
    return;
  }
  const end = fromOffset + count;
  const skew = toOffset - fromOffset;
  let at = fromOffset;
  // Word by word where both sides are aligned alike; a byte at a time up to and after that.
  if (skew % 4 === 0 && count >= 8) {
    while (at % 4 !== 0) {
      target[at + skew] = source[at]!;
      at++;
    }
    const words = from.words32, into = to.words32;
    const first = at / 4, shift = skew / 4;
    const last = Math.floor(end / 4);
    for (let word = first; word < last; word++) into[word + shift] = words[word]!;
    at = 4 * last;
  } else if (skew % 2 === 0 && count >= 4) {
    if (at % 2 !== 0) {
      target[at + skew] = source[at]!;
      at++;
    }
    const words = from.words16, into = to.words16;
    const first = at / 2, shift = skew / 2;
    const last = Math.floor(end / 2);
    for (let word = first; word < last; word++) into[word + shift] = words[word]!;
    at = 2 * last;
  }
  for (; at < end; at++) target[at + skew] = source[at]!;
}
