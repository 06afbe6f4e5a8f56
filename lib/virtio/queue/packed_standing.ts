/**
 * Where the device of a packed ring stood when it went, by the ring alone.
 *
 * @module
 */
import type { PackedQueueState } from "../spec/queue_state.ts";
import type { ChainBook } from "./chain_book.ts";
import type { Standing } from "./driver_ring.ts";
import { AVAIL_USED, FLAGS_AT, HALF_WORDS, ID_AT } from "./packed_available.ts";

/** Both sides at one place. */
export function packedPlace(slot: number, wrap: 0 | 1): PackedQueueState {
  return { layout: "packed", availableSlot: slot, availableWrap: wrap, usedSlot: slot, usedWrap: wrap };
}

/** Walks the used descriptors that nobody has taken. @param next where the driver looks next */
export function packedStanding(
  book: ChainBook,
  halves: Uint16Array<ArrayBuffer>,
  next: { readonly slot: number; readonly wrap: 0 | 1 },
): Standing {
  const { held, size } = book;
  const returned = new Set<number>();
  let { slot, wrap } = next;
  const pass = (id: number) => {
    returned.add(id);
    slot += book.taken(id);
    if (slot < size) return;
    slot -= size;
    wrap = wrap === 1 ? 0 : 1;
  };
  // IN_ORDER: a used descriptor stands for all chains up to its own.
  const inOrder = book.inOrder ? book.idsInOrder() : [];
  const passUpTo = (id: number) => {
    for (let one = -1; one !== id;) pass(one = inOrder[returned.size]!);
  };
  if (book.inBatch) passUpTo(book.batchEnd);
  while (returned.size < held) {
    const flags = Atomics.load(halves, slot * HALF_WORDS + FLAGS_AT);
    if ((flags & AVAIL_USED) !== (wrap === 1 ? AVAIL_USED : 0)) break;
    const id = halves[slot * HALF_WORDS + ID_AT]!;
    // `takeUsed` says what is wrong with it.
    if (book.holder(id) !== 2 || returned.has(id)) break;
    if (book.inOrder) passUpTo(id);
    else pass(id);
  }
  return { state: packedPlace(slot, wrap), returned };
}
