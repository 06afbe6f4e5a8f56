/**
 * Vendor-specific capability, ID 0x09 (PCIe 6.0 §7.9.4): a length, and whatever the vendor likes. Red Hat's, which
 * describe virtio structures, are decoded further in `virtio.ts`.
 *
 * @module
 */

import type { RegisterTable } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What follows the list header. */
export const VENDOR_SPECIFIC_HEADER = {
  /** Bytes of the capability, the list header included. Some old devices leave it 0 and mean "header only". */
  length: { offset: 2, width: 1 },
} as const satisfies RegisterTable;

/** What a vendor-specific capability holds. */
export interface VendorSpecificData {
  /** Everything after the three header bytes. */
  readonly data: Uint8Array;
}

/** Vendor-specific, where it is not virtio's. The length is what the capability states. */
export const VENDOR_SPECIFIC = {
  list: "standard",
  id: 0x09,
  kind: "vendor-specific",
  title: "Vendor Specific Information",
  heading: "Vendor Specific Information: Len={lengthBytes:2} <?>",
  lengthBytes: statedLength,
  registers: {},
  derive: (window: CapabilityWindow): VendorSpecificData => ({
    data: window.copy(3, Math.max(statedLength(window) - 3, 0)),
  }),
} as const satisfies CapabilityDeclaration;

/** The length that a vendor-specific capability states. @throws {WindowOverrun} when it does not fit */
export function statedLength(window: CapabilityWindow): number {
  const lengthBytes = window.register(VENDOR_SPECIFIC_HEADER.length);
  window.require(Math.max(lengthBytes, 3));
  return lengthBytes;
}
