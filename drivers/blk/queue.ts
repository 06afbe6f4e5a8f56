/**
 * One request queue of a block device: a pool of slots that are filled, submitted, answered and given back (virtio 1.4 §5.2.6).
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { ClosedError, DeviceError, UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import type { DmaSpace } from "../../lib/memory/mod.ts";
import {
  BLK_ID_BYTES,
  BLK_RANGE_BYTES,
  BLK_RANGE_UNMAP,
  BLK_SECTOR_BYTES,
  BLK_STATUS,
  BLK_TYPE,
  blkTypeName,
} from "../../lib/virtio/spec/blk.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import type { WaitTarget } from "../../lib/wait/waiter.ts";
import type { RequestBurst } from "./request_burst.ts";
import { NOT_WRITTEN, RequestChains } from "./request_chains.ts";
import { COUNT } from "./statistics.ts";

const FREE = 0;
/** The caller's: to be filled and submitted, or answered and taken. */
const RESERVED = 1;
const SUBMITTED = 2;
/** Answered, and not taken by `complete` yet. */
const ANSWERED = 3;

const LIE = -1;

/** What the device takes; the owner keeps `capacitySectors` up to date. */
export interface BlockLimits {
  /** Sectors of 512 bytes. */
  capacitySectors: number;
  /** RO was negotiated. */
  readonly readOnly: boolean;
  /** FLUSH was negotiated. */
  readonly flush: boolean;
  /** Most segments of a discard request; 0 without DISCARD. */
  readonly discardSegments: number;
  /** Most segments of a write zeroes request; 0 without WRITE_ZEROES. */
  readonly writeZeroesSegments: number;
  /** Most bytes of one data segment. */
  readonly segmentBytes: number;
}

/** What a queue is made of. */
export interface BlockQueueParts {
  /** Function, for messages. */
  readonly name: string;
  /** Set up; the queue's only user from now on. */
  readonly queue: Virtqueue;
  /** For the slots. */
  readonly dma: DmaSpace;
  /** Slots; as many chains as the queue always has room for. */
  readonly slots: number;
  /** Bytes of data in each slot. */
  readonly requestBytes: number;
  /** INDIRECT_DESC was negotiated. Default false. */
  readonly indirect?: boolean;
  /** Shared by all queues. */
  readonly limits: BlockLimits;
  /** Shared by all queues. */
  readonly counts: Float64Array;
  /**
   * Answers are judged by their status alone: the used lengths of a legacy device are to be ignored (virtio 1.4 §5.2, "Legacy Interface: Device
   * Operation"). Default false.
   */
  readonly looseLengths?: boolean;
}

/**
 * `reserve` a slot, fill `data(slot)` when there is something to write, `submit` it, and `notify` once for all. `complete` takes what the
 * device answered; then the slot is the caller's again, to read `data(slot)`, to submit once more or to `release`. By bursts, over arrays of the
 * caller's: `submitBurst` and `complete`, which do the same with one call each.
 *
 * Calls copy and allocate nothing. Errors: `UsageError`, `ClosedError`, `DeviceError` when the device lies: the queue is then broken
 * until the device is reset.
 */
export class BlockQueue implements WaitTarget, Disposable {
  static {
    typedErrors(this, ["submitBurst", "complete"]);
  }

  /** Virtqueue number. */
  readonly index: number;
  /** Slots in the pool: requests that can be in flight. */
  readonly slotCount: number;
  /** Most bytes of data of one request. */
  readonly requestBytes: number;
  /** Waits for answers of any kind, taken or not: for the owner. */
  readonly ring: WaitTarget;
  /** Called when a slot has become free; for the owner. */
  onFree: (() => void) | null = null;
  /** Told of answers to what was submitted with `listened`; for the owner. */
  onAnswer: ((slot: number, status: number) => void) | null = null;
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #limits: BlockLimits;
  readonly #counts: Float64Array;
  readonly #looseLengths: boolean;
  readonly #chains: RequestChains;
  /** By slot, for segments of a discard or write zeroes request. */
  readonly #words: readonly DataView<ArrayBuffer>[];

