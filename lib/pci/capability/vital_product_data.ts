/**
 * Vital Product Data capability, ID 0x03 (PCIe 6.0 §7.9.18). Only the header: reading the data itself takes
 * writes to the address register, which needs the live function.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Vital Product Data. */
export const VITAL_PRODUCT_DATA = {
  list: "standard",
  id: 0x03,
  kind: "vital-product-data",
  title: "Vital Product Data",
  lengthBytes: 8,
  /** Registers as the last access left them. */
  registers: {
    /** VPD Address. */
    address: {
      offset: 2,
      width: 2,
      fields: {
        address: { bits: [14, 0], access: "RW" },
        /** Set by the device when a read is done, cleared when a write is done. */
        flag: { bits: 15, access: "RW" },
      },
    },
    /** Four bytes of VPD at the address, valid once the flag is set after a read request. */
    data: { offset: 4, width: 4, access: "RW" },
  },
} as const satisfies CapabilityDeclaration;
