/**
 * IOVA space: which addresses a device may use, and who has which part of it.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { ExhaustedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";

/** A range of IOVAs, both ends included (as the kernel reports them). */
export interface IovaRange {
  /** First address. */
  readonly start: bigint;
  /** Last address. */
  readonly last: bigint;
}

/** What `IovaAllocator.allocate` is asked for. */
export interface IovaRequest {
  /** A power of two; default the allocator's page size. */
  readonly alignment?: bigint | undefined;
  /** What a device with fewer than 64 address bits reaches: nothing from 2 to this power on will do. Low space is used first anyway. */
  readonly addressBits?: number | undefined;
}

/** Bytes of a huge page as it is asked for. */
export const HUGE_PAGE_BYTES: number = 2 << 20;

/** Where DMA memory may lie, as a device needs it. */
export interface IovaPlacement {
  /** Address bits of the device, its DMA mask: only IOVAs below 2 to this power will do. Default, and at most, those of the space (`DmaSpace.setAddressBits`). */
  readonly addressBits?: number | undefined;
  /** Its IOVA is a multiple of this power of two. Default: a page. */
  readonly alignBytes?: number | undefined;
  /** It crosses no multiple of this power of two, as DMA engines with short counters demand. Default: it may. */
  readonly boundaryBytes?: number | undefined;
}

/**
 * Hands out IOVA ranges within what the IOMMU can translate.
 *
 * The lowest fitting address wins, so addresses below 4 GiB go first. Address 0 is never given out: drivers and devices
 * like to read it as "not set".
 */
export class IovaAllocator {
  static {
    typedErrors(this);
  }

  /** Usable IOVAs, sorted. */
  readonly ranges: readonly IovaRange[];
  /** Smallest IOMMU page. */
  readonly pageSizeBytes: bigint;
  /** Free ranges, sorted, not touching one another; `end` is exclusive. */
  #free: { start: bigint; end: bigint }[];
  readonly #used = new Map<bigint, bigint>();

  /** Takes usable IOVAs in any order, and the smallest IOMMU page: a power of two. @throws UsageError */
  constructor(ranges: readonly IovaRange[], pageSizeBytes: bigint) {
    if (pageSizeBytes <= 0n || (pageSizeBytes & (pageSizeBytes - 1n)) !== 0n) {
      throw new UsageError(`IOMMU page size ${pageSizeBytes} is not a power of two`);
    }
    this.pageSizeBytes = pageSizeBytes;
    this.ranges = [...ranges].sort((a, b) => (a.start < b.start ? -1 : 1));
    this.#free = [];
    for (const { start, last } of this.ranges) {
      const from = roundUp(start === 0n ? pageSizeBytes : start, pageSizeBytes);
      const end = (last + 1n) & ~(pageSizeBytes - 1n);
      if (from < end) this.#free.push({ start: from, end });
    }
  }

  /** How many ranges are handed out. */
  get count(): number {
    return this.#used.size;
  }

