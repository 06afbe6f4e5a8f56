/**
 * The split virtqueue, driver's side (SPEC split virtqueues; reference 1.3).
 *
 * Of the shared memory, only the used ring, its flags and the available event are ever read; everything that decides what happens
 * next is the driver's own (see `ChainBook`).
 *
 * Order of memory accesses: `publish` stores the index with `Atomics.store` and then loads the other side's flags or event, with
 * `Atomics.load` where the store is no full fence. So the index is visible before the event is read, and the descriptors are visible before the
 * index (x86-64: a locked exchange; AArch64: store-release before load-acquire). Both also stand before the doorbell that the caller writes afterwards.
 *
 * @module
 */
import { loadBehindStore } from "../../memory/load_order.ts";
import { AVAIL_NO_INTERRUPT, DESC_FLAG, QUEUE_SIZE_MAX, USED_NO_NOTIFY } from "../spec/ring.ts";
import { COMMITTED, PUBLISHED } from "./chain_book.ts";
import { DriverRing, type DriverRingParts, type Standing } from "./driver_ring.ts";
import type { QueueState, SplitQueueState } from "../spec/queue_state.ts";
import { usedBatchWrong, usedIdWrong, usedIndexJump, usedLengthWrong } from "./faults.ts";
import { DESCRIPTOR_BYTES } from "./layout.ts";
import type { QueueSlots, QueueSnapshot, UsedBurst } from "./virtqueue.ts";

export type { NotifyGate } from "./driver_ring.ts";

/** Parts that a `SplitQueue` is made of; `createVirtqueue` puts them together. */
export interface SplitQueueParts extends DriverRingParts {
  /**
   * The device's used lengths are not to be relied on, as those of legacy devices (SPEC "Legacy Interface: The Virtqueue Used Ring"): one beyond what
   * the chain has for the device counts as all of that, and is no lie. Default false.
   */
  readonly looseLengths?: boolean;
}

const INDEX_MASK = 0xffff;

/** A split ring with indirect descriptors, event index and in-order use. See `Virtqueue` for what its calls do. */
export class SplitQueue extends DriverRing {
  /** Discriminator. */
  readonly layout = "split";
  readonly #mask: number;
  readonly #looseLengths: boolean;

  // Shared with the device.
  readonly #descriptors: Uint32Array<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  readonly #usedElements: Uint32Array<ArrayBuffer>;
  /** Half-words from the start of the available ring to `used_event`, and of the used ring to `avail_event`. */
  readonly #usedEventAt: number;
  readonly #availableEventAt: number;

  /** Next available index to fill, the last one that the device was told, and the next used index to take. */
  #next = 0;
  #published = 0;
  #nextUsed = 0;

  /** Takes over `parts.memory`, which must be zeroed. @throws UsageError for a start of another layout */
  constructor(parts: SplitQueueParts) {
    const { layout, memory } = parts;
    super(parts);
    const { size } = layout;
    this.#mask = size - 1;
    this.#looseLengths = parts.looseLengths ?? false;
    const { buffer } = memory;
    this.#descriptors = new Uint32Array(buffer, layout.descriptorOffset, size * 4);
    this.#available = new Uint16Array(buffer, layout.driverOffset, 3 + size);
    this.#used = new Uint16Array(buffer, layout.deviceOffset, 3 + 4 * size);
    this.#usedElements = new Uint32Array(buffer, layout.deviceOffset + 4, 2 * size);
    this.#usedEventAt = 2 + size;
    this.#availableEventAt = 2 + 4 * size;
    if (parts.start !== undefined) {
      this.checkStart(parts.start);
      this.rewind(parts.start);
    }
  }

  /** As `DriverRing.slotTable`. With IN_ORDER a descriptor is written when its slot is added. */
  protected override get slotTable(): Uint32Array | null {
    return this.inOrder ? null : this.#descriptors;
  }

