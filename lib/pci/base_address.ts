/**
 * Base address registers (PCIe 6.0 §7.5.1.2.1): what a BAR says about the region behind it.
 *
 * A BAR holds the address and the kind, not the size: hardware tells the size only while all ones are written to
 * it. Whoever knows the sizes (the kernel's `resource` file, VFIO region info) passes them in.
 *
 * @module
 */

/** A decoded base address register. */
export interface BaseAddress {
  /** BAR index 0 … 5; a 64-bit BAR takes this index and the next. */
  readonly index: number;
  /** Byte offset of the register in configuration space. */
  readonly offset: number;
  /** Memory or I/O port region. */
  readonly space: "memory" | "io";
  /** Width of the address in bits. 20 is the obsolete "below 1 MiB" type; I/O BARs are 32. */
  readonly addressBits: 20 | 32 | 64;
  /** The type code in bits 2:1 is the reserved value 3, so width and address are a guess. */
  readonly reservedType: boolean;
  /** Reads have no side effects (memory BARs only). */
  readonly prefetchable: boolean;
  /** Bus address of the region; 0 when none is assigned. */
  readonly address: bigint;
  /** Size in bytes when the caller supplied it; 0 when unknown. */
  readonly sizeBytes: number;
  /** The register (lower half for a 64-bit BAR). */
  readonly raw: number;
}

/** Reads one 32-bit word of configuration space at a byte offset. */
export type ReadDword = (offset: number) => number;

/**
 * Decodes a run of BARs.
 *
 * A register that reads 0 and has no known size is an unimplemented BAR and is left out. A 64-bit BAR in the last
 * slot has no upper half: its address is taken as the lower 32 bits alone, as hardware behaves.
 *
 * @param read reads a dword of configuration space
 * @param firstOffset byte offset of BAR 0 (0x10, or 0x24 into an SR-IOV capability for VF BARs)
 * @param count number of registers: 6 for header type 0 and VF BARs, 2 for type 1, 1 for type 2
 * @param sizes size in bytes of each BAR by index, where known
 */
export function decodeBaseAddresses(
  read: ReadDword,
  firstOffset: number,
  count: number,
  sizes: readonly (number | undefined)[] = [],
): BaseAddress[] {
  const found: BaseAddress[] = [];
  for (let index = 0; index < count; index++) {
    const offset = firstOffset + 4 * index;
    const raw = read(offset) >>> 0;
    const sizeBytes = sizes[index] ?? 0;
    if (raw === 0 && sizeBytes === 0) continue;
    const isIo = (raw & 1) !== 0, type = isIo ? 0 : (raw >>> 1) & 3;
    let address = BigInt((raw & (isIo ? ~3 : ~0xf)) >>> 0);
    if (type === 2 && index + 1 < count) address |= BigInt(read(offset + 4) >>> 0) << 32n;
    found.push({
      index,
      offset,
      space: isIo ? "io" : "memory",
      addressBits: type === 2 ? 64 : type === 1 ? 20 : 32,
      reservedType: type === 3,
      prefetchable: !isIo && (raw & 8) !== 0,
      address,
      sizeBytes,
      raw,
    });
    if (type === 2) index++;
  }
  return found;
}

/** A decoded expansion ROM base address register. */
export interface ExpansionRom {
  /** Bus address; 0 when none is assigned. */
  readonly address: number;
  /** The function decodes accesses to the ROM. */
  readonly enabled: boolean;
}

/** Decodes an Expansion ROM Base Address register; `undefined` when it reads 0 (no ROM, or none placed). */
export function decodeExpansionRom(raw: number): ExpansionRom | undefined {
  if (raw === 0) return undefined;
  return { address: (raw & ~0x7ff) >>> 0, enabled: (raw & 1) === 1 };
}