  /** How many bytes are handed out. */
  get usedBytes(): bigint {
    let total = 0n;
    for (const size of this.#used.values()) total += size;
    return total;
  }

  /**
   * Takes a range of `sizeBytes`, rounded up to whole pages.
   * @returns its first address. @throws ExhaustedError, UsageError
   */
  allocate(sizeBytes: number | bigint, request: IovaRequest = {}): bigint {
    const size = roundUp(BigInt(sizeBytes), this.pageSizeBytes);
    const alignment = request.alignment ?? this.pageSizeBytes;
    if (size <= 0n) throw new UsageError(`an IOVA range of ${sizeBytes} bytes`);
    const bits = request.addressBits ?? 64;
    if (!(Number.isInteger(bits) && bits > 0 && bits <= 64)) {
      throw new UsageError(`addressBits ${shown(bits)}`, { hint: "1 to 64" });
    }
    const limit = 1n << BigInt(bits);
    if ((alignment & (alignment - 1n)) !== 0n) throw new UsageError(`IOVA alignment ${alignment}`);
    for (let i = 0; i < this.#free.length; i++) {
      const hole = this.#free[i]!;
      const start = roundUp(hole.start, alignment > this.pageSizeBytes ? alignment : this.pageSizeBytes);
      const end = start + size;
      if (end > hole.end || end > limit) continue;
      this.#cut(i, start, size);
      return start;
    }
    throw new ExhaustedError(
      `no ${size} free bytes of IOVA space${bits < 64 ? ` below 2^${bits}` : ""} (${this.usedBytes} in use)`,
    );
  }

  /** Takes exactly the range from `iova` on, rounded up to whole pages. @throws ExhaustedError when it is not free or no device can use it; UsageError */
  reserve(iova: bigint, sizeBytes: number | bigint): void {
    const size = roundUp(BigInt(sizeBytes), this.pageSizeBytes);
    if (size <= 0n || iova % this.pageSizeBytes !== 0n) {
      throw new UsageError(
        `an IOVA range of ${sizeBytes} bytes at 0x${
          iova.toString(16)
        }; pages have ${this.pageSizeBytes} bytes`,
      );
    }
    const end = iova + size;
    const i = this.#free.findIndex((hole) => hole.start <= iova && end <= hole.end);
    if (i < 0) {
      throw new ExhaustedError(
        `IOVA 0x${iova.toString(16)} and the ${size} bytes from there on are not free`,
      );
    }
    this.#cut(i, iova, size);
  }

  /** Takes a part of a free range. */
  #cut(index: number, start: bigint, size: bigint): void {
    const hole = this.#free[index]!;
    const rest = [{ start: hole.start, end: start }, { start: start + size, end: hole.end }];
    this.#free.splice(index, 1, ...rest.filter((one) => one.start < one.end));
    this.#used.set(start, size);
  }

  /** Gives a range back. @throws UsageError when no range starts there. */
  free(iova: bigint): void {
    const size = this.#used.get(iova);
    if (size === undefined) {
      throw new UsageError(`IOVA 0x${iova.toString(16)} was not handed out, or freed before`);
    }
    this.#used.delete(iova);
    const end = iova + size;
    let at = this.#free.findIndex((hole) => hole.start > iova);
    if (at < 0) at = this.#free.length;
    const before = this.#free[at - 1];
    const after = this.#free[at];
    const joinsBefore = before?.end === iova;
    const joinsAfter = after?.start === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      this.#free.splice(at, 1);
    } else if (joinsBefore) before.end = end;
    else if (joinsAfter) after.start = iova;
    else this.#free.splice(at, 0, { start: iova, end });
  }
}

function roundUp(value: bigint, alignment: bigint): bigint {
  return (value + alignment - 1n) & ~(alignment - 1n);
}

/** An IOVA that huge pages can be mapped at. */
export function hugeAligned({ alignment = 1n, addressBits }: IovaRequest): IovaRequest {
  const least = BigInt(HUGE_PAGE_BYTES);
  return { alignment: alignment > least ? alignment : least, addressBits };
}

/** Memory of `sizeBytes` that is to lie so. @throws UsageError for what no place fits */
export function placementRequest(
  sizeBytes: number,
  { alignBytes = 1, boundaryBytes, addressBits }: IovaPlacement,
): IovaRequest {
  for (
    const [name, value] of [["alignBytes", alignBytes], [
      "boundaryBytes",
      boundaryBytes === undefined ? 1 : boundaryBytes,
    ]] as const
  ) {
    if (Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value))) continue;
    throw new UsageError(`DMA memory with ${name} ${shown(value)}`, { hint: "a power of two" });
  }
  let alignment = alignBytes;
  if (boundaryBytes !== undefined) {
    if (sizeBytes > boundaryBytes) {
      throw new UsageError(`DMA memory of ${sizeBytes} bytes that crosses no multiple of ${boundaryBytes}`);
    }
    // What begins at a multiple of a power of two, and is no longer than that, crosses no multiple of a larger one.
    while (alignment < sizeBytes) alignment *= 2;
  }
  return { alignment: BigInt(alignment), addressBits };
}
