/**
 * QEMU's transitional functions, for driving them by their legacy interface: registers in I/O BAR 0, and DMA by physical addresses, since QEMU puts
 * no function that has that interface behind the IOMMU.
 */
import { pageSizeBytes } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import { DmaMemory, type DmaOptions, DmaSpace } from "../../lib/memory/mod.ts";
import type { VfioDevice } from "../../lib/vfio/mod.ts";
import type { LegacyRegisterAccess, LegacyWidth } from "../../lib/virtio/admin/legacy_access.ts";
import { LEGACY_CFG_BYTES } from "../../lib/virtio/mod.ts";

const HUGE_PAGE_BYTES = 2 << 20;
/** Bits of an entry of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
const PAGEMAP = { entryBytes: 8, frame: (1n << 55n) - 1n, present: 1n << 63n } as const;

/** Huge pages, each contiguous in physical memory. VFIO pins them, at IOVAs that the device does not use. */
class PhysicalDma extends DmaSpace {
  readonly #real: DmaSpace;
  readonly #pinned = new Map<DmaMemory, DmaMemory>();

  constructor(name: string, real: DmaSpace) {
    super({
      name,
      iovaRanges: [{ start: 0x1000n, last: 0xffff_ffffn }],
      pageSizes: 0x1000n,
      needsFile: false,
      mapDma: () => {},
      unmapDma: () => {},
    });
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

/** The function with DMA memory at physical addresses. */
export function withPhysicalDma(device: VfioDevice): VfioDevice {
  const dma = new PhysicalDma(device.name, device.dma);
  return new Proxy(device, {
    get: (target, key) => {
      if (key === "dma") return dma;
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Legacy registers in I/O BAR 0 (virtio 1.4 §4.1.4.10). `msix`: whether MSI-X is enabled, which moves the device's part. */
export class IoBarRegisters implements LegacyRegisterAccess {
  readonly name: string;
  readonly #device: VfioDevice;
  readonly #msix: () => boolean;

  constructor(device: VfioDevice, msix: () => boolean) {
    this.name = `${device.name} I/O BAR 0`;
    this.#device = device;
    this.#msix = msix;
  }

  readCommon(offset: number, width: LegacyWidth): number {
    return this.#read(offset, width);
  }

  writeCommon(offset: number, width: LegacyWidth, value: number): void {
    this.#write(offset, width, value);
  }

  readDevice(offset: number, width: LegacyWidth): number {
    return this.#read(this.#deviceAt + offset, width);
  }

  writeDevice(offset: number, width: LegacyWidth, value: number): void {
    this.#write(this.#deviceAt + offset, width, value);
  }

  notifyAreas(): [] {
    return [];
  }

  get #deviceAt(): number {
    return this.#msix() ? LEGACY_CFG_BYTES.msix : LEGACY_CFG_BYTES.plain;
  }

  #read(offset: number, width: LegacyWidth): number {
    const bytes = new Uint8Array(width);
    this.#device.readRegion(0, offset, bytes);
    return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
  }

  #write(offset: number, width: LegacyWidth, value: number): void {
    this.#device.writeRegion(
      0,
      offset,
      Uint8Array.from({ length: width }, (_, i) => (value >>> (8 * i)) & 0xff),
    );
  }
}

/** MSI-X Enable, as the function's config space has it (PCI Local Bus 3.0 §6.8.2.3). */
export function msixEnabled(device: VfioDevice): boolean {
  const config = new Uint8Array(256);
  device.readRegion(7, 0, config);
  for (let at = config[0x34]!; at !== 0; at = config[at + 1]!) {
    if (config[at] === 0x11) return (config[at + 3]! & 0x80) !== 0;
  }
  return false;
}
