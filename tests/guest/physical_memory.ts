/**
 * Devices and memory by their physical addresses, for a guest without an IOMMU: registers by a mapping of `/dev/mem`, and DMA memory whose IOVA is the
 * physical address that the kernel says it has. Only for machines that nobody will miss.
 */
import { MappedMemory, O, OwnedFd, pageSizeBytes, pread } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import { type DmaMapper, DmaMemory, type DmaOptions, DmaSpace } from "../../lib/memory/mod.ts";
import type { AccessWidth } from "../../lib/registers/declaration.ts";
import type { RegisterSpace } from "../../lib/registers/registers.ts";

/** O_SYNC: `/dev/mem` then maps without caches. */
const O_SYNC = 0o4010000;
const HUGE_PAGE_BYTES = 2 << 20;

/** Registers at a physical address. */
export class DeviceMemory implements RegisterSpace, Disposable {
  readonly sizeBytes: number;
  readonly #memory: MappedMemory;
  readonly #start: number;

  constructor(physical: number, sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.#start = physical % pageSizeBytes;
    using file = OwnedFd.open("/dev/mem", O.RDWR | O.CLOEXEC | O_SYNC);
    this.#memory = MappedMemory.map(
      file,
      Math.ceil((this.#start + sizeBytes) / pageSizeBytes) * pageSizeBytes,
      { offset: BigInt(physical - this.#start) },
    );
  }

  read(offset: number, width: AccessWidth): number {
    return Atomics.load(this.#words(width), this.#at(offset, width));
  }

  write(offset: number, width: AccessWidth, value: number): void {
    this.#words(width)[this.#at(offset, width)] = value;
  }

  #at(offset: number, width: AccessWidth): number {
    if (offset % width === 0 && offset >= 0 && offset + width <= this.sizeBytes) {
      return (this.#start + offset) / width;
    }
    throw new UsageError(`no register of ${width} bytes at ${offset}`);
  }

  #words(width: AccessWidth): Uint8Array | Uint16Array | Uint32Array {
    const { buffer } = this.#memory;
    return width === 1
      ? new Uint8Array(buffer)
      : width === 2
      ? new Uint16Array(buffer)
      : new Uint32Array(buffer);
  }

  close(): void {
    this.#memory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Physical address of the page that a mapping begins with; the kernel tells it root alone. */
export function physicalAddress(memory: MappedMemory): bigint {
  using file = OwnedFd.open("/proc/self/pagemap", O.RDONLY | O.CLOEXEC);
  const entry = new Uint8Array(8);
  pread(file, entry, memory.address / BigInt(pageSizeBytes) * 8n);
  const [value = 0n] = new BigUint64Array(entry.buffer);
  const frame = value & ((1n << 55n) - 1n);
  if (value >> 63n === 0n || frame === 0n) throw new UsageError("the kernel does not tell where the page is");
  return frame * BigInt(pageSizeBytes);
}

/** Nothing translates; `PhysicalDmaSpace` never calls it. */
const NO_IOMMU: DmaMapper = {
  name: "physical memory",
  iovaRanges: [{ start: 0n, last: (1n << 52n) - 1n }],
  pageSizes: BigInt(HUGE_PAGE_BYTES),
  needsFile: false,
  mapDma: () => {},
  unmapDma: () => {},
};

/** DMA memory at the physical addresses of huge pages, one for each allocation: they stay where they are. */
export class PhysicalDmaSpace extends DmaSpace {
  readonly #own = new Set<DmaMemory>();

  constructor() {
    super(NO_IOMMU);
  }

  override get usage(): { allocations: number; bytes: number; labels: string[] } {
    const labels = [...this.#own].map(({ label }) => label);
    return { allocations: labels.length, bytes: labels.length * HUGE_PAGE_BYTES, labels };
  }

  override allocate(sizeBytes: number, options: DmaOptions = {}): DmaMemory {
    if (!(sizeBytes > 0 && sizeBytes <= HUGE_PAGE_BYTES)) {
      throw new UsageError(`DMA memory of ${sizeBytes} bytes: only what is in one huge page is contiguous`);
    }
    const memory = MappedMemory.anonymous(HUGE_PAGE_BYTES, { huge: true });
    const owned = new DmaMemory(this, memory, physicalAddress(memory), options.label ?? "DMA memory");
    this.#own.add(owned);
    return owned;
  }

  override release(memory: DmaMemory): void {
    if (this.#own.delete(memory)) memory.memory.close();
  }

  override close(): void {
    for (const memory of [...this.#own]) memory.close();
    super.close();
  }
}
