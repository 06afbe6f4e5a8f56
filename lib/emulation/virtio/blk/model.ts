/**
 * A virtio block device (virtio 1.2 §5.2) on a file or on memory.
 *
 * @module
 */
import {
  BLK_CONFIG,
  BLK_FEATURE,
  BLK_HEADER_BYTES,
  BLK_ID_BYTES,
  BLK_SECTOR_BYTES,
  BLK_STATUS,
} from "../../../virtio/spec/blk.ts";
import { DEVICE_ID } from "../../../virtio/spec/device_id.ts";
import type { ModelOptions } from "../../device_kind.ts";
import type { DeviceControls } from "../../device_control.ts";
import type { DeviceCore, DeviceModel, ModelParts } from "../../device_model.ts";
import { BLK_FAMILY, type BlkLie } from "../lies/blk.ts";
import { Occasions, parseLie } from "../lies/lie.ts";
import { type BlkLimits, type BlkRequestContext, BlkRequests } from "./request.ts";
import { BlkStorage, type StorageFields } from "./storage.ts";
import { Chain } from "../queue/chain.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import { LegacyFraming } from "../queue/legacy_framing.ts";

/** Up to and with the write zeroes fields. */
const CONFIG_BYTES = 60;
/** Bytes that one `poll` may move: files are read and written in this thread. */
const POLL_BYTES = 8 << 20;
const ALWAYS = BLK_FEATURE.SIZE_MAX | BLK_FEATURE.SEG_MAX | BLK_FEATURE.GEOMETRY | BLK_FEATURE.BLK_SIZE |
  BLK_FEATURE.FLUSH | BLK_FEATURE.TOPOLOGY | BLK_FEATURE.CONFIG_WCE;

/** Own fields of a virtio-blk function. One of `file` and `sizeBytes` is there; what else is not has the model's default. */
export interface BlkFields extends StorageFields {
  /** Request queues. Default 1; with more MQ is offered. */
  readonly queues?: number;
  /** Bytes of a logical block, a power of two from 512 to 65536. Default 512. */
  readonly blockSize?: number;
  /** Most bytes of one data segment. Default 1 MiB. */
  readonly sizeMax?: number;
  /** Most data segments of one request. Default 126. */
  readonly segMax?: number;
  /** Most sectors of one segment of a discard or write zeroes request. Default 131072 (64 MiB). */
  readonly rangeSectors?: number;
  /** Most segments of a discard or write zeroes request. Default 16. */
  readonly ranges?: number;
  /** What GET_ID answers: ASCII, up to 20 characters. Default: the address of the function. */
  readonly serial?: string;
}

/** What a block device is made from. */
export type BlkModelOptions = BlkFields & ModelOptions;

/** The device. */
export class BlkModel implements DeviceModel {
  readonly deviceId: number = DEVICE_ID.block;
  /** Mass storage, other: what block devices of this kind say. */
  readonly classCode = 0x018000;
  readonly configSizeBytes: number = CONFIG_BYTES;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  /** Its state beside its queues is the cache mode, which no part of the standard holds. */
  readonly parts: ModelParts = {
    lack: (accepted) =>
      (accepted & BLK_FEATURE.CONFIG_WCE) === 0n
        ? undefined
        : "no part holds the cache mode that a driver sets with VIRTIO_BLK_F_CONFIG_WCE",
  };
  readonly controls: DeviceControls;
  readonly #options: BlkModelOptions;
  readonly #chain: Chain;
  readonly #requests = new BlkRequests();
  readonly #framing = new LegacyFraming();
  readonly #lie: Occasions<BlkLie> | null;
  readonly #limits: BlkLimits;
  #core: DeviceCore | null = null;
  #storage: BlkStorage | null = null;
  #context: BlkRequestContext | null = null;
  /** The cache mode that the driver chose. */
  #writeback = true;
  #usedQueues = 1;
  #queue = 0;
  #silent = false;

  /** A device whose storage is opened by `connect`. @throws UsageError for options that cannot be */
  constructor(options: BlkModelOptions) {
    const { queues = 1, queueSize = 128, sizeMax = 1 << 20, segMax = 126 } = options;
    const { rangeSectors = 131072, ranges = 16 } = options;
    this.#options = options;
    this.#limits = { sizeMax, segMax, rangeSectors, ranges };
    this.queueSizes = new Array<number>(queues).fill(queueSize);
    this.features = offered(options, queues);
    this.#lie = options.lie === undefined
      ? null
      : new Occasions(parseLie(options.lie, BLK_FAMILY, options.told));
    this.#chain = new Chain(queueSize);
    this.controls = options.readOnly ? {} : {
      capacity: {
        read: () => `${this.#storage?.sizeBytes ?? 0}`,
        write: (value) => {
          this.#storage?.resize(/^[0-9]{1,16}$/.test(value) ? Number(value) : NaN);
          this.#core?.configChanged();
        },
      },
    };
  }

