/**
 * Configuration space of an opened function, register by register.
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import { CONVENTIONAL_BYTES, EXTENDED_BYTES, HEADER } from "../pci/header.ts";
import { REGION, type VfioDevice } from "./device.ts";
import { requirePciDevice } from "./pci_device.ts";
import { RegionRegisters } from "./region_registers.ts";

/** Bits of the Command register (PCIe 6.0 §7.5.1.1.3) that a userspace driver sets itself. */
const COMMAND_BIT = { memory: 1 << 1, busMaster: 1 << 2, intxDisable: 1 << 10 } as const;

/** Which bits of the Command register to change; those that are left out stay. */
export interface CommandChange {
  /** The function answers accesses to its memory BARs. */
  readonly memory?: boolean;
  /** The function may start DMA and send MSI and MSI-X. */
  readonly busMaster?: boolean;
  /** The function does not assert INTx. */
  readonly intxDisable?: boolean;
}

/**
 * Typed access to configuration space. Each call is one access of its width, through the server: the kernel and vfio-user
 * servers virtualise some registers, and none can be mapped.
 */
export class ConfigAccess extends RegionRegisters {
  static {
    typedErrors(this);
  }

  /**
   * Of 256 bytes (conventional) or 4096 (PCI Express). @param device an open function; stays the caller's
   * @throws UnsupportedError for a platform device: it has none
   */
  constructor(device: VfioDevice) {
    requireType(
      device,
      "object",
      "new ConfigAccess: device",
      "name",
      "info",
      "regionInfo",
      "readRegion",
      "writeRegion",
    );
    requirePciDevice(device, "configuration space");
    const { sizeBytes } = device.regionInfo(REGION.config);
    const there = sizeBytes >= EXTENDED_BYTES ? EXTENDED_BYTES : Math.min(sizeBytes, CONVENTIONAL_BYTES);
    super(device, REGION.config, "configuration space", there);
  }

  /** A copy of all of it, `sizeBytes` long: what `ConfigSpace` of lib/pci decodes. */
  readAll(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.sizeBytes);
    this.device.readRegion(REGION.config, 0, bytes);
    return bytes;
  }

  /** Bus Master Enable: the function may start DMA, and send MSI and MSI-X. */
  get busMaster(): boolean {
    return (this.read16(HEADER.command.offset) & COMMAND_BIT.busMaster) !== 0;
  }

  /** Changes bits of the Command register. @returns the register's value before. */
  setCommand(change: CommandChange): number {
    const before = this.read16(HEADER.command.offset);
    let after = before;
    for (const [name, bit] of Object.entries(COMMAND_BIT)) {
      const wanted = change[name as keyof CommandChange];
      if (wanted !== undefined) after = wanted ? after | bit : after & ~bit;
    }
    if (after !== before) this.write16(HEADER.command.offset, after);
    return before;
  }
}
