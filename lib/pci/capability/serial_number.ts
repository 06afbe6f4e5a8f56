/**
 * Device Serial Number, extended ID 0x0003 (PCIe 6.0 §7.9.3): an EUI-64.
 *
 * @module
 */

import type { RegisterTable } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";

/** Its register. */
export const SERIAL_NUMBER_REGISTERS = {
  /** The 64-bit number. */
  serialNumber: { offset: 4, width: 8 },
} as const satisfies RegisterTable;

/** The number for people. */
export interface SerialNumberText {
  /** The number as `lspci` prints it: bytes from the most significant down, joined by dashes. */
  readonly text: string;
}

/** Device Serial Number. */
export const SERIAL_NUMBER: CapabilityDeclaration<
  "device-serial-number",
  typeof SERIAL_NUMBER_REGISTERS,
  SerialNumberText
> = {
  list: "extended",
  id: 0x0003,
  kind: "device-serial-number",
  title: "Device Serial Number",
  lengthBytes: 12,
  registers: SERIAL_NUMBER_REGISTERS,
  derive: ({ serialNumber }) => ({
    text: serialNumber.toString(16).padStart(16, "0").match(/../g)?.join("-") ?? "",
  }),
};
