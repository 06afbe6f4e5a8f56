/**
 * Views of parts of a memory that are asked for again and again.
 *
 * @module
 */

/** Views that are kept at most; twice as many places. */
const MOST = 8192;
const FEWEST = 64;
/** Bits of what was asked for once. When so many have been set as views may be kept, all are forgotten. */
const SEEN_BITS = 65536;

/**
 * Kept when a part is asked for a second time: who copies through them, packet after packet, makes no object for each, and who has packets all over its
 * memory makes one for each as without them. Parts are told by where they begin and how long they are.
 */
export class KeptParts {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  /** A hash table: a part is at its place or, where others are, behind it. Twice as many places as views. */
  #views: (Uint8Array<ArrayBuffer> | undefined)[] = [];
  /** By place. Where a part begins may be more than 32 bits. */
  #offsets = new Float64Array(0);
  #lengths = new Uint32Array(0);
  #count = 0;
  /** By what of a part's place in the table is the same whatever its size. */
  #seen = new Uint32Array(0);
  #seenCount = 0;

  /** None yet, of this memory. */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }

  /** How many are kept. */
  get count(): number {
    return this.#count;
  }

  /** The part from `offset` on. */
  get(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const views = this.#views, offsets = this.#offsets, lengths = this.#lengths;
    const hash = hashOf(offset, length);
    const mask = views.length - 1;
    if (mask > 0) {
      for (let place = hash & mask;; place = place + 1 & mask) {
        const view = views[place];
        if (view === undefined) break;
        if (offsets[place] === offset && lengths[place] === length) return view;
      }
    }
    const view = this.#bytes.subarray(offset, offset + length);
    if (this.#asked(hash)) this.#keep(offset, length, view);
    return view;
  }

  /** Whether a part was asked for before: or another with the same bit, which does no harm. */
  #asked(hash: number): boolean {
    if (this.#seen.length === 0) this.#seen = new Uint32Array(SEEN_BITS / 32);
    const seen = this.#seen, bit = hash & SEEN_BITS - 1;
    const word = seen[bit >>> 5]!, mask = 1 << (bit & 31);
    if ((word & mask) !== 0) return true;
    if (this.#seenCount === MOST) {
      this.#seenCount = 0;
      seen.fill(0);
    }
    seen[bit >>> 5]! |= mask;
    this.#seenCount++;
    return false;
  }

  #keep(offset: number, length: number, view: Uint8Array<ArrayBuffer>): void {
    if (2 * this.#count >= this.#views.length) this.#grow();
    this.#put(offset, length, view);
  }

  #put(offset: number, length: number, view: Uint8Array<ArrayBuffer>): void {
    const mask = this.#views.length - 1;
    let place = hashOf(offset, length) & mask;
    while (this.#views[place] !== undefined) place = place + 1 & mask;
    this.#views[place] = view;
    this.#offsets[place] = offset;
    this.#lengths[place] = length;
    this.#count++;
  }

  /** Makes twice as many places, or when there are as many as there may be, begins again with none. */
  #grow(): void {
    const views = this.#views, offsets = this.#offsets, lengths = this.#lengths;
    const full = views.length === 2 * MOST;
    const places = full ? views.length : Math.max(2 * views.length, 2 * FEWEST);
    this.#views = new Array(places).fill(undefined);
    this.#offsets = new Float64Array(places);
    this.#lengths = new Uint32Array(places);
    this.#count = 0;
    if (full) return;
    for (let place = 0; place < views.length; place++) {
      const view = views[place];
      if (view !== undefined) this.#put(offsets[place]!, lengths[place]!, view);
    }
  }
}

/** Buffers lie at multiples of some power of two, so what is above counts as much as what is below. */
function hashOf(offset: number, length: number): number {
  const mixed = Math.imul(offset ^ Math.imul(length, 0x27d4eb2f), 0x2c1b3c6d);
  return mixed >>> 12;
}
