/**
 * Address Translation Services, extended ID 0x000f (PCIe 6.0 §10.5.1): the function caches IOMMU translations.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const ATS_BYTES = 8;

/** ATS Capability, offset 4. */
export const ATS_CAPABILITIES = {
  name: "ATS Capability",
  offset: 4,
  width: 2,
  fields: {
    /** Invalidations that the function can queue; 0 stands for 32. */
    invalidateQueueDepth: { bits: [4, 0], access: "RO" },
    pageAlignedRequest: { bits: 5, access: "RO", label: "PageAligned" },
    globalInvalidate: { bits: 6, access: "RO", label: "GlobalInv" },
    relaxedOrdering: { bits: 7, access: "RO", label: "RlxdOrd" },
  },
} as const;

/** ATS Control, offset 6. */
export const ATS_CONTROL = {
  name: "ATS Control",
  offset: 6,
  width: 2,
  fields: {
    /** Smallest Translation Unit: 2^(value + 12) bytes. */
    smallestTranslationUnit: { bits: [4, 0], access: "RW" },
    enable: { bits: 15, access: "RW", label: "Enable" },
  },
} as const;

/** Decoded ATS capability. */
export interface AddressTranslationCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "address-translation";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof ATS_CAPABILITIES>;
  /** What is enabled. */
  readonly control: RegisterValue<typeof ATS_CONTROL>;
}

/** Decodes an ATS capability. */
export function decodeAddressTranslation(window: CapabilityWindow): AddressTranslationCapability {
  window.require(ATS_BYTES);
  return {
    ...window.header,
    kind: "address-translation",
    lengthBytes: ATS_BYTES,
    capabilities: window.register(ATS_CAPABILITIES),
    control: window.register(ATS_CONTROL),
  };
}
