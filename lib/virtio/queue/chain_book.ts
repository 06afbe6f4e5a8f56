/**
 * Who holds which chain of a queue, and of what parts it is made: what the two ring layouts have in common on the driver's side.
 *
 * All of it is kept in arrays that the device cannot reach. The parts of a chain are kept, too, since a packed ring's descriptors are
 * overwritten by the device, and a chain that was never returned must be offered again after a reset.
 *
 * Book-keeping is by records, one for each descriptor. A chain takes a record for each of its ring descriptors, and the number of
 * its first record is its id. Free records are a stack; with IN_ORDER they are used as a ring (SPEC: "driver uses
 * descriptors in ring order"). In a split ring, record and descriptor table entry are the same number.
 *
 * The fields are for the rings, whose loops over a burst hold the arrays in variables of their own.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { DESC_FLAG } from "../spec/ring.ts";
import { BoundSlots, slotsProblem } from "./bound_slots.ts";
import type { QueuePlace } from "./faults.ts";
import { OpenChain } from "./open_chain.ts";
import type { SavedChain, SavedPart } from "./saved_queue.ts";
import type { ChainParts, QueueSlots, UsedBurst } from "./virtqueue.ts";

const MAX_CHAIN_BYTES = 2 ** 32;
const NO_BATCH = -1;
/** Places in `ChainBook.counts`: chains committed so far, and those of them that were published. */
export const COMMITTED = 0;
/** See `COMMITTED`. */
export const PUBLISHED = 1;

/** See the module's text. */
export class ChainBook {
  /** Number of descriptors, and of records. */
  readonly size: number;
  /** IN_ORDER is in force. */
  readonly inOrder: boolean;
  /** Descriptors in each indirect table: a chain of two parts or more, up to so many, goes into one. */
  readonly tableSegments: number;
  /** Function and queue, for errors. */
  readonly place: QueuePlace;

  /** By record: low half, high half, length, DESC_FLAG.write or 0, of one part. */
  readonly parts: Uint32Array<ArrayBuffer>;
  /** The same for the parts of indirect tables. */
  readonly tableParts: Uint32Array<ArrayBuffer>;
  /** By id: parts of a chain of two or more; 0 for one of one, and at rest. */
  readonly chained: Uint16Array<ArrayBuffer>;
  /** By record: the next one of the same chain. */
  readonly link: Uint16Array<ArrayBuffer>;
  /** By id: device-writable bytes. */
  readonly writable: Uint32Array<ArrayBuffer>;
  /** By id: its number in the order of commits, from 1; 0 for an id that is not in flight. */
  readonly serial: Float64Array<ArrayBuffer>;
  /** In an array, since a field that outgrows a small integer may be allocated anew at each store. */
  readonly counts: Float64Array<ArrayBuffer> = new Float64Array(2);
  /** Records that are free: the first `freeCount` of the stack, or, with IN_ORDER, so many from `nextRecord` on. */
  readonly free: Uint16Array<ArrayBuffer>;
  /** See `free`. */
  freeCount: number;
  /** IN_ORDER: next record to use. */
  nextRecord = 0;
  /** IN_ORDER: the oldest chain in flight, and the batch that is being given out: its last id, and that one's length. */
  oldest = 0;
  #batchEnd = NO_BATCH;
  #batchLength = 0;
  /** IN_ORDER: descriptors that the last call of `tookOldest` or `restOfBatch` gave back. */
  descriptorsBack = 0;
  /** Chains that were committed and have not come back. */
  inFlight = 0;

  /** All that the queue's chains are, when they are slots: then nothing else is added. */
  slots: BoundSlots | null = null;
  /** By id: what its chain is called. But for slots with IN_ORDER, the same number. */
  readonly slotOf: Uint16Array<ArrayBuffer>;

  /** Records that chains of one part get next: element `nextFree`, then those behind each other by `step`. */
  readonly records: Uint16Array<ArrayBuffer>;
  readonly step: 1 | -1;
  /** Between `begin` and `commit`. */
  readonly #open: OpenChain;

