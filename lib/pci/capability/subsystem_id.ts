/**
 * Subsystem Vendor ID of a bridge, ID 0x0d (PCIe 6.0 §7.9.24): a type 1 header has no room for it.
 *
 * @module
 */

import type { SubsystemId } from "../config_space.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** The register as two numbers. */
export interface SubsystemFacts {
  /** Subsystem IDs of the bridge. */
  readonly subsystem: SubsystemId;
}

/** Subsystem IDs of a bridge. */
export const SUBSYSTEM_ID = {
  list: "standard",
  id: 0x0d,
  kind: "subsystem-id",
  title: "Subsystem",
  lengthBytes: 8,
  registers: {
    /** SSVID in the lower half, SSID in the upper. */
    subsystem: { offset: 4, width: 4 },
  },
  derive: (window: CapabilityWindow): SubsystemFacts => {
    const subsystem = window.register(SUBSYSTEM_ID.registers.subsystem);
    return { subsystem: { vendorId: subsystem & 0xffff, deviceId: subsystem >>> 16 } };
  },
} as const satisfies CapabilityDeclaration;
