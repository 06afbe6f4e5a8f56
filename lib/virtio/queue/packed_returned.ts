/**
 * The descriptors that come back to a driver in a packed ring (SPEC packed virtqueues, "device ring wrap counter").
 *
 * Flags are looked at first, then what came with them. On x86-64 a processor makes loads in their order, so one atomic load at the start of a burst is enough
 * to have the engine keep it, too: flags and id are one word there, loaded once and before the length. Elsewhere
 * (AArch64) each descriptor's flags are loaded atomically, since a plain load of its id may otherwise be made before that of its flags.
 *
 * @module
 */
import { AVAIL_USED, type AvailableDescriptors, FLAGS_AT, HALF_WORDS } from "./packed_available.ts";

/** Where the driver looks for the next one. */
export class ReturnedDescriptors {
  /** Slot of the next one, and the device's wrap counter there. */
  slot = 0;
  wrap: 0 | 1 = 1;
  /** The ring, as words and as half-words. */
  readonly words: Uint32Array<ArrayBuffer>;
  readonly halves: Uint16Array<ArrayBuffer>;
  /** The flags of each are loaded atomically, not only those of the first of a burst. */
  readonly acquireEach: boolean;
  readonly #size: number;

  /** Of the same ring. */
  constructor({ words, halves }: AvailableDescriptors, acquireEach: boolean) {
    this.words = words;
    this.halves = halves;
    this.#size = words.length / 4;
    this.acquireEach = acquireEach;
  }

  /** The next one is there. */
  begin(slot: number, wrap: 0 | 1): void {
    this.slot = slot;
    this.wrap = wrap;
  }

  /** AVAIL and USED of a used one: both are the device's wrap counter. */
  get flags(): number {
    return this.wrap === 1 ? AVAIL_USED : 0;
  }

  /** The next one is used. What the device wrote before it made it used is visible afterwards. */
  looksUsed(): boolean {
    return (Atomics.load(this.halves, this.slot * HALF_WORDS + FLAGS_AT) & AVAIL_USED) === this.flags;
  }

  /** On to where the device writes next. */
  skip(count: number): void {
    const next = this.slot + count;
    if (next >= this.#size) {
      this.slot = next - this.#size;
      this.wrap = this.wrap === 1 ? 0 : 1;
    } else {
      this.slot = next;
    }
  }

  /** Slots from the next one to a place, counted over both laps. */
  distance(slot: number, wrap: 0 | 1): number {
    const laps = 2 * this.#size;
    return (slot - this.slot + (wrap === this.wrap ? 0 : this.#size) + laps) % laps;
  }
}
