/**
 * Advanced Features, ID 0x13 (PCIe 6.0 §7.9.20): function level reset for functions without a PCIe capability.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const ADVANCED_FEATURES_BYTES = 6;

/** AF Capabilities, offset 3. */
export const AF_CAPABILITIES = {
  name: "AF Capabilities",
  offset: 3,
  width: 1,
  fields: {
    transactionsPending: { bits: 0, access: "HwInit", label: "TP" },
    functionLevelReset: { bits: 1, access: "HwInit", label: "FLR" },
  },
} as const;

/** AF Control, offset 4. */
export const AF_CONTROL = {
  name: "AF Control",
  offset: 4,
  width: 1,
  fields: { initiateFunctionLevelReset: { bits: 0, access: "RWZ", label: "FLR" } },
} as const;

/** AF Status, offset 5. */
export const AF_STATUS = {
  name: "AF Status",
  offset: 5,
  width: 1,
  fields: { transactionsPending: { bits: 0, access: "RO", label: "TP" } },
} as const;

/** Decoded Advanced Features capability. */
export interface AdvancedFeaturesCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "advanced-features";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof AF_CAPABILITIES>;
  /** Control. */
  readonly control: RegisterValue<typeof AF_CONTROL>;
  /** Status. */
  readonly status: RegisterValue<typeof AF_STATUS>;
}

/** Decodes an Advanced Features capability. */
export function decodeAdvancedFeatures(window: CapabilityWindow): AdvancedFeaturesCapability {
  window.require(ADVANCED_FEATURES_BYTES);
  return {
    ...window.header,
    kind: "advanced-features",
    lengthBytes: ADVANCED_FEATURES_BYTES,
    capabilities: window.register(AF_CAPABILITIES),
    control: window.register(AF_CONTROL),
    status: window.register(AF_STATUS),
  };
}
