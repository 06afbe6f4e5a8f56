/**
 * Secondary PCI Express, extended ID 0x0019 (PCIe 6.0 §7.7.3): link equalization at 8 GT/s.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Link Control 3, offset 4. */
export const LINK_CONTROL_3 = {
  name: "Link Control 3",
  offset: 4,
  width: 4,
  fields: {
    performEqualization: { bits: 0, access: "RW", label: "PerformEqu" },
    equalizationRequestInterrupt: { bits: 1, access: "RW", label: "LnkEquIntrruptEn" },
    lowerSkpOsGeneration: { bits: [15, 9], access: "RW" },
  },
} as const;

/** Decoded Secondary PCI Express capability. The per-lane equalization controls are not decoded. */
export interface SecondaryExpressCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "secondary-express";
  /** Bytes that the structure occupies, without the per-lane controls. */
  readonly lengthBytes: number;
  /** Link Control 3. */
  readonly linkControl3: RegisterValue<typeof LINK_CONTROL_3>;
  /** Bit n: lane n has detected an error. */
  readonly laneErrorStatus: number;
}

/** Decodes a Secondary PCI Express capability. */
export function decodeSecondaryExpress(window: CapabilityWindow): SecondaryExpressCapability {
  window.require(12);
  return {
    ...window.header,
    kind: "secondary-express",
    lengthBytes: 12,
    linkControl3: window.register(LINK_CONTROL_3),
    laneErrorStatus: window.read32(8),
  };
}
