/**
 * MSI-X, ID 0x11 (PCIe 6.0 §7.7.2): where in which BAR the vector table and the pending bits are.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const MSIX_BYTES = 12;
/** Size of one vector table entry in bytes. */
export const MSIX_ENTRY_BYTES = 16;

/** Message Control, offset 2. */
export const MSIX_CONTROL = {
  name: "Message Control",
  offset: 2,
  width: 2,
  fields: {
    /** One less than the number of vectors. */
    tableSize: { bits: [10, 0], access: "RO" },
    functionMask: { bits: 14, access: "RW", label: "Masked" },
    enable: { bits: 15, access: "RW", label: "Enable" },
  },
} as const;

/** A place inside a BAR. */
export interface BarPlace {
  /** BAR index (BIR). 6 and 7 are reserved values that only a faulty device reports. */
  readonly bar: number;
  /** Bytes from the start of that BAR. */
  readonly offset: number;
}

/** Decoded MSI-X capability. */
export interface MsixCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "msi-x";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Message Control. */
  readonly control: RegisterValue<typeof MSIX_CONTROL>;
  /** Number of vectors: 1 … 2048. */
  readonly vectorCount: number;
  /** Where the table is: 16 bytes a vector. */
  readonly table: BarPlace;
  /** Where the pending bit array is: one bit a vector, in 64-bit words. */
  readonly pendingBits: BarPlace;
}

/** Decodes an MSI-X capability. */
export function decodeMsix(window: CapabilityWindow): MsixCapability {
  window.require(MSIX_BYTES);
  const control = window.register(MSIX_CONTROL);
  return {
    ...window.header,
    kind: "msi-x",
    lengthBytes: MSIX_BYTES,
    control,
    vectorCount: control.tableSize + 1,
    table: barPlace(window.read32(4)),
    pendingBits: barPlace(window.read32(8)),
  };
}

function barPlace(raw: number): BarPlace {
  return { bar: raw & 7, offset: (raw & ~7) >>> 0 };
}
