/**
 * Subsystem Vendor ID of a bridge, ID 0x0d (PCIe 6.0 §7.9.24): a type 1 header has no room for it.
 *
 * @module
 */

import type { SubsystemId } from "../config_space.ts";
import type { RegisterTable } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";

/** Its register. */
export const SUBSYSTEM_ID_REGISTERS = {
  /** SSVID in the lower half, SSID in the upper. */
  subsystem: { offset: 4, width: 4 },
} as const satisfies RegisterTable;

/** The register as two numbers. */
export interface SubsystemFacts {
  /** Subsystem IDs of the bridge. */
  readonly subsystem: SubsystemId;
}

/** Subsystem IDs of a bridge. */
export const SUBSYSTEM_ID: CapabilityDeclaration<
  "subsystem-id",
  typeof SUBSYSTEM_ID_REGISTERS,
  SubsystemFacts
> = {
  list: "standard",
  id: 0x0d,
  kind: "subsystem-id",
  title: "Subsystem",
  lengthBytes: 8,
  registers: SUBSYSTEM_ID_REGISTERS,
  derive: ({ subsystem }) => ({
    subsystem: { vendorId: subsystem & 0xffff, deviceId: subsystem >>> 16 },
  }),
};