  /** Takes its place and opens the storage; called once. @throws SyscallError, UsageError */
  connect(core: DeviceCore): void {
    this.#core = core;
    this.#storage = BlkStorage.open(this.#options, core.name);
  }

  /** Closes the storage; may be called again. */
  close(): void {
    this.#storage?.close();
    this.#storage = null;
    this.#context = null;
    this.#core = null;
  }

  /** Reads device-specific configuration. */
  config(): Uint8Array {
    const { blockSize = 512 } = this.#options;
    const { sizeMax, segMax, rangeSectors, ranges } = this.#limits;
    const sectors = (this.#storage?.sizeBytes ?? 0) / BLK_SECTOR_BYTES;
    return BLK_CONFIG.encode({
      capacity: BigInt(sectors),
      size_max: sizeMax,
      seg_max: segMax,
      geometry_cylinders: Math.min(65535, Math.floor(sectors / (16 * 63))),
      geometry_heads: 16,
      geometry_sectors: 63,
      blk_size: blockSize,
      physical_block_exp: Math.max(0, 12 - Math.log2(blockSize)),
      min_io_size: 1,
      opt_io_size: 0,
      writeback: this.#cached ? 1 : 0,
      num_queues: this.queueSizes.length,
      max_discard_sectors: rangeSectors,
      max_discard_seg: ranges,
      discard_sector_alignment: blockSize / BLK_SECTOR_BYTES,
      max_write_zeroes_sectors: rangeSectors,
      max_write_zeroes_seg: ranges,
      write_zeroes_may_unmap: 1,
    });
  }

  /** Only `writeback` can be written, with CONFIG_WCE; by a legacy driver also before features are final (§5.2.5.3). */
  writeConfig(offset: number, from: Uint8Array): void {
    const { writeback } = BLK_CONFIG.fields;
    const value = from[0]!;
    const early = this.#core?.legacy === true && this.#context === null;
    const changeable = early
      ? (this.features & BLK_FEATURE.CONFIG_WCE) !== 0n
      : this.#has(BLK_FEATURE.CONFIG_WCE);
    if (offset !== writeback.offset || from.length !== 1 || value > 1 || !changeable) {
      this.#core?.report(
        "virtio 1.2 §5.2.4",
        `write of ${from.length} bytes (${value}) at ${offset} of virtio_blk_config`,
      );
      return;
    }
    this.#writeback = value === 1;
    if (!early) this.#makeContext();
  }

