/**
 * Frames that a transmit queue sends from where a receive queue of the same device has them, without a copy.
 *
 * @module
 */
import type { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import type { FrameBurst } from "../api/frame_burst.ts";
import { addSlots, type NetFraming } from "./framing.ts";
import type { Borrower, ReceiveQueue } from "./receive.ts";

/** A slot that sends what lies in it. */
const NONE = 0xffff;

/**
 * Of one transmit queue. A frame that is lent takes one of its slots, whose descriptor then is of the receive queue's slot: until the device returns it,
 * that one is neither the caller's nor that queue's. What lies in the transmit slot itself stays unused meanwhile.
 */
export class LentFrames {
  /** Those under way. */
  count = 0;
  /** Slots whose descriptor is of another queue's slot. */
  moved = 0;
  /** Whose slots they are: one queue at a time. */
  #lender: ReceiveQueue | null = null;
  readonly #pool: BufferPool;
  readonly #framing: NetFraming;
  readonly #maxFrameBytes: number;
  /** By slot: the lender's slot that is sent; `NONE`. */
  readonly #by: Uint16Array<ArrayBuffer>;
  /** By slot: 1 when its descriptor is of another queue's slot. */
  readonly #isMoved: Uint8Array<ArrayBuffer>;
  readonly #slots: Uint16Array<ArrayBuffer>;

  /** None yet. @param pool the transmit queue's own slots */
  constructor(pool: BufferPool, framing: NetFraming, maxFrameBytes: number) {
    this.#pool = pool;
    this.#framing = framing;
    this.#maxFrameBytes = maxFrameBytes;
    this.#by = new Uint16Array(pool.count).fill(NONE);
    this.#isMoved = new Uint8Array(pool.count);
    this.#slots = new Uint16Array(pool.count);
  }

  /** Queues the first frames of a burst: as many as their queue lends, and there are free slots for. @param slots gets the slots @param lengths and bytes of the frames @returns how many */
  add(
    borrower: Borrower,
    from: ReceiveQueue,
    burst: FrameBurst,
    slots: Uint16Array,
    lengths: Uint32Array,
  ): number {
    if (this.#lender !== from) {
      if (this.count > 0) return 0;
      this.#lender = from;
    }
    const pool = this.#pool, lent = this.#slots;
    const count = from.lend(borrower, burst, this.#framing, pool.free, this.#maxFrameBytes, lent, lengths);
    if (count === 0) return 0;
    pool.takeBurst(slots, count);
    const { iovaLo, iovaHi } = from.places;
    pool.queue.placeSlots(slots, iovaLo, iovaHi, lent, count);
    const by = this.#by, isMoved = this.#isMoved;
    let fresh = 0;
    for (let at = 0; at < count; at++) {
      const slot = slots[at]!;
      by[slot] = lent[at]!;
      fresh += 1 - isMoved[slot]!;
      isMoved[slot] = 1;
    }
    this.moved += fresh;
    this.count += count;
    addSlots(pool, this.#framing, slots, lengths, count);
    return count;
  }

  /** Slots that are to be filled: their descriptors are of themselves again. */
  moveBack(slots: Uint16Array, count: number): void {
    const pool = this.#pool, isMoved = this.#isMoved;
    pool.queue.placeSlots(slots, pool.iovaLo, pool.iovaHi, slots, count);
    for (let at = 0; at < count; at++) {
      this.moved -= isMoved[slots[at]!]!;
      isMoved[slots[at]!] = 0;
    }
  }

  /** Of slots that the device returned, the lender gets its own. */
  giveBack(slots: Uint16Array, count: number): void {
    const by = this.#by, lent = this.#slots;
    let given = 0;
    for (let at = 0; at < count; at++) {
      const slot = slots[at]!;
      if (by[slot] === NONE) continue;
      lent[given++] = by[slot]!;
      by[slot] = NONE;
    }
    this.count -= given;
    this.#lender!.takeBack(lent, given);
  }

  /** Where the frame of a slot is, from its first byte on; undefined: in the slot itself. */
  frameOf(slot: number): Uint8Array<ArrayBuffer> | undefined {
    const lent = this.#by[slot]!;
    return lent === NONE ? undefined : this.#lender!.views[lent]!.subarray(this.#framing.headerBytes);
  }
}
