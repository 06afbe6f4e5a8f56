/**
 * Precision Time Measurement, extended ID 0x001f (PCIe 6.0 §7.9.15).
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Precision Time Measurement. */
export const PRECISION_TIME_MEASUREMENT = {
  list: "extended",
  id: 0x001f,
  kind: "precision-time-measurement",
  title: "Precision Time Measurement",
  lengthBytes: 12,
  /** What the function can do, and what is enabled. */
  registers: {
    /** PTM Capability. */
    capabilities: {
      offset: 4,
      width: 4,
      fields: {
        requester: { bits: 0, access: "HwInit", label: "Requester" },
        responder: { bits: 1, access: "HwInit", label: "Responder" },
        root: { bits: 2, access: "HwInit", label: "Root" },
        /** Local clock granularity in nanoseconds; 0 none, 255 more than 254. */
        granularity: { bits: [15, 8], access: "HwInit" },
      },
    },
    /** PTM Control. */
    control: {
      offset: 8,
      width: 4,
      fields: {
        enable: { bits: 0, access: "RW", label: "Enabled" },
        rootSelect: { bits: 1, access: "RW", label: "RootSelected" },
        /** Granularity to expect, in nanoseconds; 0 unknown, 255 more than 254. */
        effectiveGranularity: { bits: [15, 8], access: "RW" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
