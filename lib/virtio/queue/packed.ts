/**
 * The packed virtqueue, driver's side (SPEC packed virtqueues; reference 1.4).
 *
 * Both sides write the descriptor ring. Of what the device wrote, the driver reads the flags, id and length of the one descriptor that is
 * used next, each once; how far to skip after it, and what its id stands for, are the driver's own (see `ChainBook`).
 *
 * A burst is made visible by one store: of all descriptors but the first head the flags are written at once, since a device looks at
 * descriptors in ring order and stops at the first that is not available. The head's flags follow with `Atomics.store` (after
 * everything before them, the standard's barrier), and the device's event suppression is loaded behind it, with `Atomics.load` where the store is no
 * full fence: that is the barrier that the standard demands between them.
 *
 * @module
 */
import { loadBehindStore } from "../../memory/load_order.ts";
import { DESC_FLAG, EVENT_SUPPRESS, QUEUE_SIZE_MAX } from "../spec/ring.ts";
import { COMMITTED, PUBLISHED } from "./chain_book.ts";
import { DriverRing, type DriverRingParts, type Standing } from "./driver_ring.ts";
import { usedIdWrong, usedLengthWrong, usedWithoutChain } from "./faults.ts";
import { DESCRIPTOR_BYTES } from "./layout.ts";
import { AVAIL_USED, AvailableDescriptors, FLAGS_AT, ID_AT, NO_HEAD } from "./packed_available.ts";
import { ReturnedDescriptors } from "./packed_returned.ts";
import { packedPlace, packedStanding } from "./packed_standing.ts";
import type { PackedQueueState, QueueState } from "../spec/queue_state.ts";
import type { QueueSnapshot, UsedBurst } from "./virtqueue.ts";

/** A packed ring with indirect descriptors, event suppression and in-order use. See `Virtqueue` for what its calls do. */
export class PackedQueue extends DriverRing {
  /** Discriminator. */
  readonly layout = "packed";

  // Shared with the device.
  readonly #available: AvailableDescriptors;
  readonly #returned: ReturnedDescriptors;
  /** One word each: `pvirtq_event_suppress`, offset and wrap in the low half. */
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;

  /** Takes over `parts.memory`, which must be zeroed. @throws UsageError for a start with a used part of its own, or of another layout */
  constructor(parts: DriverRingParts) {
    const { layout, memory: { buffer } } = parts;
    super(parts);
    this.#available = new AvailableDescriptors(buffer, layout);
    this.#returned = new ReturnedDescriptors(this.#available, this.acquireEach);
    this.#driverEvent = new Uint32Array(buffer, layout.driverOffset, 1);
    this.#deviceEvent = new Uint32Array(buffer, layout.deviceOffset, 1);
    if (parts.start !== undefined) {
      this.checkStart(parts.start);
      this.rewind(parts.start);
    }
  }

  /** As `DriverRing.slotTable`. */
  protected override readonly slotTable: null = null;

