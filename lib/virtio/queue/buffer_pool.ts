/**
 * The buffers of one queue: equal slots in DMA memory, each with its view and IOVA made beforehand.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { Parcel } from "../../../ffi/mod.ts";
import { type DmaAccess, DmaMemory, type DmaSpace, type LentDmaMemory } from "../../memory/mod.ts";
import type { SavedPart } from "./saved_queue.ts";
import type { SlotTables, UsedBurst, Virtqueue } from "./virtqueue.ts";

const LINE_BYTES = 64;
const TWO_32 = 4294967296;

/** Slots as another thread of this process gets them, with their queue: plain data. */
export interface LentPool {
  /** What they are cut out of. */
  readonly memory: LentDmaMemory;
  /** How. */
  readonly slots: Omit<BufferPoolOptions, "access" | "lendable">;
}

/** How to cut slots. */
export interface BufferPoolOptions {
  /** What they hold, for messages and accounting: `receive buffers`. */
  readonly label: string;
  /** Bytes of each. */
  readonly slotBytes: number;
  /** Number of slots, numbered from 0. Default: as many as the queue has descriptors. */
  readonly count?: number;
  /** Each slot begins at a multiple of so many bytes, or what is behind its head does. Default 64, a cache line. */
  readonly alignBytes?: number;
  /**
   * Bytes at the start of each slot, an even number, that lie before such a multiple: a header, so that what follows it fills whole cache lines, and the
   * header's own line stays as it is where the header does. Default 0.
   */
  readonly headBytes?: number;
  /** Default: the device reads and writes. */
  readonly access?: DmaAccess;
  /**
   * Every chain of the queue is one of these slots (the first of them, when there are more than descriptors), which the device reads or writes: then
   * `add` and `addBurst` are for them. Or each begins with an indirect table, of which the owner knows what it says. Default: chains are put together
   * with `addPart`, of this pool's slots and others.
   */
  readonly chains?: "readable" | "writable" | SlotTables | undefined;
  /** They can be lent to another thread of this process. Default: false. */
  readonly lendable?: boolean | undefined;
}

/** Slots that are taken, added to the queue, returned by the device under their own numbers, and given back. Calls but the constructor allocate nothing. */
export class BufferPool implements Disposable {
  /** Whose buffers they are. */
  readonly queue: Virtqueue;
  /** Number of slots. */
  readonly count: number;
  /** Bytes of each. */
  readonly slotBytes: number;
  /** The slots, by number. When the memory is gone each has length 0. */
  readonly views: readonly Uint8Array<ArrayBuffer>[];
  /** By slot: the halves of its IOVA. */
  readonly iovaLo: Uint32Array<ArrayBuffer>;
  readonly iovaHi: Uint32Array<ArrayBuffer>;
  /** All of them in half-words: slot n is at `n * strideBytes / 2`. */
  readonly halves: Uint16Array<ArrayBuffer>;
  /** The same in words, without the head of the first: what is behind the head of slot n is at `n * strideBytes / 4`. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Bytes from one slot to the next. */
  readonly strideBytes: number;
  readonly #memory: DmaMemory;
  readonly #slots: LentPool["slots"];
  /** Bytes before the first slot. */
  readonly #lead: number;
  /** By id of a chain. */
  readonly #slotOf: Uint16Array<ArrayBuffer>;
  readonly #free: Uint16Array<ArrayBuffer>;
  #freeCount: number;
  readonly #bound: boolean;
  readonly #one = new Uint16Array(1);
  readonly #oneLength = new Uint32Array(1);

  /** All slots are free. @throws ExhaustedError, SyscallError, UsageError */
  constructor(queue: Virtqueue, dma: Pick<DmaSpace, "allocate">, options: BufferPoolOptions) {
    const { slotBytes, count = queue.size, alignBytes = LINE_BYTES, headBytes = 0, access, chains } = options;
    const { lendable = false } = options;
    const lead = this.#lead = (alignBytes - headBytes % alignBytes) % alignBytes;
    const stride = strideOf(lead + slotBytes, alignBytes);
    const label = `queue ${queue.index} ${options.label}`;
    if (!Number.isSafeInteger(slotBytes) || slotBytes <= 0) {
      throw new UsageError(`${label} of ${shown(slotBytes)} bytes`);
    }
    this.#memory = dma.allocate(count * stride, { label, access, lendable });
    this.#slots = { label: options.label, slotBytes, count, alignBytes, headBytes, chains };
    this.queue = queue;
    this.count = count;
    this.slotBytes = slotBytes;
    this.strideBytes = stride;
    const { buffer, iova: start } = this.#memory;
    const bodies = lead + headBytes;
    this.halves = new Uint16Array(buffer, lead, Math.floor((count * stride - lead) / 2));
    this.words = new Uint32Array(buffer, bodies, Math.floor((count * stride - bodies) / 4));
    this.views = Array.from(
      { length: count },
      (_, slot) => this.#memory.bytes(lead + slot * stride, slotBytes),
    );
    const iovas = this.views.map((_, slot) => start + BigInt(lead + slot * stride));
    this.iovaLo = Uint32Array.from(iovas, (iova) => Number(iova & 0xffff_ffffn));
    this.iovaHi = Uint32Array.from(iovas, (iova) => Number(iova >> 32n));
    this.#slotOf = Uint16Array.from({ length: queue.size }, (_, id) => id);
    this.#free = Uint16Array.from({ length: count }, (_, at) => count - 1 - at);
    this.#freeCount = count;
    this.#bound = chains !== undefined;
    if (chains === undefined) return;
    queue.bindSlots({
      iovaLo: this.iovaLo.subarray(0, queue.size),
      iovaHi: this.iovaHi.subarray(0, queue.size),
      lengthBytes: slotBytes,
      deviceWrites: chains === "writable",
      tables: typeof chains === "string" ? undefined : chains,
    });
  }