  /** As `Virtqueue.position`. */
  get position(): SplitQueueState {
    this.check();
    return { layout: "split", availableIndex: this.#nextUsed };
  }

  commit(): number {
    this.check();
    const id = this.book.commit();
    this.offer(id);
    return id;
  }

  addSingle(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number {
    this.check();
    const id = this.book.single(iovaLo, iovaHi, lengthBytes, deviceWrites);
    if (id < 0) return -1;
    this.#describe(id);
    this.#makeAvailable(id);
    return id;
  }

  addSingles(
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    lengths: Uint32Array,
    count: number,
    deviceWrites: boolean,
    ids: Uint16Array,
  ): number {
    this.check();
    const { book } = this;
    const room = book.checkSingles(iovaLo, iovaHi, lengths, count, ids);
    const { parts, writable, serial, counts } = book;
    const descriptors = this.#descriptors, available = this.#available, mask = this.#mask;
    const flags = deviceWrites ? DESC_FLAG.write : 0;
    const { records, step } = book;
    let next = this.#next, record = book.nextFree, committed = counts[COMMITTED]!;
    let done = 0;
    for (; done < room; done++, record += step) {
      const lengthBytes = lengths[done]!;
      if (lengthBytes === 0) break;
      const id = records[record]!;
      const word = id * 4;
      const lo = iovaLo[done]!, hi = iovaHi[done]!;
      parts[word] = lo;
      parts[word + 1] = hi;
      parts[word + 2] = lengthBytes;
      parts[word + 3] = flags;
      descriptors[word] = lo;
      descriptors[word + 1] = hi;
      descriptors[word + 2] = lengthBytes;
      descriptors[word + 3] = flags;
      writable[id] = deviceWrites ? lengthBytes : 0;
      serial[id] = ++committed;
      available[2 + (next++ & mask)] = id;
      ids[done] = id;
    }
    this.#next = next & INDEX_MASK;
    book.added(done, committed);
    if (done < room) book.drop("addSingles: a part of 0 bytes");
    return done;
  }

  addSlots(slots: Uint16Array, lengths: Uint32Array | null, count: number, headBytes = 0): number {
    this.check();
    const { book } = this;
    book.checkSlots(slots, lengths, count, headBytes);
    const { parts, writable, serial, counts } = book;
    const bound = book.slots!;
    const { deviceWrites, tables } = bound.are;
    const tableWritable = tables === undefined ? null : tables.writable;
    const descriptors = this.#descriptors, available = this.#available, mask = this.#mask;
    // Unsigned, as the lengths are: the engine then has one kind of number here.
    const last = bound.ids, most = bound.are.lengthBytes >>> 0;
    const ids = this.inOrder ? bound.name(slots, count, book.nextRecord) : slots;
    let next = this.#next, committed = counts[COMMITTED]!;
    let lengthBytes = most;
    let done = 0;
    for (; done < count; done++) {
      const id = ids[done]!;
      lengthBytes = lengths === null ? most : (lengths[done]! + headBytes) >>> 0;
      if (id >= last || serial[id] !== 0 || lengthBytes === 0 || lengthBytes > most) break;
      if (ids !== slots) this.#describe(id);
      const word = id * 4;
      // What is in shared memory already is not written again, so that it stays in the device's cache.
      if (parts[word + 2] !== lengthBytes) {
        parts[word + 2] = lengthBytes;
        descriptors[word + 2] = lengthBytes;
      }
      if (deviceWrites) writable[id] = lengthBytes;
      else if (tableWritable !== null) writable[id] = tableWritable[slots[done]!]!;
      serial[id] = ++committed;
      const place = 2 + (next++ & mask);
      if (available[place] !== id) available[place] = id;
    }
    this.#next = next & INDEX_MASK;
    book.added(done, committed);
    if (done < count) book.drop(bound.problem(slots[done]!, lengthBytes));
    return done;
  }

  /** As `DriverRing.offer`. */
  protected override offer(id: number): void {
    const { parts, link } = this.book;
    const descriptors = this.#descriptors;
    const inTable = this.book.inTable(id);
    if (inTable !== 0) {
      this.#writeTable(id, inTable);
      const word = id * 4;
      descriptors[word] = this.tableLo(id);
      descriptors[word + 1] = this.tableHi(id);
      descriptors[word + 2] = inTable * DESCRIPTOR_BYTES;
      descriptors[word + 3] = DESC_FLAG.indirect;
    } else {
      let record = id;
      for (let left = this.book.taken(id); left > 0; left--) {
        const word = record * 4;
        descriptors[word] = parts[word]!;
        descriptors[word + 1] = parts[word + 1]!;
        descriptors[word + 2] = parts[word + 2]!;
        const next = link[record]!;
        descriptors[word + 3] = left === 1
          ? parts[word + 3]!
          : parts[word + 3]! | DESC_FLAG.next | (next << 16);
        record = next;
      }
    }
    this.#makeAvailable(id);
  }

  /** Puts a chain into the available ring, not yet visible. */
  #makeAvailable(id: number): void {
    this.#available[2 + (this.#next & this.#mask)] = id;
    this.#next = (this.#next + 1) & INDEX_MASK;
  }

  /** Writes the part of a record into the descriptor table, as the last one of a chain. */
  #describe(record: number): void {
    const descriptors = this.#descriptors;
    const { parts } = this.book;
    const word = record * 4;
    descriptors[word] = parts[word]!;
    descriptors[word + 1] = parts[word + 1]!;
    descriptors[word + 2] = parts[word + 2]!;
    descriptors[word + 3] = parts[word + 3]!;
  }

  /** As `Virtqueue.bindSlots`: what stays of their descriptors is written once. */
  override bindSlots(slots: QueueSlots): void {
    super.bindSlots(slots);
    this.#describeSlots();
  }