  /** As `Virtqueue.position`. */
  get position(): PackedQueueState {
    this.check();
    return packedPlace(this.#returned.slot, this.#returned.wrap);
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
    const available = this.#available, { words, slot } = available;
    words[slot * 4] = iovaLo;
    words[slot * 4 + 1] = iovaHi;
    words[slot * 4 + 2] = lengthBytes;
    available.writeHead(slot, id, available.flags | (deviceWrites ? DESC_FLAG.write : 0));
    available.skip(1);
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
    const { parts, writable, serial, counts, size } = book;
    const available = this.#available, ring = available.words;
    const write = deviceWrites ? DESC_FLAG.write : 0;
    let flags = available.flags | write;
    let head = available.hiding;
    const { records, step } = book;
    let place = available.slot, record = book.nextFree, committed = counts[COMMITTED]!;
    let done = 0;
    for (; done < room; done++, record += step) {
      const lengthBytes = lengths[done]!;
      if (lengthBytes === 0) break;
      const id = records[record]!;
      const lo = iovaLo[done]!, hi = iovaHi[done]!;
      const from = id * 4;
      parts[from] = lo;
      parts[from + 1] = hi;
      parts[from + 2] = lengthBytes;
      parts[from + 3] = write;
      const word = place * 4;
      ring[word] = lo;
      ring[word + 1] = hi;
      ring[word + 2] = lengthBytes;
      if (head !== NO_HEAD) {
        ring[word + 3] = id | (flags << 16);
      } else {
        available.writeHead(place, id, flags);
        head = place;
      }
      writable[id] = deviceWrites ? lengthBytes : 0;
      serial[id] = ++committed;
      ids[done] = id;
      if (++place === size) {
        place = 0;
        flags ^= AVAIL_USED;
      }
    }
    available.skip(done);
    book.added(done, committed);
    if (done < room) book.drop("addSingles: a part of 0 bytes");
    return done;
  }

  addSlots(slots: Uint16Array, lengths: Uint32Array | null, count: number, headBytes = 0): number {
    this.check();
    const { book } = this;
    book.checkSlots(slots, lengths, count, headBytes);
    const { parts, writable, serial, counts, size } = book;
    const bound = book.slots!;
    const { deviceWrites, tables } = bound.are;
    const tableWritable = tables === undefined ? null : tables.writable;
    // Unsigned, as the lengths are: the engine then has one kind of number here.
    const last = bound.ids, most = bound.are.lengthBytes >>> 0;
    const ids = this.inOrder ? bound.name(slots, count, book.nextRecord) : slots;
    const available = this.#available, ring = available.words;
    let flags = available.flags | bound.flags;
    let head = available.hiding;
    let place = available.slot, committed = counts[COMMITTED]!;
    let lengthBytes = most;
    let done = 0;
    for (; done < count; done++) {
      const id = ids[done]!;
      lengthBytes = lengths === null ? most : (lengths[done]! + headBytes) >>> 0;
      if (id >= last || serial[id] !== 0 || lengthBytes === 0 || lengthBytes > most) break;
      const from = id * 4;
      const word = place * 4;
      ring[word] = parts[from]!;
      ring[word + 1] = parts[from + 1]!;
      ring[word + 2] = lengthBytes;
      if (head !== NO_HEAD) {
        ring[word + 3] = id | (flags << 16);
      } else {
        available.writeHead(place, id, flags);
        head = place;
      }
      parts[from + 2] = lengthBytes;
      if (deviceWrites) writable[id] = lengthBytes;
      else if (tableWritable !== null) writable[id] = tableWritable[slots[done]!]!;
      serial[id] = ++committed;
      if (++place === size) {
        place = 0;
        flags ^= AVAIL_USED;
      }
    }
    available.skip(done);
    book.added(done, committed);
    if (done < count) book.drop(bound.problem(slots[done]!, lengthBytes));
    return done;
  }

  /** As `DriverRing.offer`. */
  protected override offer(id: number): void {
    const { book, size } = this;
    const available = this.#available, ring = available.words;
    let { slot, flags } = available;
    const inTable = book.inTable(id);
    if (inTable !== 0) {
      this.#writeTable(id, inTable);
      const word = slot * 4;
      ring[word] = this.tableLo(id);
      ring[word + 1] = this.tableHi(id);
      ring[word + 2] = inTable * DESCRIPTOR_BYTES;
      available.writeHead(slot, id, flags | DESC_FLAG.indirect);
      available.skip(1);
      return;
    }
    const { parts, link } = book;
    const count = book.taken(id);
    let record = id;
    for (let left = count; left > 0; left--) {
      const from = record * 4, word = slot * 4;
      ring[word] = parts[from]!;
      ring[word + 1] = parts[from + 1]!;
      ring[word + 2] = parts[from + 2]!;
      const its = flags | parts[from + 3]! | (left > 1 ? DESC_FLAG.next : 0);
      if (left === count) available.writeHead(slot, id, its);
      else ring[word + 3] = id | its << 16;
      if (++slot === size) {
        slot = 0;
        flags ^= AVAIL_USED;
      }
      record = link[record]!;
    }
    available.skip(count);
  }

  /** Entries follow one another; WRITE is the only flag that means something, id is reserved. */
  #writeTable(id: number, count: number): void {
    const { tables } = this;
    const { tableParts, tableSegments } = this.book;
    let word = id * tableSegments * 4;
    for (let part = 0; part < count; part++, word += 4) {
      tables[word] = tableParts[word]!;
      tables[word + 1] = tableParts[word + 1]!;
      tables[word + 2] = tableParts[word + 2]!;
      tables[word + 3] = tableParts[word + 3]! << 16;
    }
  }

