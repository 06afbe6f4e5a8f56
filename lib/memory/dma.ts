/**
 * Memory that a device may reach: locked or huge pages in this process, mapped at an IOVA.
 *
 * @module
 */
import { createMemfd, isErrno, MappedMemory, type OwnedFd, pageSizeBytes } from "../../ffi/mod.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { IovaAllocator, type IovaRange } from "./iova.ts";

/** The IOMMU behind a device, as far as mapping goes: kernel container, iommufd address space or vfio-user server. */
export interface DmaMapper {
  /** Name of the function or address space, for messages. */
  readonly name: string;
  /** Usable IOVAs. */
  readonly iovaRanges: readonly IovaRange[];
  /** Bit mask of IOMMU page sizes. */
  readonly pageSizes: bigint;
  /** True when the peer is a process that must be given the file behind the memory. */
  readonly needsFile: boolean;
  /** Makes `sizeBytes` of `memory`, from its start, reachable at `iova`. `file` is the memfd behind it when `needsFile`. */
  mapDma(
    memory: MappedMemory,
    file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void;
  /** Ends exactly one earlier mapping. */
  unmapDma(iova: bigint, sizeBytes: number): void;
}

/** What the device may do with the memory. */
export interface DmaAccess {
  /** The device may read. */
  readonly deviceReads: boolean;
  /** The device may write. */
  readonly deviceWrites: boolean;
}

/** How to allocate DMA memory. */
export interface DmaOptions {
  /** For messages and accounting, such as `queue 0 rings`. */
  readonly label?: string;
  /** Default: the device reads and writes. */
  readonly access?: DmaAccess;
  /** Only IOVAs below 4 GiB will do. */
  readonly below4GiB?: boolean;
  /** Huge pages: `try` (default, for 1 MiB and more), `never`, or `must`. */
  readonly huge?: "try" | "never" | "must";
}

const HUGE_PAGE_BYTES = 2 << 20;

/** DMA memory: an owned mapping and its IOVA. */
export class DmaMemory implements Disposable {
  /** The mapping. */
  readonly memory: MappedMemory;
  /** Address that the device uses. */
  readonly iova: bigint;
  /** Low half of `iova`, as rings take it. */
  readonly iovaLo: number;
  /** High half. */
  readonly iovaHi: number;
  /** Size in bytes. */
  readonly sizeBytes: number;
  /** What it is for, as given. */
  readonly label: string;
  #space: DmaSpace | null;

  /** Made by `DmaSpace.allocate`. */
  constructor(space: DmaSpace, memory: MappedMemory, iova: bigint, label: string) {
    this.#space = space;
    this.memory = memory;
    this.iova = iova;
    this.iovaLo = Number(iova & 0xffff_ffffn);
    this.iovaHi = Number(iova >> 32n);
    this.sizeBytes = memory.sizeBytes;
    this.label = label;
  }

  /** A byte view of a range. @throws ClosedError, UsageError */
  bytes(offset?: number, length?: number): Uint8Array<ArrayBuffer> {
    return this.memory.bytes(offset, length);
  }

  /** The whole memory. @throws ClosedError */
  get buffer(): ArrayBuffer {
    return this.memory.buffer;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#space === null;
  }

  /** Takes the memory away from the device, then unmaps it here; every view of it is detached. */
  close(): void {
    const space = this.#space;
    if (space === null) return;
    this.#space = null;
    space.release(this);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** All DMA memory of one opened function (or of those that share its IOMMU context). */
export class DmaSpace implements Disposable {
  readonly #mapper: DmaMapper;
  readonly #iova: IovaAllocator;
  readonly #live = new Map<DmaMemory, OwnedFd | null>();
  #closed = false;

  /** Takes usable IOVAs and page sizes from the IOMMU behind `mapper`. */
  constructor(mapper: DmaMapper) {
    this.#mapper = mapper;
    const smallest = mapper.pageSizes & -mapper.pageSizes;
    this.#iova = new IovaAllocator(mapper.iovaRanges, smallest === 0n ? BigInt(pageSizeBytes) : smallest);
  }

  /** What is allocated now: for leak accounting. */
  get usage(): { allocations: number; bytes: number; labels: string[] } {
    const live = [...this.#live.keys()];
    return {
      allocations: live.length,
      bytes: live.reduce((sum, one) => sum + one.sizeBytes, 0),
      labels: live.map((one) => one.label),
    };
  }

  /**
   * Allocates zeroed memory of at least `sizeBytes` (whole pages) and maps it for the device.
   * @throws ExhaustedError (no IOVA), SyscallError (no memory, lock limit), UsageError, ClosedError
   */
  allocate(sizeBytes: number, options: DmaOptions = {}): DmaMemory {
    if (this.#closed) throw new ClosedError(`DMA space of ${this.#mapper.name}`);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw new UsageError(`DMA memory of ${sizeBytes} bytes`);
    }
    const label = options.label ?? "DMA memory";
    const { memory, file } = this.#pages(sizeBytes, options.huge ?? "try", label);
    let iova: bigint | undefined;
    try {
      const alignment = memory.sizeBytes % HUGE_PAGE_BYTES === 0 ? BigInt(HUGE_PAGE_BYTES) : undefined;
      iova = this.#iova.allocate(memory.sizeBytes, {
        ...(alignment === undefined ? {} : { alignment }),
        ...(options.below4GiB === undefined ? {} : { below4GiB: options.below4GiB }),
      });
      const access = options.access ?? { deviceReads: true, deviceWrites: true };
      this.#mapper.mapDma(memory, file, iova, memory.sizeBytes, access);
    } catch (error) {
      if (iova !== undefined) this.#iova.free(iova);
      memory.close();
      file?.close();
      throw error;
    }
    const owned = new DmaMemory(this, memory, iova, label);
    this.#live.set(owned, file);
    return owned;
  }

  #pages(sizeBytes: number, huge: "try" | "never" | "must", label: string): {
    memory: MappedMemory;
    file: OwnedFd | null;
  } {
    const wantsHuge = huge === "must" || (huge === "try" && sizeBytes >= HUGE_PAGE_BYTES / 2);
    if (wantsHuge) {
      try {
        return this.#map(roundUp(sizeBytes, HUGE_PAGE_BYTES), true, label);
      } catch (error) {
        if (huge === "must" || !isErrno(error, "ENOMEM", "EINVAL", "EPERM", "ENOSYS")) throw error;
      }
    }
    return this.#map(roundUp(sizeBytes, pageSizeBytes), false, label);
  }

  #map(sizeBytes: number, huge: boolean, label: string): { memory: MappedMemory; file: OwnedFd | null } {
    // Kernel VFIO pins what it maps, so pages need no mlock of their own; a vfio-user server maps the memfd itself.
    if (!this.#mapper.needsFile) return { memory: MappedMemory.anonymous(sizeBytes, { huge }), file: null };
    const file = createMemfd(`ringside ${label}`, sizeBytes, { huge });
    try {
      return { memory: MappedMemory.map(file, sizeBytes, { populate: true }), file };
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Called by `DmaMemory.close`. */
  release(memory: DmaMemory): void {
    const file = this.#live.get(memory);
    if (file === undefined) return;
    this.#live.delete(memory);
    try {
      this.#mapper.unmapDma(memory.iova, memory.sizeBytes);
      this.#iova.free(memory.iova);
    } finally {
      memory.memory.close();
      file?.close();
    }
  }

  /** Releases everything that is still allocated. A mapping that the kernel or peer no longer knows is let go of silently. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const memory of [...this.#live.keys()]) {
      try {
        memory.close();
      } catch {
        // The device is going away with its mappings; the local side is released already.
      }
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
