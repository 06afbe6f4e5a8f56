/**
 * Secondary PCI Express, extended ID 0x0019 (PCIe 6.0 §7.7.3): link equalization at 8 GT/s.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Secondary PCI Express. */
export const SECONDARY_EXPRESS = {
  list: "extended",
  id: 0x0019,
  kind: "secondary-express",
  title: "Secondary PCI Express",
  lengthBytes: 12,
  /** The per-lane equalization controls are not decoded. */
  registers: {
    /** Link Control 3. */
    linkControl3: {
      offset: 4,
      width: 4,
      text: "LnkCtl3: LnkEquIntrruptEn± PerformEqu±",
      fields: {
        performEqualization: { bits: 0, access: "RW", label: "PerformEqu" },
        equalizationRequestInterrupt: { bits: 1, access: "RW", label: "LnkEquIntrruptEn" },
        lowerSkpOsGeneration: { bits: [15, 9], access: "RW" },
      },
    },
    /** Bit n: lane n has detected an error. */
    laneErrorStatus: { offset: 8, width: 4 },
  },
} as const satisfies CapabilityDeclaration;
