/**
 * The legacy interface: its register block and its ring layout (virtio 1.4 §4.1.4.10, §2.7.2; reference 2.3).
 *
 * Reached by I/O BAR 0 on transitional functions, and by the legacy register commands of an administration queue, where common and
 * device-specific parts are separate offset spaces and everything is little-endian.
 *
 * @module
 */
import { QUEUE_SIZE_MAX } from "./ring.ts";
import { UsageError } from "../../errors/mod.ts";
import type { RegisterTable } from "../../registers/declaration.ts";

/** The register block, 20 bytes; 24 while MSI-X is enabled: the two vector registers are there only then. */
export const LEGACY_CFG = {
  device_features: { offset: 0, width: 4, access: "R" },
  driver_features: { offset: 4, width: 4, access: "RW" },
  /** Page frame number of the ring: address / 4096. 0 stops the queue. */
  queue_pfn: { offset: 8, width: 4, access: "RW" },
  /** Set by the device; 0: no such queue. */
  queue_size: { offset: 12, width: 2, access: "R" },
  queue_select: { offset: 14, width: 2, access: "RW" },
  queue_notify: { offset: 16, width: 2, access: "RW" },
  device_status: { offset: 18, width: 1, access: "RW" },
  /** Reading clears it. */
  isr_status: { offset: 19, width: 1, access: "R" },
  config_msix_vector: { offset: 20, width: 2, access: "RW" },
  queue_msix_vector: { offset: 22, width: 2, access: "RW" },
} as const satisfies RegisterTable;

/** Name of a legacy register. */
export type LegacyRegisterName = keyof typeof LEGACY_CFG;

/** Bytes of the common part: without and with MSI-X enabled. The device-specific part follows there in an I/O BAR. */
export const LEGACY_CFG_BYTES = { plain: 20, msix: 24 } as const;

/** Alignment of the used ring, and unit of `queue_pfn`, in bytes. */
export const LEGACY_RING_ALIGN = 4096;

/** Byte offsets of the parts of a legacy ring, from its start, which is a multiple of its alignment. */
export interface LegacyRingLayout {
  /** Available ring, behind the descriptor table of 16 bytes an entry. */
  readonly availableOffset: number;
  /** Used ring, on the next multiple of the alignment. */
  readonly usedOffset: number;
  /** All of it. */
  readonly totalBytes: number;
}

/**
 * Where the parts of a legacy ring lie: one contiguous area.
 * @param alignBytes of the used ring; a driver of virtio-mmio chooses it (virtio 1.2 §4.2.4). Default: PCI's
 * @throws UsageError for a size that is no power of two up to 32768, an alignment that is no power of two
 */
export function legacyRingLayout(size: number, alignBytes: number = LEGACY_RING_ALIGN): LegacyRingLayout {
  if (!isPowerOfTwo(size) || size > QUEUE_SIZE_MAX) {
    throw new UsageError(`a legacy queue cannot have ${size} descriptors`, {
      hint: "the size is a power of two up to 32768",
    });
  }
  if (!isPowerOfTwo(alignBytes)) {
    throw new UsageError(`a legacy ring cannot be aligned to ${alignBytes} bytes`, {
      hint: "the alignment is a power of two",
    });
  }
  const align = (bytes: number) => Math.ceil(bytes / alignBytes) * alignBytes;
  const availableOffset = 16 * size;
  const usedOffset = align(availableOffset + 6 + 2 * size);
  return { availableOffset, usedOffset, totalBytes: usedOffset + align(6 + 8 * size) };
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value >= 1 && Number.isInteger(Math.log2(value));
}
