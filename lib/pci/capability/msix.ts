/**
 * MSI-X, ID 0x11 (PCIe 6.0 §7.7.2): where in which BAR the vector table and the pending bits are.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** Size of one vector table entry in bytes. */
export const MSIX_ENTRY_BYTES = 16;

/** A place inside a BAR. */
export interface BarPlace {
  /** BAR index (BIR). 6 and 7 are reserved values that only a faulty device reports. */
  readonly bar: number;
  /** Bytes from the start of that BAR. */
  readonly offset: number;
}

/** Splits a register that holds an offset, a multiple of 8, and a BAR index in its lowest three bits. */
export function barPlace(raw: number): BarPlace {
  return { bar: raw & 7, offset: (raw & ~7) >>> 0 };
}

/** What the registers of MSI-X say in other words. */
export interface MsixFacts {
  /** Number of vectors: 1 … 2048. */
  readonly vectorCount: number;
  /** Where the table is: 16 bytes a vector. */
  readonly table: BarPlace;
  /** Where the pending bit array is: one bit a vector, in 64-bit words. */
  readonly pendingBits: BarPlace;
}

/** MSI-X. */
export const MSIX = {
  list: "standard",
  id: 0x11,
  kind: "msi-x",
  title: "MSI-X",
  heading: "MSI-X: Enable{control.enable} Count={vectorCount} Masked{control.functionMask}",
  lengthBytes: 12,
  registers: {
    /** Message Control. */
    control: {
      offset: 2,
      width: 2,
      fields: {
        /** One less than the number of vectors. */
        tableSize: { bits: [10, 0], access: "RO" },
        functionMask: { bits: 14, access: "RW", label: "Masked" },
        enable: { bits: 15, access: "RW", label: "Enable" },
      },
    },
    /** Table Offset in the upper bits, Table BIR in the lower three. */
    table: { offset: 4, width: 4, text: "Vector table: BAR={table.bar} offset={table.offset:8}" },
    /** PBA Offset in the upper bits, PBA BIR in the lower three. */
    pendingBits: { offset: 8, width: 4, text: "PBA: BAR={pendingBits.bar} offset={pendingBits.offset:8}" },
  },
  derive: (window: CapabilityWindow): MsixFacts => {
    const { control, table, pendingBits } = window.registers(MSIX.registers);
    return {
      vectorCount: control.tableSize + 1,
      table: barPlace(table),
      pendingBits: barPlace(pendingBits),
    };
  },
} as const satisfies CapabilityDeclaration;
