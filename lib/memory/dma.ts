/**
 * Memory that a device may reach: locked or huge pages in this process, mapped at an IOVA.
 *
 * @module
 */
import {
  createMemfd,
  isErrno,
  type MappedArea,
  MappedMemory,
  type OwnedFd,
  pageSizeBytes,
  type Parcel,
  takeMapping,
} from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { ClosedError, ExhaustedError, UnsupportedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import {
  HUGE_PAGE_BYTES,
  hugeAligned,
  IovaAllocator,
  type IovaPlacement,
  type IovaRange,
  type IovaRequest,
  placementRequest,
} from "./iova.ts";

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
  /** True when an IOMMU of this machine translates: to a device that goes around it, an IOVA is some physical address. Default: false. */
  readonly iommu?: boolean;
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

/** Address spaces that a device can be told to use beside the one of its `dma` (ASIDs, PASIDs): the same IOVA is other memory in each. */
export interface AddressSpaces {
  /**
   * Memory of address space `id`, which is 1 or more. It is made when it is first asked for, and closed with the device.
   * @throws UnsupportedError where there is none, which says why; UsageError, ClosedError
   */
  addressSpace(id: number): DmaSpace;
}

/** How to allocate DMA memory. */
export interface DmaOptions extends IovaPlacement {
  /** For messages and accounting, such as `queue 0 rings`. */
  readonly label?: string;
  /** Default: the device reads and writes. */
  readonly access?: DmaAccess | undefined;
  /** Huge pages: `try` (default, for 1 MiB and more), `never`, or `must`. */
  readonly huge?: "try" | "never" | "must";
  /** It can be lent to another thread of this process. Default: false. */
  readonly lendable?: boolean;
}

/** DMA memory as another thread of this process gets it: plain data. */
export interface LentDmaMemory {
  /** A mapping of the same pages, of the borrower's own. */
  readonly area: MappedArea;
  /** Address that the device uses. */
  readonly iova: bigint;
  /** What it is for. */
  readonly label: string;
}

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
  #space: Pick<DmaSpace, "release" | "mapAgain"> | null;

  /** Made by `DmaSpace.allocate`. @param space what lets go of it */
  constructor(
    space: Pick<DmaSpace, "release" | "mapAgain">,
    memory: MappedMemory,
    iova: bigint,
    label: string,
  ) {
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

  /**
   * Maps the same pages once more, for another thread: nobody's mapping goes with anybody else's. The device has them for as long as they are here.
   * @throws UnsupportedError when it was not allocated so, SyscallError, ClosedError
   * @internal
   */
  lend(parcel: Parcel): LentDmaMemory {
    requireType(parcel, "object", "lend: parcel", "addMapping");
    if (this.#space === null) throw new ClosedError(this.memory.target);
    return {
      area: parcel.addMapping(this.#space.mapAgain(this)),
      iova: this.iova,
      label: this.label,
    };
  }

  /**
   * In the other thread. Closing it takes nothing away from the device.
   * @throws UsageError for what is no such memory
   * @internal
   */
  static borrow({ area, iova, label }: LentDmaMemory): DmaMemory {
    const memory = takeMapping(area);
    const space = {
      release: () => memory.close(),
      mapAgain: (): never => {
        throw new UnsupportedError(`${label} is borrowed, and cannot be lent again`);
      },
    };
    return new DmaMemory(space, memory, iova, label);
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

/** What a `DmaSpace` keeps of memory that is allocated in it. */
export interface DmaBacking {
  /** The memfd behind it; null for anonymous memory. */
  readonly file: OwnedFd | null;
  /** What the device may do with it. */
  readonly access: DmaAccess;
}

/** What is asked of `DmaSpace.obtain`: `DmaOptions` with nothing left out. */
export interface DmaRequest extends Required<Pick<DmaOptions, "label" | "huge" | "lendable">> {
  /** At least so many. */
  readonly sizeBytes: number;
  /** What the device may do. */
  readonly access: DmaAccess;
  /** Where. */
  readonly place: IovaRequest;
}

/** Pages that the device can reach. */
export interface ObtainedMemory {
  /** The pages. */
  readonly memory: MappedMemory;
  /** The file behind these pages alone. */
  readonly file: OwnedFd | null;
  /** Where the device finds them. */
  readonly iova: bigint;
}

/** All DMA memory of one opened function (or of those that share its IOMMU context). */
export class DmaSpace implements Disposable {
  static {
    typedErrors(this);
  }

  readonly #mapper: DmaMapper;
  readonly #iova: IovaAllocator;
  readonly #pageBytes: number;
  readonly #live = new Map<DmaMemory, DmaBacking>();
  /** IOVAs that memory of other spaces is mapped at. */
  readonly #borrowed = new Map<bigint, number>();
  #addressBits = 64;
  #closed = false;

  /** Takes usable IOVAs and page sizes from the IOMMU behind `mapper`. */
  constructor(mapper: DmaMapper) {
    requireType(mapper, "object", "new DmaSpace: mapper", "iovaRanges", "pageSizes", "mapDma", "unmapDma");
    this.#mapper = mapper;
    // A peer may say less than the processor's page; what is mapped are whole pages of both.
    this.#pageBytes = Math.max(Number(mapper.pageSizes & -mapper.pageSizes), pageSizeBytes);
    this.#iova = new IovaAllocator(mapper.iovaRanges, BigInt(this.#pageBytes));
  }

  /** The IOMMU behind it. */
  get mapper(): DmaMapper {
    return this.#mapper;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Address bits of the device: nothing is allocated from 2 to this power on. 64 until `setAddressBits`. */
  get addressBits(): number {
    return this.#addressBits;
  }

  /**
   * Says how many address bits the device has, before it sees an address: what does not fit below is an `ExhaustedError` of `allocate`. Functions of one IOMMU
   * group have one space, and the fewest bits count. @param bits 12 to 64 @throws UsageError when memory lies beyond already
   */
  setAddressBits(bits: number): void {
    this.#requireOpen();
    const { name } = this.#mapper;
    if (!(Number.isInteger(bits) && bits >= 12 && bits <= 64)) {
      throw new UsageError(`${name}: ${shown(bits)} address bits`, { hint: "12 to 64" });
    }
    const limit = 1n << BigInt(bits);
    const beyond = [...this.#live.keys()].find((one) => one.iova + BigInt(one.sizeBytes) > limit);
    if (beyond !== undefined) {
      throw new UsageError(
        `${name}: ${bits} address bits do not reach "${beyond.label}" at IOVA 0x${beyond.iova.toString(16)}`,
        { hint: "say it before anything is allocated" },
      );
    }
    this.#addressBits = bits;
  }

  /** What is asked for, within the device's reach. */
  #within({ alignment, addressBits }: IovaRequest): IovaRequest {
    const most = this.#addressBits;
    return { alignment, addressBits: addressBits === undefined || addressBits > most ? most : addressBits };
  }

  /**
   * What is allocated now, and how it was: for spaces that share memory.
   * @internal
   */
  protected get live(): ReadonlyMap<DmaMemory, DmaBacking> {
    return this.#live;
  }

  /** Takes an IOVA. @throws ExhaustedError */
  protected takeIova(sizeBytes: number, request: IovaRequest): bigint {
    return this.#iova.allocate(sizeBytes, request);
  }

  /** Gives an IOVA back. */
  protected giveIova(iova: bigint): void {
    this.#iova.free(iova);
  }

  /** Finds an IOVA that is free here, and keeps it. It ends with `releaseIova`. @throws ExhaustedError, ClosedError */
  reserveAnyIova(sizeBytes: number, request: IovaRequest = {}): bigint {
    this.#requireOpen();
    return this.#iova.allocate(sizeBytes, this.#within(request));
  }

  /** Keeps exactly this IOVA. @throws ExhaustedError when it is not free here, or beyond the device's reach; UsageError, ClosedError */
  reserveIova(iova: bigint, sizeBytes: number): void {
    this.#requireOpen();
    if (iova + BigInt(sizeBytes) > 1n << BigInt(this.#addressBits)) {
      throw new ExhaustedError(
        `${this.#mapper.name} reaches no IOVA 0x${
          iova.toString(16)
        }: it has ${this.#addressBits} address bits`,
      );
    }
    this.#iova.reserve(iova, sizeBytes);
  }

  /** Ends `reserveIova` and `reserveAnyIova`. */
  releaseIova(iova: bigint): void {
    if (!this.#closed) this.#iova.free(iova);
  }

  /**
   * Makes memory of another space reachable for this function, too, at an IOVA that was reserved here. It is not counted in `usage`.
   * @throws SyscallError, UnsupportedError, ClosedError
   * @internal
   */
  lend(memory: MappedMemory, { file, access }: DmaBacking, iova: bigint): void {
    this.#requireOpen();
    if (this.#mapper.needsFile && file === null) {
      throw new UnsupportedError(`${this.#mapper.name} can only be given memory that has a file behind it`, {
        hint: "allocate it for a function that is served over a socket, or for both together",
      });
    }
    this.#mapper.mapDma(memory, file, iova, memory.sizeBytes, access);
    this.#borrowed.set(iova, memory.sizeBytes);
  }

  /** Ends `lend`; the IOVA stays reserved. Nothing to do after `close`. @throws SyscallError */
  takeBack(iova: bigint): void {
    const sizeBytes = this.#borrowed.get(iova);
    if (sizeBytes === undefined) return;
    this.#borrowed.delete(iova);
    this.#mapper.unmapDma(iova, sizeBytes);
  }

  #requireOpen(): void {
    if (this.#closed) throw new ClosedError(`DMA space of ${this.#mapper.name}`);
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
   * @throws ExhaustedError (no IOVA, more than the machine has free), SyscallError (no memory, lock limit), UsageError, ClosedError
   */
  allocate(sizeBytes: number, options: DmaOptions = {}): DmaMemory {
    this.#requireOpen();
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
      throw new UsageError(`DMA memory of ${sizeBytes} bytes`);
    }
    // All of the caller's fields are read before there is anything to be let go of: reading one may throw.
    const label = options.label ?? "DMA memory";
    const access = options.access ?? { deviceReads: true, deviceWrites: true };
    const { huge = "try", lendable = false } = options;
    const place = this.#within(placementRequest(sizeBytes, options));
    const { memory, file, iova } = this.obtain({ sizeBytes, label, access, huge, lendable, place });
    const owned = new DmaMemory(this, memory, iova, label);
    this.#live.set(owned, { file, access });
    return owned;
  }

  /**
   * Gets zeroed pages, and makes them reachable for the device. @throws as `allocate`
   * @internal
   */
  protected obtain({ sizeBytes, label, access, huge, lendable, place }: DmaRequest): ObtainedMemory {
    const { memory, file } = hugeOrNot(
      sizeBytes,
      huge,
      (isHuge) => this.#map(wholePages(sizeBytes, isHuge, this.#pageBytes), isHuge, lendable, label),
    );
    using opened = new DisposableStack();
    opened.use(file);
    opened.use(memory);
    const iova = this.takeIova(
      memory.sizeBytes,
      memory.sizeBytes % HUGE_PAGE_BYTES === 0 ? hugeAligned(place) : place,
    );
    opened.defer(() => this.giveIova(iova));
    this.#mapper.mapDma(memory, file, iova, memory.sizeBytes, access);
    opened.move();
    return { memory, file, iova };
  }

  /** Takes memory away from the device that `obtain` got. @throws SyscallError */
  protected discard({ iova, sizeBytes }: DmaMemory): void {
    this.#mapper.unmapDma(iova, sizeBytes);
    this.giveIova(iova);
  }

  #map(
    sizeBytes: number,
    huge: boolean,
    lendable: boolean,
    label: string,
  ): { memory: MappedMemory; file: OwnedFd | null } {
    // Kernel VFIO pins what it maps, so pages need no mlock of their own; a vfio-user server maps the memfd itself, and so does who borrows it.
    if (!this.#mapper.needsFile && !lendable) {
      return { memory: MappedMemory.anonymous(sizeBytes, { huge }), file: null };
    }
    using opened = new DisposableStack();
    const file = opened.use(createMemfd(`ringside ${label}`, sizeBytes, { huge }));
    const memory = MappedMemory.map(file, sizeBytes, { populate: true });
    opened.move();
    return { memory, file };
  }

  /**
   * Called by `DmaMemory.lend`. @throws UnsupportedError, SyscallError
   * @internal
   */
  mapAgain(memory: DmaMemory): MappedMemory {
    const file = this.#live.get(memory)?.file;
    if (file != null) return MappedMemory.map(file, memory.sizeBytes, { populate: true });
    throw new UnsupportedError(`${this.#mapper.name}: ${memory.label} was not allocated to be lent`);
  }

  /** Called by `DmaMemory.close`. */
  release(memory: DmaMemory): void {
    const backing = this.#live.get(memory);
    if (backing === undefined) return;
    this.#live.delete(memory);
    try {
      this.discard(memory);
    } finally {
      memory.memory.close();
      backing.file?.close();
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
    for (const iova of [...this.#borrowed.keys()]) {
      try {
        this.takeBack(iova);
      } catch {
        // As above.
      }
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Gets huge pages where they are worth it and there are any, else others. @throws what `get` throws */
export function hugeOrNot<T>(
  sizeBytes: number,
  huge: "try" | "never" | "must",
  get: (isHuge: boolean) => T,
): T {
  if (huge === "must" || (huge === "try" && sizeBytes >= HUGE_PAGE_BYTES / 2)) {
    try {
      return get(true);
    } catch (error) {
      if (huge === "must" || !isErrno(error, "ENOMEM", "EINVAL", "EPERM", "ENOSYS")) throw error;
    }
  }
  return get(false);
}

/** Rounds up. @param pageBytes of pages that are not huge */
export function wholePages(sizeBytes: number, isHuge: boolean, pageBytes: number = pageSizeBytes): number {
  const page = isHuge ? HUGE_PAGE_BYTES : pageBytes;
  return Math.ceil(sizeBytes / page) * page;
}
