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
  BLK_HEADER_BYTES,
  BLK_ID_BYTES,
  BLK_RANGE_BYTES,
  BLK_RANGE_UNMAP,
  BLK_SECTOR_BYTES,
  BLK_STATUS,
  BLK_TYPE,
  blkTypeName,
} from "../../lib/virtio/spec/blk.ts";
import { BufferPool, type BufferPoolOptions } from "../../lib/virtio/queue/buffer_pool.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import type { WaitTarget } from "../../lib/wait/waiter.ts";
import type { RequestBurst } from "./request_burst.ts";
import { COUNT } from "./statistics.ts";

const FREE = 0;
/** The caller's: to be filled and submitted, or answered and taken. */
const RESERVED = 1;
const SUBMITTED = 2;
/** Answered, and not taken by `complete` yet. */
const ANSWERED = 3;

const NOT_WRITTEN = 0xff;
/** Of data: devices copy whole pages the fastest. */
const ALIGN_BYTES = 4096;

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
 * device answered; then the slot is the caller's again, to read `data(slot)`, to submit once more or to `release`.
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
  readonly #segmentBytes: number;
  readonly #looseLengths: boolean;

  readonly #memory: DisposableStack;
  readonly #data: BufferPool;
  /** By slot, a cache line each, as are the statuses: answers of different requests do not share one. */
  readonly #header: BufferPool;
  readonly #status: BufferPool;
  readonly #headers: readonly Uint32Array<ArrayBuffer>[];
  readonly #words: readonly DataView<ArrayBuffer>[];

  readonly #state: Uint8Array<ArrayBuffer>;
  readonly #listened: Uint8Array<ArrayBuffer>;
  readonly #type: Uint8Array<ArrayBuffer>;
  /** Bytes that the device writes when all goes well, the status included. */
  readonly #expected: Uint32Array<ArrayBuffer>;
  readonly #used: UsedBurst;
  /** Answered slots, oldest first: a ring. */
  readonly #answered: Uint16Array<ArrayBuffer>;
  readonly #answeredStatus: Uint8Array<ArrayBuffer>;
  #answeredAt = 0;
  #answeredCount = 0;
  #submitted = 0;
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
    this.#segmentBytes = Math.min(limits.segmentBytes, requestBytes);

    using memory = new DisposableStack();
    const pool = (options: BufferPoolOptions) =>
      memory.use(new BufferPool(queue, dma, { ...options, count: slots }));
    this.#header = pool({
      label: "request headers",
      slotBytes: BLK_HEADER_BYTES,
      access: { deviceReads: true, deviceWrites: false },
    });
    this.#status = pool({
      label: "request status",
      slotBytes: 1,
      access: { deviceReads: false, deviceWrites: true },
    });
    this.#data = pool({ label: "request data", slotBytes: requestBytes, alignBytes: ALIGN_BYTES });
    this.#headers = this.#header.views.map(({ buffer, byteOffset }) =>
      new Uint32Array(buffer, byteOffset, BLK_HEADER_BYTES / 4)
    );
    this.#words = this.#data.views.map(({ buffer, byteOffset }) =>
      new DataView(buffer, byteOffset, requestBytes)
    );
    this.#memory = memory.move();
    this.#state = new Uint8Array(slots);
    this.#listened = new Uint8Array(slots);
    this.#type = new Uint8Array(slots);
    this.#expected = new Uint32Array(slots);
    this.#used = usedBurst(Math.min(queue.size, 256));
    this.#answered = new Uint16Array(slots);
    this.#answeredStatus = new Uint8Array(slots);
  }

  /** Slots that `reserve` has left. */
  get freeSlots(): number {
    return this.#data.free;
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
    return this.#data.closed;
  }

  /** A slot, the caller's until `release`; −1 when there is none. */
  reserve(): number {
    this.#check();
    const slot = this.#data.take();
    if (slot >= 0) this.#state[slot] = RESERVED;
    return slot;
  }

  /** The slot's `requestBytes` of data, made once. @throws UsageError when the slot is not the caller's */
  data(slot: number): Uint8Array<ArrayBuffer> {
    this.#own(slot);
    return this.#data.views[slot]!;
  }

  /** Gives a slot back. @throws UsageError when it is not the caller's */
  release(slot: number): void {
    this.#own(slot);
    this.#state[slot] = FREE;
    this.#data.give(slot);
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
    const header = this.#headers[slot]!;
    header[0] = type;
    header[1] = 0;
    header[2] = sector % 4294967296;
    header[3] = Math.floor(sector / 4294967296);
    this.#status.views[slot]![0] = NOT_WRITTEN;

    const answers = type === BLK_TYPE.in || type === BLK_TYPE.getId;
    const segmentBytes = this.#segmentBytes;
    const segments = Math.ceil(lengthBytes / segmentBytes);
    if (!this.#queue.begin(answers ? 1 : 1 + segments, answers ? 1 + segments : 1)) {
      // As many slots were made as the queue has room for.
      throw new UsageError(`${this.#name}, queue ${this.index}: no descriptors left for slot ${slot}`);
    }
    this.#header.addPart(slot, 0, BLK_HEADER_BYTES);
    for (let at = 0; at < lengthBytes; at += segmentBytes) {
      const left = lengthBytes - at;
      this.#data.addPart(slot, at, left < segmentBytes ? left : segmentBytes);
    }
    this.#status.addPart(slot, 0, 1);
    this.#data.commit(slot);
    this.#state[slot] = SUBMITTED;
    this.#listened[slot] = listened ? 1 : 0;
    this.#type[slot] = type;
    this.#expected[slot] = answers ? lengthBytes + 1 : 1;
    this.#submitted++;
    this.#count(type, lengthBytes);
  }

  /**
   * Submits `count` requests of reserved slots, and notifies. @throws as `submit`; what was queued before is submitted all the same
   */
  submitBurst(
    slots: Uint16Array,
    types: Uint8Array,
    sectors: Float64Array,
    lengths: Uint32Array,
    count: number,
  ): void {
    const room = Math.min(slots.length, types.length, sectors.length, lengths.length);
    if (!(count >= 0 && count <= room)) {
      throw new UsageError(`a burst of ${count} requests in arrays of ${room}`);
    }
    try {
      for (let i = 0; i < count; i++) this.submit(slots[i]!, types[i]!, sectors[i]!, lengths[i]!);
    } finally {
      this.notify();
    }
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
    if (this.#answeredCount === 0) this.reap();
    else this.#check();
    const { slots, statuses } = burst;
    let count = this.#answeredCount;
    if (count > slots.length) count = slots.length;
    for (let i = 0; i < count; i++) {
      const slot = this.#answered[this.#answeredAt]!;
      slots[i] = slot;
      statuses[i] = this.#answeredStatus[this.#answeredAt]!;
      this.#state[slot] = RESERVED;
      this.#answeredAt = this.#answeredAt + 1 === this.slotCount ? 0 : this.#answeredAt + 1;
    }
    this.#answeredCount -= count;
    burst.count = count;
    return count;
  }

  /** Looks at what the device returned: tells `onAnswer`, or keeps it for `complete`. @returns how many @throws as `complete` */
  reap(): number {
    this.#check();
    if (this.#fault !== null) throw this.#fault;
    const used = this.#used;
    const count = this.#data.takeUsed(used);
    for (let i = 0; i < count; i++) {
      const slot = used.ids[i]!;
      const status = this.#status.views[slot]![0]!;
      if (
        status > BLK_STATUS.unsupp ||
        (status === BLK_STATUS.ok && used.lengths[i] !== this.#expected[slot] && !this.#looseLengths)
      ) {
        this.#fault = this.#lie(slot, status, used.lengths[i]!);
        if (i === 0) throw this.#fault;
        return i;
      }
      if (status !== BLK_STATUS.ok) this.#counts[COUNT.failures]!++;
      this.#submitted--;
      if (this.#listened[slot] === 1) {
        this.#state[slot] = RESERVED;
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
    this.#memory.dispose();
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
          throw new UsageError(`${this.#name}: a ${blkTypeName(type)} of ${lengthBytes} bytes`, {
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
      `${this.#name}: ${blkTypeName(type)} with sector ${sector} and ${lengthBytes} bytes of data`,
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
    const what = `${blkTypeName(this.#type[slot]!)} of sector ${this.#sector(slot)}`;
    const options = { hint: "reset the device" };
    if (status === NOT_WRITTEN) {
      return new DeviceError(`${what} was returned without a status`, { ...where, field: "status" }, options);
    }
    if (status !== BLK_STATUS.ok) {
      return new DeviceError(`${what}: ${status} is no status`, { ...where, field: "status" }, options);
    }
    const message = `${what}: OK with ${length} bytes written, it must be ${this.#expected[slot]}`;
    return new DeviceError(message, { ...where, field: "used.len" }, options);
  }

  #sector(slot: number): number {
    const header = this.#headers[slot]!;
    return header[2]! + 4294967296 * header[3]!;
  }

  #own(slot: number): void {
    if (this.#data.closed) this.#gone();
    if (typeof slot !== "number" || this.#state[slot] !== RESERVED) {
      throw new UsageError(`${this.#name}, queue ${this.index}: slot ${shown(slot)} is not reserved`);
    }
  }

  #check(): void {
    if (this.#data.closed) this.#gone();
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
    `${name}: ${blkTypeName(type)} of ${sectors} sectors at ${sector}; there are ${capacitySectors}`,
  );
}

/** @throws UsageError for a device that takes no writes */
export function checkWritable(name: string, { readOnly }: BlockLimits, type: number): void {
  if (readOnly) throw new UsageError(`${name}: ${blkTypeName(type)} on a read-only device`);
}
