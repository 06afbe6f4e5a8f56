/**
 * The descriptors that a driver makes available in a packed ring (SPEC packed virtqueues, "driver ring wrap counter").
 *
 * @module
 */
import { DESC_FLAG } from "../spec/ring.ts";
import type { RingLayout } from "./layout.ts";

/** Both flags that say whose a descriptor is. */
export const AVAIL_USED: number = DESC_FLAG.avail | DESC_FLAG.used;
/** No head is hidden. */
export const NO_HEAD = -1;
/** Half-words of a descriptor, and those of its id and flags. */
export const HALF_WORDS = 8;
export const ID_AT = 6;
export const FLAGS_AT = 7;

/**
 * Where the next one goes, and what of them the device can see. The first head since the last `show` keeps its old flags, and a device, which looks at
 * descriptors in ring order and stops at the first that is not available, sees none of those behind it.
 */
export class AvailableDescriptors {
  /** The ring, as words and as half-words. */
  readonly words: Uint32Array<ArrayBuffer>;
  readonly halves: Uint16Array<ArrayBuffer>;
  /** Slot of the next one, and the wrap counter there. */
  slot = 0;
  wrap: 0 | 1 = 1;
  /** The same as far as the device has been told. */
  shownSlot = 0;
  shownWrap: 0 | 1 = 1;
  /** Slot of the head that hides the others, or `NO_HEAD`. */
  hiding = NO_HEAD;
  #hiddenFlags = 0;
  readonly #size: number;

  /** Of a zeroed ring. */
  constructor(buffer: ArrayBuffer, { descriptorOffset, size }: RingLayout) {
    this.words = new Uint32Array(buffer, descriptorOffset, size * 4);
    this.halves = new Uint16Array(buffer, descriptorOffset, size * HALF_WORDS);
    this.#size = size;
  }

  /** The next one goes there, and nothing is hidden. */
  begin(slot: number, wrap: 0 | 1): void {
    this.slot = this.shownSlot = slot;
    this.wrap = this.shownWrap = wrap;
    this.hiding = NO_HEAD;
  }

  /** Flags of what is available: AVAIL is the wrap counter, USED its inverse. */
  get flags(): number {
    return this.wrap === 1 ? DESC_FLAG.avail : DESC_FLAG.used;
  }

  /** Writes id and flags of a head; the flags of the first wait for `show`. */
  writeHead(slot: number, id: number, flags: number): void {
    const { halves } = this;
    halves[slot * HALF_WORDS + ID_AT] = id;
    if (this.hiding === NO_HEAD) {
      this.hiding = slot;
      this.#hiddenFlags = flags;
    } else {
      halves[slot * HALF_WORDS + FLAGS_AT] = flags;
    }
  }

  /** Goes on, up to a round. */
  skip(count: number): void {
    const next = this.slot + count;
    if (next >= this.#size) {
      this.slot = next - this.#size;
      this.wrap = this.wrap === 1 ? 0 : 1;
    } else {
      this.slot = next;
    }
  }

  /** Shows what is hidden. It is the release of all that was written, and a full fence. @returns how many slots were filled */
  show(): number {
    // A burst fills the ring at most, so equal places mean all of it.
    const ahead = this.slot - this.shownSlot;
    this.shownSlot = this.slot;
    this.shownWrap = this.wrap;
    const head = this.hiding;
    this.hiding = NO_HEAD;
    Atomics.store(this.halves, head * HALF_WORDS + FLAGS_AT, this.#hiddenFlags);
    return ahead > 0 ? ahead : ahead + this.#size;
  }

  /** Whether a place is among the last `filled` slots; of a slot that the ring has. */
  passed(slot: number, wrap: number, filled: number): boolean {
    // Counted over both laps.
    let behind = this.slot - 1 - slot;
    if (wrap !== this.wrap) behind += this.#size;
    if (behind < 0) behind += 2 * this.#size;
    return behind < filled;
  }

  /** Makes slots from the next one on, `count` of them, look as they do before they are reached: used in the lap before. */
  untouch(count: number): void {
    let { slot, wrap } = this;
    for (let left = count; left > 0; left--) {
      this.halves[slot * HALF_WORDS + FLAGS_AT] = wrap === 1 ? 0 : AVAIL_USED;
      if (++slot < this.#size) continue;
      slot = 0;
      wrap = wrap === 1 ? 0 : 1;
    }
  }
}
