/**
 * What the two ring layouts have in common on the driver's side: who holds which chain, and of what parts it is made.
 *
 * All of it is kept in arrays that the device cannot reach. The parts of a chain are kept, too, since a packed ring's descriptors are
 * overwritten by the device, and a chain that was never returned must be offered again after a reset.
 *
 * Book-keeping is by records, one for each descriptor. A chain takes a record for each of its ring descriptors, and the number of
 * its first record is its id. Free records form a list, last in first out; with IN_ORDER they are used as a ring (SPEC: "driver uses
 * descriptors in ring order"). In a split ring, record and descriptor table entry are the same number.
 *
 * @module
 */
import { ClosedError, DeviceError, ExhaustedError, UsageError } from "../../errors/mod.ts";
import type { DmaMemory } from "../../memory/mod.ts";
import { DESC_FLAG } from "../spec/ring.ts";
import type { Doorbell, QueueAddresses } from "../transport/transport.ts";
import { decodeRing, type RingAreas, ringAreas, ringEvents, type RingImage } from "../view/ring_image.ts";
import { checkQueueState, type QueueState } from "../spec/queue_state.ts";
import {
  placeChains,
  SAVED_QUEUE_VERSION,
  type SavedChain,
  type SavedPart,
  type SavedQueue,
} from "./saved_queue.ts";
import type { QueuePlace } from "./faults.ts";
import { DESCRIPTOR_BYTES, type RingLayout } from "./layout.ts";
import type { QueueSnapshot, UsedBurst, Virtqueue } from "./virtqueue.ts";

/** What a queue asks of its device. */
export interface NotifyGate {
  /** The device may be notified: true from DRIVER_OK to reset (1.1). Read at each notification. */
  readonly live: boolean;
  /** Throws when nobody is there any more who could return anything. Called by a queue that is found empty again and again. */
  checkServed?(): void;
}

/** Parts that a ring of either layout is made of. */
export interface DriverRingParts {
  /** PCI address or path of the function, for messages. */
  readonly function: string;
  /** Number of the virtqueue. */
  readonly index: number;
  /** Holds rings and tables as the layout says, zeroed; the queue owns it. */
  readonly memory: DmaMemory;
  /** The queue's doorbell. */
  readonly doorbell: Doorbell;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIndex: boolean;
  /** VIRTIO_F_IN_ORDER was negotiated. Default false. */
  readonly inOrder?: boolean;
  /** Without one, the queue may always notify. */
  readonly gate?: NotifyGate | undefined;
  /** Where in the memory what lies. */
  readonly layout: RingLayout;
  /** Where the ring starts; the used part of a packed one is the same place. Default: the beginning. */
  readonly start?: QueueState;
}

const MAX_CHAIN_BYTES = 2 ** 32;
const TWO_32 = 4294967296;
// `counts`: chains committed so far, and those of them that were published.
const COMMITTED = 0;
const PUBLISHED = 1;
const NO_BATCH = -1;
/** Looks that find nothing, for each look whether there is still somebody to return something: that one is a system call. */
const EMPTY_LOOKS = 4096;

/** See the module's text; `SplitQueue` and `PackedQueue` add what lies in shared memory. */
export abstract class DriverRing implements Virtqueue {
  readonly index: number;
  abstract readonly layout: "split" | "packed";
  readonly size: number;
  readonly eventIndex: boolean;
  readonly inOrder: boolean;
  readonly addresses: QueueAddresses;

  /** Function and queue, for errors. */
  protected readonly place: QueuePlace;
  /** Rings and tables. */
  protected readonly memory: DmaMemory;
  /** The indirect tables in shared memory. */
  protected readonly tables: Uint32Array<ArrayBuffer>;
  /** Descriptors in each indirect table. */
  protected readonly tableSegments: number;

