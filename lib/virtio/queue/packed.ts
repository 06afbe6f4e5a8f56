/**
 * The packed virtqueue, driver's side (SPEC packed virtqueues; reference 1.4).
 *
 * Both sides write the descriptor ring. Of what the device wrote, the driver reads the flags, id and length of the one descriptor that is
 * used next, each once; how far to skip after it, and what its id stands for, are the driver's own (see `ChainBook`).
 *
 * A burst is made visible by one store: of all descriptors but the first head the flags are written at once, since a device looks at
 * descriptors in ring order and stops at the first that is not available. The head's flags follow with `Atomics.store` (after
 * everything before them, the standard's barrier), and the device's event suppression is loaded with `Atomics.load` behind it: the two are
 * sequentially consistent, which is the barrier that the standard demands between them.
 *
 * A burst is taken by looking at flags first, as far as descriptors are used, then at what came with them. On x86-64 a processor makes
 * loads in their order, so one atomic load at the start of a run is enough to have the engine keep it, too. Elsewhere (AArch64) each
 * descriptor's flags are loaded atomically, since a plain load of its id may otherwise be made before that of its flags.
 *
 * @module
 */
import { DESC_FLAG, EVENT_SUPPRESS, QUEUE_SIZE_MAX } from "../spec/ring.ts";
import { COMMITTED, PUBLISHED } from "./chain_book.ts";
import { DriverRing, type DriverRingParts, type Standing } from "./driver_ring.ts";
import { usedIdWrong, usedLengthWrong, usedWithoutChain } from "./faults.ts";
import { DESCRIPTOR_BYTES } from "./layout.ts";
import type { PackedQueueState, QueueState } from "../spec/queue_state.ts";
import type { QueueSnapshot, UsedBurst } from "./virtqueue.ts";

const { avail: AVAIL, used: USED } = DESC_FLAG;
const BOTH = AVAIL | USED;
// Half-words of a descriptor.
const ID_AT = 6;
const FLAGS_AT = 7;
const HALF_WORDS = 8;
const NO_HEAD = -1;

/** Parts that a `PackedQueue` is made of; `createVirtqueue` puts them together. */
export interface PackedQueueParts extends DriverRingParts {
  /** The flags of each used descriptor are loaded atomically, not only those of the first of a run. Default: what the architecture needs. */
  readonly acquireEach?: boolean;
}

/** A packed ring with indirect descriptors, event suppression and in-order use. See `Virtqueue` for what its calls do. */
export class PackedQueue extends DriverRing {
  /** Discriminator. */
  readonly layout = "packed";

  // Shared with the device.
  readonly #ring: Uint32Array<ArrayBuffer>;
  readonly #halves: Uint16Array<ArrayBuffer>;
  /** One word each: `pvirtq_event_suppress`, offset and wrap in the low half. */
  readonly #driverEvent: Uint32Array<ArrayBuffer>;
  readonly #deviceEvent: Uint32Array<ArrayBuffer>;

  /** Next slot to fill and the wrap counter that goes with it; the same as of the last `publish`. */
  #next = 0;
  #wrap: 0 | 1 = 1;
  #published = 0;
  #publishedWrap: 0 | 1 = 1;
  /** The first head that is not visible yet, and the flags that it will get. */
  #headSlot = NO_HEAD;
  #headFlags = 0;
  /** Next slot to look for a used descriptor in, and the device's wrap counter there. */
  #nextUsed = 0;
  #usedWrap: 0 | 1 = 1;
  readonly #acquireEach: boolean;

  /** Takes over `parts.memory`, which must be zeroed. @throws UsageError for a start with a used part of its own, or of another layout */
  constructor(parts: PackedQueueParts) {
    const { layout, memory } = parts;
    super(parts);
    this.#acquireEach = parts.acquireEach ?? Deno.build.arch !== "x86_64";
    const { buffer } = memory;
    this.#ring = new Uint32Array(buffer, layout.descriptorOffset, layout.size * 4);
    this.#halves = new Uint16Array(buffer, layout.descriptorOffset, layout.size * HALF_WORDS);
    this.#driverEvent = new Uint32Array(buffer, layout.driverOffset, 1);
    this.#deviceEvent = new Uint32Array(buffer, layout.deviceOffset, 1);
    if (parts.start !== undefined) {
      this.checkStart(parts.start);
      this.rewind(parts.start);
    }
  }