  /** As `Virtqueue.publish`. */
  publish(): boolean {
    this.check();
    if (this.book.markPublished() === 0) return false;
    const filled = this.#available.show();
    const event = loadBehindStore(this.#deviceEvent, 0, this.acquireEach);
    const wish = (event >>> 16) & 3;
    if (wish === EVENT_SUPPRESS.disable) return false;
    // A reserved value, DESC without EVENT_IDX or a place outside the ring say nothing sensible: one notification too many does no harm.
    const slot = event & 0x7fff;
    if (wish !== EVENT_SUPPRESS.descriptor || !this.eventIndex || slot >= this.size) return true;
    return this.#available.passed(slot, event >>> 15 & 1, filled);
  }

  /** As `Virtqueue.notify`; the next slot to be made available and its wrap counter go with it (1.6). */
  notify(): void {
    this.ring(this.#available.shownSlot, this.#available.shownWrap);
  }

  /** As `Virtqueue.hasUsed`. */
  hasUsed(): boolean {
    this.check();
    return this.book.inBatch || this.#returned.looksUsed() || this.empty();
  }

  /**
   * As `Virtqueue.takeUsed`. When a returned chain is not what the device may return, those before it are still given out, and the error is
   * thrown by this call when there are none before it, else by the next one.
   *
   * A used descriptor without WRITE has no length, says the standard, and QEMU never sets it: then the length counts where it can be one, and
   * is 0 where it cannot.
   */
  takeUsed(into: UsedBurst, max: number = QUEUE_SIZE_MAX): number {
    this.check();
    const count = this.roomIn(into, max);
    if (this.inOrder) return this.#takeBatches(into, count);
    const { book, size } = this;
    const { ids, lengths } = into;
    const { serial, writable, chained, free, counts } = book;
    const returned = this.#returned, { words, halves, acquireEach } = returned;
    const first = returned.slot, published = counts[PUBLISHED]!;
    let slot = first, used = returned.flags, top = book.freeCount, held = book.held, done = 0;
    if (!returned.looksUsed()) return this.#none();
    while (done < count) {
      let id = 0, length = 0, flags = 0;
      for (; done < count; done++) {
        const word = slot * 4;
        // Each is read once: the device could change it between a check and a second read.
        const last = words[word + 3]!;
        flags = acquireEach ? Atomics.load(halves, 2 * word + FLAGS_AT) : last >>> 16;
        id = acquireEach ? halves[2 * word + ID_AT]! : last & 0xffff;
        length = words[word + 2]!;
        const number = id < size && held > 0 ? serial[id]! : 0;
        if (
          (flags & AVAIL_USED) !== used || number === 0 || number > published || length > writable[id]! ||
          chained[id] !== 0
        ) break;
        serial[id] = 0;
        held--;
        free[top++] = id;
        ids[done] = id;
        lengths[done] = length;
        if (++slot === size) {
          slot = 0;
          used ^= AVAIL_USED;
        }
      }
      if (done === count || (flags & AVAIL_USED) !== used) break;
      // A chain of several parts, or what cannot be taken as it is. Apart, so that the engine has the loop above in registers.
      length = this.#judge(id, length, slot, flags, held);
      if (length < 0) break;
      serial[id] = 0;
      held--;
      slot += book.taken(id);
      top = book.releaseChain(id, top);
      ids[done] = id;
      lengths[done++] = length;
      if (slot >= size) {
        slot -= size;
        used ^= AVAIL_USED;
      }
    }
    if (done === 0) return this.#none();
    returned.begin(slot, used === 0 ? 0 : 1);
    book.freeCount = top;
    book.inFlight -= done;
    return done;
  }

  /** Nothing was taken: nothing has come, or what has broke the queue. */
  #none(): number {
    const nothing = this.give(0);
    this.empty();
    return nothing;
  }

  /** IN_ORDER: a used descriptor stands for the batch that its id ends. */
  #takeBatches(into: UsedBurst, count: number): number {
    const { book, size } = this;
    const { ids, lengths } = into;
    const { serial, writable, chained, slotOf } = book;
    const returned = this.#returned, { words, halves, acquireEach } = returned;
    const held = book.held;
    if (!book.inBatch && !returned.looksUsed()) return this.#none();
    let done = 0;
    while (done < count) {
      if (!book.inBatch) {
        // Batches of one chain, of one part: the loop is for these.
        const begin = done;
        let { slot, flags: used } = returned, { oldest } = book;
        let id = 0, length = 0, flags = 0;
        for (; done < count; done++) {
          const word = slot * 4;
          // Each is read once: the device could change it between a check and a second read.
          const last = words[word + 3]!;
          flags = acquireEach ? Atomics.load(halves, 2 * word + FLAGS_AT) : last >>> 16;
          id = acquireEach ? halves[2 * word + ID_AT]! : last & 0xffff;
          length = words[word + 2]!;
          if (
            (flags & AVAIL_USED) !== used || id !== oldest || done === held || length > writable[id]! ||
            chained[id] !== 0
          ) break;
          serial[id] = 0;
          ids[done] = slotOf[id]!;
          lengths[done] = length;
          if (++oldest === size) oldest = 0;
          if (++slot === size) {
            slot = 0;
            used ^= AVAIL_USED;
          }
        }
        book.tookOldest(done - begin, done - begin, oldest);
        returned.begin(slot, used === 0 ? 0 : 1);
        if (done === count || (flags & AVAIL_USED) !== used) break;
        if (id !== oldest || done === held || length > writable[id]!) {
          length = this.#judge(id, length, slot, flags, held - done);
          if (length < 0) break;
        }
        book.startBatch(id, length);
      }
      done = book.restOfBatch(into, done, count);
      returned.skip(book.descriptorsBack);
    }
    return done === 0 ? this.#none() : done;
  }

