/**
 * QEMU's transitional functions, for driving them by their legacy interface: registers in I/O BAR 0, and DMA by physical addresses, since QEMU puts
 * no function that has that interface behind the IOMMU.
 */
import type { VfioDevice } from "../../lib/vfio/mod.ts";
import type { LegacyRegisterAccess, LegacyWidth } from "../../lib/virtio/admin/legacy_access.ts";
import { LEGACY_CFG_BYTES } from "../../lib/virtio/mod.ts";
import { PhysicalDma } from "./physical_memory.ts";

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
