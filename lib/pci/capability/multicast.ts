/**
 * Multicast, extended ID 0x0012 (PCIe 6.0 §7.9.11): posted writes to a window of addresses go to groups of functions.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What the 64-bit registers of Multicast hold. */
export interface MulticastFacts {
  /** Lowest address bit of the group number. */
  readonly indexPosition: number;
  /** Where the window begins. */
  readonly baseAddress: bigint;
  /** Bytes of the window that the overlay replaces, as a power of two; below 6: no overlay. */
  readonly overlaySize: number;
  /** Upper address bits that the overlay puts in. */
  readonly overlayAddress: bigint;
}

/** Multicast. */
export const MULTICAST = {
  list: "extended",
  id: 0x0012,
  kind: "multicast",
  title: "Multicast",
  lengthBytes: 0x30,
  registers: {
    /** Multicast Capability. */
    capabilities: {
      offset: 0x04,
      width: 2,
      fields: {
        /** One less than the number of groups. */
        maxGroup: { bits: [5, 0], access: "RO" },
        /** Endpoints: size of the window that they ask for, as a power of two. */
        windowSizeRequested: { bits: [13, 8], access: "RO" },
        ecrcRegeneration: { bits: 15, access: "RO", label: "ECRCRegen" },
      },
    },
    /** Multicast Control. */
    control: {
      offset: 0x06,
      width: 2,
      fields: {
        /** One less than the number of groups. */
        numGroup: { bits: [5, 0], access: "RW" },
        enable: { bits: 15, access: "RW", label: "Enable" },
      },
    },
    /** Multicast Base Address, with the index position in its low bits. */
    base: { offset: 0x08, width: 8 },
    /** Bit n: group n is received. */
    receive: { offset: 0x10, width: 8 },
    /** Bit n: what is for group n is blocked. */
    blockAll: { offset: 0x18, width: 8 },
    /** Bit n: what is for group n is blocked when its address was not translated. */
    blockUntranslated: { offset: 0x20, width: 8 },
    /** Multicast Overlay BAR, with the overlay size in its low bits. Ports only. */
    overlay: { offset: 0x28, width: 8 },
  },
  derive: (window: CapabilityWindow): MulticastFacts => {
    const base = window.register(MULTICAST.registers.base);
    const overlay = window.register(MULTICAST.registers.overlay);
    return {
      indexPosition: Number(base & 0x3fn),
      baseAddress: base & ~0xfffn,
      overlaySize: Number(overlay & 0x3fn),
      overlayAddress: overlay & ~0x3fn,
    };
  },
} as const satisfies CapabilityDeclaration;