  /** By record: low half, high half, length, DESC_FLAG.write or 0, of one part. */
  protected readonly parts: Uint32Array<ArrayBuffer>;
  /** The same for the parts of indirect tables. */
  protected readonly tableParts: Uint32Array<ArrayBuffer>;
  /** By id: parts in its indirect table; 0 for a chain of ring descriptors. */
  protected readonly tableCount: Uint16Array<ArrayBuffer>;
  /** By record: the next one, of the same chain or of the free list. */
  protected readonly link: Uint16Array<ArrayBuffer>;
  /** By id: ring descriptors that it takes. */
  protected readonly taken: Uint16Array<ArrayBuffer>;
  /** By id: device-writable bytes. */
  protected readonly writable: Uint32Array<ArrayBuffer>;
  /** By id: its number in the order of commits, from 1; 0 for an id that is not in flight. */
  protected readonly serial: Float64Array<ArrayBuffer>;
  /** By id: last record. */
  readonly #tail: Uint16Array<ArrayBuffer>;
  /** In an array, since a field that outgrows a small integer may be allocated anew at each store. */
  readonly #counts = new Float64Array(2);
  readonly #offsets: RingLayout;
  readonly #tablesLo: number;
  readonly #tablesHi: number;
  #doorbell: Doorbell;
  readonly #gate: NotifyGate | null;
  #freeHead = 0;
  #free: number;
  #inFlight = 0;

  /** IN_ORDER: the oldest chain in flight, and the batch that is being given out: its last id (−1: none) and that one's length. */
  #oldest = 0;
  #batchEnd = NO_BATCH;
  #batchLength = 0;

  // The chain between `begin` and `commit`; `#chainParts` is 0 when there is none.
  #chainParts = 0;
  #readableParts = 0;
  #part = 0;
  #cursor = 0;
  #lastRecord = 0;
  #chainBytes = 0;
  #chainWritable = 0;
  #intoTable = false;

  #fault: Error | null = null;
  #closed = false;
  #emptyLooks = 0;

  /** Takes over `parts.memory`, which must be zeroed. */
  constructor(parts: DriverRingParts) {
    const { memory, layout } = parts;
    const { size, tableSegments } = layout;
    this.#offsets = layout;
    this.index = parts.index;
    this.size = size;
    this.eventIndex = parts.eventIndex;
    this.inOrder = parts.inOrder ?? false;
    this.place = { function: parts.function, queue: parts.index };
    this.memory = memory;
    this.#doorbell = parts.doorbell;
    this.#gate = parts.gate ?? null;
    this.addresses = {
      size,
      descriptorArea: memory.iova + BigInt(layout.descriptorOffset),
      driverArea: memory.iova + BigInt(layout.driverOffset),
      deviceArea: memory.iova + BigInt(layout.deviceOffset),
    };
    this.tableSegments = tableSegments;
    this.tables = new Uint32Array(memory.buffer, layout.tablesOffset, size * tableSegments * 4);
    const tables = memory.iova + BigInt(layout.tablesOffset);
    this.#tablesLo = Number(tables & 0xffff_ffffn);
    this.#tablesHi = Number(tables >> 32n);

    this.parts = new Uint32Array(size * 4);
    this.tableParts = new Uint32Array(size * tableSegments * 4);
    this.tableCount = new Uint16Array(size);
    this.link = Uint16Array.from({ length: size }, (_, i) => (i + 1) % size);
    this.#tail = new Uint16Array(size);
    this.taken = new Uint16Array(size);
    this.writable = new Uint32Array(size);
    this.serial = new Float64Array(size);
    this.#free = size;
  }

  get freeDescriptors(): number {
    this.check();
    return this.#free;
  }

  get inFlight(): number {
    this.check();
    return this.#inFlight;
  }

  get closed(): boolean {
    return this.#closed || this.memory.closed;
  }

  /** Chains that were published and not taken back. */
  protected get held(): number {
    return this.#inFlight - (this.#counts[COMMITTED]! - this.#counts[PUBLISHED]!);
  }

  /** Chains that were committed and not published. */
  protected get unpublished(): number {
    return this.#counts[COMMITTED]! - this.#counts[PUBLISHED]!;
  }

