/**
 * Address Translation Services, extended ID 0x000f (PCIe 6.0 §10.5.1): the function caches IOMMU translations.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Address Translation Services. */
export const ADDRESS_TRANSLATION = {
  list: "extended",
  id: 0x000f,
  kind: "address-translation",
  title: "Address Translation Service (ATS)",
  lengthBytes: 8,
  /** What the function can do, and what is enabled. */
  registers: {
    /** ATS Capability. */
    capabilities: {
      offset: 4,
      width: 2,
      text: "ATSCap:\tInvalidate Queue Depth: {invalidateQueueDepth:2}",
      fields: {
        /** Invalidations that the function can queue; 0 stands for 32. */
        invalidateQueueDepth: { bits: [4, 0], access: "RO" },
        pageAlignedRequest: { bits: 5, access: "RO", label: "PageAligned" },
        globalInvalidate: { bits: 6, access: "RO", label: "GlobalInv" },
        relaxedOrdering: { bits: 7, access: "RO", label: "RlxdOrd" },
      },
    },
    /** ATS Control. */
    control: {
      offset: 6,
      width: 2,
      text: "ATSCtl:\tEnable±, Smallest Translation Unit: {smallestTranslationUnit:2}",
      fields: {
        /** Smallest Translation Unit: 2^(value + 12) bytes. */
        smallestTranslationUnit: { bits: [4, 0], access: "RW" },
        enable: { bits: 15, access: "RW", label: "Enable" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
