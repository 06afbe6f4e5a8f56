/**
 * Devices and memory by their physical addresses, for a guest without an IOMMU: registers by a mapping of `/dev/mem`, and DMA memory whose IOVA is the
 * physical address that the kernel says it has. Only for machines that nobody will miss.
 */
import { MappedMemory, O, OwnedFd, pageSizeBytes } from "../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import { type DmaMapper, DmaMemory, type DmaOptions, DmaSpace } from "../../lib/memory/mod.ts";
import type { AccessWidth } from "../../lib/registers/declaration.ts";
import type { RegisterSpace } from "../../lib/registers/registers.ts";
import type { MmioWindow } from "../../lib/virtio/mod.ts";

/** O_SYNC: `/dev/mem` then maps without caches. */
const O_SYNC = 0o4010000;

/** Registers at a physical address, as a window of virtio-mmio: its line has nobody who would tell of it. */
export class PhysicalWindow implements MmioWindow, RegisterSpace {
  readonly name: string;
  readonly sizeBytes: number;
  readonly dma: DmaSpace;
  readonly interrupts: MmioWindow["interrupts"] = {
    kind: null,
    available: () => 0,
    enable: () => {
      throw new UnsupportedError("nobody tells of the line");
    },
    disable: () => {},
    rearm: () => {},
  };
  readonly #memory: MappedMemory;
  readonly #start: number;
  readonly #words: Readonly<Record<AccessWidth, Uint8Array | Uint16Array | Uint32Array>>;

  constructor(name: string, physical: number, sizeBytes: number, dma: DmaSpace) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.dma = dma;
    this.#start = physical % pageSizeBytes;
    using file = OwnedFd.open("/dev/mem", O.RDWR | O.CLOEXEC | O_SYNC);
    const pages = Math.ceil((this.#start + sizeBytes) / pageSizeBytes) * pageSizeBytes;
    this.#memory = MappedMemory.map(file, pages, { offset: BigInt(physical - this.#start) });
    const { buffer } = this.#memory;
    this.#words = { 1: new Uint8Array(buffer), 2: new Uint16Array(buffer), 4: new Uint32Array(buffer) };
  }

  get space(): RegisterSpace {
    return this;
  }

  get closed(): boolean {
    return this.#memory.closed;
  }

  read(offset: number, width: AccessWidth): number {
    return Atomics.load(this.#words[width], this.#at(offset, width));
  }

  write(offset: number, width: AccessWidth, value: number): void {
    this.#words[width][this.#at(offset, width)] = value;
  }

  doorbell(offset: number, width: 2 | 4): ReturnType<MmioWindow["doorbell"]> {
    this.#at(offset, width);
    return { write: (value) => this.write(offset, width, value) };
  }

  #at(offset: number, width: AccessWidth): number {
    if (offset % width === 0 && offset >= 0 && offset + width <= this.sizeBytes) {
      return (this.#start + offset) / width;
    }
    throw new UsageError(`${this.name}: no register of ${width} bytes at ${offset}`);
  }

  close(): void {
    this.#memory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const HUGE_PAGE_BYTES = 2 << 20;
/** Bits of an entry of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
const PAGEMAP = { entryBytes: 8, frame: (1n << 55n) - 1n, present: 1n << 63n } as const;

/** Translates nothing: an address is what the memory has. */
function noIommu(name: string): DmaMapper {
  return {
    name,
    iovaRanges: [{ start: 0x1000n, last: 0xffff_ffffn }],
    pageSizes: 0x1000n,
    needsFile: false,
    mapDma: () => {},
    unmapDma: () => {},
  };
}

/** Huge pages, each contiguous in physical memory, which stay where they are. */
export class PhysicalDma extends DmaSpace {
  readonly #real: DmaSpace;
  readonly #pinned = new Map<DmaMemory, DmaMemory>();

  /** @param real what allocates: VFIO pins the pages then, at IOVAs that the device does not use. Default: nobody does */
  constructor(name: string, real: DmaSpace = new DmaSpace(noIommu(name))) {
    super(noIommu(name));
    this.#real = real;
  }

  override allocate(sizeBytes: number, options: DmaOptions = {}): DmaMemory {
    if (sizeBytes > HUGE_PAGE_BYTES) throw new UsageError(`${sizeBytes} bytes are more than a huge page`);
    const pinned = this.#real.allocate(sizeBytes, { ...options, huge: "must" });
    const { memory } = pinned;
    memory.bytes().fill(0);
    const owned = new DmaMemory(this, memory, physicalAddress(memory.address), pinned.label);
    this.#pinned.set(owned, pinned);
    return owned;
  }

  override release(memory: DmaMemory): void {
    this.#pinned.get(memory)?.close();
    this.#pinned.delete(memory);
  }

  override close(): void {
    for (const memory of [...this.#pinned.keys()]) memory.close();
  }
}

function physicalAddress(address: bigint): bigint {
  const page = address / BigInt(pageSizeBytes);
  using file = Deno.openSync("/proc/self/pagemap");
  file.seekSync(page * BigInt(PAGEMAP.entryBytes), Deno.SeekMode.Start);
  const bytes = new Uint8Array(PAGEMAP.entryBytes);
  file.readSync(bytes);
  const entry = new DataView(bytes.buffer).getBigUint64(0, true);
  const frame = entry & PAGEMAP.frame;
  if ((entry & PAGEMAP.present) === 0n || frame === 0n) {
    throw new UsageError(`no page frame at 0x${address.toString(16)}: this needs root`);
  }
  return frame * BigInt(pageSizeBytes) + address % BigInt(pageSizeBytes);
}
