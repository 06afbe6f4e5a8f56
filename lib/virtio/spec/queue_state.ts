/**
 * Where a device stands in a virtqueue, as a plain value (reference §6; profile `queue-state`).
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { integer, object } from "../../errors/records.ts";

/** State of a split queue: the next available index that the device will read. Used indices are in the ring itself (§6.1). */
export interface SplitQueueState {
  /** Ring layout. */
  readonly layout: "split";
  /** Free-running 16-bit index. */
  readonly availableIndex: number;
}

/** State of a packed queue: slot and wrap counter, for what the device reads next and for what it writes next. */
export interface PackedQueueState {
  /** Ring layout. */
  readonly layout: "packed";
  /** Slot that the device reads next. */
  readonly availableSlot: number;
  /** Driver's wrap counter, as the device sees it. */
  readonly availableWrap: 0 | 1;
  /** Slot that the device writes next. */
  readonly usedSlot: number;
  /** Device's wrap counter. */
  readonly usedWrap: 0 | 1;
}

/** State of a virtqueue. Plain data: it survives JSON. */
export type QueueState = SplitQueueState | PackedQueueState;

/** The two le16 words in which every carrier moves the state (§6.1). `used` means nothing for a split queue, and is 0 there. */
export interface QueueStateWords {
  /** Available state. */
  readonly available: number;
  /** Used state. */
  readonly used: number;
}

/** The state after a full reset (§6.1): split 0; packed 0x8000 for both words, since wrap counters start at 1. */
export function initialQueueState(layout: "split" | "packed"): QueueState {
  return layout === "split"
    ? { layout, availableIndex: 0 }
    : { layout, availableSlot: 0, availableWrap: 1, usedSlot: 0, usedWrap: 1 };
}

/**
 * Checks a state for a queue of `size` descriptors (A-6.6: the driver validates first).
 * @returns the state, as a fresh plain object with nothing else in it
 * @throws UsageError naming the field
 */
export function checkQueueState(value: unknown, size: number): QueueState {
  const state = object(value, "a queue state");
  const below = (field: string, limit: number) =>
    integer(state[field], 0, limit - 1, `queue state: ${field}`);
  if (state.layout === "split") {
    return { layout: "split", availableIndex: below("availableIndex", 0x10000) };
  }
  if (state.layout === "packed") {
    return {
      layout: "packed",
      availableSlot: below("availableSlot", size),
      availableWrap: below("availableWrap", 2) as 0 | 1,
      usedSlot: below("usedSlot", size),
      usedWrap: below("usedWrap", 2) as 0 | 1,
    };
  }
  throw new UsageError(`queue state: layout ${shown(state.layout)} is neither "split" nor "packed"`);
}

/** The state as words (§6.1, A-6.8): packed is slot in bits 0–14 and wrap counter in bit 15. */
export function queueStateToWords(state: QueueState): QueueStateWords {
  const checked = checkQueueState(state, 0x8000);
  if (checked.layout === "split") return { available: checked.availableIndex, used: 0 };
  return {
    available: checked.availableSlot + checked.availableWrap * 0x8000,
    used: checked.usedSlot + checked.usedWrap * 0x8000,
  };
}

/** The words as a checked state. @throws UsageError when a packed slot lies outside the queue */
export function queueStateFromWords(
  layout: "split" | "packed",
  size: number,
  words: QueueStateWords,
): QueueState {
  const { available, used } = words;
  return checkQueueState(
    layout === "split" ? { layout, availableIndex: available } : {
      layout,
      availableSlot: available & 0x7fff,
      availableWrap: available >> 15,
      usedSlot: used & 0x7fff,
      usedWrap: used >> 15,
    },
    size,
  );
}
