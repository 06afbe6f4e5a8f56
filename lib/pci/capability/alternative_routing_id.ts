/**
 * Alternative Routing-ID Interpretation, extended ID 0x000e (PCIe 6.0 §7.8.8): more than eight functions in a
 * device.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const ARI_BYTES = 8;

/** ARI Capability, offset 4. */
export const ARI_CAPABILITIES = {
  name: "ARI Capability",
  offset: 4,
  width: 2,
  fields: {
    mfvcFunctionGroups: { bits: 0, access: "RO", label: "MFVC" },
    acsFunctionGroups: { bits: 1, access: "RO", label: "ACS" },
    /** Function number of the next function in the device; 0 at the last. VFs are not on this list. */
    nextFunction: { bits: [15, 8], access: "RO" },
  },
} as const;

/** ARI Control, offset 6. */
export const ARI_CONTROL = {
  name: "ARI Control",
  offset: 6,
  width: 2,
  fields: {
    mfvcFunctionGroups: { bits: 0, access: "RW", label: "MFVC" },
    acsFunctionGroups: { bits: 1, access: "RW", label: "ACS" },
    functionGroup: { bits: [6, 4], access: "RW" },
  },
} as const;

/** Decoded ARI capability. */
export interface AlternativeRoutingIdCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "alternative-routing-id";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof ARI_CAPABILITIES>;
  /** What is enabled. */
  readonly control: RegisterValue<typeof ARI_CONTROL>;
}

/** Decodes an ARI capability. */
export function decodeAlternativeRoutingId(window: CapabilityWindow): AlternativeRoutingIdCapability {
  window.require(ARI_BYTES);
  return {
    ...window.header,
    kind: "alternative-routing-id",
    lengthBytes: ARI_BYTES,
    capabilities: window.register(ARI_CAPABILITIES),
    control: window.register(ARI_CONTROL),
  };
}
