/**
 * The used descriptors that a device writes into a packed ring (virtio 1.2 §2.8.8).
 *
 * @module
 */
import { DESC_FLAG } from "../../../virtio/spec/ring.ts";
import { AVAIL_USED, type PackedReader } from "./packed_reader.ts";

/**
 * Where the next one goes, and what of them the driver can see. The first since the last `show` keeps its old flags, and the driver, which looks at that
 * one alone, sees none of those behind it.
 */
export class UsedDescriptors {
  /** Slot of the next one, and the device's wrap counter there. */
  slot = 0;
  wrap = 1;
  /** The same as far as the driver has been told. */
  shownSlot = 0;
  shownWrap = 1;
  /** Slot of the one that hides the others; −1: nothing is hidden. */
  hiding = -1;
  #hiddenFlags = 0;
  readonly #size: number;

  /** Of a ring with `size` slots. */
  constructor(size: number) {
    this.#size = size;
  }

  /** All before this position are used, and shown. */
  begin(slot: number, wrap: number): void {
    this.slot = this.shownSlot = slot;
    this.wrap = this.shownWrap = wrap;
  }

  /** AVAIL and USED of what is used there: both are the device's wrap counter. */
  get flags(): number {
    return this.wrap === 0 ? 0 : AVAIL_USED;
  }

  /** Writes one into the next slot, unchecked. @param flip bits of its flags to write wrong */
  write({ desc32, desc16 }: PackedReader, id: number, lengthBytes: number, flip = 0): void {
    const { slot } = this;
    const word = slot << 2;
    desc32[word + 2] = lengthBytes;
    const flags = (this.flags | (lengthBytes > 0 ? DESC_FLAG.write : 0)) ^ flip;
    if (this.hiding < 0) {
      this.hiding = slot;
      this.#hiddenFlags = flags;
      desc16[2 * word + 6] = id;
    } else desc32[word + 3] = (id | flags << 16) >>> 0;
  }

  /** Moves on without writing, up to a round, forward or back. */
  skip(slots: number): void {
    let next = this.slot + slots;
    if (next >= this.#size) {
      next -= this.#size;
      this.wrap ^= 1;
    } else if (next < 0) {
      next += this.#size;
      this.wrap ^= 1;
    }
    this.slot = next;
  }

  /** Shows what was written. @returns the slot whose flags were stored for it; −1: none */
  show({ desc16 }: PackedReader): number {
    const first = this.hiding;
    this.hiding = -1;
    this.shownSlot = this.slot;
    this.shownWrap = this.wrap;
    // Sequentially consistent: the release of the descriptors, and the fence before the driver's wish is read.
    if (first >= 0) Atomics.store(desc16, 8 * first + 7, this.#hiddenFlags);
    return first;
  }
}