  /** All records are free. */
  constructor(place: QueuePlace, size: number, tableSegments: number, inOrder: boolean) {
    this.place = place;
    this.size = size;
    this.tableSegments = tableSegments;
    this.inOrder = inOrder;
    this.parts = new Uint32Array(size * 4);
    this.tableParts = new Uint32Array(size * tableSegments * 4);
    this.chained = new Uint16Array(size);
    this.link = new Uint16Array(size);
    this.writable = new Uint32Array(size);
    this.serial = new Float64Array(size);
    this.free = Uint16Array.from({ length: size }, (_, at) => size - 1 - at);
    this.freeCount = size;
    this.slotOf = Uint16Array.from({ length: size }, (_, id) => id);
    // IN_ORDER: all in their order, twice, so that nobody has to go round.
    this.records = inOrder ? Uint16Array.from({ length: 2 * size }, (_, at) => at % size) : this.free;
    this.step = inOrder ? 1 : -1;
    this.#open = new OpenChain(size);
  }

  /** Chains that were committed and not published. */
  get unpublished(): number {
    return this.counts[COMMITTED]! - this.counts[PUBLISHED]!;
  }

  /** Chains that were published and not taken back. */
  get held(): number {
    return this.inFlight - this.unpublished;
  }

  /** Parts in the indirect table of a chain; 0 for a chain of ring descriptors. */
  inTable(id: number): number {
    const parts = this.chained[id]!;
    return parts <= this.tableSegments ? parts : 0;
  }

  /** Ring descriptors that a chain takes. */
  taken(id: number): number {
    const parts = this.chained[id]!;
    return parts <= this.tableSegments || parts === 0 ? 1 : parts;
  }

  /**
   * As `Virtqueue.begin`. A chain of two parts or more that fits into an indirect table takes one descriptor, every other chain one for
   * each part. A `UsageError` out of `begin`, `segment` or `commit` drops the chain that was being added.
   */
  begin(readableParts: number, writableParts: number): boolean {
    this.settled("begin");
    if (this.slots !== null) this.drop("begin: the queue's chains are slots");
    const parts = readableParts + writableParts;
    if ((readableParts >>> 0) !== readableParts || (writableParts >>> 0) !== writableParts || parts === 0) {
      this.drop(`a chain of ${readableParts} device-readable and ${writableParts} device-writable parts`);
    }
    if (parts > this.size) this.#tooLong(parts);
    if (!this.#hasRoom(parts)) return false;
    this.#open.begin(parts, readableParts);
    return true;
  }

  /** A chain was begun and not committed. */
  get adding(): boolean {
    return this.#open.parts !== 0;
  }

  /** As `Virtqueue.segment`. */
  segment(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    const open = this.#open;
    if (open.given >= open.parts) this.drop("segment: the chain has no part left; begin says how many");
    this.#checkPart(iovaLo, iovaHi, lengthBytes);
    if (open.bytes + lengthBytes > MAX_CHAIN_BYTES) this.#tooManyBytes(open.bytes + lengthBytes);
    open.add(iovaLo, iovaHi, lengthBytes);
  }

  /** Ends the chain. @returns its id */
  commit(): number {
    const open = this.#open;
    const { parts, readable } = open;
    if (parts === 0 || open.given !== parts) this.drop(`commit: ${open.given} of ${parts} parts were given`);
    open.end();
    return this.#take(open, 0, readable, parts);
  }

  /** Looks at the arguments of `Virtqueue.addChains`. @throws UsageError */
  checkChains(
    parts: ChainParts,
    readable: Uint16Array,
    writable: Uint16Array,
    count: number,
    ids: Uint16Array,
  ): void {
    this.settled("addChains");
    if (this.slots !== null) this.drop("addChains: the queue's chains are slots");
    if (
      !(parts?.iovaLo instanceof Uint32Array && parts.iovaHi instanceof Uint32Array &&
        parts.lengths instanceof Uint32Array && parts.lengths.length <= parts.iovaLo.length &&
        parts.lengths.length <= parts.iovaHi.length && readable instanceof Uint16Array &&
        writable instanceof Uint16Array && ids instanceof Uint16Array && (count >>> 0) === count &&
        count <= readable.length && count <= writable.length && count <= ids.length)
    ) {
      this.drop(`addChains: ${shown(count)} chains of ${shown([parts, readable, writable, ids])}`);
    }
  }

  /**
   * Adds a chain of parts from element `from` on. @returns its id; −1: it does not fit now
   * @throws UsageError (it has no part, or one of no byte, more than the arrays, the queue or a chain can have)
   */
  chain(of: ChainParts, from: number, readableParts: number, writableParts: number): number {
    const parts = readableParts + writableParts;
    if (parts === 0 || from + parts > of.lengths.length) {
      this.drop(`addChains: a chain of ${parts} parts, ${of.lengths.length - from} are there`);
    }
    if (parts > this.size) this.#tooLong(parts);
    if (!this.#hasRoom(parts)) return -1;
    return this.#take(of, from, readableParts, parts);
  }

  #hasRoom(parts: number): boolean {
    return (parts <= this.tableSegments ? 1 : parts) <= this.freeCount;
  }

  #take(of: ChainParts, from: number, readableParts: number, count: number): number {
    const { iovaLo, iovaHi, lengths } = of;
    const { link, inOrder, tableSegments } = this;
    const intoTable = count > 1 && count <= tableSegments;
    const store = intoTable ? this.tableParts : this.parts;
    const id = this.#freeRecord(0);
    let record = id, word = intoTable ? id * tableSegments * 4 : id * 4;
    let bytes = 0, readableBytes = 0;
    for (let part = 0;;) {
      const lengthBytes = lengths[from + part]!;
      if (lengthBytes === 0) this.#checkPart(0, 0, lengthBytes);
      bytes += lengthBytes;
      if (part < readableParts) readableBytes = bytes;
      store[word] = iovaLo[from + part]!;
      store[word + 1] = iovaHi[from + part]!;
      store[word + 2] = lengthBytes;
      store[word + 3] = part < readableParts ? 0 : DESC_FLAG.write;
      if (++part === count) break;
      word += 4;
      if (intoTable) continue;
      const next = inOrder ? this.#around(record + 1) : this.free[this.freeCount - 1 - part]!;
      link[record] = next;
      record = next;
      word = next * 4;
    }
    if (bytes > MAX_CHAIN_BYTES) this.#tooManyBytes(bytes);
    if (count > 1) this.chained[id] = count;
    const writable = bytes - readableBytes;
    // 2^32 itself does not fit, but no 32-bit length is above 2^32 − 1 either.
    this.#hold(id, intoTable ? 1 : count, writable > 0xffff_ffff ? 0xffff_ffff : writable);
    return id;
  }

