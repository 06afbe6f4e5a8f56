/**
 * The client's memory as its server sees it: IOVA ranges, each a mapping of a file that the client passed.
 *
 * @module
 */
import { ClosedError, RingsideError, UsageError } from "../../errors/mod.ts";
import type { MappedMemory, OwnedFd } from "../../../ffi/mod.ts";

/** An access by a device to an IOVA that its driver did not map, or not for this direction. */
export class DmaFault extends RingsideError {
  /** Name of the error type. */
  override name = "DmaFault";
}

/** The file that a range was mapped from. */
export interface DmaFile {
  /** A descriptor of the range's own. */
  readonly fd: OwnedFd;
  /** Where the range begins in the file. */
  readonly offset: number;
}

/** One mapped range. */
export class DmaRegion {
  /** First address. */
  readonly iova: bigint;
  /** Size of the range. */
  readonly sizeBytes: number;
  /** The device may read it. */
  readonly deviceReads: boolean;
  /** The device may write it. */
  readonly deviceWrites: boolean;
  /** The mapping in this process. */
  readonly memory: MappedMemory;
  /** Low half of `iova`, for comparisons without bigint. */
  readonly startLo: number;
  /** High half of `iova`. */
  readonly startHi: number;
  /** A view over the whole range; detached, as those below, when it is unmapped. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same as 16-bit words. */
  readonly words16: Uint16Array<ArrayBuffer>;
  /** The same as 32-bit words. */
  readonly words32: Uint32Array<ArrayBuffer>;

  /** The file behind it, for a device that asked for it (`ServedDevice.keepsDmaFiles`). */
  readonly file?: DmaFile;

  /** Made of a whole mapping. @param memory is the table's, which closes it when the range goes. @param file the same */
  constructor(
    iova: bigint,
    memory: MappedMemory,
    access: { deviceReads: boolean; deviceWrites: boolean },
    file?: DmaFile,
  ) {
    if (file !== undefined) this.file = file;
    this.iova = iova;
    this.memory = memory;
    this.sizeBytes = memory.sizeBytes;
    this.deviceReads = access.deviceReads;
    this.deviceWrites = access.deviceWrites;
    this.startLo = Number(iova & 0xffff_ffffn);
    this.startHi = Number(iova >> 32n);
    this.bytes = new Uint8Array(memory.buffer);
    // A shift would count in 32 bits; views of 4 GiB and more are fine.
    this.words16 = new Uint16Array(memory.buffer, 0, Math.floor(memory.sizeBytes / 2));
    this.words32 = new Uint32Array(memory.buffer, 0, Math.floor(memory.sizeBytes / 4));
  }

  /** Unmaps it, and lets go of its file. */
  close(): void {
    this.file?.fd.close();
    this.memory.close();
  }
}

interface Range {
  readonly iova: bigint;
  readonly sizeBytes: bigint;
}

/**
 * IOVA → memory. `find` allocates nothing: it leaves its result in `region` and `offset`.
 */
export class DmaTable {
  /** Sorted by IOVA; no two overlap, these and `#unreachable` together. */
  #regions: DmaRegion[] = [];
  /** Ranges that the client mapped without a file, sorted: they are taken, but this process cannot reach them. */
  #unreachable: Range[] = [];
  #last: DmaRegion | null = null;
  /** Result of the last successful `find`. */
  region: DmaRegion | null = null;
  /** Byte offset in `region` of the last successful `find`. */
  offset = 0;
  /** Counts maps and unmaps, so that a device can tell that a cached address is stale. */
  generation = 0;

  /** Ranges with memory, by IOVA. */
  get regions(): readonly DmaRegion[] {
    return this.#regions;
  }

  /** How many ranges are mapped, with a file or without. */
  get count(): number {
    return this.#regions.length + this.#unreachable.length;
  }

  /** Adds a range, and owns its mapping. @throws UsageError when it overlaps another. */
  add(region: DmaRegion): void {
    this.checkFree(region.iova, BigInt(region.sizeBytes));
    const at = this.#regions.findIndex((other) => other.iova > region.iova);
    this.#regions.splice(at < 0 ? this.#regions.length : at, 0, region);
    this.#forget();
  }

  /** Adds a range that came without a file: no access to it will be found. @throws UsageError when it overlaps another. */
  addUnreachable(iova: bigint, sizeBytes: bigint): void {
    this.checkFree(iova, sizeBytes);
    this.#unreachable.push({ iova, sizeBytes });
    this.#forget();
  }

