/**
 * The least that can be a device's side of a ring: it returns everything at once, in order, and asks not to be notified.
 *
 * @module
 */
import type { RingLayout } from "../lib/virtio/queue/layout.ts";
import { DESC_FLAG, EVENT_SUPPRESS, USED_NO_NOTIFY } from "../lib/virtio/spec/ring.ts";

const { avail: AVAIL, used: USED, write: WRITE } = DESC_FLAG;
const BOTH = AVAIL | USED;

/** See the module. */
export class PlainRingDevice {
  readonly #packed: boolean;
  readonly #eventIndex: boolean;
  readonly #size: number;
  readonly #table: Uint32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  readonly #elements: Uint32Array<ArrayBuffer>;
  #next = 0;
  #flags: number = AVAIL;

  /** @param buffer holds the ring */
  constructor(packed: boolean, eventIndex: boolean, layout: RingLayout, buffer: ArrayBuffer) {
    const { size, descriptorOffset, driverOffset, deviceOffset } = layout;
    this.#packed = packed;
    this.#eventIndex = eventIndex;
    this.#size = size;
    this.#table = new Uint32Array(buffer, descriptorOffset, 4 * size);
    this.#halves = new Uint16Array(buffer, descriptorOffset, 8 * size);
    this.#available = new Uint16Array(buffer, driverOffset, packed ? 2 : 3 + size);
    this.#used = new Uint16Array(buffer, deviceOffset, packed ? 2 : 3 + 4 * size);
    this.#elements = new Uint32Array(buffer, deviceOffset + 4, packed ? 0 : 2 * size);
  }

  /** Returns what is available. @param bytes that it claims to have written into each @returns how many */
  serve(bytes: number): number {
    return this.#packed ? this.#servePacked(bytes) : this.#serveSplit(bytes);
  }

  #serveSplit(bytes: number): number {
    const available = this.#available, elements = this.#elements, mask = this.#size - 1;
    const end = Atomics.load(available, 1), count = (end - this.#next) & 0xffff;
    for (let at = this.#next; at !== this.#next + count; at++) {
      elements[(at & mask) * 2] = available[2 + (at & mask)]!;
      elements[(at & mask) * 2 + 1] = bytes;
    }
    this.#next = end;
    Atomics.store(this.#used, 1, end);
    if (this.#eventIndex) this.#used[2 + 4 * this.#size] = (end - 1) & 0xffff;
    else this.#used[0] = USED_NO_NOTIFY;
    return count;
  }

  #servePacked(bytes: number): number {
    const table = this.#table, halves = this.#halves;
    let count = 0;
    for (; (Atomics.load(halves, this.#next * 8 + 7) & BOTH) === this.#flags; count++) {
      table[this.#next * 4 + 2] = bytes;
      const used = this.#flags === AVAIL ? BOTH : 0;
      Atomics.store(halves, this.#next * 8 + 7, used | (bytes > 0 ? WRITE : 0));
      if (++this.#next < this.#size) continue;
      this.#next = 0;
      this.#flags ^= BOTH;
    }
    this.#used[1] = EVENT_SUPPRESS.disable;
    return count;
  }
}
