/**
 * Carries out the requests of a block device's driver (virtio 1.4 §5.2.6).
 *
 * @module
 */
import { RingsideError } from "../../../errors/mod.ts";
import {
  BLK_FEATURE,
  BLK_HEADER_BYTES,
  BLK_ID_BYTES,
  BLK_RANGE_BYTES,
  BLK_RANGE_UNMAP,
  BLK_SECTOR_BYTES,
  BLK_STATUS,
  BLK_TYPE,
  blkTypeName,
} from "../../../virtio/spec/blk.ts";
import type { BlkStorage } from "./storage.ts";
import type { Chain } from "../queue/chain.ts";

/** What the device promises in its config space; a driver that asks for more is refused. */
export interface BlkLimits {
  /** Most bytes of one data segment. */
  readonly sizeMax: number;
  /** Most data segments of one request. */
  readonly segMax: number;
  /** Most sectors of one segment of a discard or write zeroes request. */
  readonly rangeSectors: number;
  /** Most segments of a discard or write zeroes request. */
  readonly ranges: number;
}

/** What a request is carried out with. */
export interface BlkRequestContext {
  /** Features in force. */
  readonly features: bigint;
  /** The driver uses the legacy interface, on which type 5 is a flush, too (virtio 1.2 §5.2.6.3). */
  readonly legacy?: boolean;
  /** RO is offered: whether the driver accepted it or not, nothing is written. */
  readonly readOnly: boolean;
  /** The sectors. */
  readonly storage: BlkStorage;
  /** What the config space promises. */
  readonly limits: BlkLimits;
  /** ASCII, NUL-padded. */
  readonly id: Uint8Array;
  /** Every write is on the disk before it is answered. */
  readonly writeThrough: boolean;
  /** Notes what the driver should not have done. */
  report(rule: string, message: string): void;
}

const RULE = "virtio 1.2 §5.2.6.1";
/** VIRTIO_BLK_T_FLUSH_OUT. */
const LEGACY_FLUSH_OUT = 5;
const { ok, ioErr, unsupp } = BLK_STATUS;

/** Runs requests, one at a time; holds scratch memory only. */
export class BlkRequests {
  readonly #header = new Uint8Array(BLK_HEADER_BYTES);
  readonly #range = new Uint8Array(BLK_RANGE_BYTES);
  readonly #rangeView = new DataView(this.#range.buffer);
  readonly #headerView = new DataView(this.#header.buffer);

  /**
   * Runs the request of a chain that has a header and a status byte, wherever its descriptors end. All device-writable bytes are
   * written: data that there is none of as zeroes, then the status.
   * @returns the status
   */
  run(chain: Chain, context: BlkRequestContext): number {
    chain.peek(this.#header);
    const named = this.#headerView.getUint32(0, true);
    const type = named === LEGACY_FLUSH_OUT && context.legacy ? BLK_TYPE.flush : named;
    const sector = this.#headerView.getUint32(8, true) + 4294967296 * this.#headerView.getUint32(12, true);
    let status: number;
    try {
      status = this.#carryOut(chain, context, type, sector);
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      context.report("storage", `${blkTypeName(type)} at sector ${sector}: ${error.message}`);
      status = ioErr;
    }
    const last = chain.writableBytes - 1;
    const answers = status === ok && (type === BLK_TYPE.in || type === BLK_TYPE.getId);
    if (!answers && last > 0) fillWritable(chain, last);
    chain.writeByte(last, status);
    return status;
  }

  #carryOut(chain: Chain, context: BlkRequestContext, type: number, sector: number): number {
    switch (type) {
      case BLK_TYPE.in:
      case BLK_TYPE.out:
        return this.#transfer(chain, context, type, sector);
      case BLK_TYPE.flush:
        if ((context.features & BLK_FEATURE.FLUSH) === 0n) return unsupp;
        if (sector !== 0) context.report(RULE, `a flush with sector ${sector}; it must be 0`);
        context.storage.flush();
        return ok;
      case BLK_TYPE.getId: {
        const room = chain.writableBytes - 1;
        if (room !== BLK_ID_BYTES) {
          context.report(RULE, `a get id request with ${room} bytes of data; it must be ${BLK_ID_BYTES}`);
          return ioErr;
        }
        for (let i = 0; i < BLK_ID_BYTES; i++) chain.writeByte(i, context.id[i]!);
        return ok;
      }
      case BLK_TYPE.discard:
        if ((context.features & BLK_FEATURE.DISCARD) === 0n) return unsupp;
        return this.#ranges(chain, context, type);
      case BLK_TYPE.writeZeroes:
        if ((context.features & BLK_FEATURE.WRITE_ZEROES) === 0n) return unsupp;
        return this.#ranges(chain, context, type);
      default:
        return unsupp;
    }
  }

