/**
 * Driver of the virtio block device (id 2; virtio 1.4 §5.2), whatever transport its function is reached through.
 *
 * The short way: `read`, `write`, `flush`, `discard`, `writeZeroes` and `id`, which copy, and run as many requests at once as it takes. The
 * fast way: `blk.queues[i].reserve` / `submit` / `notify` / `complete`, which copy and allocate nothing.
 *
 * ```ts
 * import { VirtioBlk } from "@ringside/ringside/drivers/virtio-blk";
 *
 * await using blk = await VirtioBlk.open(transport); // of `openTransport`
 * await blk.write(2048, bytes); // whole sectors of 512 bytes
 * await blk.flush();
 * const back = await blk.read(2048, bytes.length / 512);
 * ```
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import {
  BLK_CONFIG,
  BLK_FEATURE,
  BLK_ID_BYTES,
  BLK_RANGE_BYTES,
  BLK_SECTOR_BYTES,
  BLK_TYPE,
} from "../../lib/virtio/spec/blk.ts";
import { DEVICE_ID } from "../../lib/virtio/spec/device_id.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import { newBytes, stillThere } from "../caller_bytes.ts";
import { readField } from "../config_field.ts";
import { byName, counters } from "../counters.ts";
import { VirtioDriver } from "../driver.ts";
import { type DriverKind, DriverLife } from "../driver_life.ts";
import { Listeners } from "../listeners.ts";
import { oneOrAll } from "../wait_targets.ts";
import type { BlkConfig, RangeLimits } from "./config.ts";
import type { VirtioBlkOptions } from "./options.ts";
import { type BlockQueue, checkSectors, checkWritable } from "./queue.ts";
import type { Session } from "../session.ts";
import type { Request, RequestRunner } from "./runner.ts";
import { type BlkSession, buildSession } from "./session.ts";
import { type BlkStatistics, COUNT } from "./statistics.ts";

export type { RingOptions } from "../../lib/virtio/features.ts";
export type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../../lib/virtio/transport/transport.ts";
export type { WaitMode, WaitTarget } from "../../lib/wait/waiter.ts";
export { BLK_STATUS, BLK_TYPE } from "../../lib/virtio/spec/blk.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";
export type { BlkConfig, RangeLimits } from "./config.ts";
export type { VirtioBlkOptions } from "./options.ts";
export type { BlockLimits, BlockQueue, BlockQueueParts } from "./queue.ts";
export { RequestBurst } from "./request_burst.ts";
export type { BlkStatistics } from "./statistics.ts";

/** Which queue a call uses. */
export interface QueueChoice {
  /** Number of the queue. Default: the one with the fewest requests. */
  readonly queue?: number;
}

const KIND: DriverKind = { what: "block device", deviceId: DEVICE_ID.block };

/**
 * An opened block device. It owns its queues and buffers; the transport stays the caller's. Sectors have 512 bytes.
 *
 * Requests that are under way at the same time may be carried out in any order: wait for one before another that must come after it.
 *
 * Errors: `DeviceError` (the device answers IOERR or UNSUPP, with `location.field` "status"; or it lies, and `await reset()` brings it back),
 * `TimeoutError`, `UsageError` (beyond the capacity, no whole sectors, read-only), `UnsupportedError` (not negotiated), `ClosedError`.
 */
export class VirtioBlk extends VirtioDriver {
  static {
    typedErrors(this);
  }

  readonly #life: DriverLife<BlkSession>;
  readonly #counts: Float64Array;
  readonly #listeners: Listeners<[sectors: number]>;

  private constructor(
    life: DriverLife<BlkSession>,
    counts: Float64Array,
    listeners: Listeners<[sectors: number]>,
  ) {
    super(life);
    this.#life = life;
    this.#counts = counts;
    this.#listeners = listeners;
  }

  /**
   * Resets the device, negotiates, sets up queues and buffers, and starts it.
   * @throws UnsupportedError (no block device, feature or queues missing), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioBlkOptions = {}): Promise<VirtioBlk> {
    const counts = counters(COUNT);
    const listeners = new Listeners<[sectors: number]>();
    const build = (session: Session) => buildSession(session, options, counts, listeners);
    const life = new DriverLife(transport, KIND, options, build);
    return await life.open(new VirtioBlk(life, counts, listeners));
  }

  /** What the device says of itself. `capacitySectors` is as of `open`. */
  get config(): BlkConfig {
    return this.#life.live.config;
  }

  /** Sectors of 512 bytes, as of the last config interrupt or `service`. */
  get capacitySectors(): number {
    return this.#life.live.limits.capacitySectors;
  }

  /** The device takes no writes. */
  get readOnly(): boolean {
    return this.#life.live.limits.readOnly;
  }

  /** Request queues. A reset makes new ones. */
  get queues(): readonly BlockQueue[] {
    return this.#life.live.queues;
  }