  /**
   * As `Virtqueue.begin`. A chain of two parts or more that fits into an indirect table takes one descriptor, every other chain one for
   * each part. A `UsageError` out of `begin`, `segment` or `commit` drops the chain that was being added.
   */
  begin(readableParts: number, writableParts: number): boolean {
    this.check();
    if (this.#chainParts !== 0) this.#drop("begin: the chain before was not committed");
    const parts = readableParts + writableParts;
    if ((readableParts >>> 0) !== readableParts || (writableParts >>> 0) !== writableParts || parts === 0) {
      this.#drop(`a chain of ${readableParts} device-readable and ${writableParts} device-writable parts`);
    }
    if (parts > this.size) {
      this.#drop(`a chain of ${parts} parts can never fit into a queue of ${this.size}`);
    }
    const intoTable = parts > 1 && parts <= this.tableSegments;
    if ((intoTable ? 1 : parts) > this.#free) return false;
    this.#chainParts = parts;
    this.#readableParts = readableParts;
    this.#part = 0;
    this.#chainBytes = 0;
    this.#chainWritable = 0;
    this.#intoTable = intoTable;
    this.#cursor = this.#freeHead;
    return true;
  }

  /** As `Virtqueue.segment`. */
  segment(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    this.check();
    const part = this.#part;
    if (part >= this.#chainParts) this.#drop("segment: the chain has no part left; begin says how many");
    this.#checkPart(iovaLo, iovaHi, lengthBytes);
    const bytes = this.#chainBytes + lengthBytes;
    if (bytes > MAX_CHAIN_BYTES) this.#drop(`a chain of ${bytes} bytes; the standard allows 2^32`);
    this.#chainBytes = bytes;

    let flags = 0;
    if (part >= this.#readableParts) {
      flags = DESC_FLAG.write;
      this.#chainWritable += lengthBytes;
    }
    this.#part = part + 1;
    let store = this.parts;
    let word = 0;
    if (this.#intoTable) {
      store = this.tableParts;
      word = (this.#freeHead * this.tableSegments + part) * 4;
    } else {
      const record = this.#cursor;
      word = record * 4;
      this.#lastRecord = record;
      this.#cursor = this.link[record]!;
    }
    store[word] = iovaLo;
    store[word + 1] = iovaHi;
    store[word + 2] = lengthBytes;
    store[word + 3] = flags;
  }

  commit(): number {
    this.check();
    if (this.#chainParts === 0 || this.#part !== this.#chainParts) {
      this.#drop(`commit: ${this.#part} of ${this.#chainParts} parts were given`);
    }
    const id = this.#freeHead;
    let taken = this.#chainParts;
    if (this.#intoTable) {
      this.tableCount[id] = taken;
      this.#lastRecord = id;
      this.#cursor = this.link[id]!;
      taken = 1;
    } else {
      this.tableCount[id] = 0;
    }
    this.#chainParts = 0;
    this.#part = 0;
    this.#hold(id, taken, this.#chainWritable);
    return id;
  }

  addSingle(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number {
    this.check();
    if (this.#chainParts !== 0) this.#drop("addSingle: the chain before was not committed");
    this.#checkPart(iovaLo, iovaHi, lengthBytes);
    if (this.#free === 0) return -1;
    const id = this.#freeHead;
    const { parts } = this;
    const word = id * 4;
    parts[word] = iovaLo;
    parts[word + 1] = iovaHi;
    parts[word + 2] = lengthBytes;
    parts[word + 3] = deviceWrites ? DESC_FLAG.write : 0;
    this.tableCount[id] = 0;
    this.#lastRecord = id;
    this.#cursor = this.link[id]!;
    this.#hold(id, 1, deviceWrites ? lengthBytes : 0);
    return id;
  }

  /** Takes the chain's records off the free list and writes its descriptors, not yet visible to the device. */
  #hold(id: number, taken: number, writableBytes: number): void {
    this.#freeHead = this.#cursor;
    this.#free -= taken;
    this.#tail[id] = this.#lastRecord;
    this.taken[id] = taken;
    // 2^32 itself does not fit, but no 32-bit length is above 2^32 − 1 either.
    this.writable[id] = writableBytes > 0xffff_ffff ? 0xffff_ffff : writableBytes;
    this.serial[id] = ++this.#counts[COMMITTED]!;
    this.#inFlight++;
    this.offer(id);
  }

  /** Writes the descriptors of a chain, so that `publish` has only to make it visible. */
  protected abstract offer(id: number): void;
  /** Empties the shared memory and puts both sides' positions to a place of this layout. */
  protected abstract rewind(state: QueueState): void;
  /** Throws when a state that the device reports cannot be. */
  protected abstract checkDevice(state: QueueState): void;

  abstract readonly position: QueueState;
  abstract publish(): boolean;
  abstract notify(): void;
  abstract hasUsed(): boolean;
  abstract takeUsed(into: UsedBurst, max?: number): number;
  abstract suppressInterrupts(): void;
  abstract enableInterrupts(): boolean;
  /** Where the device finds the next chain, and where this side looks for the next return. */
  protected abstract readonly places: Pick<QueueSnapshot, "available" | "used">;

  flush(): boolean {
    if (!this.publish()) return false;
    this.notify();
    return true;
  }

  /** Counts all committed chains as published. @returns how many were not */
  protected markPublished(): number {
    const fresh = this.#counts[COMMITTED]! - this.#counts[PUBLISHED]!;
    this.#counts[PUBLISHED] = this.#counts[COMMITTED]!;
    return fresh;
  }

  /** 0: the id is not in flight; 1: committed only; 2: published. Any 32-bit number may be asked for. */
  protected holder(id: number): 0 | 1 | 2 {
    if (id >= this.size) return 0;
    const serial = this.serial[id]!;
    return serial === 0 ? 0 : serial > this.#counts[PUBLISHED]! ? 1 : 2;
  }

  /** Gives the records of a returned chain back. Not with IN_ORDER. */
  protected release(id: number): void {
    this.serial[id] = 0;
    this.link[this.#tail[id]!] = this.#freeHead;
    this.#freeHead = id;
    this.#free += this.taken[id]!;
    this.#inFlight--;
  }

  /** IN_ORDER: chains from the oldest in flight up to `id`, which is published. */
  protected batchSize(id: number): number {
    return this.serial[id]! - this.serial[this.#oldest]! + 1;
  }

  /** IN_ORDER: the device returned everything up to `id`. */
  protected startBatch(id: number, length: number): void {
    this.#batchEnd = id;
    this.#batchLength = length;
  }

  /** IN_ORDER: part of a batch is left to give out. */
  protected get inBatch(): boolean {
    return this.#batchEnd !== NO_BATCH;
  }

  /** IN_ORDER: gives the next chain of the batch out, into element `at`. @returns its id */
  protected nextOfBatch(into: UsedBurst, at: number): number {
    const id = this.#oldest;
    let length = this.writable[id]!;
    if (id === this.#batchEnd) {
      length = this.#batchLength;
      this.#batchEnd = NO_BATCH;
    }
    into.ids[at] = id;
    into.lengths[at] = length;
    this.serial[id] = 0;
    this.#oldest = this.link[this.#tail[id]!]!;
    this.#free += this.taken[id]!;
    this.#inFlight--;
    return id;
  }

  /** Low half of the address of a chain's table. */
  protected tableLo(id: number): number {
    return (this.#tablesLo + id * this.tableSegments * DESCRIPTOR_BYTES) >>> 0;
  }

  /** High half. The sum of the low halves is exact, and carries at most once. */
  protected tableHi(id: number): number {
    return this.#tablesLo + id * this.tableSegments * DESCRIPTOR_BYTES >= TWO_32
      ? this.#tablesHi + 1
      : this.#tablesHi;
  }

  rebind(doorbell: Doorbell): void {
    this.check();
    this.#doorbell = doorbell;
  }

  /** Rings the doorbell with the next place to be filled (1.6). @throws UsageError before DRIVER_OK */
  protected ring(nextOffset: number, nextWrap: number): void {
    this.check();
    if (this.#gate !== null && !this.#gate.live) {
      throw new UsageError(`${this.place.function}, queue ${this.index}: notified before DRIVER_OK (1.1)`, {
        hint: "call VirtioDevice.driverOk() first",
      });
    }
    this.#doorbell.ring(nextOffset, nextWrap);
  }

  /** As `Virtqueue.inFlightIds`; works on a broken queue too. @throws ClosedError */
  inFlightIds(): number[] {
    if (this.closed) throw this.#closedError();
    const ids: number[] = [];
    this.serial.forEach((serial, id) => {
      if (serial !== 0) ids.push(id);
    });
    return ids;
  }

  saveInFlight(): SavedChain[] {
    return this.#idsInOrder().map((id) => this.#saveChain(id));
  }

  save(device?: QueueState): SavedQueue {
    this.#settled("save");
    if (device !== undefined) this.checkDevice(checkQueueState(device, this.size));
    return {
      version: SAVED_QUEUE_VERSION,
      queue: this.index,
      size: this.size,
      state: this.position,
      inFlight: this.saveInFlight(),
    };
  }

  reoffer(
    chains: readonly SavedChain[],
    translate: (iova: bigint, lengthBytes: number) => bigint = (iova) => iova,
  ): number[] {
    this.check();
    if (this.#chainParts !== 0) this.#drop("reoffer: the chain before was not committed");
    // Everything that can be refused is refused before the first chain is added.
    const checked = placeChains(chains, this.size, translate);
    let need = 0;
    for (const { readable, writable } of checked) {
      const parts = readable.length + writable.length;
      need += parts > 1 && parts <= this.tableSegments ? 1 : parts;
    }
    if (need > this.#free) {
      throw new ExhaustedError(
        `${this.place.function}, queue ${this.index}: ${checked.length} chains need ${need} descriptors, ${this.#free} are free`,
        { hint: "offer them to a queue of the same size and indirect tables that is empty" },
      );
    }
    return checked.map(({ readable, writable }) => {
      this.begin(readable.length, writable.length);
      for (const [lo, hi, lengthBytes] of readable) this.segment(lo, hi, lengthBytes);
      for (const [lo, hi, lengthBytes] of writable) this.segment(lo, hi, lengthBytes);
      return this.commit();
    });
  }

  restart(state?: QueueState): QueueState {
    this.#settled("restart");
    const start = checkQueueState(state ?? this.position, this.size);
    this.checkStart(start);
    const ids = this.#idsInOrder();
    this.rewind(start);
    for (const id of ids) {
      this.serial[id] = ++this.#counts[COMMITTED]!;
      this.offer(id);
    }
    this.publish();
    return start;
  }

  /** A state from which this ring can start with nothing in flight. @throws UsageError */
  protected checkStart(state: QueueState): void {
    if (state.layout !== this.layout) {
      this.#drop(`a state of a ${state.layout} queue for a ${this.layout} one`);
    }
    if (
      state.layout === "packed" &&
      (state.usedSlot !== state.availableSlot || state.usedWrap !== state.availableWrap)
    ) {
      this.#drop("usedSlot and usedWrap of the state differ from availableSlot and availableWrap (A-6.7)");
    }
  }

  image(atMost: number = 32): RingImage {
    return decodeRing(this, this.#areas, this.position, atMost);
  }

  get #areas(): RingAreas {
    return ringAreas(this, this.memory.buffer, this.#offsets);
  }

  snapshot(): QueueSnapshot {
    if (this.closed) throw this.#closedError();
    return {
      queue: this.index,
      layout: this.layout,
      size: this.size,
      freeDescriptors: this.#free,
      inFlight: this.#inFlight,
      unpublished: this.unpublished,
      eventIndex: this.eventIndex,
      inOrder: this.inOrder,
      tableSegments: this.tableSegments,
      ...(this.#fault === null ? {} : { fault: this.#fault.message }),
      ...this.places,
      ...ringEvents(this, this.#areas),
    };
  }

  /** Frees the rings. The device must not use them any more: reset it (or the queue) first. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Throws when the queue is closed or broken. */
  protected check(): void {
    if (this.#fault !== null || this.#closed || this.memory.closed) this.#refuse();
  }

  /**
   * A look has found nothing. Who polls and never sleeps hears of the end of the device's process here alone; the queue is then broken.
   * @returns true when something has come meanwhile
   */
  protected empty(): boolean {
    if (++this.#emptyLooks < EMPTY_LOOKS) return false;
    this.#emptyLooks = 0;
    try {
      this.#gate?.checkServed?.();
      return false;
    } catch (error) {
      // What was returned before is there to be taken.
      if (this.hasUsed()) return true;
      this.#fault = error as Error;
      throw error;
    }
  }

  /** Breaks the queue: every later call throws `fault`. */
  protected break(fault: DeviceError): DeviceError {
    this.#fault = fault;
    return fault;
  }

  /** Ends a `takeUsed` that gave `done` chains out: what broke the queue is thrown at once when there were none, else by the next call. */
  protected give(done: number): number {
    if (done === 0 && this.#fault !== null) throw this.#fault;
    return done;
  }

  /** The device's queue state contradicts the ring. */
  protected stateError(field: string, message: string): DeviceError {
    return new DeviceError(message, { ...this.place, field }, {
      hint: "nothing that this device says of its queue can be relied on: set it up afresh",
    });
  }

  #settled(call: string): void {
    this.check();
    if (this.#chainParts !== 0) this.#drop(`${call}: the chain before was not committed`);
    if (this.hasUsed()) this.#drop(`${call}: the device has returned chains; take them first`);
  }

  #idsInOrder(): number[] {
    return this.inFlightIds().sort((a, b) => this.serial[a]! - this.serial[b]!);
  }

  #saveChain(id: number): SavedChain {
    const readable: SavedPart[] = [];
    const writable: SavedPart[] = [];
    const put = (from: Uint32Array<ArrayBuffer>, word: number) => {
      const iova = (BigInt(from[word + 1]!) << 32n) | BigInt(from[word]!);
      (from[word + 3] === 0 ? readable : writable).push({
        iova: `0x${iova.toString(16)}`,
        lengthBytes: from[word + 2]!,
      });
    };
    const inTable = this.tableCount[id]!;
    for (let part = 0; part < inTable; part++) put(this.tableParts, (id * this.tableSegments + part) * 4);
    if (inTable === 0) {
      let record = id;
      for (let n = this.taken[id]!; n > 0; n--) {
        put(this.parts, record * 4);
        record = this.link[record]!;
      }
    }
    return { id, readable, writable };
  }

  #refuse(): never {
    if (this.closed) throw this.#closedError();
    throw this.#fault!;
  }

  #closedError(): ClosedError {
    return new ClosedError(`queue ${this.index} of ${this.place.function}`);
  }

  #checkPart(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    if ((iovaLo >>> 0) !== iovaLo || (iovaHi >>> 0) !== iovaHi) {
      this.#drop(`IOVA halves ${iovaLo} and ${iovaHi} are not unsigned 32-bit numbers`);
    }
    if ((lengthBytes >>> 0) !== lengthBytes || lengthBytes === 0) {
      this.#drop(`a part of ${lengthBytes} bytes`);
    }
  }

  /** Forgets the chain that was being added: nothing of it was taken off the free list yet. */
  #drop(message: string): never {
    this.#chainParts = 0;
    this.#part = 0;
    throw new UsageError(`${this.place.function}, queue ${this.index}: ${message}`);
  }
}
