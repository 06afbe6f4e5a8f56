/**
 * What the two ring layouts have in common beside their book: being closed or broken, the doorbell, and going on elsewhere.
 *
 * Nothing here is called for a packet, and nothing for a burst but `check`.
 *
 * @module
 */
import { LOADS_IN_ORDER } from "../../memory/load_order.ts";
import type { Parcel } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, ExhaustedError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { DmaMemory } from "../../memory/mod.ts";
import { checkQueueState, initialQueueState, type QueueState } from "../spec/queue_state.ts";
import type { Doorbell, QueueAddresses } from "../transport/transport.ts";
import { decodeRing, type RingAreas, ringAreas, ringEvents, type RingImage } from "../view/ring_image.ts";
import { ChainBook } from "./chain_book.ts";
import type { QueuePlace } from "./faults.ts";
import { DESCRIPTOR_BYTES, type RingLayout } from "./layout.ts";
import { placeChains, SAVED_QUEUE_VERSION, type SavedChain, type SavedQueue } from "./saved_queue.ts";
import type { ChainParts, LentQueue, QueueSlots, QueueSnapshot, UsedBurst, Virtqueue } from "./virtqueue.ts";

/** What a queue asks of its device. */
export interface NotifyGate {
  /** The device may be notified: true from DRIVER_OK to reset (1.1). Read at each notification. */
  readonly live: boolean;
  /** Throws when nobody is there any more who could return anything. Called by a queue that is found empty again and again. */
  checkServed?(): void;
  /** The same as far as it is known without asking: then a queue that is found empty asks at once. */
  readonly lost?: boolean;
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
  /**
   * Loads may overtake one another: each flags of a packed ring, and what is read behind a store, is loaded atomically. Default: what this processor
   * needs.
   */
  readonly acquireEach?: boolean;
  /** Where the ring starts; the used part of a packed one is the same place. Default: the beginning. */
  readonly start?: QueueState;
}

/** Of a device that is gone. */
export interface Standing {
  /** Where another one begins. */
  readonly state: QueueState;
  /** Chains by id. */
  readonly returned: ReadonlySet<number>;
}