  /** The driver is ready. */
  start(): void {
    this.#usedQueues = this.#has(BLK_FEATURE.MQ) ? this.queueSizes.length : 1;
    this.#makeContext();
    if (this.#core !== null) this.#framing.start(this.#core);
  }

  /** Forgets everything of the driver; the sectors stay. */
  reset(): void {
    this.#writeback = true;
    this.#usedQueues = 1;
    this.#context = null;
    this.#framing.stop();
    this.#silent = false;
  }

  /** Reports notifications of queues that are not in use; the work is done in `poll`. */
  notified(queue: number): void {
    if (queue < this.#usedQueues) return;
    this.#core?.report("virtio 1.2 §5.2.2", `queue ${queue} was notified without MQ`, queue);
  }

  /** Works, at most `budget` requests, in turn over the queues. @returns how many were taken */
  poll(budget: number): number {
    const core = this.#core;
    const context = this.#context;
    if (core === null || context === null) return 0;
    let moved = 0;
    let bytes = 0;
    for (let tries = 0; tries < this.#usedQueues && moved < budget && bytes < POLL_BYTES; tries++) {
      const queue = core.queue(this.#queue);
      this.#queue = (this.#queue + 1) % this.#usedQueues;
      if (queue === undefined) continue;
      const before = moved;
      const chain = this.#chain;
      while (moved < budget && bytes < POLL_BYTES) {
        const id = queue.pop(chain);
        if (id < 0) break;
        if (moved === before) queue.suppress();
        bytes += chain.readableBytes + chain.writableBytes;
        if (!this.#answer(queue, id, context)) break;
        moved++;
      }
      if (moved > before) queue.publish();
    }
    return moved;
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    let work = false;
    for (let i = 0; i < this.#usedQueues; i++) if (this.#core?.queue(i)?.arm()) work = true;
    return work;
  }

  /** @returns false when the device was stopped for what the driver did */
  #answer(queue: DeviceQueue, id: number, context: BlkRequestContext): boolean {
    const chain = this.#chain;
    if (chain.readableBytes < BLK_HEADER_BYTES || chain.writableBytes < 1) {
      this.#core!.violation(
        "virtio 1.2 §5.2.6",
        `a request of ${chain.readableBytes} readable and ${chain.writableBytes} writable bytes has no header or no status`,
        queue.index,
      );
      return false;
    }
    this.#framing.request(chain, queue.index);
    const last = chain.writableBytes - 1;
    const lie = this.#lie?.take() ? this.#lie.lie : undefined;
    if (lie === "blk-silence") this.#silent = true;
    // With IN_ORDER nothing that came later could be answered either.
    if (this.#silent) return true;
    const before = lie === "blk-status-unwritten" && chain.locate(last)
      ? chain.foundRegion!.bytes[chain.foundOffset]!
      : 0;
    if (lie === "blk-io-error") chain.writeByte(last, BLK_STATUS.ioErr);
    else if (lie === "blk-unsupported") chain.writeByte(last, BLK_STATUS.unsupp);
    else this.#requests.run(chain, context);
    if (lie === "blk-status-unknown") chain.writeByte(last, 7);
    if (lie === "blk-status-unwritten") chain.writeByte(last, before);
    const length = lie === "blk-length-short" ? last : lie === "blk-length-zero" ? 0 : last + 1;
    queue.pushUsed(id, length);
    return true;
  }

  #has(feature: bigint): boolean {
    return ((this.#core?.negotiatedFeatures ?? 0n) & feature) !== 0n;
  }

  /**
   * `writeback` as it reads: §5.2.5.2 has it 0 when CONFIG_WCE was accepted and FLUSH was not. A legacy driver's features must not change it
   * (§5.2.5.3).
   */
  get #cached(): boolean {
    if (this.#core?.legacy) return this.#writeback;
    return this.#writeback && !(this.#has(BLK_FEATURE.CONFIG_WCE) && !this.#has(BLK_FEATURE.FLUSH));
  }

  /** Limits that a driver did not negotiate are none of its own: QEMU's vhost-user-blk passes SEG_MAX on, and not SIZE_MAX. */
  get #limitsInForce(): BlkLimits {
    const { sizeMax, segMax, ...others } = this.#limits;
    return {
      ...others,
      sizeMax: this.#has(BLK_FEATURE.SIZE_MAX) ? sizeMax : Infinity,
      segMax: this.#has(BLK_FEATURE.SEG_MAX) ? segMax : Infinity,
    };
  }

  #makeContext(): void {
    const core = this.#core;
    const storage = this.#storage;
    if (core === null || storage === null) return;
    const id = new Uint8Array(BLK_ID_BYTES);
    new TextEncoder().encodeInto(this.#options.serial ?? core.name, id);
    const wce = this.#has(BLK_FEATURE.CONFIG_WCE);
    const legacy = core.legacy ?? false;
    this.#context = {
      features: core.negotiatedFeatures,
      legacy,
      readOnly: (this.features & BLK_FEATURE.RO) !== 0n,
      storage,
      limits: this.#limitsInForce,
      id,
      // §5.2.6.2: stable at once in writethrough mode, and for a driver that cannot flush a device that could be.
      writeThrough: wce ? !this.#cached : (legacy && !this.#writeback) ||
        (!this.#has(BLK_FEATURE.FLUSH) && (this.features & BLK_FEATURE.FLUSH) !== 0n),
      report: (rule, message) => core.report(rule, message),
    };
  }
}

function offered(options: BlkModelOptions, queues: number): bigint {
  let features = ALWAYS;
  features |= options.readOnly ? BLK_FEATURE.RO : BLK_FEATURE.DISCARD | BLK_FEATURE.WRITE_ZEROES;
  if (queues > 1) features |= BLK_FEATURE.MQ;
  features &= ~(options.featuresOff ?? 0n);
  // §5.2.5.2: CONFIG_WCE is offered with FLUSH only.
  return (features & BLK_FEATURE.FLUSH) === 0n ? features & ~BLK_FEATURE.CONFIG_WCE : features;
}
