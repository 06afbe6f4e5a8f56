/**
 * Subsystem Vendor ID of a bridge, ID 0x0d (PCIe 6.0 §7.9.24): a type 1 header has no room for it.
 *
 * @module
 */

import type { SubsystemId } from "../config_space.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const SUBSYSTEM_ID_BYTES = 8;

/** Decoded bridge subsystem capability. */
export interface SubsystemIdCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "subsystem-id";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Subsystem IDs of the bridge. */
  readonly subsystem: SubsystemId;
}

/** Decodes a bridge subsystem capability. */
export function decodeSubsystemId(window: CapabilityWindow): SubsystemIdCapability {
  window.require(SUBSYSTEM_ID_BYTES);
  return {
    ...window.header,
    kind: "subsystem-id",
    lengthBytes: SUBSYSTEM_ID_BYTES,
    subsystem: { vendorId: window.read16(4), deviceId: window.read16(6) },
  };
}
