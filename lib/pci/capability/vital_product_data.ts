/**
 * Vital Product Data capability, ID 0x03 (PCIe 6.0 §7.9.18). Only the header: reading the data itself takes
 * writes to the address register, which needs the live function.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const VITAL_PRODUCT_DATA_BYTES = 8;

/** VPD Address, offset 2. */
export const VPD_ADDRESS = {
  name: "VPD Address",
  offset: 2,
  width: 2,
  fields: {
    address: { bits: [14, 0], access: "RW" },
    /** Set by the device when a read is done, cleared when a write is done. */
    flag: { bits: 15, access: "RW" },
  },
} as const;

/** Decoded Vital Product Data capability. */
export interface VitalProductDataCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "vital-product-data";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Address register as it was left by the last access. */
  readonly address: RegisterValue<typeof VPD_ADDRESS>;
  /** Data register: four bytes of VPD at the address, valid once the flag is set after a read request. */
  readonly data: number;
}

/** Decodes the header of a Vital Product Data capability. */
export function decodeVitalProductData(window: CapabilityWindow): VitalProductDataCapability {
  window.require(VITAL_PRODUCT_DATA_BYTES);
  return {
    ...window.header,
    kind: "vital-product-data",
    lengthBytes: VITAL_PRODUCT_DATA_BYTES,
    address: window.register(VPD_ADDRESS),
    data: window.read32(4),
  };
}