  #transfer(chain: Chain, context: BlkRequestContext, type: number, sector: number): number {
    const reads = type === BLK_TYPE.in;
    const readable = chain.readableBytes - BLK_HEADER_BYTES;
    const writable = chain.writableBytes - 1;
    const count = reads ? writable : readable;
    const problem = this.#transferProblem(chain, context, reads, sector, count, reads ? readable : writable);
    if (problem !== undefined) {
      context.report(RULE, `${blkTypeName(type)} at sector ${sector}: ${problem}`);
      return ioErr;
    }
    if (!reads && context.readOnly) return ioErr;
    let skip = reads ? 0 : BLK_HEADER_BYTES;
    let left = count;
    let position = sector * BLK_SECTOR_BYTES;
    for (let i = reads ? chain.readableCount : 0; left > 0; i++) {
      const length = chain.lengths[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const from = chain.offsets[i]! + skip;
      const part = Math.min(length - skip, left);
      const bytes = chain.regions[i]!.bytes.subarray(from, from + part);
      if (reads) context.storage.read(bytes, position);
      else context.storage.write(bytes, position);
      skip = 0;
      left -= part;
      position += part;
    }
    if (!reads && context.writeThrough) context.storage.flush();
    return ok;
  }

  #transferProblem(
    chain: Chain,
    { limits, storage }: BlkRequestContext,
    reads: boolean,
    sector: number,
    count: number,
    alien: number,
  ): string | undefined {
    if (alien > 0) return `${alien} bytes of data in the other direction`;
    if (count % BLK_SECTOR_BYTES !== 0) return `${count} bytes of data are no whole sectors`;
    if ((sector + count / BLK_SECTOR_BYTES) * BLK_SECTOR_BYTES > storage.sizeBytes) {
      return `${count} bytes end beyond the capacity of ${storage.sizeBytes / BLK_SECTOR_BYTES} sectors`;
    }
    if (count > limits.sizeMax * limits.segMax) {
      return `${count} bytes in at most ${limits.segMax} segments of at most ${limits.sizeMax} bytes`;
    }
    const end = reads ? chain.count : chain.readableCount;
    for (let i = reads ? chain.readableCount : 0; i < end; i++) {
      // The header or the status may share a segment with data.
      const spare = reads ? (i === end - 1 ? 1 : 0) : (i === 0 ? BLK_HEADER_BYTES : 0);
      if (chain.lengths[i]! - spare > limits.sizeMax) {
        return `a segment of ${chain.lengths[i]} bytes; size_max is ${limits.sizeMax}`;
      }
    }
    return undefined;
  }

  /** Discard and write zeroes. All segments are checked before the first takes effect. */
  #ranges(chain: Chain, context: BlkRequestContext, type: number): number {
    const zeroes = type === BLK_TYPE.writeZeroes;
    const { limits, storage } = context;
    const bytes = chain.readableBytes - BLK_HEADER_BYTES;
    const count = bytes / BLK_RANGE_BYTES;
    if (bytes === 0 || bytes % BLK_RANGE_BYTES !== 0 || count > limits.ranges) {
      context.report(
        RULE,
        `${blkTypeName(type)} with ${bytes} bytes of segments; 1 to ${limits.ranges} of ${BLK_RANGE_BYTES}`,
      );
      return ioErr;
    }
    for (let i = 0; i < count; i++) {
      const { first, sectors, flags } = this.#readRange(chain, i);
      if ((flags & ~(zeroes ? BLK_RANGE_UNMAP : 0)) !== 0) return unsupp;
      if (sectors <= limits.rangeSectors && (first + sectors) * BLK_SECTOR_BYTES <= storage.sizeBytes) {
        continue;
      }
      context.report(
        RULE,
        `${blkTypeName(type)} of ${sectors} sectors at ${first}: at most ${limits.rangeSectors} of ${
          storage.sizeBytes / BLK_SECTOR_BYTES
        }`,
      );
      return ioErr;
    }
    if (context.readOnly) return ioErr;
    for (let i = 0; i < count; i++) {
      const { first, sectors, flags } = this.#readRange(chain, i);
      // Read a second time, and the driver may have changed it: checked again, without a word.
      if (sectors > limits.rangeSectors || (first + sectors) * BLK_SECTOR_BYTES > storage.sizeBytes) {
        return ioErr;
      }
      const at = first * BLK_SECTOR_BYTES, length = sectors * BLK_SECTOR_BYTES;
      if (zeroes) storage.zero(at, length, (flags & BLK_RANGE_UNMAP) !== 0);
      else storage.discard(at, length);
    }
    if (context.writeThrough) storage.flush();
    return ok;
  }

  #readRange(chain: Chain, index: number): { first: number; sectors: number; flags: number } {
    chain.peek(this.#range, BLK_HEADER_BYTES + index * BLK_RANGE_BYTES);
    const view = this.#rangeView;
    return {
      first: view.getUint32(0, true) + 4294967296 * view.getUint32(4, true),
      sectors: view.getUint32(8, true),
      flags: view.getUint32(12, true),
    };
  }
}

/** Zeroes the first bytes of the device-writable part: the used length says that they were written. */
function fillWritable(chain: Chain, count: number): void {
  let left = count;
  for (let i = chain.readableCount; i < chain.count && left > 0; i++) {
    const part = Math.min(chain.lengths[i]!, left);
    chain.regions[i]!.bytes.fill(0, chain.offsets[i]!, chain.offsets[i]! + part);
    left -= part;
  }
}
