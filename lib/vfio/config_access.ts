/**
 * Configuration space of an opened function, register by register.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { CONVENTIONAL_BYTES, EXTENDED_BYTES, HEADER } from "../pci/header.ts";
import type { AccessWidth } from "../registers/declaration.ts";
import { type RegisterSpace, requireFit } from "../registers/registers.ts";
import { REGION, type VfioDevice } from "./device.ts";

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
 * servers virtualise some registers, and none can be mapped. Little-endian; offsets in bytes, aligned to the width.
 *
 * Calls throw `UsageError` for an offset that is outside or not aligned, else what the device throws.
 */
export class ConfigAccess implements RegisterSpace {
  static {
    typedErrors(this);
  }

  readonly #device: VfioDevice;
  // One buffer a width, so that polling a register does not allocate.
  readonly #byte = new Uint8Array(1);
  readonly #word = new Uint16Array(1);
  readonly #long = new Uint32Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  readonly #longBytes = new Uint8Array(this.#long.buffer);

  /** Looks at a function. @param device an open function; stays the caller's */
  constructor(device: VfioDevice) {
    this.#device = device;
  }

  /** Bytes of configuration space: 256 (conventional) or 4096 (PCI Express). */
  get sizeBytes(): number {
    const { sizeBytes } = this.#device.regionInfo(REGION.config);
    return sizeBytes >= EXTENDED_BYTES ? EXTENDED_BYTES : Math.min(sizeBytes, CONVENTIONAL_BYTES);
  }

  /** One access of that width, unsigned. */
  read(offset: number, width: AccessWidth): number {
    return width === 1 ? this.read8(offset) : width === 2 ? this.read16(offset) : this.read32(offset);
  }

  /** One access of that width. @throws UsageError for a value that does not fit */
  write(offset: number, width: AccessWidth, value: number): void {
    requireFit(value, width);
    if (width === 1) this.write8(offset, value);
    else if (width === 2) this.write16(offset, value);
    else this.write32(offset, value);
  }

  /** Reads a byte. */
  read8(offset: number): number {
    this.#check(offset, 1);
    this.#device.readRegion(REGION.config, offset, this.#byte);
    return this.#byte[0]!;
  }

  /** Reads 16 bits. */
  read16(offset: number): number {
    this.#check(offset, 2);
    this.#device.readRegion(REGION.config, offset, this.#wordBytes);
    return this.#word[0]!;
  }

  /** Reads 32 bits, unsigned. */
  read32(offset: number): number {
    this.#check(offset, 4);
    this.#device.readRegion(REGION.config, offset, this.#longBytes);
    return this.#long[0]!;
  }

  /** Writes a byte. */
  write8(offset: number, value: number): void {
    this.#check(offset, 1);
    this.#byte[0] = value;
    this.#device.writeRegion(REGION.config, offset, this.#byte);
  }

  /** Writes 16 bits. */
  write16(offset: number, value: number): void {
    this.#check(offset, 2);
    this.#word[0] = value;
    this.#device.writeRegion(REGION.config, offset, this.#wordBytes);
  }

  /** Writes 32 bits. */
  write32(offset: number, value: number): void {
    this.#check(offset, 4);
    this.#long[0] = value;
    this.#device.writeRegion(REGION.config, offset, this.#longBytes);
  }

  /** A copy of all of it, `sizeBytes` long: what `ConfigSpace` of lib/pci decodes. */
  readAll(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.sizeBytes);
    this.#device.readRegion(REGION.config, 0, bytes);
    return bytes;
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

  #check(offset: number, width: number): void {
    if (!Number.isInteger(offset) || offset < 0 || offset + width > this.sizeBytes || offset % width !== 0) {
      throw new UsageError(
        `${this.#device.name} configuration space: no ${8 * width}-bit register at offset ${offset}`,
        { hint: `offsets are multiples of ${width} below ${this.sizeBytes}` },
      );
    }
  }
}