  readonly #state: Uint8Array<ArrayBuffer>;
  readonly #listened: Uint8Array<ArrayBuffer>;
  readonly #type: Uint8Array<ArrayBuffer>;
  readonly #used: UsedBurst;
  /** Answered slots, oldest first: a ring. */
  readonly #answered: Uint16Array<ArrayBuffer>;
  readonly #answeredStatus: Uint8Array<ArrayBuffer>;
  #answeredAt = 0;
  #answeredCount = 0;
  #submitted = 0;
  /** Requests in flight that were submitted with `listened`. */
  #listeners = 0;
  #fault: DeviceError | null = null;

  /** Allocates the slots. @throws ExhaustedError, SyscallError */
  constructor(parts: BlockQueueParts) {
    const { name, queue, dma, slots, requestBytes, limits } = parts;
    this.index = queue.index;
    this.slotCount = slots;
    this.requestBytes = requestBytes;
    this.#name = name;
    this.#queue = queue;
    this.ring = queue;
    this.#limits = limits;
    this.#counts = parts.counts;
    this.#looseLengths = parts.looseLengths ?? false;
    const { indirect = false } = parts;
    const { segmentBytes } = limits;
    this.#chains = new RequestChains(queue, dma, { slots, requestBytes, segmentBytes, indirect });
    this.#words = this.#chains.data.views.map(({ buffer, byteOffset }) =>
      new DataView(buffer, byteOffset, requestBytes)
    );
    this.#state = new Uint8Array(slots);
    this.#listened = new Uint8Array(slots);
    this.#type = new Uint8Array(slots);
    this.#used = usedBurst(Math.min(queue.size, 256));
    this.#answered = new Uint16Array(slots);
    this.#answeredStatus = new Uint8Array(slots);
  }

  /** Slots that `reserve` has left. */
  get freeSlots(): number {
    return this.#chains.data.free;
  }

  /** Requests that the device has. */
  get inFlight(): number {
    return this.#submitted;
  }

  /** Why the queue is broken, as far as it was found here: the next `reap` throws it. */
  get fault(): DeviceError | null {
    return this.#fault;
  }

  /** True after `close`, here or of the function. */
  get closed(): boolean {
    return this.#chains.data.closed;
  }

  /** A slot, the caller's until `release`; −1 when there is none. */
  reserve(): number {
    this.#check();
    const slot = this.#chains.data.take();
    if (slot >= 0) this.#state[slot] = RESERVED;
    return slot;
  }

  /** The slot's `requestBytes` of data, made once. @throws UsageError when the slot is not the caller's */
  data(slot: number): Uint8Array<ArrayBuffer> {
    this.#own(slot);
    return this.#chains.data.views[slot]!;
  }

  /** Gives a slot back. @throws UsageError when it is not the caller's */
  release(slot: number): void {
    this.#own(slot);
    this.#state[slot] = FREE;
    this.#chains.data.give(slot);
    if (this.onFree !== null) this.onFree();
  }

  /**
   * Writes segment `at` of a discard or write zeroes request into the slot's data.
   * @param unmap write zeroes only: the device may give the sectors back @throws UsageError beyond the capacity
   */
  writeRange(slot: number, at: number, sector: number, sectors: number, unmap = false): void {
    this.#own(slot);
    checkSectors(this.#name, this.#limits, BLK_TYPE.writeZeroes, sector, sectors);
    const words = this.#words[slot]!;
    const offset = at * BLK_RANGE_BYTES;
    if (!(at >= 0 && offset + BLK_RANGE_BYTES <= this.requestBytes) || sectors > 0xffff_ffff) {
      throw new UsageError(`${this.#name}: segment ${at} of ${sectors} sectors`);
    }
    words.setUint32(offset, sector % 4294967296, true);
    words.setUint32(offset + 4, Math.floor(sector / 4294967296), true);
    words.setUint32(offset + 8, sectors, true);
    words.setUint32(offset + 12, unmap ? BLK_RANGE_UNMAP : 0, true);
  }

  /**
   * Queues a request; `notify` makes it visible. `lengthBytes` of the slot's data belong to it: sectors (read, write), 20 (get id), 16 for each
   * segment that `writeRange` wrote (discard, write zeroes), 0 (flush). `sector` is 0 but for reads and writes.
   * @param type one of `BLK_TYPE` @param listened the answer goes to `onAnswer`, not to `complete`
   * @throws UsageError for a request that the device would have to refuse; the slot stays the caller's
   */
  submit(slot: number, type: number, sector: number, lengthBytes: number, listened = false): void {
    this.#own(slot);
    this.#checkRequest(type, sector, lengthBytes);
    this.#chains.sectors[slot] = sector;
    this.#put(slot, type, lengthBytes, listened);
    this.#chains.addAll();
  }

  /**
   * Submits `count` requests of reserved slots, from elements 0 on of the arrays, and notifies.
   * @throws as `submit`; what came before is submitted all the same
   */
  submitBurst(
    slots: Uint16Array,
    types: Uint8Array,
    sectors: Float64Array,
    lengths: Uint32Array,
    count: number,
  ): void {
    if (
      !(slots instanceof Uint16Array && types instanceof Uint8Array && sectors instanceof Float64Array &&
        lengths instanceof Uint32Array)
    ) {
      throw new UsageError(`submitBurst: no arrays of slots, types, sectors and lengths`);
    }
    const room = Math.min(slots.length, types.length, sectors.length, lengths.length);
    if (!((count >>> 0) === count && count <= room)) {
      throw new UsageError(`a burst of ${shown(count)} requests in arrays of ${room}`);
    }
    this.#check();
    const state = this.#state, { requestBytes } = this, { capacitySectors, readOnly } = this.#limits;
    const into = this.#chains.sectors;
    try {
      for (let i = 0; i < count; i++) {
        const slot = slots[i]!, type = types[i]!, sector = sectors[i]!, lengthBytes = lengths[i]!;
        if (state[slot] !== RESERVED) this.#notReserved(slot);
        const plain = (type === BLK_TYPE.in || (type === BLK_TYPE.out && !readOnly)) && lengthBytes > 0 &&
          lengthBytes <= requestBytes && lengthBytes % BLK_SECTOR_BYTES === 0 && sector >= 0 &&
          sector === Math.floor(sector) && sector + lengthBytes / BLK_SECTOR_BYTES <= capacitySectors;
        if (!plain) this.#checkRequest(type, sector, lengthBytes);
        into[slot] = sector;
        this.#put(slot, type, lengthBytes, false);
      }
    } finally {
      this.#chains.addAll();
      this.notify();
    }
  }

  /** Of a request that was checked, whose sector is noted. */
  #put(slot: number, type: number, lengthBytes: number, listened: boolean): void {
    const answers = type === BLK_TYPE.in || type === BLK_TYPE.getId;
    if (!this.#chains.put(slot, type, lengthBytes, answers)) {
      // As many slots were made as the queue has room for.
      throw new UsageError(`${this.#name}, queue ${this.index}: no descriptors left for slot ${slot}`);
    }
    this.#state[slot] = SUBMITTED;
    this.#listened[slot] = listened ? 1 : 0;
    if (listened) this.#listeners++;
    this.#type[slot] = type;
    this.#submitted++;
    this.#count(type, lengthBytes);
  }

  /** Makes submitted requests visible to the device, and notifies it when it asks for that. */
  notify(): void {
    if (this.#queue.flush()) this.#counts[COUNT.notifications]!++;
  }

  /**
   * Takes answered requests, up to the burst's capacity. @returns how many, as `burst.count` says
   * @throws DeviceError when the device lies; what was answered before is given out first
   */
  complete(burst: RequestBurst): number {
    burst.count = 0;
    this.#check();
    if (this.#listeners === 0 && this.#answeredCount === 0) return this.#take(burst);
    if (this.#answeredCount === 0) this.reap();
    let count = this.#answeredCount;
    if (count > burst.slots.length) count = burst.slots.length;
    for (let i = 0; i < count; i++) {
      const at = this.#answeredAt;
      this.#give(burst, i, this.#answered[at]!, this.#answeredStatus[at]!);
      this.#answeredAt = at + 1 === this.slotCount ? 0 : at + 1;
    }
    this.#answeredCount -= count;
    burst.count = count;
    return count;
  }

  /** From the device into the caller's arrays: nobody listens. */
  #take(burst: RequestBurst): number {
    if (this.#fault !== null) throw this.#fault;
    const used = this.#used;
    const taken = this.#chains.takeUsed(used, burst.slots.length);
    let count = 0;
    for (; count < taken; count++) {
      const slot = used.ids[count]!;
      const status = this.#judge(slot, used.lengths[count]!);
      if (status === LIE) break;
      this.#give(burst, count, slot, status);
    }
    this.#submitted -= count;
    burst.count = count;
    if (count === 0 && this.#fault !== null) throw this.#fault;
    return count;
  }

  #give({ slots, statuses, lengths }: RequestBurst, at: number, slot: number, status: number): void {
    slots[at] = slot;
    statuses[at] = status;
    lengths[at] = status === BLK_STATUS.ok ? this.#chains.lengthBytes(slot) : 0;
    this.#state[slot] = RESERVED;
  }

  /** Looks at what the device returned: tells `onAnswer`, or keeps it for `complete`. @returns how many @throws as `complete` */
  reap(): number {
    this.#check();
    if (this.#fault !== null) throw this.#fault;
    const used = this.#used;
    const count = this.#chains.takeUsed(used);
    for (let i = 0; i < count; i++) {
      const slot = used.ids[i]!;
      const status = this.#judge(slot, used.lengths[i]!);
      if (status === LIE) {
        if (i === 0) throw this.#fault!;
        return i;
      }
      this.#submitted--;
      if (this.#listened[slot] === 1) {
        this.#state[slot] = RESERVED;
        this.#listeners--;
        this.onAnswer!(slot, status);
        // The listener may have closed it all.
        if (this.closed) return i + 1;
        continue;
      }
      this.#state[slot] = ANSWERED;
      let end = this.#answeredAt + this.#answeredCount;
      if (end >= this.slotCount) end -= this.slotCount;
      this.#answered[end] = slot;
      this.#answeredStatus[end] = status;
      this.#answeredCount++;
    }
    return count;
  }

  /** @returns the status of a returned request; LIE after it broke the queue */
  #judge(slot: number, length: number): number {
    // Read once: the device could change it.
    const status = this.#chains.status(slot);
    if (status === BLK_STATUS.ok) {
      if (length === this.#chains.writable[slot] || this.#looseLengths) return status;
    } else if (status <= BLK_STATUS.unsupp) {
      this.#counts[COUNT.failures]!++;
      return status;
    }
    this.#fault = this.#lie(slot, status, length);
    return LIE;
  }

  /** True when `complete` has something to look at. */
  hasUsed(): boolean {
    return this.#answeredCount > 0 || this.#fault !== null || this.#queue.hasUsed();
  }

  suppressInterrupts(): void {
    this.#queue.suppressInterrupts();
  }

  enableInterrupts(): boolean {
    return this.#queue.enableInterrupts() || this.#answeredCount > 0;
  }

  /** Unmaps the slots. The virtqueue is its device's. */
  close(): void {
    this.#chains[Symbol.dispose]();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #checkRequest(type: number, sector: number, lengthBytes: number): void {
    const limits = this.#limits;
    switch (type) {
      case BLK_TYPE.in:
      case BLK_TYPE.out:
        if (
          !(lengthBytes > 0 && lengthBytes <= this.requestBytes && lengthBytes % BLK_SECTOR_BYTES === 0)
        ) {
          throw new UsageError(`${this.#name}: a ${blkTypeName(type)} of ${shown(lengthBytes)} bytes`, {
            hint: `a multiple of ${BLK_SECTOR_BYTES}, up to ${this.requestBytes} in one request`,
          });
        }
        checkSectors(this.#name, limits, type, sector, lengthBytes / BLK_SECTOR_BYTES);
        if (type === BLK_TYPE.out) checkWritable(this.#name, limits, type);
        return;
      case BLK_TYPE.flush:
        if (sector === 0 && lengthBytes === 0 && limits.flush) return;
        break;
      case BLK_TYPE.getId:
        if (sector === 0 && lengthBytes === BLK_ID_BYTES) return;
        break;
      case BLK_TYPE.discard:
      case BLK_TYPE.writeZeroes: {
        checkWritable(this.#name, limits, type);
        const most = type === BLK_TYPE.discard ? limits.discardSegments : limits.writeZeroesSegments;
        const fits = lengthBytes <= most * BLK_RANGE_BYTES && lengthBytes <= this.requestBytes;
        if (sector === 0 && lengthBytes > 0 && fits && lengthBytes % BLK_RANGE_BYTES === 0) return;
        break;
      }
      default:
    }
    throw new UsageError(
      `${this.#name}: ${blkTypeName(type)} with sector ${shown(sector)} and ${
        shown(lengthBytes)
      } bytes of data`,
      { hint: "a feature was not negotiated, or this is not what such a request consists of" },
    );
  }

  #count(type: number, lengthBytes: number): void {
    const counts = this.#counts;
    if (type === BLK_TYPE.in) {
      counts[COUNT.reads]!++;
      counts[COUNT.readBytes]! += lengthBytes;
    } else if (type === BLK_TYPE.out) {
      counts[COUNT.writes]!++;
      counts[COUNT.writtenBytes]! += lengthBytes;
    } else if (type === BLK_TYPE.flush) counts[COUNT.flushes]!++;
    else counts[COUNT.others]!++;
  }

  #lie(slot: number, status: number, length: number): DeviceError {
    const where = { function: this.#name, queue: this.index };
    const what = `${blkTypeName(this.#type[slot]!)} of sector ${this.#chains.sectors[slot]}`;
    const options = { hint: "reset the device" };
    if (status === NOT_WRITTEN) {
      return new DeviceError(`${what} was returned without a status`, { ...where, field: "status" }, options);
    }
    if (status !== BLK_STATUS.ok) {
      return new DeviceError(`${what}: ${status} is no status`, { ...where, field: "status" }, options);
    }
    const message = `${what}: OK with ${length} bytes written, it must be ${this.#chains.writable[slot]}`;
    return new DeviceError(message, { ...where, field: "used.len" }, options);
  }

  #own(slot: number): void {
    if (this.#chains.data.closed) this.#gone();
    if (typeof slot !== "number" || this.#state[slot] !== RESERVED) this.#notReserved(slot);
  }

  #notReserved(slot: number): never {
    throw new UsageError(`${this.#name}, queue ${this.index}: slot ${shown(slot)} is not reserved`);
  }

  #check(): void {
    if (this.#chains.data.closed) this.#gone();
  }

  #gone(): never {
    throw new ClosedError(`request queue ${this.index} of ${this.#name}`);
  }
}

/** @throws UsageError for what the device has not */
export function checkSectors(
  name: string,
  { capacitySectors }: BlockLimits,
  type: number,
  sector: number,
  sectors: number,
): void {
  if (
    Number.isInteger(sector) && sector >= 0 && Number.isInteger(sectors) && sectors >= 0 &&
    sector + sectors <= capacitySectors
  ) return;
  throw new UsageError(
    `${name}: ${blkTypeName(type)} of ${shown(sectors)} sectors at ${
      shown(sector)
    }; there are ${capacitySectors}`,
  );
}

/** @throws UsageError for a device that takes no writes */
export function checkWritable(name: string, { readOnly }: BlockLimits, type: number): void {
  if (readOnly) throw new UsageError(`${name}: ${blkTypeName(type)} on a read-only device`);
}
