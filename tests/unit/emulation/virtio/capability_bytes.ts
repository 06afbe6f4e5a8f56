import type { VendorCapability } from "../../../../lib/emulation/mod.ts";
import { buildConfigSpace } from "../../../../lib/pci/config_builder.ts";

/** Vendor-specific capabilities of a function as config space has them, from the id byte on. */
export function capabilityBytes(capabilities: readonly VendorCapability[]): Uint8Array<ArrayBuffer>[] {
  const { image, placed } = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x1041,
    classCode: 0,
    capabilities,
  });
  return placed.map(({ offset, lengthBytes }) => Uint8Array.from(image.read(offset, lengthBytes)));
}
