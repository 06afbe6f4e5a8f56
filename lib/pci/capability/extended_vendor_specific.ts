/**
 * Vendor-specific extended capabilities: VSEC, ID 0x000b (PCIe 6.0 §7.9.5), whose meaning the function's own vendor
 * defines, and DVSEC, ID 0x0023 (§7.9.6), which names the vendor that does.
 *
 * @module
 */

import type { RegisterDeclaration } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import { type CapabilityWindow, WindowOverrun } from "./window.ts";

/** The header that both have behind that of the list. */
const HEADER = {
  offset: 4,
  width: 4,
  fields: {
    /** VSEC: ID of the structure. DVSEC: vendor that defines it. */
    owner: { bits: [15, 0], access: "RO" },
    revision: { bits: [19, 16], access: "RO" },
    lengthBytes: { bits: [31, 20], access: "RO" },
  },
} as const satisfies RegisterDeclaration;

/** What a VSEC holds. */
export interface VsecContents {
  /** ID that the function's vendor gave to the structure. */
  readonly vsecId: number;
  /** Revision of the structure. */
  readonly revision: number;
  /** Everything after the two headers. */
  readonly data: Uint8Array;
}

/** Vendor-Specific Extended Capability. The length is what the capability states, both headers included. */
export const EXTENDED_VENDOR_SPECIFIC = {
  list: "extended",
  id: 0x000b,
  kind: "extended-vendor-specific",
  title: "Vendor Specific Information",
  heading: "Vendor Specific Information: ID={vsecId:4} Rev={revision} Len={lengthBytes:3} <?>",
  lengthBytes: (window: CapabilityWindow): number => statedLength(window, 8),
  registers: {},
  derive: (window: CapabilityWindow): VsecContents => {
    const { owner, revision, lengthBytes } = window.register(HEADER);
    return { vsecId: owner, revision, data: window.copy(8, lengthBytes - 8) };
  },
} as const satisfies CapabilityDeclaration;

/** What a DVSEC holds besides. */
export interface DvsecContents {
  /** PCI vendor ID of whoever defines the structure, such as 0x1e98 for CXL. */
  readonly dvsecVendorId: number;
  /** Revision of the structure. */
  readonly revision: number;
  /** Everything after the headers. */
  readonly data: Uint8Array;
}

/** Designated Vendor-Specific capability. The length is what the capability states, all headers included. */
export const DESIGNATED_VENDOR_SPECIFIC = {
  list: "extended",
  id: 0x0023,
  kind: "designated-vendor-specific",
  title: "Designated Vendor-Specific",
  heading:
    "Designated Vendor-Specific: Vendor={dvsecVendorId:4} ID={dvsecId:4} Rev={revision} Len={lengthBytes} <?>",
  lengthBytes: (window: CapabilityWindow): number => statedLength(window, 10),
  registers: {
    /** ID that the vendor gave to the structure. */
    dvsecId: { offset: 8, width: 2 },
  },
  derive: (window: CapabilityWindow): DvsecContents => {
    const { owner, revision, lengthBytes } = window.register(HEADER);
    return { dvsecVendorId: owner, revision, data: window.copy(10, lengthBytes - 10) };
  },
} as const satisfies CapabilityDeclaration;

function statedLength(window: CapabilityWindow, headersBytes: number): number {
  const { lengthBytes } = window.register(HEADER);
  window.require(headersBytes);
  if (lengthBytes < headersBytes) throw new WindowOverrun(headersBytes, lengthBytes);
  return lengthBytes;
}
