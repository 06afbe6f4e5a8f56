/**
 * Precision Time Measurement, extended ID 0x001f (PCIe 6.0 §7.9.15).
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const PTM_BYTES = 12;

/** PTM Capability, offset 4. */
export const PTM_CAPABILITIES = {
  name: "PTM Capability",
  offset: 4,
  width: 4,
  fields: {
    requester: { bits: 0, access: "HwInit", label: "Requester" },
    responder: { bits: 1, access: "HwInit", label: "Responder" },
    root: { bits: 2, access: "HwInit", label: "Root" },
    /** Local clock granularity in nanoseconds; 0 none, 255 more than 254. */
    granularity: { bits: [15, 8], access: "HwInit" },
  },
} as const;

/** PTM Control, offset 8. */
export const PTM_CONTROL = {
  name: "PTM Control",
  offset: 8,
  width: 4,
  fields: {
    enable: { bits: 0, access: "RW", label: "Enabled" },
    rootSelect: { bits: 1, access: "RW", label: "RootSelected" },
    /** Granularity to expect, in nanoseconds; 0 unknown, 255 more than 254. */
    effectiveGranularity: { bits: [15, 8], access: "RW" },
  },
} as const;

/** Decoded PTM capability. */
export interface PrecisionTimeMeasurementCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "precision-time-measurement";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof PTM_CAPABILITIES>;
  /** Control. */
  readonly control: RegisterValue<typeof PTM_CONTROL>;
}

/** Decodes a PTM capability. */
export function decodePrecisionTimeMeasurement(window: CapabilityWindow): PrecisionTimeMeasurementCapability {
  window.require(PTM_BYTES);
  return {
    ...window.header,
    kind: "precision-time-measurement",
    lengthBytes: PTM_BYTES,
    capabilities: window.register(PTM_CAPABILITIES),
    control: window.register(PTM_CONTROL),
  };
}