  /** @returns the length that counts; −1 after it broke the queue */
  #judge(id: number, length: number, slot: number, flags: number, held: number): number {
    const { book } = this;
    if (held === 0) {
      this.break(usedWithoutChain(this.place, slot, flags));
      return -1;
    }
    const holder = book.holder(id);
    if (holder !== 2) {
      this.break(usedIdWrong(this.place, id, this.size, holder === 1, slot));
      return -1;
    }
    const writable = book.writable[id]!;
    if (length <= writable) return length;
    if ((flags & DESC_FLAG.write) === 0) return 0;
    this.break(usedLengthWrong(this.place, id, length, writable, slot));
    return -1;
  }

  /** As `Virtqueue.suppressInterrupts`. */
  suppressInterrupts(): void {
    this.check();
    Atomics.store(this.#driverEvent, 0, EVENT_SUPPRESS.disable << 16);
  }

  /** As `Virtqueue.enableInterrupts`. */
  enableInterrupts(): boolean {
    this.check();
    // One store of place and flags: the device never sees one without the other.
    const event = this.eventIndex
      ? (EVENT_SUPPRESS.descriptor << 16) | (this.#returned.wrap << 15) | this.#returned.slot
      : EVENT_SUPPRESS.enable << 16;
    Atomics.store(this.#driverEvent, 0, event);
    return this.hasUsed();
  }

  /** As `DriverRing.rewind`. */
  protected override rewind(state: QueueState): void {
    if (state.layout !== "packed") return;
    const { availableSlot: slot, availableWrap: wrap } = state;
    this.#available.begin(slot, wrap);
    this.#returned.begin(slot, wrap);
    this.#available.words.fill(0);
    this.#available.untouch(this.size);
    this.#driverEvent[0] = 0;
    this.#deviceEvent[0] = 0;
  }

  /** As `DriverRing.standing`. */
  protected override standing(): Standing {
    return packedStanding(this.book, this.#available.halves, this.#returned);
  }

  /** As `DriverRing.goOn`. */
  protected override goOn({ state, returned }: Standing): void {
    if (state.layout !== "packed") return;
    let free = this.size;
    for (const id of returned) free -= this.book.taken(id);
    this.#available.begin(state.availableSlot, state.availableWrap);
    this.#available.untouch(free);
  }

  /** As `DriverRing.dropWishes`. */
  protected override dropWishes(): void {
    this.#deviceEvent[0] = 0;
  }

  /** As `DriverRing.checkDevice`. */
  protected override checkDevice(state: QueueState): void {
    if (state.layout !== "packed") {
      throw this.stateError("queue_avail_state", "the state is that of a split queue");
    }
    const { slot, wrap } = this.#returned, { shownSlot, shownWrap } = this.#available;
    if (state.usedSlot !== slot || state.usedWrap !== wrap) {
      throw this.stateError(
        "queue_used_state",
        `slot ${state.usedSlot}, wrap ${state.usedWrap}; the ring's next used descriptor is slot ${slot}, wrap ${wrap}`,
      );
    }
    const ahead = this.#returned.distance(state.availableSlot, state.availableWrap);
    if (ahead <= this.#returned.distance(shownSlot, shownWrap)) return;
    throw this.stateError(
      "queue_avail_state",
      `slot ${state.availableSlot}, wrap ${state.availableWrap} is not among the slots from ${slot} to ${shownSlot}, where the device may be (A-6.7)`,
    );
  }

  /** As `DriverRing.places`. */
  protected override get places(): Pick<QueueSnapshot, "available" | "used"> {
    const { shownSlot, shownWrap } = this.#available, { slot, wrap } = this.#returned;
    return { available: { index: shownSlot, wrap: shownWrap }, used: { index: slot, wrap } };
  }
}
