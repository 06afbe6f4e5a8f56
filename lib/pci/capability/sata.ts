/**
 * SATA, ID 0x12 (Serial ATA AHCI 1.3.1 §2.3): where a host controller has its index-data pair.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** Where the index-data pair is, in other words. */
export interface SataFacts {
  /** `"configuration"`: behind this capability's registers; a number: the index of a BAR; `undefined`: the code is reserved. */
  readonly location: number | "configuration" | undefined;
}

const IN_CONFIGURATION = 15;
const FIRST_BAR = 4;
const LAST_BAR = 9;

/** SATA. The length includes an index-data pair that is in configuration space. */
export const SATA = {
  list: "standard",
  id: 0x12,
  kind: "sata",
  title: "SATA HBA",
  lengthBytes: (window: CapabilityWindow): number =>
    window.register(SATA.registers.place).bar === IN_CONFIGURATION ? 16 : 8,
  registers: {
    /** SATA Capability Register 0: the version of this structure. */
    revision: {
      offset: 2,
      width: 2,
      fields: {
        minor: { bits: [3, 0], access: "RO" },
        major: { bits: [7, 4], access: "RO" },
      },
    },
    /** SATA Capability Register 1. */
    place: {
      offset: 4,
      width: 4,
      fields: {
        /** 4 … 9: BAR 0 … 5; 15: configuration space. */
        bar: { bits: [3, 0], access: "RO" },
        /** Dwords from the start of the BAR. */
        offset: { bits: [23, 4], access: "RO" },
      },
    },
  },
  derive: (window: CapabilityWindow): SataFacts => {
    const { bar } = window.register(SATA.registers.place);
    if (bar === IN_CONFIGURATION) return { location: "configuration" };
    return { location: bar >= FIRST_BAR && bar <= LAST_BAR ? bar - FIRST_BAR : undefined };
  },
} as const satisfies CapabilityDeclaration;
