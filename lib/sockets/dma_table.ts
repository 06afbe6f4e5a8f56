/**
 * A client's memory as its server sees it, whatever the protocol: ranges of addresses, each a mapping of a file that the client passed.
 *
 * @module
 */
import { ClosedError, RingsideError, UsageError } from "../errors/mod.ts";
import type { OwnedFd } from "../../ffi/mod.ts";
import { KeptParts } from "../memory/kept_parts.ts";
import type { FarMemory } from "./far_memory.ts";

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

/** Where the bytes of a range are: a mapping, or a buffer. */
export interface DmaBytes {
  /** All of them. */
  readonly buffer: ArrayBuffer;
  /** How many. */
  readonly sizeBytes: number;
  /** They are gone. */
  readonly closed: boolean;
  /** Lets go of them. */
  close(): void;
}

/** Most bytes of far memory that a device gets at once: they are copied. */
export const FAR_WINDOW_BYTES: number = 16 << 20;

/**
 * One mapped range; or a window: a copy of a part of the client's memory that this process does not map (see `FarMemory`). What a device does
 * to a window the client sees after `store`, and what the client does afterwards the device sees after `load`. For a mapped range both do nothing.
 */
export class DmaRegion {
  /** First address. */
  readonly iova: bigint;
  /** Size of the range. */
  readonly sizeBytes: number;
  /** The device may read it. */
  readonly deviceReads: boolean;
  /** The device may write it. */
  readonly deviceWrites: boolean;
  /** Its bytes in this process. */
  readonly memory: DmaBytes;
  /** What a window is a copy of; null for a mapped range. */
  readonly far: FarMemory | null;
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

  /** Views of parts of it: for copies from the buffers that its owner uses again and again. */
  readonly parts: KeptParts;

  /** The file behind it, for a device that asked for it (`ServedDevice.keepsDmaFiles`). */
  readonly file?: DmaFile;

  /** Made of a whole mapping. @param memory is the table's, which closes it when the range goes. @param file the same */
  constructor(
    iova: bigint,
    memory: DmaBytes,
    access: { readonly deviceReads: boolean; readonly deviceWrites: boolean },
    file?: DmaFile,
    far: FarMemory | null = null,
  ) {
    if (file !== undefined) this.file = file;
    this.far = far;
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
    this.parts = new KeptParts(this.bytes);
  }

  /** Fetches a part of a window from the client. @returns false when it cannot be had */
  load(offset = 0, length: number = this.sizeBytes - offset): boolean {
    return this.far === null ||
      this.far.read(this.iova + BigInt(offset), this.bytes.subarray(offset, offset + length));
  }

  /** Brings a part of a window to the client. @returns false when it cannot be done */
  store(offset = 0, length: number = this.sizeBytes - offset): boolean {
    return this.far === null ||
      this.far.write(this.iova + BigInt(offset), this.bytes.subarray(offset, offset + length));
  }

  /** Unmaps it, and lets go of its file. */
  close(): void {
    this.file?.fd.close();
    this.memory.close();
  }
}

/**
 * IOVA → memory. `find` allocates nothing: it leaves its result in `region` and `offset`.
 */
export class DmaTable {
  /** Sorted by IOVA; no two overlap, these and `#far` together. */
  #regions: DmaRegion[] = [];
  /** Ranges that this process does not map, sorted likewise. */
  #far: FarMemory[] = [];
  #last: DmaRegion | null = null;
  /** Result of the last successful `find`. */
  region: DmaRegion | null = null;
  /** Byte offset in `region` of the last successful `find`. */
  offset = 0;
  /** Counts maps and unmaps, so that a device can tell that a cached address is stale. */
  generation = 0;

  /** Whether a device should begin nothing new for now: see `VfioUserServer.exhausted`. */
  rests: () => boolean = () => false;

  /** Ranges with memory, by IOVA. */
  get regions(): readonly DmaRegion[] {
    return this.#regions;
  }

  get #lists(): (DmaRegion | FarMemory)[][] {
    return [this.#regions, this.#far];
  }

  /** How many ranges there are, mapped in this process or not. */
  get count(): number {
    return this.#regions.length + this.#far.length;
  }