  /** As `Virtqueue.position`. */
  get position(): PackedQueueState {
    this.check();
    return {
      layout: "packed",
      availableSlot: this.#nextUsed,
      availableWrap: this.#usedWrap,
      usedSlot: this.#nextUsed,
      usedWrap: this.#usedWrap,
    };
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
    if (id >= 0) this.offer(id);
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
    const { parts, writable, serial, free, counts, size, inOrder } = book;
    const ring = this.#ring;
    const write = deviceWrites ? DESC_FLAG.write : 0;
    let flags = this.#availableFlags | write;
    let head = this.#headSlot;
    let place = this.#next, record = book.nextRecord, top = book.freeCount, committed = counts[COMMITTED]!;
    let done = 0;
    for (; done < room; done++) {
      const lengthBytes = lengths[done]!;
      if (lengthBytes === 0) break;
      top--;
      let id = record;
      if (!inOrder) id = free[top]!;
      else if (++record === size) record = 0;
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
        this.#writeHead(place, id, flags);
        head = place;
      }
      writable[id] = deviceWrites ? lengthBytes : 0;
      serial[id] = ++committed;
      ids[done] = id;
      if (++place === size) {
        place = 0;
        flags ^= BOTH;
      }
    }
    this.#advance(done);
    book.added(done, committed);
    if (done < room) book.drop("addSingles: a part of 0 bytes");
    return done;
  }

  addSlots(slots: Uint16Array, lengths: Uint32Array | null, count: number, headBytes = 0): number {
    this.check();
    const { book } = this;
    book.checkSlots(slots, lengths, count, headBytes);
    const { parts, writable, serial, counts, size } = book;
    const { deviceWrites, tables } = book.slots!;
    const tableWritable = tables === undefined ? null : tables.writable;
    // Unsigned, as the lengths are: the engine then has one kind of number here.
    const bound = book.slotIds, most = book.slots!.lengthBytes >>> 0;
    const ids = this.inOrder ? book.nameSlots(slots, count) : slots;
    const ring = this.#ring;
    let flags = this.#availableFlags | book.slotFlags;
    let head = this.#headSlot;
    let place = this.#next, committed = counts[COMMITTED]!;
    let lengthBytes = most;
    let done = 0;
    for (; done < count; done++) {
      const id = ids[done]!;
      lengthBytes = lengths === null ? most : (lengths[done]! + headBytes) >>> 0;
      if (id >= bound || serial[id] !== 0 || lengthBytes === 0 || lengthBytes > most) break;
      const from = id * 4;
      const word = place * 4;
      ring[word] = parts[from]!;
      ring[word + 1] = parts[from + 1]!;
      ring[word + 2] = lengthBytes;
      if (head !== NO_HEAD) {
        ring[word + 3] = id | (flags << 16);
      } else {
        this.#writeHead(place, id, flags);
        head = place;
      }
      parts[from + 2] = lengthBytes;
      if (deviceWrites) writable[id] = lengthBytes;
      else if (tableWritable !== null) writable[id] = tableWritable[slots[done]!]!;
      serial[id] = ++committed;
      if (++place === size) {
        place = 0;
        flags ^= BOTH;
      }
    }
    this.#advance(done);
    book.added(done, committed);
    if (done < count) book.slotWrong(slots[done]!, lengthBytes);
    return done;
  }

  /** AVAIL is the wrap counter, USED its inverse. */
  get #availableFlags(): number {
    return this.#wrap === 1 ? AVAIL : USED;
  }

  /** As `DriverRing.offer`. */
  protected override offer(id: number): void {
    const ring = this.#ring;
    const { parts, link, chained } = this.book;
    const first = this.#next, word = first * 4, from = id * 4;
    const flags = this.#availableFlags;
    const inTable = this.book.inTable(id);
    if (inTable !== 0) {
      this.#writeTable(id, inTable);
      ring[word] = this.tableLo(id);
      ring[word + 1] = this.tableHi(id);
      ring[word + 2] = inTable * DESCRIPTOR_BYTES;
      this.#writeHead(first, id, flags | DESC_FLAG.indirect);
      this.#advance(1);
      return;
    }
    ring[word] = parts[from]!;
    ring[word + 1] = parts[from + 1]!;
    ring[word + 2] = parts[from + 2]!;
    const count = chained[id]!;
    this.#writeHead(first, id, flags | parts[from + 3]! | (count > 1 ? DESC_FLAG.next : 0));
    this.#advance(1);
    let record = id;
    for (let left = count - 1; left > 0; left--) {
      record = link[record]!;
      const word = this.#next * 4;
      ring[word] = parts[record * 4]!;
      ring[word + 1] = parts[record * 4 + 1]!;
      ring[word + 2] = parts[record * 4 + 2]!;
      const more = left > 1 ? DESC_FLAG.next : 0;
      ring[word + 3] = id | (this.#availableFlags | parts[record * 4 + 3]! | more) << 16;
      this.#advance(1);
    }
  }

  /** The flags of a burst's first head wait for `publish`: they make all of it visible. */
  #writeHead(slot: number, id: number, flags: number): void {
    const halves = this.#halves;
    halves[slot * HALF_WORDS + ID_AT] = id;
    if (this.#headSlot === NO_HEAD) {
      this.#headSlot = slot;
      this.#headFlags = flags;
    } else {
      halves[slot * HALF_WORDS + FLAGS_AT] = flags;
    }
  }

  #advance(count: number): void {
    const next = this.#next + count;
    if (next >= this.size) {
      this.#next = next - this.size;
      this.#wrap = this.#wrap === 1 ? 0 : 1;
    } else {
      this.#next = next;
    }
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
    const { size } = this;
    // A burst fills the ring at most, so equal places mean all of it.
    const filled = this.#next > this.#published
      ? this.#next - this.#published
      : this.#next - this.#published + size;
    this.#published = this.#next;
    this.#publishedWrap = this.#wrap;
    const head = this.#headSlot;
    this.#headSlot = NO_HEAD;
    Atomics.store(this.#halves, head * HALF_WORDS + FLAGS_AT, this.#headFlags);
    const event = Atomics.load(this.#deviceEvent, 0);
    const wish = (event >>> 16) & 3;
    if (wish === EVENT_SUPPRESS.disable) return false;
    // A reserved value, DESC without EVENT_IDX or a place outside the ring say nothing sensible: one notification too many does no harm.
    const slot = event & 0x7fff;
    if (wish !== EVENT_SUPPRESS.descriptor || !this.eventIndex || slot >= size) return true;
    // How far the event lies behind the last slot filled, counted over both laps.
    let behind = this.#next - 1 - slot;
    if ((event >>> 15 & 1) !== this.#wrap) behind += size;
    if (behind < 0) behind += 2 * size;
    return behind < filled;
  }

  /** As `Virtqueue.notify`; the next slot to be made available and its wrap counter go with it (1.6). */
  notify(): void {
    this.ring(this.#published, this.#publishedWrap);
  }

  /** As `Virtqueue.hasUsed`. */
  hasUsed(): boolean {
    this.check();
    return this.book.inBatch || this.#run(1) !== 0 || this.empty();
  }

  /** Used: both bits are the device's wrap counter. */
  get #usedFlags(): number {
    return this.#usedWrap === 1 ? BOTH : 0;
  }

  /**
   * Used descriptors that follow one another from the next one on, as far as each is a chain of its own, up to `limit` and the ring's end. What the
   * device wrote into them before it made them used is visible afterwards (see the module's text).
   */
  #run(limit: number): number {
    const halves = this.#halves, used = this.#usedFlags;
    let at = this.#nextUsed * HALF_WORDS + FLAGS_AT;
    if ((Atomics.load(halves, at) & BOTH) !== used) return 0;
    let run = 1;
    at += HALF_WORDS;
    if (this.#acquireEach) {
      for (; run < limit && (Atomics.load(halves, at) & BOTH) === used; run++) at += HALF_WORDS;
    } else {
      for (; run < limit && (halves[at]! & BOTH) === used; run++) at += HALF_WORDS;
    }
    return run;
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
    const { book } = this;
    const { ids, lengths } = into;
    const { serial, writable, chained, free, counts, size } = book;
    const ring = this.#ring, published = counts[PUBLISHED]!;
    let top = book.freeCount, held = book.held;
    let done = 0;
    for (let more = true; more && done < count;) {
      let slot = this.#nextUsed;
      const limit = count - done < size - slot ? count - done : size - slot;
      const run = this.#run(limit);
      if (run === 0 && done === 0) this.empty();
      // A shorter one ends at a descriptor that was not used yet.
      more = run === limit;
      const end = slot + run;
      const first = slot;
      while (slot < end) {
        // Each is read once: the device could change it between a check and a second read.
        const id = ring[slot * 4 + 3]! & 0xffff;
        let length = ring[slot * 4 + 2]!;
        const number = id < size && held > 0 ? serial[id]! : 0;
        if (number === 0 || number > published || length > writable[id]!) {
          length = this.#judge(id, length, slot, held);
          if (length < 0) {
            more = false;
            break;
          }
        }
        serial[id] = 0;
        held--;
        ids[done] = id;
        lengths[done++] = length;
        if (chained[id] === 0) {
          free[top++] = id;
          slot++;
          continue;
        }
        const taken = book.taken(id);
        top = book.releaseChain(id, top);
        slot += taken;
        if (taken > 1) {
          // The device writes next behind all descriptors of the chain, where nobody has looked yet.
          more = true;
          break;
        }
      }
      this.#skipUsed(slot - first);
    }
    book.freeCount = top;
    book.inFlight -= done;
    return this.give(done);
  }

  /** IN_ORDER: a used descriptor stands for the batch that its id ends. */
  #takeBatches(into: UsedBurst, count: number): number {
    const { book } = this;
    const { writable, size } = book;
    const ring = this.#ring, held = book.held;
    let run = 0;
    let done = 0;
    for (; done < count; done++) {
      if (!book.inBatch) {
        const slot = this.#nextUsed;
        if (run === 0) {
          run = this.#run(count - done < size - slot ? count - done : size - slot);
          if (run === 0) {
            if (done === 0) this.empty();
            break;
          }
        }
        run--;
        const id = ring[slot * 4 + 3]! & 0xffff;
        let length = ring[slot * 4 + 2]!;
        if (id !== book.oldest || done === held || length > writable[id]!) {
          length = this.#judge(id, length, slot, held - done);
          if (length < 0) break;
          // The device writes next behind the whole batch, where nobody has looked yet.
          if (id !== book.oldest) run = 0;
        }
        book.startBatch(id, length);
      }
      const taken = book.nextOfBatch(into, done);
      if (taken > 1) run = 0;
      this.#skipUsed(taken);
    }
    return this.give(done);
  }

  /** @returns the length that counts; −1 after it broke the queue */
  #judge(id: number, length: number, slot: number, held: number): number {
    const { book } = this;
    const flags = this.#halves[slot * HALF_WORDS + FLAGS_AT]!;
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

  /** On to where the device writes next. */
  #skipUsed(count: number): void {
    const next = this.#nextUsed + count;
    if (next >= this.size) {
      this.#nextUsed = next - this.size;
      this.#usedWrap = this.#usedWrap === 1 ? 0 : 1;
    } else {
      this.#nextUsed = next;
    }
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
      ? (EVENT_SUPPRESS.descriptor << 16) | (this.#usedWrap << 15) | this.#nextUsed
      : EVENT_SUPPRESS.enable << 16;
    Atomics.store(this.#driverEvent, 0, event);
    return this.hasUsed();
  }

  /** As `DriverRing.rewind`. */
  protected override rewind(state: QueueState): void {
    if (state.layout !== "packed") return;
    const { availableSlot: slot, availableWrap: wrap } = state;
    this.#next = this.#published = this.#nextUsed = slot;
    this.#wrap = this.#publishedWrap = this.#usedWrap = wrap;
    this.#headSlot = NO_HEAD;
    this.#ring.fill(0);
    // Every slot looks as used in the lap before: neither available nor used when it is reached.
    const before = wrap === 1 ? BOTH : 0;
    for (let at = 0; at < this.size; at++) {
      this.#halves[at * HALF_WORDS + FLAGS_AT] = at < slot ? before : before ^ BOTH;
    }
    this.#driverEvent[0] = 0;
    this.#deviceEvent[0] = 0;
  }

  /** As `DriverRing.standing`. */
  protected override standing(): Standing {
    const { book, size } = this;
    const { held } = book;
    const returned = new Set<number>();
    let slot = this.#nextUsed, wrap = this.#usedWrap;
    const pass = (id: number) => {
      returned.add(id);
      slot += book.taken(id);
      if (slot < size) return;
      slot -= size;
      wrap = wrap === 1 ? 0 : 1;
    };
    // IN_ORDER: a used descriptor stands for all chains up to its own.
    const inOrder = this.inOrder ? book.idsInOrder() : [];
    const passUpTo = (id: number) => {
      for (let one = -1; one !== id;) pass(one = inOrder[returned.size]!);
    };
    if (book.inBatch) passUpTo(book.batchEnd);
    while (returned.size < held) {
      const flags = Atomics.load(this.#halves, slot * HALF_WORDS + FLAGS_AT);
      if ((flags & BOTH) !== (wrap === 1 ? BOTH : 0)) break;
      const id = this.#halves[slot * HALF_WORDS + ID_AT]!;
      // `takeUsed` says what is wrong with it.
      if (book.holder(id) !== 2 || returned.has(id)) break;
      if (this.inOrder) passUpTo(id);
      else pass(id);
    }
    const state = {
      layout: "packed",
      availableSlot: slot,
      availableWrap: wrap,
      usedSlot: slot,
      usedWrap: wrap,
    } as const;
    return { state, returned };
  }

  /** As `DriverRing.goOn`. */
  protected override goOn({ state, returned }: Standing): void {
    if (state.layout !== "packed") return;
    const { size } = this;
    let left = size;
    for (const id of returned) left -= this.book.taken(id);
    let slot = this.#next = this.#published = state.availableSlot;
    let wrap = this.#wrap = this.#publishedWrap = state.availableWrap;
    this.#headSlot = NO_HEAD;
    // Every slot that is free looks as used in the lap before it is reached in.
    for (; left > 0; left--) {
      this.#halves[slot * HALF_WORDS + FLAGS_AT] = wrap === 1 ? 0 : BOTH;
      if (++slot < size) continue;
      slot = 0;
      wrap = wrap === 1 ? 0 : 1;
    }
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
    if (state.usedSlot !== this.#nextUsed || state.usedWrap !== this.#usedWrap) {
      throw this.stateError(
        "queue_used_state",
        `slot ${state.usedSlot}, wrap ${state.usedWrap}; the ring's next used descriptor is slot ${this.#nextUsed}, wrap ${this.#usedWrap}`,
      );
    }
    const ahead = this.#distance(state.availableSlot, state.availableWrap);
    if (ahead <= this.#distance(this.#published, this.#publishedWrap)) return;
    throw this.stateError(
      "queue_avail_state",
      `slot ${state.availableSlot}, wrap ${state.availableWrap} is not among the slots from ${this.#nextUsed} to ${this.#published}, where the device may be (A-6.7)`,
    );
  }

  /** Slots from the next used one to a place, counted over both laps. */
  #distance(slot: number, wrap: 0 | 1): number {
    const laps = 2 * this.size;
    return (slot - this.#nextUsed + (wrap === this.#usedWrap ? 0 : this.size) + laps) % laps;
  }

  /** As `DriverRing.places`. */
  protected override get places(): Pick<QueueSnapshot, "available" | "used"> {
    return {
      available: { index: this.#published, wrap: this.#publishedWrap },
      used: { index: this.#nextUsed, wrap: this.#usedWrap },
    };
  }
}
