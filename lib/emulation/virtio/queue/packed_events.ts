/**
 * What the event suppression structures of a packed ring say (virtio 1.2 §2.8.10).
 *
 * @module
 */
import { EVENT_SUPPRESS } from "../../../virtio/spec/ring.ts";

/** What is wrong with the driver's structure, read as one word; undefined when nothing is. */
export function eventProblem(event: number, size: number, eventIndex: boolean): string | undefined {
  const flags = event >>> 16;
  if (flags === EVENT_SUPPRESS.enable || flags === EVENT_SUPPRESS.disable) return undefined;
  if (flags !== EVENT_SUPPRESS.descriptor || !eventIndex) {
    const why = flags > EVENT_SUPPRESS.descriptor ? "reserved" : "for EVENT_IDX, which was not negotiated";
    return `flags 0x${flags.toString(16)}, which are ${why}`;
  }
  const offset = event & 0x7fff;
  return offset < size ? undefined : `offset ${offset}, the queue ${size} slots`;
}

/** Whether the driver wants to hear of the last `pushed` descriptors up to a used position. @param event its structure, with nothing wrong */
export function wantsEvent(
  event: number,
  size: number,
  usedSlot: number,
  usedWrap: number,
  pushed: number,
): boolean {
  const flags = event >>> 16;
  if (flags !== EVENT_SUPPRESS.descriptor) return flags === EVENT_SUPPRESS.enable;
  const offset = event & 0x7fff, wrap = event >>> 15 & 1;
  // A wrap counter that differs from the device's means the round before.
  const passed = usedSlot - offset - 1 + (wrap === usedWrap ? 0 : size);
  return passed >= 0 && passed < pushed;
}
