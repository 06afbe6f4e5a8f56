/**
 * TLP Processing Hints, extended ID 0x0017 (PCIe 6.0 §7.9.13).
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What the registers of TLP Processing Hints say in other words. */
export interface TphFacts {
  /** Steering tags in the capability; 0 when the table is elsewhere or absent. */
  readonly steeringTags: number;
}

/** TLP Processing Hints. The length includes the steering tag table. */
export const TPH_REQUESTER = {
  list: "extended",
  id: 0x0017,
  kind: "tph-requester",
  title: "Transaction Processing Hints",
  lengthBytes: (window: CapabilityWindow): number => {
    window.require(12);
    return 12 + Math.ceil(steeringTags(window) * 2 / 4) * 4;
  },
  /** What the function can do, and what is enabled. */
  registers: {
    /** TPH Requester Capability. */
    capabilities: {
      offset: 4,
      width: 4,
      fields: {
        noSteeringTagMode: { bits: 0, access: "RO" },
        interruptVectorMode: { bits: 1, access: "RO" },
        deviceSpecificMode: { bits: 2, access: "RO" },
        extendedRequester: { bits: 8, access: "RO" },
        /** 0 none, 1 in this capability, 2 in the MSI-X table. */
        tableLocation: { bits: [10, 9], access: "RO" },
        /** One less than the number of entries. */
        tableSize: { bits: [26, 16], access: "RO" },
      },
    },
    /** TPH Requester Control. */
    control: {
      offset: 8,
      width: 4,
      fields: {
        modeSelect: { bits: [2, 0], access: "RW" },
        enable: { bits: [9, 8], access: "RW" },
      },
    },
  },
  derive: (window: CapabilityWindow): TphFacts => ({ steeringTags: steeringTags(window) }),
} as const satisfies CapabilityDeclaration;

function steeringTags(window: CapabilityWindow): number {
  const { tableLocation, tableSize } = window.register(TPH_REQUESTER.registers.capabilities);
  return tableLocation === 1 ? tableSize + 1 : 0;
}