  /** As `Virtqueue.addSingle`. */
  single(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number {
    this.settled("addSingle");
    if (this.slots !== null) this.drop("addSingle: the queue's chains are slots");
    this.#checkPart(iovaLo, iovaHi, lengthBytes);
    if (this.freeCount === 0) return -1;
    const id = this.#freeRecord(0);
    const { parts } = this;
    const word = id * 4;
    parts[word] = iovaLo;
    parts[word + 1] = iovaHi;
    parts[word + 2] = lengthBytes;
    parts[word + 3] = deviceWrites ? DESC_FLAG.write : 0;
    this.#hold(id, 1, deviceWrites ? lengthBytes : 0);
    return id;
  }

  /** Where `records` has the next one. */
  get nextFree(): number {
    return this.inOrder ? this.nextRecord : this.freeCount - 1;
  }

  /** What a chain that is added next would take as its record `at`. */
  #freeRecord(at: number): number {
    return this.inOrder ? this.#around(this.nextRecord + at) : this.free[this.freeCount - 1 - at]!;
  }

  /** A record, counted on past the last one. */
  #around(record: number): number {
    return record < this.size ? record : record - this.size;
  }

  #hold(id: number, taken: number, writableBytes: number): void {
    this.freeCount -= taken;
    if (this.inOrder) this.nextRecord = this.#around(this.nextRecord + taken);
    this.writable[id] = writableBytes;
    this.serial[id] = ++this.counts[COMMITTED]!;
    this.inFlight++;
  }

  /** As `Virtqueue.bindSlots`. */
  bind(slots: QueueSlots): void {
    this.settled("bindSlots");
    const problem = slotsProblem(slots, this.size);
    if (problem !== undefined) this.drop(`bindSlots: ${problem}`);
    if (this.slots !== null || this.inFlight !== 0) this.drop("bindSlots: once, before anything is added");
    this.#checkPart(slots.iovaLo[0]!, slots.iovaHi[0]!, slots.lengthBytes);
    this.slots = new BoundSlots(slots, this);
  }

  /** Looks at the arguments of `Virtqueue.addSingles`. @returns how many chains there is room for @throws UsageError */
  checkSingles(
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    lengths: Uint32Array,
    count: number,
    ids: Uint16Array,
  ): number {
    this.settled("addSingles");
    if (this.slots !== null) this.drop("addSingles: the queue's chains are slots");
    if (
      !(iovaLo instanceof Uint32Array && iovaHi instanceof Uint32Array && lengths instanceof Uint32Array &&
        ids instanceof Uint16Array && (count >>> 0) === count && count <= iovaLo.length &&
        count <= iovaHi.length && count <= lengths.length && count <= ids.length)
    ) {
      this.drop(`addSingles: ${shown(count)} parts of ${shown([iovaLo, iovaHi, lengths, ids])}`);
    }
    return count < this.freeCount ? count : this.freeCount;
  }

  /**
   * Looks at the arguments of `Virtqueue.addSlots`. There is room for every slot that is not in flight, since there are no more than descriptors.
   * @throws UsageError
   */
  checkSlots(slots: Uint16Array, lengths: Uint32Array | null, count: number, headBytes: number): void {
    if (this.slots === null) this.drop("addSlots: bindSlots says first what they are");
    if (
      !(slots instanceof Uint16Array && (count >>> 0) === count && count <= slots.length &&
        headBytes >= 0 && headBytes <= 0xffff &&
        (lengths === null || (lengths instanceof Uint32Array && count <= lengths.length)))
    ) {
      this.drop(
        `addSlots: ${shown(count)} of ${shown(slots)}, lengths ${shown(lengths)} behind ${
          shown(headBytes)
        } bytes`,
      );
    }
  }

  /** Looks at the arguments of `Virtqueue.placeSlots`. @returns the slots @throws UsageError */
  placeable(
    slots: Uint16Array,
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    at: Uint16Array,
    count: number,
  ): BoundSlots {
    if (this.slots === null) this.drop("placeSlots: bindSlots says first what they are");
    if (this.slots.are.tables !== undefined) this.drop("placeSlots: the slots begin with tables");
    if (
      !(slots instanceof Uint16Array && at instanceof Uint16Array && iovaLo instanceof Uint32Array &&
        iovaHi instanceof Uint32Array && (count >>> 0) === count && count <= slots.length &&
        count <= at.length && iovaLo.length === iovaHi.length)
    ) {
      this.drop(`placeSlots: ${shown(count)} of ${shown(slots)} at ${shown(at)} of ${shown(iovaLo)}`);
    }
    for (let i = 0; i < count; i++) {
      if (at[i]! >= iovaLo.length) this.drop(`placeSlots: address ${at[i]} of ${iovaLo.length}`);
    }
    return this.slots;
  }

  /** A returned chain of several parts gives its records back. Not with IN_ORDER. @param top free records before @returns and after */
  releaseChain(id: number, top: number): number {
    const { free, link } = this;
    const taken = this.taken(id);
    this.chained[id] = 0;
    // Its first record comes to lie on top.
    for (let record = id, at = top + taken; at > top; record = link[record]!) free[--at] = record;
    return top + taken;
  }

  /** Ends a burst that added `count` chains: what it has counted on its own. */
  added(count: number, committed: number): void {
    this.freeCount -= count;
    if (this.inOrder) this.nextRecord = this.#around(this.nextRecord + count);
    this.counts[COMMITTED] = committed;
    this.inFlight += count;
  }

  /** 0: the id is not in flight; 1: committed only; 2: published. Any 32-bit number may be asked for. */
  holder(id: number): 0 | 1 | 2 {
    if (id >= this.size) return 0;
    const serial = this.serial[id]!;
    return serial === 0 ? 0 : serial > this.counts[PUBLISHED]! ? 1 : 2;
  }

  /** IN_ORDER: chains from the oldest in flight up to `id`, which is published. */
  batchSize(id: number): number {
    return this.serial[id]! - this.serial[this.oldest]! + 1;
  }

  /** IN_ORDER: the device returned everything up to `id`. */
  startBatch(id: number, length: number): void {
    this.#batchEnd = id;
    this.#batchLength = length;
  }

  /** IN_ORDER: part of a batch is left to give out. */
  get inBatch(): boolean {
    return this.#batchEnd !== NO_BATCH;
  }

  /** IN_ORDER: the last chain of that batch. */
  get batchEnd(): number {
    return this.#batchEnd;
  }

  /** IN_ORDER: gives out what is left of the batch, into elements `at` to `end` − 1. @returns where it ended; `descriptorsBack` says how many descriptors those were */
  restOfBatch(into: UsedBurst, at: number, end: number): number {
    const { ids, lengths } = into;
    const { slotOf, writable, serial, chained } = this;
    const last = this.#batchEnd;
    let id = this.oldest, back = 0, done = at;
    for (let more = true; more && done < end; done++) {
      more = id !== last;
      ids[done] = slotOf[id]!;
      lengths[done] = more ? writable[id]! : this.#batchLength;
      const taken = chained[id] === 0 ? 1 : this.taken(id);
      serial[id] = 0;
      chained[id] = 0;
      back += taken;
      id = this.#around(id + taken);
      if (!more) this.#batchEnd = NO_BATCH;
    }
    this.tookOldest(done - at, back, id);
    return done;
  }

  /** IN_ORDER: so many chains came back, with so many descriptors. @param next the oldest in flight now */
  tookOldest(chains: number, descriptors: number, next: number): void {
    this.oldest = next;
    this.freeCount += descriptors;
    this.inFlight -= chains;
    this.descriptorsBack = descriptors;
  }

  /** Counts all committed chains as published. @returns how many were not */
  markPublished(): number {
    const { counts } = this;
    const fresh = counts[COMMITTED]! - counts[PUBLISHED]!;
    counts[PUBLISHED] = counts[COMMITTED]!;
    return fresh;
  }

  /** Counts a chain that is in flight as committed now, behind all others. */
  commitAgain(id: number): void {
    this.serial[id] = ++this.counts[COMMITTED]!;
  }

  /** Ids in flight, in the order of commits. */
  idsInOrder(): number[] {
    const ids: number[] = [];
    this.serial.forEach((serial, id) => {
      if (serial !== 0) ids.push(id);
    });
    return ids.sort((a, b) => this.serial[a]! - this.serial[b]!);
  }

  /** A chain as plain data. */
  saveChain(id: number): SavedChain {
    const slot = this.slotOf[id]!;
    const tables = this.slots?.are.tables;
    if (tables !== undefined) {
      const { readable, writable } = tables.partsOf(slot);
      return { id: slot, readable: [...readable], writable: [...writable] };
    }
    const readable: SavedPart[] = [];
    const writable: SavedPart[] = [];
    const put = (from: Uint32Array<ArrayBuffer>, word: number) => {
      const iova = (BigInt(from[word + 1]!) << 32n) | BigInt(from[word]!);
      (from[word + 3] === 0 ? readable : writable).push({
        iova: `0x${iova.toString(16)}`,
        lengthBytes: from[word + 2]!,
      });
    };
    const inTable = this.inTable(id);
    for (let part = 0; part < inTable; part++) put(this.tableParts, (id * this.tableSegments + part) * 4);
    if (inTable === 0) {
      let record = id;
      for (let n = this.taken(id); n > 0; n--) {
        put(this.parts, record * 4);
        record = this.link[record]!;
      }
    }
    return { id: slot, readable, writable };
  }

  /** @throws UsageError when a chain was begun and not committed; it is dropped */
  settled(call: string): void {
    if (this.adding) this.drop(`${call}: the chain before was not committed`);
  }

  /** Forgets the chain that was being added: nothing of it was taken off the free records yet. */
  drop(message: string): never {
    this.#open.end();
    throw new UsageError(`${this.place.function}, queue ${this.place.queue}: ${message}`);
  }

  #tooLong(parts: number): never {
    this.drop(`a chain of ${parts} parts can never fit into a queue of ${this.size}`);
  }

  #tooManyBytes(bytes: number): never {
    this.drop(`a chain of ${bytes} bytes; the standard allows 2^32`);
  }

  #checkPart(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    if ((iovaLo >>> 0) !== iovaLo || (iovaHi >>> 0) !== iovaHi) {
      this.drop(`IOVA halves ${iovaLo} and ${iovaHi} are not unsigned 32-bit numbers`);
    }
    if ((lengthBytes >>> 0) !== lengthBytes || lengthBytes === 0) {
      this.drop(`a part of ${lengthBytes} bytes`);
    }
  }
}
