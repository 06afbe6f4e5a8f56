/**
 * Driver of the virtio block device (id 2; virtio 1.4 §5.2), whatever transport its function is reached through.
 *
 * The short way: `read`, `write`, `flush`, `discard`, `writeZeroes` and `id`, which copy, and run as many requests at once as it takes. The
 * fast way: `blk.queues[i].reserve` / `submit` / `kick` / `complete`, which copy and allocate nothing.
 *
 * @module
 */
import { requireType, typedErrors } from "../lib/errors/doors.ts";
import { UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import {
  BLK_CONFIG,
  BLK_FEATURE,
  BLK_ID_BYTES,
  BLK_RANGE_BYTES,
  BLK_SECTOR_BYTES,
  BLK_TYPE,
  blkTypeName,
} from "../lib/virtio/constants/blk.ts";
import { DEVICE_ID } from "../lib/virtio/constants/device_id.ts";
import { featureNames } from "../lib/virtio/features.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import { newBytes, stillThere } from "./caller_bytes.ts";
import { SessionOwner } from "./session_owner.ts";
import { type BlkConfig, type RangeLimits, readCapacity, readField } from "./virtio_blk/config.ts";
import type { VirtioBlkOptions } from "./virtio_blk/options.ts";
import type { BlockQueue } from "./virtio_blk/queue.ts";
import type { RequestRunner } from "./virtio_blk/runner.ts";
import { type BlkSession, buildSession } from "./virtio_blk/session.ts";
import { type BlkStatistics, COUNT, counters } from "./virtio_blk/statistics.ts";

export type { RingOptions } from "../lib/virtio/features.ts";
export type { InterruptChoice } from "../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
export type { WaitMode, WaitTarget } from "../lib/virtio/waiter.ts";
export { BLK_STATUS, BLK_TYPE } from "../lib/virtio/constants/blk.ts";
export type { WaitOptions } from "./session_owner.ts";
export type { BlkConfig, RangeLimits } from "./virtio_blk/config.ts";
export type { VirtioBlkOptions } from "./virtio_blk/options.ts";
export type { AnswerListener, BlockLimits, BlockQueue, BlockQueueParts } from "./virtio_blk/queue.ts";
export { RequestBurst } from "./virtio_blk/request_burst.ts";
export type { BlkStatistics } from "./virtio_blk/statistics.ts";

/** Which queue a call uses. */
export interface QueueChoice {
  /** Number of the queue. Default: the one with the fewest requests. */
  readonly queue?: number;
}

/**
 * An opened block device. It owns its queues and buffers; the transport stays the caller's. Sectors have 512 bytes.
 *
 * Requests that are under way at the same time may be carried out in any order: wait for one before another that must come after it.
 *
 * Errors: `DeviceError` (the device answers IOERR or UNSUPP, with `location.field` "status"; or it lies, and `await reset()` brings it back),
 * `TimeoutError`, `UsageError` (beyond the capacity, no whole sectors, read-only), `UnsupportedError` (not negotiated), `ClosedError`.
 */
export class VirtioBlk implements Disposable, AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** How the function is reached. */
  readonly transport: VirtioTransport;
  readonly #owner: SessionOwner<BlkSession>;
  readonly #options: VirtioBlkOptions;
  readonly #counts = counters();
  readonly #listeners = new Set<(sectors: number) => void>();

  private constructor(transport: VirtioTransport, options: VirtioBlkOptions) {
    this.transport = transport;
    this.#options = options;
    this.#owner = new SessionOwner(transport, "block device", options.resetTimeoutMs);
  }

  /**
   * Resets the device, negotiates, sets up queues and buffers, and starts it.
   * @throws UnsupportedError (no block device, feature or queues missing), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioBlkOptions = {}): Promise<VirtioBlk> {
    if (transport.deviceId !== DEVICE_ID.block) {
      throw new UnsupportedError(
        `${transport.name} is no block device: its virtio id is ${transport.deviceId}`,
      );
    }
    const blk = new VirtioBlk(transport, options);
    try {
      blk.#start();
      return blk;
    } catch (error) {
      blk.close();
      await blk.settled;
      throw error;
    }
  }

  /** Features in force. */
  get features(): bigint {
    return this.#owner.device.features;
  }

  /** Names of the features in force, lowest bit first. */
  get featureNames(): string[] {
    return featureNames(this.features, this.transport.deviceId, this.transport.profile);
  }

  /** What the device says of itself. `capacitySectors` is as of `open`. */
  get config(): BlkConfig {
    return this.#owner.live.config;
  }

  /** Sectors of 512 bytes, as of the last config interrupt or `service`. */
  get capacitySectors(): number {
    return this.#owner.live.limits.capacitySectors;
  }

  /** The device takes no writes. */
  get readOnly(): boolean {
    return this.#owner.live.limits.readOnly;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#owner.interruptKind;
  }

  /** Request queues. A reset makes new ones. */
  get queues(): readonly BlockQueue[] {
    return this.#owner.live.queues;
  }

  /** Writes may be in a cache of the device until `flush`: as `writeback` says with CONFIG_WCE, else whether there is FLUSH. */
  get writeback(): boolean {
    const { limits } = this.#owner.live;
    const { device } = this.#owner;
    return device.has(BLK_FEATURE.CONFIG_WCE) ? readField(device, "writeback") !== 0 : limits.flush;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#owner.closed;
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
    await this.#pieces(total, choice, (runner, at, lengthBytes) =>
      runner.run({
        type: BLK_TYPE.in,
        sector: sector + at / BLK_SECTOR_BYTES,
        lengthBytes,
        finish: (data) => stillThere(bytes, total, call).set(data.subarray(0, lengthBytes), at),
      }));
    return bytes;
  }

  /** Writes whole sectors. `bytes` must stay as they are until the promise is settled. */
  async write(sector: number, bytes: Uint8Array, choice: QueueChoice = {}): Promise<void> {
    this.#checkRange(BLK_TYPE.out, sector, this.#sectorsOf(bytes));
    this.#checkWritable(BLK_TYPE.out);
    const total = bytes.length;
    const call = `${this.transport.name}, write`;
    stillThere(bytes, total, call);
    await this.#pieces(total, choice, (runner, at, lengthBytes) =>
      runner.run({
        type: BLK_TYPE.out,
        sector: sector + at / BLK_SECTOR_BYTES,
        lengthBytes,
        prepare: (_slot, data) => data.set(stillThere(bytes, total, call).subarray(at, at + lengthBytes)),
      }));
  }

  /** Resolves when every write whose promise has resolved before is on the disk. Without FLUSH a device has no cache: there is nothing to do. */
  async flush(choice: QueueChoice = {}): Promise<void> {
    const { limits } = this.#owner.live;
    if (!limits.flush) return;
    await this.#runner(choice).run({ type: BLK_TYPE.flush, sector: 0, lengthBytes: 0 });
  }

  /** Tells the device that sectors are not needed; what they read as afterwards is not known. @throws UnsupportedError without DISCARD */
  async discard(sector: number, sectors: number, choice: QueueChoice = {}): Promise<void> {
    const { discard } = this.#owner.live.config;
    if (discard === undefined) this.#missing(BLK_FEATURE.DISCARD);
    await this.#ranges(BLK_TYPE.discard, sector, sectors, discard, false, choice);
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
    const { writeZeroes } = this.#owner.live.config;
    if (writeZeroes === undefined) this.#missing(BLK_FEATURE.WRITE_ZEROES);
    await this.#ranges(BLK_TYPE.writeZeroes, sector, sectors, writeZeroes, options.unmap ?? false, options);
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
    const { device } = this.#owner;
    if (this.#owner.live !== undefined && !device.has(BLK_FEATURE.CONFIG_WCE)) {
      this.#missing(BLK_FEATURE.CONFIG_WCE);
    }
    device.writeConfig(BLK_CONFIG.fields.writeback.offset, 1, on ? 1 : 0);
  }

  /** Waits until `complete` of a queue has something. @returns false after `timeoutMs` @throws DeviceError when the device stopped */
  async waitComplete(timeoutMs: number, queue = 0): Promise<boolean> {
    const session = this.#owner.live;
    const target = session.queues[queue];
    if (target === undefined) {
      throw new UsageError(`${this.transport.name}: there is no request queue ${queue}`);
    }
    if (await this.#owner.waiter.wait(target, timeoutMs)) return true;
    if (timeoutMs > 0 && this.#owner.isLive(session)) this.#owner.device.checkAlive();
    return false;
  }

  /** As `waitComplete`, blocking this thread. */
  waitCompleteBlocking(timeoutMs: number, queue = 0): boolean {
    const target = this.#owner.live.queues[queue];
    if (target === undefined) {
      throw new UsageError(`${this.transport.name}: there is no request queue ${queue}`);
    }
    return this.#owner.waiter.waitBlocking(target, timeoutMs);
  }

  /** Calls `listener` with the new capacity in sectors when it changes. @returns what takes it off again */
  onCapacityChange(listener: (sectors: number) => void): () => void {
    requireType(listener, "function", "onCapacityChange: listener");
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Looks after what nobody waits for: takes pending interrupts, and looks whether the capacity changed or the device stopped.
   * @throws DeviceError when the device stopped (DEVICE_NEEDS_RESET) or is gone
   */
  service(): void {
    this.#owner.waiter.service();
    this.#configMayHaveChanged();
  }

  /** Counters since `open`. */
  statistics(): BlkStatistics {
    const counts = this.#counts;
    return {
      reads: counts[COUNT.reads]!,
      readBytes: counts[COUNT.readBytes]!,
      writes: counts[COUNT.writes]!,
      writtenBytes: counts[COUNT.writtenBytes]!,
      flushes: counts[COUNT.flushes]!,
      others: counts[COUNT.others]!,
      failures: counts[COUNT.failures]!,
      kicks: counts[COUNT.kicks]!,
      interrupts: this.#owner.interrupts,
      resets: this.#owner.resets,
    };
  }

  /**
   * Resets the device and brings it up again with the options of `open`. Requests that are under way end with `ClosedError`: whether the
   * device has carried them out is not known. Queues and slots of before are void.
   * @throws as `open`; the device is then stopped, and `reset` may be tried again
   */
  reset(): Promise<void> {
    return this.#owner.reset(() => this.#start());
  }

  /** Resets the device and frees queues and buffers. The transport stays open. `settled` resolves when interrupted waits are over. */
  close(): void {
    this.#owner.close();
  }

  /** Resolves when nothing of the waits that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#owner.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until interrupted waits are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#owner.settled;
  }

  #start(): void {
    this.#owner.start((session) =>
      buildSession(session, this.#options, this.#counts, () => this.#configMayHaveChanged())
    );
  }

  #configMayHaveChanged(): void {
    const { device } = this.#owner;
    const { limits } = this.#owner.live;
    device.checkAlive();
    const capacity = device.readConsistent(() => readCapacity(device));
    if (capacity === limits.capacitySectors) return;
    limits.capacitySectors = capacity;
    for (const listener of this.#listeners) listener(capacity);
  }

  #runner({ queue }: QueueChoice): RequestRunner {
    const { runners } = this.#owner.live;
    if (queue !== undefined) {
      const runner = runners[queue];
      if (runner === undefined) {
        throw new UsageError(`${this.transport.name}: there is no request queue ${queue}`);
      }
      return runner;
    }
    return runners.reduce((least, one) => one.load < least.load ? one : least);
  }

  /** Runs one request for each `requestBytes`, so many at once as there are slots. Settles when all are over. */
  async #pieces(
    totalBytes: number,
    choice: QueueChoice,
    run: (runner: RequestRunner, at: number, lengthBytes: number) => Promise<void>,
  ): Promise<void> {
    const runner = this.#runner(choice);
    const { requestBytes, slotCount } = this.#owner.live.queues[0]!;
    await this.#inParallel(Math.ceil(totalBytes / requestBytes), slotCount, (piece) => {
      const at = piece * requestBytes;
      return run(runner, at, Math.min(requestBytes, totalBytes - at));
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
    this.#checkWritable(type);
    const runner = this.#runner(choice);
    const session = this.#owner.live;
    const [first] = session.queues;
    const parts = split(sector, sectors, limits);
    const most = Math.min(limits.segments, Math.floor(first!.requestBytes / BLK_RANGE_BYTES));
    await this.#inParallel(Math.ceil(parts.length / most), first!.slotCount, (request) => {
      const mine = parts.slice(request * most, (request + 1) * most);
      const queue = session.queues[session.runners.indexOf(runner)]!;
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
    const { capacitySectors } = this.#owner.live.limits;
    if (
      Number.isSafeInteger(sector) && sector >= 0 && Number.isSafeInteger(sectors) && sectors >= 0 &&
      sector + sectors <= capacitySectors
    ) return;
    throw new UsageError(
      `${this.transport.name}: ${
        blkTypeName(type)
      } of ${sectors} sectors at ${sector}; there are ${capacitySectors}`,
    );
  }

  #checkWritable(type: number): void {
    if (!this.#owner.live.limits.readOnly) return;
    throw new UsageError(`${this.transport.name}: ${blkTypeName(type)} on a read-only device`);
  }

  #missing(feature: bigint): never {
    const names = featureNames(feature, this.transport.deviceId, this.transport.profile).join(", ");
    throw new UnsupportedError(`${this.transport.name}: ${names} was not negotiated`);
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
