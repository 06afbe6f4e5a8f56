/**
 * DMA memory out of few, large files: for a peer that can be told of few ranges only, and maps each as a whole.
 *
 * @module
 */
import { createMemfd, MappedMemory, type OwnedFd, pageSizeBytes } from "../../ffi/mod.ts";
import { typedErrors } from "../errors/doors.ts";
import { ExhaustedError, UnsupportedError, UsageError } from "../errors/mod.ts";
import {
  type DmaMapper,
  type DmaMemory,
  type DmaRequest,
  DmaSpace,
  hugeOrNot,
  type ObtainedMemory,
  wholePages,
} from "./dma.ts";
import { HUGE_PAGE_BYTES, hugeAligned, IovaAllocator, type IovaRequest } from "./iova.ts";

/** The first pool. Its pages are there when they are used. */
const FIRST_POOL_BYTES = 8 << 20;
const ALL = { deviceReads: true, deviceWrites: true } as const;

/** One file, of which allocations are parts. */
interface Pool {
  readonly file: OwnedFd;
  /** Keeps the file in this process, for the mapper; of its pages none is touched by it. */
  readonly memory: MappedMemory;
  readonly iova: bigint;
  readonly isHuge: boolean;
  /** Its own addresses, those in use taken. */
  readonly addresses: IovaAllocator;
}

/**
 * As `DmaSpace`, with allocations that are parts of pools. The peer is told of a pool when it is made, with all that it may read and write, and of its end
 * when nothing is left in it; one pool stays. Each pool is as large as all before it together.
 */
export class PooledDmaSpace extends DmaSpace {
  static {
    typedErrors(this);
  }

  #pools: Pool[] = [];

  /** @param mapper must need files */
  constructor(mapper: DmaMapper) {
    super(mapper);
  }

  /** How many there are, each a range that the peer knows. */
  get pools(): number {
    return this.#pools.length;
  }

  /** What the peer finds at an address, in this process. @throws UsageError when that is no part of a pool */
  bytesAt(iova: bigint, lengthBytes: number): Uint8Array<ArrayBuffer> {
    const pool = this.#pools.find((one) =>
      iova >= one.iova && iova + BigInt(lengthBytes) <= one.iova + BigInt(one.memory.sizeBytes)
    );
    if (pool !== undefined) return pool.memory.bytes(Number(iova - pool.iova), lengthBytes);
    throw new UsageError(
      `${this.mapper.name}: there is no memory of ${lengthBytes} bytes at IOVA 0x${iova.toString(16)}`,
    );
  }

  /**
   * As `DmaSpace.obtain`.
   * @internal
   */
  protected override obtain(
    { sizeBytes, label, huge, lendable, place }: DmaRequest,
  ): ObtainedMemory {
    // Pages of a pool are used again, also while a borrower still writes into them.
    if (lendable) {
      throw new UnsupportedError(`${this.mapper.name}: ${label} cannot be lent to another thread`, {
        hint: "its memory is parts of few files, which the peer maps as a whole: use it in this thread",
      });
    }
    return hugeOrNot(sizeBytes, huge, (isHuge) => {
      const bytes = wholePages(sizeBytes, isHuge);
      for (const pool of this.#pools) {
        if (pool.isHuge !== isHuge) continue;
        const iova = tryAllocate(pool, bytes, place);
        if (iova !== undefined) return part(pool, iova, bytes);
      }
      const pool = this.#grow(bytes, isHuge, label, place);
      return part(pool, pool.addresses.allocate(bytes, place), bytes);
    });
  }

  /** As `DmaSpace.discard`. */
  protected override discard({ iova }: DmaMemory): void {
    const pool = this.#pools.find((one) =>
      iova >= one.iova && iova < one.iova + BigInt(one.memory.sizeBytes)
    )!;
    pool.addresses.free(iova);
    if (pool.addresses.count > 0 || this.#pools.length === 1) return;
    this.#pools = this.#pools.filter((one) => one !== pool);
    try {
      this.mapper.unmapDma(pool.iova, pool.memory.sizeBytes);
      this.giveIova(pool.iova);
    } finally {
      close(pool);
    }
  }

  #grow(bytes: number, isHuge: boolean, label: string, place: IovaRequest): Pool {
    const all = this.#pools.reduce((sum, { memory }) => sum + memory.sizeBytes, 0);
    const sizeBytes = wholePages(Math.max(bytes, all, FIRST_POOL_BYTES), isHuge);
    using opened = new DisposableStack();
    const file = opened.use(createMemfd(`ringside ${label} and more`, sizeBytes, { huge: isHuge }));
    const memory = opened.use(MappedMemory.map(file, sizeBytes));
    const iova = this.takeIova(sizeBytes, hugeAligned(place));
    opened.defer(() => this.giveIova(iova));
    this.mapper.mapDma(memory, file, iova, sizeBytes, ALL);
    opened.move();
    const last = iova + BigInt(sizeBytes) - 1n;
    const page = BigInt(isHuge ? HUGE_PAGE_BYTES : pageSizeBytes);
    const pool = { file, memory, iova, isHuge, addresses: new IovaAllocator([{ start: iova, last }], page) };
    this.#pools.push(pool);
    return pool;
  }

  /** As `DmaSpace.close`. */
  override close(): void {
    super.close();
    for (const pool of this.#pools.splice(0)) {
      try {
        this.mapper.unmapDma(pool.iova, pool.memory.sizeBytes);
      } catch {
        // The device is going away with its mappings.
      } finally {
        close(pool);
      }
    }
  }
}

function tryAllocate(pool: Pool, bytes: number, place: IovaRequest): bigint | undefined {
  try {
    return pool.addresses.allocate(bytes, place);
  } catch (error) {
    if (error instanceof ExhaustedError) return undefined;
    throw error;
  }
}

/** Maps a part, which may have been used before. */
function part(pool: Pool, iova: bigint, bytes: number): ObtainedMemory {
  try {
    const memory = MappedMemory.map(pool.file, bytes, { offset: iova - pool.iova, populate: true });
    memory.bytes().fill(0);
    return { memory, file: null, iova };
  } catch (error) {
    pool.addresses.free(iova);
    throw error;
  }
}

function close(pool: Pool): void {
  pool.memory.close();
  pool.file.close();
}
