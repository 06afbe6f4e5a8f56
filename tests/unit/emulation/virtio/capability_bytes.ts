import type { VendorCapability } from "../../../../lib/emulation/mod.ts";
import { vendorCapability } from "../../../../lib/pci/capability_builder.ts";
import { buildConfigSpace } from "../../../../lib/pci/config_builder.ts";
import { walkCapabilities } from "../../../../lib/pci/mod.ts";

/** Vendor-specific capabilities of a function as config space has them, from the id byte on. */
export function capabilityBytes(capabilities: readonly VendorCapability[]): Uint8Array<ArrayBuffer>[] {
  const image = buildConfigSpace({
    vendorId: 0x1af4,
    deviceId: 0x1041,
    classCode: 0,
    capabilities: capabilities.map(vendorCapability),
  });
  return walkCapabilities(image.config).capabilities.map((one) =>
    Uint8Array.from(image.read(one.offset, "lengthBytes" in one ? one.lengthBytes : 2))
  );
}
