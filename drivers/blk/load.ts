/**
 * A load for a block device: so many requests in flight, at random places, each followed by another.
 *
 * @module
 */
import { DeviceError, UsageError } from "../../lib/errors/mod.ts";
import { BLK_SECTOR_BYTES, BLK_STATUS, BLK_TYPE, blkTypeName } from "../../lib/virtio/spec/blk.ts";
import { Latencies } from "../latencies.ts";
import type { Load } from "../load.ts";
import type { BlockQueue } from "./queue.ts";
import { RequestBurst } from "./request_burst.ts";
import type { VirtioBlk } from "./virtio_blk.ts";

/** What to ask for. */
export interface BlockLoadOptions {
  /** Requests in flight on each queue. */
  readonly depth: number;
  /** Bytes of each: whole sectors, at most the queue's `requestBytes`. */
  readonly sizeBytes: number;
  /** Write, which destroys what is there. Default: read. */
  readonly write?: boolean;
  /** Takes the latencies, with those of other loads. Default: of its own. */
  readonly latencies?: Latencies;
}

/** One queue with its arrays. */
interface Lane {
  readonly queue: BlockQueue;
  readonly answered: RequestBurst;
  /** Slots of the next burst, and beside them what `submitBurst` takes. */
  readonly sectors: Float64Array;
  /** When each slot was submitted. */
  readonly sinceMs: Float64Array;
}

/** Keeps `depth` requests in flight on each queue of a device that nobody else uses meanwhile. */
export class BlockLoad implements Load {
  readonly latencies: Latencies;
  readonly #blk: VirtioBlk;
  readonly #lanes: readonly Lane[];
  readonly #name: string;
  readonly #depth: number;
  readonly #sectorsEach: number;
  readonly #places: number;
  readonly #types: Uint8Array;
  readonly #lengths: Uint32Array;
  readonly #random = Uint32Array.of(0x9e37_79b9);

  /** @throws UsageError for a depth or size that the device was not opened for */
  constructor(blk: VirtioBlk, options: BlockLoadOptions) {
    const { depth, sizeBytes, write = false } = options;
    const { name } = blk.transport;
    const [first] = blk.queues as [BlockQueue];
    if (!(Number.isInteger(depth) && depth >= 1 && depth <= first.slotCount)) {
      throw new UsageError(`${name}: ${depth} requests in flight`, { hint: `1 to ${first.slotCount}` });
    }
    const fits = sizeBytes >= BLK_SECTOR_BYTES && sizeBytes <= first.requestBytes;
    if (!fits || sizeBytes % BLK_SECTOR_BYTES !== 0) {
      throw new UsageError(`${name}: requests of ${sizeBytes} bytes`, {
        hint: `a multiple of ${BLK_SECTOR_BYTES}, up to ${first.requestBytes}`,
      });
    }
    this.latencies = options.latencies ?? new Latencies();
    this.#blk = blk;
    this.#name = name;
    this.#depth = depth;
    this.#sectorsEach = sizeBytes / BLK_SECTOR_BYTES;
    this.#places = Math.floor(blk.capacitySectors / this.#sectorsEach);
    if (this.#places === 0) {
      throw new UsageError(`${name}: requests of ${sizeBytes} bytes; it has ${blk.capacitySectors} sectors`);
    }
    this.#types = new Uint8Array(depth).fill(write ? BLK_TYPE.out : BLK_TYPE.in);
    this.#lengths = new Uint32Array(depth).fill(sizeBytes);
    this.#lanes = blk.queues.map((queue) => ({
      queue,
      answered: new RequestBurst(depth),
      sectors: new Float64Array(depth),
      sinceMs: new Float64Array(queue.slotCount),
    }));
  }

  /** Submits the first requests. @throws UsageError when not all slots are free */
  begin(): void {
    for (const lane of this.#lanes) {
      const { queue, answered } = lane;
      queue.suppressInterrupts();
      for (let i = 0; i < this.#depth; i++) {
        const slot = queue.reserve();
        if (slot < 0) throw new UsageError(`${this.#name}: somebody else uses queue ${queue.index}`);
        answered.slots[i] = slot;
        if (this.#types[0] === BLK_TYPE.out) queue.data(slot).fill(slot + 1);
      }
      this.#submit(lane, this.#depth);
    }
  }

  /** As `Load.turn`. @throws DeviceError for an answer other than OK */
  turn(): number {
    let total = 0;
    for (const lane of this.#lanes) {
      const count = this.#take(lane);
      if (count > 0) this.#submit(lane, count);
      total += count;
    }
    return total;
  }

  wait(timeoutMs: number): void {
    this.#blk.waitCompleteBlocking(timeoutMs);
  }

  end(): number {
    let left = 0;
    for (const lane of this.#lanes) {
      const { queue, answered } = lane;
      const count = this.#take(lane);
      for (let i = 0; i < count; i++) queue.release(answered.slots[i]!);
      left += queue.inFlight;
    }
    return left;
  }

  #take({ queue, answered, sinceMs }: Lane): number {
    const count = queue.complete(answered);
    if (count === 0) return 0;
    const { slots, statuses } = answered;
    const now = performance.now();
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      if (statuses[i] !== BLK_STATUS.ok) this.#failed(queue, statuses[i]!);
      this.latencies.add(now - sinceMs[slot]!);
    }
    return count;
  }

  #submit({ queue, answered, sectors, sinceMs }: Lane, count: number): void {
    const { slots } = answered;
    const now = performance.now();
    for (let i = 0; i < count; i++) {
      sectors[i] = this.#place() * this.#sectorsEach;
      sinceMs[slots[i]!] = now;
    }
    queue.submitBurst(slots, this.#types, sectors, this.#lengths, count);
  }

  /** Xorshift, scaled to the places that there are. */
  #place(): number {
    const random = this.#random;
    let state = random[0]!;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    random[0] = state;
    return Math.floor((state >>> 0) / 4294967296 * this.#places);
  }

  #failed(queue: BlockQueue, status: number): never {
    const answer = status === BLK_STATUS.ioErr ? "IOERR" : "UNSUPP";
    const where = { function: this.#name, queue: queue.index, field: "status" };
    throw new DeviceError(`${blkTypeName(this.#types[0]!)}: the device answered ${answer}`, where);
  }
}
