/**
 * Vendor-specific extended capabilities: VSEC, ID 0x000b (PCIe 6.0 §7.9.5), whose meaning the function's own vendor
 * defines, and DVSEC, ID 0x0023 (§7.9.6), which names the vendor that does.
 *
 * @module
 */

import { type CapabilityHeader, type CapabilityWindow, WindowOverrun } from "./window.ts";

/** Decoded Vendor-Specific Extended Capability (VSEC). */
export interface ExtendedVendorSpecificCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "extended-vendor-specific";
  /** Length as the capability states it, both headers included. */
  readonly lengthBytes: number;
  /** ID that the function's vendor gave to the structure. */
  readonly vsecId: number;
  /** Revision of the structure. */
  readonly revision: number;
  /** Everything after the two headers. */
  readonly data: Uint8Array;
}

/** Decoded Designated Vendor-Specific capability (DVSEC). */
export interface DesignatedVendorSpecificCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "designated-vendor-specific";
  /** Length as the capability states it, all headers included. */
  readonly lengthBytes: number;
  /** PCI vendor ID of whoever defines the structure, such as 0x1e98 for CXL. */
  readonly dvsecVendorId: number;
  /** ID that this vendor gave to the structure. */
  readonly dvsecId: number;
  /** Revision of the structure. */
  readonly revision: number;
  /** Everything after the headers. */
  readonly data: Uint8Array;
}

/** Decodes a VSEC. */
export function decodeExtendedVendorSpecific(window: CapabilityWindow): ExtendedVendorSpecificCapability {
  const header = window.read32(4);
  const lengthBytes = header >>> 20;
  if (lengthBytes < 8) throw new WindowOverrun(8, lengthBytes);
  return {
    ...window.header,
    kind: "extended-vendor-specific",
    lengthBytes,
    vsecId: header & 0xffff,
    revision: (header >>> 16) & 0xf,
    data: window.copy(8, lengthBytes - 8),
  };
}

/** Decodes a DVSEC. */
export function decodeDesignatedVendorSpecific(window: CapabilityWindow): DesignatedVendorSpecificCapability {
  const header = window.read32(4), dvsecId = window.read16(8);
  const lengthBytes = header >>> 20;
  if (lengthBytes < 10) throw new WindowOverrun(10, lengthBytes);
  return {
    ...window.header,
    kind: "designated-vendor-specific",
    lengthBytes,
    dvsecVendorId: header & 0xffff,
    dvsecId,
    revision: (header >>> 16) & 0xf,
    data: window.copy(10, lengthBytes - 10),
  };
}
