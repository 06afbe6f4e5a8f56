/**
 * Alternative Routing-ID Interpretation, extended ID 0x000e (PCIe 6.0 §7.8.8): more than eight functions in a
 * device.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Alternative Routing-ID Interpretation. */
export const ALTERNATIVE_ROUTING_ID = {
  list: "extended",
  id: 0x000e,
  kind: "alternative-routing-id",
  title: "Alternative Routing-ID Interpretation (ARI)",
  lengthBytes: 8,
  /** What the function can do, and what is enabled. */
  registers: {
    /** ARI Capability. */
    capabilities: {
      offset: 4,
      width: 2,
      text: "ARICap:\tMFVC± ACS±, Next Function: {nextFunction}",
      fields: {
        mfvcFunctionGroups: { bits: 0, access: "RO", label: "MFVC" },
        acsFunctionGroups: { bits: 1, access: "RO", label: "ACS" },
        /** Function number of the next function in the device; 0 at the last. VFs are not on this list. */
        nextFunction: { bits: [15, 8], access: "RO" },
      },
    },
    /** ARI Control. */
    control: {
      offset: 6,
      width: 2,
      text: "ARICtl:\tMFVC± ACS±, Function Group: {functionGroup}",
      fields: {
        mfvcFunctionGroups: { bits: 0, access: "RW", label: "MFVC" },
        acsFunctionGroups: { bits: 1, access: "RW", label: "ACS" },
        functionGroup: { bits: [6, 4], access: "RW" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
