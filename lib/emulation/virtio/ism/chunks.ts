/**
 * Which chunks of a virtio-ism function's area stand for which part of which region (reference 5.2).
 *
 * @module
 */

/** Free chunks, and the holders of the others. */
export class ChunkMap<Holder> {
  /** Chunks of the area. */
  readonly count: number;
  /** Chunks whose notify address has an eventfd are this far apart: where regions begin if they can. */
  readonly stride: number;
  readonly #holders: (Holder | undefined)[];
  /** For a taken chunk: which one of its region it is. */
  readonly #places: Uint32Array;
  #free: number;

  /** All free. @param stride see the property */
  constructor(count: number, stride: number) {
    this.count = count;
    this.stride = stride;
    this.#holders = new Array<Holder | undefined>(count).fill(undefined);
    this.#places = new Uint32Array(count);
    this.#free = count;
  }

  /** How many are free. */
  get free(): number {
    return this.#free;
  }

  /** Who has a chunk; undefined for a free one, and past the end. */
  holderOf(chunk: number): Holder | undefined {
    return this.#holders[chunk];
  }

  /** Which of its region's chunks a taken one is, 0 for the first. */
  placeOf(chunk: number): number {
    return this.#places[chunk]!;
  }

  /**
   * Looks for `num` free chunks: in one run that begins where there is a doorbell, else in one run, else the lowest that are free, the first of
   * them with a doorbell when one of those is free. Takes nothing.
   * @returns their numbers in the region's order; undefined when there are not so many
   */
  find(num: number): Uint32Array<ArrayBuffer> | undefined {
    if (num > this.#free) return undefined;
    const run = this.#run(num);
    const chunks = new Uint32Array(num);
    if (run >= 0) return chunks.map((_, i) => run + i);
    let first = -1;
    for (let chunk = 0; chunk < this.count && first < 0; chunk += this.stride) {
      if (this.#holders[chunk] === undefined) first = chunk;
    }
    let found = 0;
    if (first >= 0) chunks[found++] = first;
    for (let chunk = 0; found < num; chunk++) {
      if (this.#holders[chunk] === undefined && chunk !== first) chunks[found++] = chunk;
    }
    return chunks;
  }

  /** Start of the first free run of `num`, of those with a doorbell if there is one; −1 when there is none. */
  #run(num: number): number {
    let start = 0;
    let anywhere = -1;
    for (let chunk = 0; chunk < this.count; chunk++) {
      if (this.#holders[chunk] !== undefined) {
        start = chunk + 1;
        continue;
      }
      const begin = chunk - num + 1;
      if (begin < start) continue;
      if (begin % this.stride === 0) return begin;
      if (anywhere < 0) anywhere = begin;
    }
    return anywhere;
  }

  /** Gives free chunks to an holder, in this order. */
  take(chunks: Uint32Array, holder: Holder): void {
    chunks.forEach((chunk, place) => {
      this.#holders[chunk] = holder;
      this.#places[chunk] = place;
    });
    this.#free -= chunks.length;
  }

  /** Frees chunks that were taken together. */
  release(chunks: Uint32Array): void {
    for (const chunk of chunks) this.#holders[chunk] = undefined;
    this.#free += chunks.length;
  }
}