  /** Slots that `take` has left. */
  get free(): number {
    return this.#freeCount;
  }

  /** The memory is gone: disposed of here, or with the function. */
  get closed(): boolean {
    return this.#memory.closed;
  }

  /** A slot; −1 when there is none. */
  take(): number {
    return this.#freeCount === 0 ? -1 : this.#free[--this.#freeCount]!;
  }

  /** A slot that was taken is free again. */
  give(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  /** As many slots as there are, up to the array's elements 0 to `count` − 1. @returns how many */
  takeBurst(slots: Uint16Array, count: number): number {
    const free = this.#free;
    const taken = count < this.#freeCount ? count : this.#freeCount;
    const top = this.#freeCount - taken;
    // In the order in which they came back: what lies in the ring then stays as it is, lap by lap.
    for (let at = 0; at < taken; at++) slots[at] = free[top + at]!;
    this.#freeCount = top;
    return taken;
  }

  /** Slots that were taken are free again. */
  giveBurst(slots: Uint16Array, count: number): void {
    const free = this.#free;
    const top = this.#freeCount;
    for (let at = 0; at < count; at++) free[top + at] = slots[at]!;
    this.#freeCount = top + count;
  }

  /** Adds the first bytes of a slot as a chain. @throws UsageError as `Virtqueue.addSlots` */
  add(slot: number, lengthBytes: number): void {
    this.#one[0] = slot;
    this.#oneLength[0] = lengthBytes;
    this.queue.addSlots(this.#one, this.#oneLength, 1);
  }

  /** As `Virtqueue.addSlots`. */
  addBurst(slots: Uint16Array, lengths: Uint32Array | null, count: number, headBytes = 0): number {
    return this.queue.addSlots(slots, lengths, count, headBytes);
  }

  /** Adds bytes of a slot to the chain that was begun in the queue. */
  addPart(slot: number, offset: number, lengthBytes: number): void {
    const lo = this.iovaLo[slot]! + offset;
    const carry = lo >= TWO_32 ? 1 : 0;
    this.queue.segment(lo - TWO_32 * carry, this.iovaHi[slot]! + carry, lengthBytes);
  }

  /** Ends the chain that was begun in the queue, which comes back as this slot. @returns its id */
  commit(slot: number): number {
    const id = this.queue.commit();
    this.#slotOf[id] = slot;
    return id;
  }

  /** Bytes of a slot, as a saved chain has them. */
  partOf(slot: number, offset: number, lengthBytes: number): SavedPart {
    const iova = this.#memory.iova + BigInt(this.#lead + this.strideBytes * slot + offset);
    return { iova: `0x${iova.toString(16)}`, lengthBytes };
  }

  /** Slot of a chain in flight. */
  slotOf(id: number): number {
    return this.#slotOf[id]!;
  }

  /**
   * As `Virtqueue.takeUsed`, with slots in place of ids: of other chains than slots, an id is free for another slot from here on, before anybody has looked at what came back.
   */
  takeUsed(into: UsedBurst, max?: number): number {
    const count = this.queue.takeUsed(into, max);
    if (this.#bound) return count;
    const { ids } = into;
    for (let i = 0; i < count; i++) ids[i] = this.#slotOf[ids[i]!]!;
    return count;
  }

  /** The slots for another thread, which gets the queue, too: their use here is over. @throws UnsupportedError, SyscallError @internal */
  lend(parcel: Parcel): LentPool {
    return { memory: this.#memory.lend(parcel), slots: this.#slots };
  }

  /** In the other thread. @throws UsageError for what is no such pool @internal */
  static borrow(queue: Virtqueue, { memory, slots }: LentPool): BufferPool {
    const borrowed = DmaMemory.borrow(memory);
    try {
      return new BufferPool(queue, { allocate: () => borrowed }, slots);
    } catch (error) {
      borrowed.close();
      throw error;
    }
  }

  /** Unmaps the memory. The queue is its device's. May be called again. */
  [Symbol.dispose](): void {
    this.#memory.close();
  }
}

/** Bytes from one slot to the next: an odd number of cache lines where there are several, since the starts of slots are otherwise in few sets of the cache. */
function strideOf(bytes: number, alignBytes: number): number {
  const units = Math.ceil(bytes / alignBytes);
  return (alignBytes === LINE_BYTES && units > 1 ? units | 1 : units) * alignBytes;
}
