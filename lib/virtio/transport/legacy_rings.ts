/**
 * Rings of the legacy interface as a page number says where they are, by PCI or MMIO (virtio 1.2 §2.7.2; reference 2.3).
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { LEGACY_RING_ALIGN, legacyRingLayout } from "../spec/legacy.ts";
import type { QueueAddresses } from "./transport.ts";

/** A page number has 32 bits, and counts pages of 4096 bytes. */
const PFN_LIMIT = 1n << 44n;

/**
 * Number of the page that a ring begins.
 * @param name of the function, for messages @throws UsageError (areas that do not lie as `legacyRingLayout` has them; a ring at 2^44 or above)
 */
export function legacyPageOf(name: string, queue: number, addresses: QueueAddresses): number {
  const { size, descriptorArea, driverArea, deviceArea } = addresses;
  const { availableOffset, usedOffset, totalBytes } = legacyRingLayout(size);
  const where = `${name}, queue ${queue}: a ring at 0x${descriptorArea.toString(16)}`;
  const align = BigInt(LEGACY_RING_ALIGN);
  if (
    descriptorArea === 0n || descriptorArea % align !== 0n ||
    driverArea !== descriptorArea + BigInt(availableOffset) ||
    deviceArea !== descriptorArea + BigInt(usedOffset)
  ) {
    throw new UsageError(
      `${where} is not one legacy area that begins a page of ${LEGACY_RING_ALIGN} bytes`,
      { hint: "use createVirtqueue, which lays it out" },
    );
  }
  if (descriptorArea + BigInt(totalBytes) > PFN_LIMIT) {
    throw new UsageError(`${where}: queue_pfn has 32 bits and reaches addresses below 2^44`, {
      hint:
        "the IOMMU leaves no lower addresses free: allocate less, or drive the function by the modern interface",
    });
  }
  return Number(descriptorArea / align);
}

/** Where the areas of a ring are, by its page number; nowhere for 0. @param size as the device says it, or whoever set the queue up */
export function legacyAreas(size: number, pfn: number): QueueAddresses {
  const powerOfTwo = size > 0 && size <= 32768 && (size & (size - 1)) === 0;
  const layout = powerOfTwo ? legacyRingLayout(size) : { availableOffset: 0, usedOffset: 0 };
  const start = BigInt(pfn * LEGACY_RING_ALIGN);
  const at = (offset: number) => pfn === 0 ? 0n : start + BigInt(offset);
  return {
    size,
    descriptorArea: start,
    driverArea: at(layout.availableOffset),
    deviceArea: at(layout.usedOffset),
  };
}