  /** Writes may be in a cache of the device until `flush`: as `writeback` says with CONFIG_WCE, else whether there is FLUSH. */
  get writeback(): boolean {
    const { limits } = this.#life.live;
    const { device } = this.#life;
    return device.has(BLK_FEATURE.CONFIG_WCE)
      ? readField(device, BLK_CONFIG.fields, "writeback") !== 0
      : limits.flush;
  }

  /**
   * Reads sectors. `into` must be left alone until the promise is settled.
   * @param into an array of whole sectors to fill, or a number of sectors @returns the filled array
   */
  read<T extends Uint8Array>(sector: number, into: T, choice?: QueueChoice): Promise<T>;
  /** Reads a number of sectors into an array of its own. */
  read(sector: number, sectors: number, choice?: QueueChoice): Promise<Uint8Array<ArrayBuffer>>;
  async read(sector: number, into: Uint8Array | number, choice: QueueChoice = {}): Promise<Uint8Array> {
    const sectors = typeof into === "number" ? into : this.#sectorsOf(into);
    this.#checkRange(BLK_TYPE.in, sector, sectors);
    const total = sectors * BLK_SECTOR_BYTES;
    const call = `${this.transport.name}, read`;
    const bytes = typeof into === "number" ? newBytes(total, call) : stillThere(into, total, call);
    await this.#pieces(BLK_TYPE.in, sector, total, choice, (at, lengthBytes) => ({
      finish: (data) => stillThere(bytes, total, call).set(data.subarray(0, lengthBytes), at),
    }));
    return bytes;
  }

  /** Writes whole sectors. `bytes` must stay as they are until the promise is settled. */
  async write(sector: number, bytes: Uint8Array, choice: QueueChoice = {}): Promise<void> {
    this.#checkRange(BLK_TYPE.out, sector, this.#sectorsOf(bytes));
    const total = bytes.length;
    const call = `${this.transport.name}, write`;
    stillThere(bytes, total, call);
    await this.#pieces(BLK_TYPE.out, sector, total, choice, (at, lengthBytes) => ({
      prepare: (_slot, data) => data.set(stillThere(bytes, total, call).subarray(at, at + lengthBytes)),
    }));
  }

  /** Resolves when every write whose promise has resolved before is on the disk. Without FLUSH a device has no cache: there is nothing to do. */
  async flush(choice: QueueChoice = {}): Promise<void> {
    const { limits } = this.#life.live;
    if (!limits.flush) return;
    await this.#runner(choice).run({ type: BLK_TYPE.flush, sector: 0, lengthBytes: 0 });
  }

  /** Tells the device that sectors are not needed; what they read as afterwards is not known. @throws UnsupportedError without DISCARD */
  async discard(sector: number, sectors: number, choice: QueueChoice = {}): Promise<void> {
    const { discard } = this.#life.live.config;
    this.#life.device.checkNegotiated(BLK_FEATURE.DISCARD);
    await this.#ranges(BLK_TYPE.discard, sector, sectors, discard!, false, choice);
  }

  /**
   * Makes sectors read as zero. @param options.unmap the device may give them back (default false)
   * @throws UnsupportedError without WRITE_ZEROES
   */
  async writeZeroes(
    sector: number,
    sectors: number,
    options: QueueChoice & { readonly unmap?: boolean } = {},
  ): Promise<void> {
    const { writeZeroes } = this.#life.live.config;
    this.#life.device.checkNegotiated(BLK_FEATURE.WRITE_ZEROES);
    await this.#ranges(BLK_TYPE.writeZeroes, sector, sectors, writeZeroes!, options.unmap ?? false, options);
  }

  /** The device's id, up to 20 characters; what is not printable ASCII is shown as `?`. */
  async id(choice: QueueChoice = {}): Promise<string> {
    let text = "";
    await this.#runner(choice).run({
      type: BLK_TYPE.getId,
      sector: 0,
      lengthBytes: BLK_ID_BYTES,
      finish: (data) => {
        const end = data.subarray(0, BLK_ID_BYTES).indexOf(0);
        text = String.fromCharCode(...data.subarray(0, end < 0 ? BLK_ID_BYTES : end));
      },
    });
    return text.replace(/[^\x20-\x7e]/g, "?");
  }

  /** Switches the device's cache on (writeback) or off (writethrough). What is in the cache stays there until `flush`. @throws UnsupportedError without CONFIG_WCE */
  setWriteback(on: boolean): void {
    const { device } = this.#life;
    if (this.#life.live !== undefined) device.checkNegotiated(BLK_FEATURE.CONFIG_WCE);
    device.writeConfig(BLK_CONFIG.fields.writeback.offset, 1, on ? 1 : 0);
  }

  /** Waits until `complete` of a queue has something (all queues, or one). @returns false after `timeoutMs` @throws DeviceError when the device stopped */
  async waitComplete(timeoutMs: number, queue?: number): Promise<boolean> {
    return await this.#life.wait(oneOrAll(this.#life.live.queues, queue, "request queue"), timeoutMs);
  }

  /** As `waitComplete`, blocking this thread. */
  waitCompleteBlocking(timeoutMs: number, queue?: number): boolean {
    return this.#life.waiter.waitBlocking(
      oneOrAll(this.#life.live.queues, queue, "request queue"),
      timeoutMs,
    );
  }

  /** Calls `listener` with the new capacity in sectors when it changes. @returns what takes it off again */
  onCapacityChange(listener: (sectors: number) => void): () => void {
    return this.#listeners.add(listener, "onCapacityChange");
  }

  /**
   * Looks after what nobody waits for: takes pending interrupts, and looks whether the capacity changed or the device stopped.
   * @throws DeviceError when the device stopped (DEVICE_NEEDS_RESET) or is gone
   */
  service(): void {
    this.#life.service();
  }

  /** Counters since `open`. */
  statistics(): BlkStatistics {
    return { ...byName(COUNT, this.#counts), interrupts: this.interrupts, resets: this.resets };
  }

  #runner({ queue }: QueueChoice): RequestRunner {
    const { runners } = this.#life.live;
    if (queue === undefined) return runners.reduce((least, one) => one.load < least.load ? one : least);
    const found = runners[queue];
    if (found !== undefined) return found;
    throw new UsageError(`${this.transport.name}: there is no request queue ${queue}`);
  }

  /** Runs one request for each `requestBytes`, so many at once as there are slots. Settles when all are over. */
  async #pieces(
    type: number,
    sector: number,
    totalBytes: number,
    choice: QueueChoice,
    moving: (at: number, lengthBytes: number) => Pick<Request, "prepare" | "finish">,
  ): Promise<void> {
    const runner = this.#runner(choice);
    const { requestBytes, slotCount } = runner.queue;
    await this.#inParallel(Math.ceil(totalBytes / requestBytes), slotCount, (piece) => {
      const at = piece * requestBytes;
      const lengthBytes = Math.min(requestBytes, totalBytes - at);
      return runner.run({
        type,
        sector: sector + at / BLK_SECTOR_BYTES,
        lengthBytes,
        ...moving(at, lengthBytes),
      });
    });
  }

  async #ranges(
    type: number,
    sector: number,
    sectors: number,
    limits: RangeLimits,
    unmap: boolean,
    choice: QueueChoice,
  ): Promise<void> {
    this.#checkRange(type, sector, sectors);
    const runner = this.#runner(choice);
    const { queue } = runner;
    const parts = split(sector, sectors, limits);
    const most = Math.min(limits.segments, Math.floor(queue.requestBytes / BLK_RANGE_BYTES));
    await this.#inParallel(Math.ceil(parts.length / most), queue.slotCount, (request) => {
      const mine = parts.slice(request * most, (request + 1) * most);
      return runner.run({
        type,
        sector: 0,
        lengthBytes: mine.length * BLK_RANGE_BYTES,
        about: mine[0]!.sector,
        prepare: (slot) =>
          mine.forEach((part, at) => queue.writeRange(slot, at, part.sector, part.sectors, unmap)),
      });
    });
  }

  /** Calls `run` for 0 to `count` − 1, `width` at a time, and settles when all are over; after a failure no more are begun. */
  async #inParallel(count: number, width: number, run: (index: number) => Promise<void>): Promise<void> {
    let next = 0;
    let failure: { readonly error: unknown } | undefined;
    const lane = async () => {
      while (next < count && failure === undefined) {
        try {
          await run(next++);
        } catch (error) {
          failure ??= { error };
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(count, width) }, lane));
    if (failure !== undefined) throw failure.error;
  }

  #sectorsOf(bytes: Uint8Array): number {
    if (bytes.length % BLK_SECTOR_BYTES === 0) return bytes.length / BLK_SECTOR_BYTES;
    throw new UsageError(`${this.transport.name}: ${bytes.length} bytes are no whole sectors`, {
      hint: `a multiple of ${BLK_SECTOR_BYTES}`,
    });
  }

  #checkRange(type: number, sector: number, sectors: number): void {
    const { limits } = this.#life.live;
    checkSectors(this.transport.name, limits, type, sector, sectors);
    if (type !== BLK_TYPE.in) checkWritable(this.transport.name, limits, type);
  }
}

/** Cuts a range into segments; where the most sectors decide, at a multiple of the alignment. */
function split(sector: number, sectors: number, limits: RangeLimits): { sector: number; sectors: number }[] {
  const parts: { sector: number; sectors: number }[] = [];
  const end = sector + sectors;
  while (sector < end) {
    let until = Math.min(end, sector + limits.sectors);
    if (until < end && until - until % limits.alignment > sector) until -= until % limits.alignment;
    parts.push({ sector, sectors: until - sector });
    sector = until;
  }
  return parts;
}
