/**
 * Advanced Features, ID 0x13 (PCIe 6.0 §7.9.20): function level reset for functions without a PCIe capability.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Advanced Features. */
export const ADVANCED_FEATURES = {
  list: "standard",
  id: 0x13,
  kind: "advanced-features",
  title: "PCI Advanced Features",
  lengthBytes: 6,
  registers: {
    /** AF Capabilities. */
    capabilities: {
      offset: 3,
      width: 1,
      text: "AFCap: TP± FLR±",
      fields: {
        transactionsPending: { bits: 0, access: "HwInit", label: "TP" },
        functionLevelReset: { bits: 1, access: "HwInit", label: "FLR" },
      },
    },
    /** AF Control. */
    control: {
      offset: 4,
      width: 1,
      text: "AFCtrl: FLR±",
      fields: { initiateFunctionLevelReset: { bits: 0, access: "RWZ", label: "FLR" } },
    },
    /** AF Status. */
    status: {
      offset: 5,
      width: 1,
      text: "AFStatus: TP±",
      fields: { transactionsPending: { bits: 0, access: "RO", label: "TP" } },
    },
  },
} as const satisfies CapabilityDeclaration;
