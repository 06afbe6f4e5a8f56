/**
 * TLP Processing Hints, extended ID 0x0017 (PCIe 6.0 §7.9.13).
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** TPH Requester Capability, offset 4. */
export const TPH_CAPABILITIES = {
  name: "TPH Requester Capability",
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
} as const;

/** TPH Requester Control, offset 8. */
export const TPH_CONTROL = {
  name: "TPH Requester Control",
  offset: 8,
  width: 4,
  fields: {
    modeSelect: { bits: [2, 0], access: "RW" },
    enable: { bits: [9, 8], access: "RW" },
  },
} as const;

/** Decoded TPH Requester capability. */
export interface TphRequesterCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "tph-requester";
  /** Bytes that the structure occupies, steering tag table included. */
  readonly lengthBytes: number;
  /** What the function can do. */
  readonly capabilities: RegisterValue<typeof TPH_CAPABILITIES>;
  /** Control. */
  readonly control: RegisterValue<typeof TPH_CONTROL>;
  /** Steering tags in the capability; 0 when the table is elsewhere or absent. */
  readonly steeringTags: number;
}

/** Decodes a TPH Requester capability. */
export function decodeTphRequester(window: CapabilityWindow): TphRequesterCapability {
  window.require(12);
  const capabilities = window.register(TPH_CAPABILITIES);
  const steeringTags = capabilities.tableLocation === 1 ? capabilities.tableSize + 1 : 0;
  const lengthBytes = 12 + Math.ceil(steeringTags * 2 / 4) * 4;
  window.require(lengthBytes);
  return {
    ...window.header,
    kind: "tph-requester",
    lengthBytes,
    capabilities,
    control: window.register(TPH_CONTROL),
    steeringTags,
  };
}
