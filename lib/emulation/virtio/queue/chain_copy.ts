/**
 * Copies between the memories of two clients.
 *
 * @module
 */
import { copyMemory } from "../../../memory/copy.ts";
import type { DmaRegion } from "../../../sockets/dma_table.ts";
import type { Chain } from "./chain.ts";

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
  if (from.far === null) copyMemory(from, fromOffset, to, toOffset, count);
  // A window was made for this chain alone.
  else to.bytes.set(from.bytes.subarray(fromOffset, fromOffset + count), toOffset);
}
