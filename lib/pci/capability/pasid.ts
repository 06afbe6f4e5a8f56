/**
 * Process Address Space ID, extended ID 0x001b (PCIe 6.0 §7.8.9).
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const PASID_BYTES = 8;

/** PASID Capability, offset 4. */
export const PASID_CAPABILITIES = {
  name: "PASID Capability",
  offset: 4,
  width: 2,
  fields: {
    executePermission: { bits: 1, access: "RO", label: "Exec" },
    privilegedMode: { bits: 2, access: "RO", label: "Priv" },
    /** PASIDs are this many bits wide, at most 20. */
    maxPasidWidth: { bits: [12, 8], access: "RO" },
  },
} as const;

/** PASID Control, offset 6. */
export const PASID_CONTROL = {
  name: "PASID Control",
  offset: 6,
  width: 2,
  fields: {
    enable: { bits: 0, access: "RW", label: "Enable" },
    executePermission: { bits: 1, access: "RW", label: "Exec" },
    privilegedMode: { bits: 2, access: "RW", label: "Priv" },
  },
} as const;

/** Decoded PASID capability. */
export interface PasidCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "pasid";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof PASID_CAPABILITIES>;
  /** What is enabled. */
  readonly control: RegisterValue<typeof PASID_CONTROL>;
}

/** Decodes a PASID capability. */
export function decodePasid(window: CapabilityWindow): PasidCapability {
  window.require(PASID_BYTES);
  return {
    ...window.header,
    kind: "pasid",
    lengthBytes: PASID_BYTES,
    capabilities: window.register(PASID_CAPABILITIES),
    control: window.register(PASID_CONTROL),
  };
}