  /** All ranges, to be said good-bye to one by one. */
  get ranges(): readonly { readonly iova: bigint; readonly sizeBytes: number }[] {
    return [...this.#regions, ...this.#far];
  }

  /** Adds a range, and owns its mapping. @throws UsageError when it overlaps another. */
  add(region: DmaRegion): void {
    this.checkFree(region.iova, BigInt(region.sizeBytes));
    this.#regions.splice(countUpTo(this.#regions, region.iova), 0, region);
    this.#forget();
  }

  /** Adds a range that this process does not map, and owns it. @throws UsageError when it overlaps another. */
  addFar(far: FarMemory): void {
    this.checkFree(far.iova, BigInt(far.sizeBytes));
    this.#far.splice(countUpTo(this.#far, far.iova), 0, far);
    this.#forget();
  }

  /** Checks that a range may be added. @throws UsageError when it passes 2^64 or overlaps one that is there. */
  checkFree(iova: bigint, sizeBytes: bigint): void {
    const end = iova + sizeBytes;
    if (end > 1n << 64n) throw new UsageError(`IOVA range at 0x${iova.toString(16)} passes 2^64`);
    for (const list of this.#lists) {
      const other = lastUpTo(list, end - 1n);
      if (other === undefined || other.iova + BigInt(other.sizeBytes) <= iova) continue;
      throw new UsageError(
        `IOVA range at 0x${iova.toString(16)} overlaps the one at 0x${other.iova.toString(16)}`,
      );
    }
  }

  /** True when a range is exactly this one. */
  has(iova: bigint, sizeBytes: bigint): boolean {
    return this.#exactly(iova, sizeBytes) !== undefined;
  }

  /** Takes out exactly one range, and unmaps it. @returns false when no range is just that. */
  remove(iova: bigint, sizeBytes: bigint): boolean {
    const list = this.#exactly(iova, sizeBytes);
    if (list === undefined) return false;
    const [range] = list.splice(countUpTo(list, iova) - 1, 1);
    this.#forget();
    range!.close();
    return true;
  }

  /** The list that has exactly this range. */
  #exactly(iova: bigint, sizeBytes: bigint): (DmaRegion | FarMemory)[] | undefined {
    return this.#lists.find((list) => {
      const one = lastUpTo(list, iova);
      return one?.iova === iova && BigInt(one.sizeBytes) === sizeBytes;
    });
  }

  /** Takes out and unmaps everything. */
  clear(): void {
    const ranges = [...this.#regions, ...this.#far];
    this.#regions = [];
    this.#far = [];
    this.#forget();
    for (const range of ranges) range.close();
  }

  #forget(): void {
    this.#last = null;
    this.region = null;
    this.generation++;
  }

  /**
   * Looks `length` bytes at IOVA `hi:lo` up; true leaves `region` and `offset` set. False: not mapped as a whole, or not for this
   * direction (`deviceWrites`). Halves are unsigned 32-bit numbers. Of memory that this process does not map `region` is a window of just these
   * bytes: those that the device reads have been loaded, those that it writes are zero, and go to the client with `store`.
   */
  find(lo: number, hi: number, length: number, deviceWrites: boolean): boolean {
    return this.findMapped(lo, hi, length, deviceWrites) ||
      (this.#far.length > 0 && this.#findFar(BigInt(hi) << 32n | BigInt(lo), length, deviceWrites));
  }

  /** As `find`, of memory that this process maps. */
  findMapped(lo: number, hi: number, length: number, deviceWrites: boolean): boolean {
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
    if (low > 0) {
      const region = this.#regions[low - 1]!;
      if (this.#hit(region, lo, hi, length, deviceWrites)) {
        this.#last = region;
        return true;
      }
    }
    return false;
  }

  #findFar(iova: bigint, length: number, deviceWrites: boolean): boolean {
    if (length > FAR_WINDOW_BYTES) return false;
    const far = lastUpTo(this.#far, iova);
    if (far === undefined || iova + BigInt(length) > far.iova + BigInt(far.sizeBytes)) return false;
    if (!(deviceWrites ? far.deviceWrites : far.deviceReads)) return false;
    const memory: DmaBytes = {
      buffer: new ArrayBuffer(length),
      sizeBytes: length,
      closed: false,
      close: () => {},
    };
    const window = new DmaRegion(iova, memory, far, undefined, far);
    if (!deviceWrites && !window.load()) return false;
    this.region = window;
    this.offset = 0;
    return true;
  }

  /** Bytes from IOVA `hi:lo` on that lie in one range, for this direction or not; 0: none. */
  extent(lo: number, hi: number): number {
    const iova = BigInt(hi) << 32n | BigInt(lo);
    for (const list of this.#lists) {
      const one = lastUpTo(list, iova);
      const left = one === undefined ? 0n : one.iova + BigInt(one.sizeBytes) - iova;
      if (left > 0n) return Number(left);
    }
    return 0;
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
      throw new DmaFault(`no mapping for ${what} that the device may ${deviceWrites ? "write" : "read"}`);
    }
    if (this.region!.memory.closed) throw new ClosedError(`memory at IOVA 0x${iova.toString(16)}`);
    return { region: this.region!, offset: this.offset };
  }
}

/** How many ranges of a sorted list begin at or below `iova`. */
function countUpTo(list: readonly { readonly iova: bigint }[], iova: bigint): number {
  let low = 0;
  for (let high = list.length; low < high;) {
    const middle = Math.floor((low + high) / 2);
    if (list[middle]!.iova <= iova) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The last range of a sorted list that begins at or below `iova`: no other can hold it. */
function lastUpTo<T extends { readonly iova: bigint }>(list: readonly T[], iova: bigint): T | undefined {
  return list[countUpTo(list, iova) - 1];
}