  /** Checks that a range may be added. @throws UsageError when it passes 2^64 or overlaps one that is there. */
  checkFree(iova: bigint, sizeBytes: bigint): void {
    const end = iova + sizeBytes;
    if (end > 1n << 64n) throw new UsageError(`IOVA range at 0x${iova.toString(16)} passes 2^64`);
    const overlapping = (other: { iova: bigint; sizeBytes: bigint | number }) =>
      iova < other.iova + BigInt(other.sizeBytes) && other.iova < end;
    const other = this.#regions.find(overlapping) ?? this.#unreachable.find(overlapping);
    if (other === undefined) return;
    throw new UsageError(
      `IOVA range at 0x${iova.toString(16)} overlaps the one at 0x${other.iova.toString(16)}`,
    );
  }

  /** True when a range is exactly this one. */
  has(iova: bigint, sizeBytes: bigint): boolean {
    const same = (one: { iova: bigint; sizeBytes: bigint | number }) =>
      one.iova === iova && BigInt(one.sizeBytes) === sizeBytes;
    return this.#regions.some(same) || this.#unreachable.some(same);
  }

  /** Takes out exactly one range, and unmaps it. @returns false when no range is just that. */
  remove(iova: bigint, sizeBytes: bigint): boolean {
    const at = this.#regions.findIndex((one) => one.iova === iova && BigInt(one.sizeBytes) === sizeBytes);
    if (at < 0) {
      const rest = this.#unreachable.filter((one) => one.iova !== iova || one.sizeBytes !== sizeBytes);
      if (rest.length === this.#unreachable.length) return false;
      this.#unreachable = rest;
      this.#forget();
      return true;
    }
    const [region] = this.#regions.splice(at, 1);
    this.#forget();
    region!.close();
    return true;
  }

  /** Takes out and unmaps everything. */
  clear(): void {
    const regions = this.#regions;
    this.#regions = [];
    this.#unreachable = [];
    this.#forget();
    for (const region of regions) region.close();
  }

  #forget(): void {
    this.#last = null;
    this.region = null;
    this.generation++;
  }

  /**
   * Looks `length` bytes at IOVA `hi:lo` up; true leaves `region` and `offset` set. False: not mapped as a whole, or not for this
   * direction (`deviceWrites`). Halves are unsigned 32-bit numbers.
   */
  find(lo: number, hi: number, length: number, deviceWrites: boolean): boolean {
    const last = this.#last;
    if (last !== null && this.#hit(last, lo, hi, length, deviceWrites)) return true;
    // The range that may hold the address is the last that starts at or below it.
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const region = this.#regions[middle]!;
      if (region.startHi < hi || (region.startHi === hi && region.startLo <= lo)) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return false;
    const region = this.#regions[low - 1]!;
    if (!this.#hit(region, lo, hi, length, deviceWrites)) return false;
    this.#last = region;
    return true;
  }

  #hit(region: DmaRegion, lo: number, hi: number, length: number, deviceWrites: boolean): boolean {
    // Exact for |hi difference| < 2^21, far above any region's size; a larger difference fails the size test anyway.
    const offset = (hi - region.startHi) * 4294967296 + (lo - region.startLo);
    if (offset < 0 || offset + length > region.sizeBytes) return false;
    if (deviceWrites ? !region.deviceWrites : !region.deviceReads) return false;
    this.region = region;
    this.offset = offset;
    return true;
  }

  /** As `find`, for setup paths. @throws DmaFault, ClosedError */
  resolve(iova: bigint, length: number, deviceWrites: boolean): { region: DmaRegion; offset: number } {
    const lo = Number(iova & 0xffff_ffffn);
    const hi = Number(iova >> 32n);
    if (!this.find(lo, hi, length, deviceWrites)) {
      const what = `${length} bytes at IOVA 0x${iova.toString(16)}`;
      const unreachable = this.#unreachable.some((one) =>
        iova >= one.iova && iova < one.iova + one.sizeBytes
      );
      if (unreachable) throw new DmaFault(`${what} were mapped without a file, so they cannot be reached`);
      throw new DmaFault(`no mapping for ${what} that the device may ${deviceWrites ? "write" : "read"}`);
    }
    if (this.region!.memory.closed) throw new ClosedError(`memory at IOVA 0x${iova.toString(16)}`);
    return { region: this.region!, offset: this.offset };
  }
}
