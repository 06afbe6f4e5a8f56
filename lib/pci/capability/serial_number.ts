/**
 * Device Serial Number, extended ID 0x0003 (PCIe 6.0 §7.9.3): an EUI-64.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** The number for people. */
export interface SerialNumberText {
  /** The number as `lspci` prints it: bytes from the most significant down, joined by dashes. */
  readonly text: string;
}

/** Device Serial Number. */
export const SERIAL_NUMBER = {
  list: "extended",
  id: 0x0003,
  kind: "device-serial-number",
  title: "Device Serial Number",
  heading: "Device Serial Number {text}",
  lengthBytes: 12,
  registers: {
    /** The 64-bit number. */
    serialNumber: { offset: 4, width: 8 },
  },
  derive: (window: CapabilityWindow): SerialNumberText => {
    const digits = window.register(SERIAL_NUMBER.registers.serialNumber).toString(16).padStart(16, "0");
    return { text: digits.match(/../g)?.join("-") ?? "" };
  },
} as const satisfies CapabilityDeclaration;
