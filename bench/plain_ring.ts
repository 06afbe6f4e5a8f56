/**
 * The least that any ring must do: what the rings are measured beside.
 *
 * @module
 */
import { MappedMemory, pageSizeBytes } from "../ffi/mod.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { RING_SIZE } from "./ring_pair.ts";

/** Words of a descriptor and of a used element: 16 and 8 bytes. */
const DESCRIPTOR_WORDS = 4;
const USED_WORDS = 2;
const MASK = RING_SIZE - 1;
/** A cache line between the two indices. */
const TAIL_AT = 16;

/**
 * A single-producer single-consumer ring that moves the same bytes through mapped memory as a virtqueue: 16 bytes of descriptor one way, 8 bytes of used
 * element back, one atomic index store and load a burst on each side. No free list, no chains, no events, and nothing is checked but a sum.
 */
export class PlainRing implements Disposable {
  readonly #memory: MappedMemory;
  readonly #descriptors: Uint32Array<ArrayBuffer>;
  readonly #used: Uint32Array<ArrayBuffer>;
  readonly #indices: Uint32Array<ArrayBuffer>;
  #head = 0;
  #deviceTail = 0;
  #usedHead = 0;
  #usedTail = 0;

  /** Maps its memory. */
  constructor() {
    const usedAt = RING_SIZE * DESCRIPTOR_WORDS * 4;
    const indicesAt = usedAt + RING_SIZE * USED_WORDS * 4;
    const sizeBytes = Math.ceil((indicesAt + 128) / pageSizeBytes) * pageSizeBytes;
    this.#memory = MappedMemory.anonymous(sizeBytes);
    const { buffer } = this.#memory;
    this.#descriptors = new Uint32Array(buffer, 0, RING_SIZE * DESCRIPTOR_WORDS);
    this.#used = new Uint32Array(buffer, usedAt, RING_SIZE * USED_WORDS);
    this.#indices = new Uint32Array(buffer, indicesAt, 32);
  }

  /** Moves at least `count` descriptors around, `burst` at a time. @throws DeviceError when one is lost */
  turn(count: number, burst: number): void {
    for (let done = 0; done < count; done += burst) {
      this.#produce(burst);
      const served = this.#serve();
      const taken = this.#take();
      if (taken !== served || this.#usedTail !== this.#head) {
        throw new DeviceError("the plain ring lost a descriptor");
      }
    }
  }

  #produce(burst: number): void {
    const descriptors = this.#descriptors;
    let head = this.#head;
    for (let i = 0; i < burst; i++) {
      const at = (head & MASK) * DESCRIPTOR_WORDS;
      descriptors[at] = head;
      descriptors[at + 1] = 0;
      descriptors[at + 2] = 64;
      descriptors[at + 3] = i;
      head = (head + 1) >>> 0;
    }
    this.#head = head;
    Atomics.store(this.#indices, 0, head);
  }

  #serve(): number {
    const descriptors = this.#descriptors, used = this.#used;
    const end = Atomics.load(this.#indices, 0);
    let tail = this.#deviceTail, usedHead = this.#usedHead, sum = 0;
    for (; tail !== end; tail = (tail + 1) >>> 0) {
      const at = (tail & MASK) * DESCRIPTOR_WORDS;
      const to = (usedHead & MASK) * USED_WORDS;
      used[to] = descriptors[at]!;
      used[to + 1] = descriptors[at + 2]! + descriptors[at + 1]! + descriptors[at + 3]!;
      sum = (sum + descriptors[at]!) >>> 0;
      usedHead = (usedHead + 1) >>> 0;
    }
    this.#deviceTail = tail;
    this.#usedHead = usedHead;
    Atomics.store(this.#indices, TAIL_AT, usedHead);
    return sum;
  }

  #take(): number {
    const used = this.#used;
    const end = Atomics.load(this.#indices, TAIL_AT);
    let tail = this.#usedTail, sum = 0;
    for (; tail !== end; tail = (tail + 1) >>> 0) {
      const at = (tail & MASK) * USED_WORDS;
      if (used[at + 1]! === 0) throw new DeviceError("the plain ring brought an empty element");
      sum = (sum + used[at]!) >>> 0;
    }
    this.#usedTail = tail;
    return sum;
  }

  /** Unmaps. */
  [Symbol.dispose](): void {
    this.#memory.close();
  }
}