const TWO_32 = 4294967296;
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

  /** Who holds which chain. */
  protected readonly book: ChainBook;
  /** Function and queue, for errors. */
  protected readonly place: QueuePlace;
  /** Rings and tables. */
  protected readonly memory: DmaMemory;
  /** The indirect tables in shared memory. */
  protected readonly tables: Uint32Array<ArrayBuffer>;
  /** See `DriverRingParts`. */
  protected readonly acquireEach: boolean;
  readonly #offsets: RingLayout;
  readonly #tablesLo: number;
  readonly #tablesHi: number;
  #doorbell: Doorbell;
  readonly #gate: NotifyGate | null;
  #fault: Error | null = null;
  #closed = false;
  #emptyLooks = 0;
  #asking = false;

  /** Takes over `parts.memory`, which must be zeroed. */
  constructor(parts: DriverRingParts) {
    const { memory, layout } = parts;
    const { size, tableSegments } = layout;
    this.acquireEach = parts.acquireEach ?? !LOADS_IN_ORDER;
    this.#offsets = layout;
    this.index = parts.index;
    this.size = size;
    this.eventIndex = parts.eventIndex;
    this.inOrder = parts.inOrder ?? false;
    this.place = { function: parts.function, queue: parts.index };
    this.book = new ChainBook(this.place, size, tableSegments, this.inOrder);
    this.memory = memory;
    this.#doorbell = parts.doorbell;
    this.#gate = parts.gate ?? null;
    this.addresses = {
      size,
      descriptorArea: memory.iova + BigInt(layout.descriptorOffset),
      driverArea: memory.iova + BigInt(layout.driverOffset),
      deviceArea: memory.iova + BigInt(layout.deviceOffset),
    };
    this.tables = new Uint32Array(memory.buffer, layout.tablesOffset, size * tableSegments * 4);
    const tables = memory.iova + BigInt(layout.tablesOffset);
    this.#tablesLo = Number(tables & 0xffff_ffffn);
    this.#tablesHi = Number(tables >> 32n);
  }

  get freeDescriptors(): number {
    this.check();
    return this.book.freeCount;
  }

  get inFlight(): number {
    this.check();
    return this.book.inFlight;
  }

  get closed(): boolean {
    return this.#closed || this.memory.closed;
  }

  begin(readableParts: number, writableParts: number): boolean {
    this.check();
    return this.book.begin(readableParts, writableParts);
  }

  segment(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    // What ends the queue meanwhile is thrown by `commit`.
    if (!this.book.adding) this.check();
    this.book.segment(iovaLo, iovaHi, lengthBytes);
  }

  addChains(
    parts: ChainParts,
    readable: Uint16Array,
    writable: Uint16Array,
    count: number,
    ids: Uint16Array,
  ): number {
    this.check();
    const { book } = this;
    book.checkChains(parts, readable, writable, count, ids);
    let from = 0, done = 0;
    for (; done < count; done++) {
      const id = book.chain(parts, from, readable[done]!, writable[done]!);
      if (id < 0) break;
      this.offer(id);
      ids[done] = id;
      from += readable[done]! + writable[done]!;
    }
    return done;
  }

  bindSlots(slots: QueueSlots): void {
    this.check();
    this.book.bind(slots);
  }

  placeSlots(
    slots: Uint16Array,
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    at: Uint16Array,
    count: number,
  ): void {
    this.check();
    const bound = this.book.placeable(slots, iovaLo, iovaHi, at, count);
    const done = bound.place(slots, iovaLo, iovaHi, at, count, this.slotTable);
    if (done < count) this.book.drop(bound.problem(slots[done]!, bound.are.lengthBytes));
  }

  abstract commit(): number;
  abstract addSingle(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number;
  abstract addSingles(
    iovaLo: Uint32Array,
    iovaHi: Uint32Array,
    lengths: Uint32Array,
    count: number,
    deviceWrites: boolean,
    ids: Uint16Array,
  ): number;
  abstract addSlots(
    slots: Uint16Array,
    lengths: Uint32Array | null,
    count: number,
    headBytes?: number,
  ): number;
  abstract readonly position: QueueState;
  abstract publish(): boolean;
  abstract notify(): void;
  abstract hasUsed(): boolean;
  abstract takeUsed(into: UsedBurst, max?: number): number;
  abstract suppressInterrupts(): void;
  abstract enableInterrupts(): boolean;
  /** Where the device finds the next chain, and where this side looks for the next return. */
  protected abstract readonly places: Pick<QueueSnapshot, "available" | "used">;
  /** Where the descriptor of a slot stays; null in a ring that has none of its own. */
  protected abstract readonly slotTable: Uint32Array | null;
  /** Writes the descriptors of a chain of the book, so that `publish` has only to make it visible. */
  protected abstract offer(id: number): void;
  /** Empties the shared memory and puts both sides' positions to a place of this layout. */
  protected abstract rewind(state: QueueState): void;
  /** Where the device stood last, by the ring alone, and what it has returned and nobody taken. @throws DeviceError when that cannot be */
  protected abstract standing(): Standing;
  /** Both sides go on at a place: what was returned stays, and is all that looks used; nothing looks available. */
  protected abstract goOn(standing: Standing): void;
  /** The device's wishes for notifications are void: it is to be told of everything. */
  protected abstract dropWishes(): void;
  /** Throws when a state that the device reports cannot be. */
  protected abstract checkDevice(state: QueueState): void;

  flush(): boolean {
    if (!this.publish()) return false;
    this.notify();
    return true;
  }

  /** Low half of the address of a chain's table. */
  protected tableLo(id: number): number {
    return (this.#tablesLo + id * this.book.tableSegments * DESCRIPTOR_BYTES) >>> 0;
  }

  /** High half. The sum of the low halves is exact, and carries at most once. */
  protected tableHi(id: number): number {
    return this.#tablesLo + id * this.book.tableSegments * DESCRIPTOR_BYTES >= TWO_32
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
    return this.book.idsInOrder().map((id) => this.book.slotOf[id]!).sort((a, b) => a - b);
  }

  saveInFlight(): SavedChain[] {
    if (this.closed) throw this.#closedError();
    return this.book.idsInOrder().map((id) => this.book.saveChain(id));
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
    this.book.settled("reoffer");
    // Everything that can be refused is refused before the first chain is added.
    const checked = placeChains(chains, this.size, translate);
    const { tableSegments, freeCount } = this.book;
    let need = 0;
    for (const { readable, writable } of checked) {
      const parts = readable.length + writable.length;
      need += parts > 1 && parts <= tableSegments ? 1 : parts;
    }
    if (need > freeCount) {
      throw new ExhaustedError(
        `${this.place.function}, queue ${this.index}: ${checked.length} chains need ${need} descriptors, ${freeCount} are free`,
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
    const ids = this.book.idsInOrder();
    this.rewind(start);
    for (const id of ids) {
      this.book.commitAgain(id);
      this.offer(id);
    }
    this.publish();
    return start;
  }

  takeOver(offersAgain: boolean): QueueState {
    this.check();
    this.book.settled("takeOver");
    const standing = this.standing();
    this.dropWishes();
    if (!offersAgain) return standing.state;
    this.goOn(standing);
    for (const id of this.book.idsInOrder()) {
      if (standing.returned.has(id)) continue;
      this.book.commitAgain(id);
      this.offer(id);
    }
    this.publish();
    return standing.state;
  }

  /** A state from which this ring can start with nothing in flight. @throws UsageError */
  protected checkStart(state: QueueState): void {
    if (state.layout !== this.layout) {
      this.book.drop(`a state of a ${state.layout} queue for a ${this.layout} one`);
    }
    if (
      state.layout === "packed" &&
      (state.usedSlot !== state.availableSlot || state.usedWrap !== state.availableWrap)
    ) {
      this.book.drop(
        "usedSlot and usedWrap of the state differ from availableSlot and availableWrap (A-6.7)",
      );
    }
  }

  lend(parcel: Parcel): LentQueue {
    this.check();
    const { layout, index, eventIndex, inOrder, place: { function: name } } = this;
    if (this.book.inFlight > 0 || !sameState(this.position, initialQueueState(layout))) {
      throw new UsageError(`${name}, queue ${index} has been used, and cannot be lent`);
    }
    const doorbell = this.#doorbell.lend?.(parcel);
    if (doorbell === undefined) {
      throw new UnsupportedError(`${name}, queue ${index} cannot be notified by another thread`, {
        hint: "its doorbell is a message on a connection of this one",
      });
    }
    const memory = this.memory.lend(parcel);
    this.#fault = new UsageError(`${name}, queue ${index} is lent to another thread`);
    return { function: name, index, layout, places: this.#offsets, memory, doorbell, eventIndex, inOrder };
  }

  image(atMost: number = 32): RingImage {
    return decodeRing(this, this.#areas, this.position, atMost);
  }

  get #areas(): RingAreas {
    return ringAreas(this, this.memory.buffer, this.#offsets);
  }

  snapshot(): QueueSnapshot {
    if (this.closed) throw this.#closedError();
    const { freeCount, inFlight, unpublished, tableSegments } = this.book;
    return {
      queue: this.index,
      layout: this.layout,
      size: this.size,
      freeDescriptors: freeCount,
      inFlight,
      unpublished,
      eventIndex: this.eventIndex,
      inOrder: this.inOrder,
      tableSegments,
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

  /** How many chains `takeUsed` may give out at most. @throws UsageError for arrays that are none */
  protected roomIn(into: UsedBurst, max: number): number {
    const ids = into?.ids, lengths = into?.lengths;
    if (!(ids instanceof Uint16Array && lengths instanceof Uint32Array)) {
      throw new UsageError("takeUsed: no arrays for what is used");
    }
    const room = ids.length < lengths.length ? ids.length : lengths.length;
    return max < room ? max : room;
  }

  /**
   * A look has found nothing. Who polls and never sleeps hears of the end of the device's process here alone; the queue is then broken.
   * @returns true when something has come meanwhile
   */
  protected empty(): boolean {
    if (++this.#emptyLooks < EMPTY_LOOKS && !this.#gate?.lost) return false;
    return this.#ask();
  }

  #ask(): boolean {
    // The look below finds nothing, too, and asks in turn.
    if (this.#asking) return false;
    this.#emptyLooks = 0;
    this.#asking = true;
    try {
      this.#gate?.checkServed?.();
      return false;
    } catch (error) {
      // What was returned before is there to be taken.
      if (this.hasUsed()) return true;
      this.#fault = error as Error;
      throw error;
    } finally {
      this.#asking = false;
    }
  }

  abandon(reason: Error): void {
    this.#fault ??= reason;
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
    this.book.settled(call);
    if (this.hasUsed()) this.book.drop(`${call}: the device has returned chains; take them first`);
  }

  #refuse(): never {
    if (this.closed) throw this.#closedError();
    throw this.#fault!;
  }

  #closedError(): ClosedError {
    return new ClosedError(`queue ${this.index} of ${this.place.function}`);
  }
}

function sameState(one: QueueState, other: QueueState): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