  #describeSlots(): void {
    for (let slot = this.book.slots!.are.iovaLo.length; slot-- > 0;) this.#describe(slot);
  }

  /** Entries follow one another, each linked to the next, as IN_ORDER demands and the standard otherwise allows. */
  #writeTable(id: number, count: number): void {
    const { tables } = this;
    const { tableParts, tableSegments } = this.book;
    let word = id * tableSegments * 4;
    for (let part = 1; part <= count; part++, word += 4) {
      tables[word] = tableParts[word]!;
      tables[word + 1] = tableParts[word + 1]!;
      tables[word + 2] = tableParts[word + 2]!;
      tables[word + 3] = part === count
        ? tableParts[word + 3]!
        : tableParts[word + 3]! | DESC_FLAG.next | (part << 16);
    }
  }

  /** As `Virtqueue.publish`. */
  publish(): boolean {
    this.check();
    const count = this.book.markPublished();
    if (count === 0) return false;
    const next = this.#next;
    this.#published = next;
    Atomics.store(this.#available, 1, next);
    if (!this.eventIndex) return (loadBehindStore(this.#used, 0, this.acquireEach) & USED_NO_NOTIFY) === 0;
    // Notify when the event lies among the `count` positions just filled (batch form of 1.3).
    const event = loadBehindStore(this.#used, this.#availableEventAt, this.acquireEach);
    return ((next - event - 1) & INDEX_MASK) < count;
  }

  /** As `Virtqueue.notify`; the 15 low bits and bit 15 of the available index go with it (1.6). */
  notify(): void {
    this.ring(this.#published & 0x7fff, this.#published >> 15);
  }

  /** As `Virtqueue.hasUsed`. */
  hasUsed(): boolean {
    this.check();
    return Atomics.load(this.#used, 1) !== this.#nextUsed || this.empty();
  }

  /**
   * As `Virtqueue.takeUsed`. When a returned chain is not what the device may return, those before it are still given out, and the error is
   * thrown by this call when there are none before it, else by the next one.
   */
  takeUsed(into: UsedBurst, max: number = QUEUE_SIZE_MAX): number {
    this.check();
    let count = this.roomIn(into, max);
    const { book } = this;
    let from = this.#nextUsed;
    const to = Atomics.load(this.#used, 1);
    const returned = (to - from) & INDEX_MASK;
    if (returned === 0) {
      this.empty();
      return 0;
    }
    const held = book.held;
    if (returned > held) throw this.break(usedIndexJump(this.place, from, to, held));
    if (count > returned) count = returned;
    if (this.inOrder) return this.#takeBatches(into, count, returned);

    const { ids, lengths } = into;
    const { serial, writable, chained, free, counts } = book;
    const elements = this.#usedElements, mask = this.#mask, published = counts[PUBLISHED]!;
    let top = book.freeCount;
    let done = 0;
    while (done < count) {
      let id = 0, length = 0;
      for (; done < count; done++) {
        const word = (from & mask) * 2;
        // Each is read once: the device could change it between a check and a second read.
        id = elements[word]!;
        length = elements[word + 1]!;
        const number = id <= mask ? serial[id]! : 0;
        if (number === 0 || number > published || length > writable[id]! || chained[id] !== 0) break;
        serial[id] = 0;
        free[top++] = id;
        ids[done] = id;
        lengths[done] = length;
        from++;
      }
      if (done === count) break;
      // A chain of several parts, or a lie. Apart, so that the engine has the loop above in registers.
      length = this.#judge(id, length);
      if (length < 0) break;
      serial[id] = 0;
      top = book.releaseChain(id, top);
      ids[done] = id;
      lengths[done++] = length;
      from++;
    }
    this.#nextUsed = from & INDEX_MASK;
    book.freeCount = top;
    book.inFlight -= done;
    return this.give(done);
  }

  /** IN_ORDER: an element stands for the batch that its id ends, and the next element is as far behind as the batch is long. */
  #takeBatches(into: UsedBurst, count: number, returned: number): number {
    const { book, size } = this;
    const { ids, lengths } = into;
    const { serial, writable, chained, slotOf } = book;
    const elements = this.#usedElements, mask = this.#mask;
    let from = this.#nextUsed;
    let done = 0;
    while (done < count) {
      if (!book.inBatch) {
        // Batches of one chain, of one part: the loop is for these. The oldest is published: no more was returned than the device holds.
        const begin = done;
        let { oldest } = book;
        let id = 0, length = 0;
        for (; done < count; done++, from++) {
          const word = (from & mask) * 2;
          // Each is read once: the device could change it between a check and a second read.
          id = elements[word]!;
          length = elements[word + 1]!;
          if (id !== oldest || length > writable[id]! || chained[id] !== 0) break;
          serial[id] = 0;
          ids[done] = slotOf[id]!;
          lengths[done] = length;
          if (++oldest === size) oldest = 0;
        }
        book.tookOldest(done - begin, done - begin, oldest);
        if (done === count) break;
        if (id !== oldest || length > writable[id]!) {
          length = this.#judge(id, length);
          if (length < 0) break;
          const batch = book.batchSize(id);
          if (batch > returned - done) {
            this.break(usedBatchWrong(this.place, id, batch, returned - done));
            break;
          }
        }
        book.startBatch(id, length);
      }
      const begin = done;
      done = book.restOfBatch(into, done, count);
      from += done - begin;
    }
    this.#nextUsed = from & INDEX_MASK;
    return this.give(done);
  }

  /** @returns the length that counts; −1 after it broke the queue */
  #judge(id: number, length: number): number {
    const { book } = this;
    const holder = book.holder(id);
    if (holder !== 2) {
      this.break(usedIdWrong(this.place, id, this.size, holder === 1));
      return -1;
    }
    const writable = book.writable[id]!;
    if (length <= writable) return length;
    if (this.#looseLengths) return writable;
    this.break(usedLengthWrong(this.place, id, length, writable));
    return -1;
  }

  /** As `Virtqueue.suppressInterrupts`. */
  suppressInterrupts(): void {
    this.check();
    if (this.eventIndex) {
      // The flag must stay 0 with EVENT_IDX; the position just behind is the one that is reached last.
      Atomics.store(this.#available, this.#usedEventAt, (this.#nextUsed - 1) & INDEX_MASK);
    } else {
      Atomics.store(this.#available, 0, AVAIL_NO_INTERRUPT);
    }
  }

  /** As `Virtqueue.enableInterrupts`. */
  enableInterrupts(): boolean {
    this.check();
    if (this.eventIndex) Atomics.store(this.#available, this.#usedEventAt, this.#nextUsed);
    else Atomics.store(this.#available, 0, 0);
    return Atomics.load(this.#used, 1) !== this.#nextUsed;
  }

  /** As `DriverRing.rewind`. */
  protected override rewind(state: QueueState): void {
    if (state.layout !== "split") return;
    const index = state.availableIndex;
    this.#next = this.#published = this.#nextUsed = index;
    this.#available.fill(0);
    this.#used.fill(0);
    this.#available[1] = index;
    // The used index is the ring's own state (6.1): the device reads it from here.
    this.#used[1] = index;
    // A zeroed event asks for index 0; a ring that starts elsewhere asks for its own first one, on both sides.
    this.#available[this.#usedEventAt] = index;
    this.#used[this.#availableEventAt] = index;
    // Nothing that the device may have written over them goes on.
    if (this.book.slots !== null && !this.inOrder) this.#describeSlots();
  }

  /** As `DriverRing.standing`. */
  protected override standing(): Standing {
    const { book } = this;
    const from = this.#nextUsed, to = Atomics.load(this.#used, 1);
    const count = (to - from) & INDEX_MASK;
    if (count > book.held) throw this.break(usedIndexJump(this.place, from, to, book.held));
    // IN_ORDER: elements within a batch are not written.
    const returned = this.inOrder
      ? book.idsInOrder().slice(0, count)
      : Array.from({ length: count }, (_, at) => this.#usedElements[((from + at) & this.#mask) * 2]!);
    return { state: { layout: "split", availableIndex: to }, returned: new Set(returned) };
  }

  /** As `DriverRing.goOn`. */
  protected override goOn({ state }: Standing): void {
    if (state.layout !== "split") return;
    this.#next = this.#published = state.availableIndex;
    Atomics.store(this.#available, 1, state.availableIndex);
    this.#used[this.#availableEventAt] = state.availableIndex;
    if (this.book.slots !== null && !this.inOrder) this.#describeSlots();
  }

  /** As `DriverRing.dropWishes`. */
  protected override dropWishes(): void {
    this.#used[0] = 0;
    this.#used[this.#availableEventAt] = this.#published;
  }

  /** As `DriverRing.checkDevice`. */
  protected override checkDevice(state: QueueState): void {
    if (state.layout !== "split") {
      throw this.stateError("queue_avail_state", "the state is that of a packed queue");
    }
    const ahead = (state.availableIndex - this.#nextUsed) & INDEX_MASK;
    if (ahead <= this.book.held) return;
    throw this.stateError(
      "queue_avail_state",
      `${state.availableIndex} is not among ${this.#nextUsed} to ${this.#published}, where the device may be (A-6.7)`,
    );
  }

  /** As `DriverRing.places`. */
  protected override get places(): Pick<QueueSnapshot, "available" | "used"> {
    return { available: { index: this.#published }, used: { index: this.#nextUsed } };
  }
}
