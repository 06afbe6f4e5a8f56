/**
 * Device Serial Number, extended ID 0x0003 (PCIe 6.0 §7.9.3): an EUI-64.
 *
 * @module
 */

import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const SERIAL_NUMBER_BYTES = 12;

/** Decoded Device Serial Number capability. */
export interface SerialNumberCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "device-serial-number";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** The 64-bit number. */
  readonly serialNumber: bigint;
  /** The number as `lspci` prints it: bytes from the most significant down, joined by dashes. */
  readonly text: string;
}

/** Decodes a Device Serial Number capability. */
export function decodeSerialNumber(window: CapabilityWindow): SerialNumberCapability {
  window.require(SERIAL_NUMBER_BYTES);
  const serialNumber = window.read64(4);
  const digits = serialNumber.toString(16).padStart(16, "0");
  return {
    ...window.header,
    kind: "device-serial-number",
    lengthBytes: SERIAL_NUMBER_BYTES,
    serialNumber,
    text: digits.match(/../g)?.join("-") ?? "",
  };
}
