/**
 * Process Address Space ID, extended ID 0x001b (PCIe 6.0 §7.8.9).
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Process Address Space ID. */
export const PASID = {
  list: "extended",
  id: 0x001b,
  kind: "pasid",
  title: "Process Address Space ID (PASID)",
  lengthBytes: 8,
  /** What the function can do, and what is enabled. */
  registers: {
    /** PASID Capability. */
    capabilities: {
      offset: 4,
      width: 2,
      text: "PASIDCap: Exec± Priv±, Max PASID Width: {maxPasidWidth:2}",
      fields: {
        executePermission: { bits: 1, access: "RO", label: "Exec" },
        privilegedMode: { bits: 2, access: "RO", label: "Priv" },
        /** PASIDs are this many bits wide, at most 20. */
        maxPasidWidth: { bits: [12, 8], access: "RO" },
      },
    },
    /** PASID Control. */
    control: {
      offset: 6,
      width: 2,
      text: "PASIDCtl: Enable± Exec± Priv±",
      fields: {
        enable: { bits: 0, access: "RW", label: "Enable" },
        executePermission: { bits: 1, access: "RW", label: "Exec" },
        privilegedMode: { bits: 2, access: "RW", label: "Priv" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
