/**
 * Functions as JSON.
 *
 * @module
 */
import type { FunctionInfo } from "../lib/host/mod.ts";
import { hex } from "./output.ts";

/** Digits of what is written in hexadecimal, as decoded config space has it. */
const HEX_DIGITS: Readonly<Record<string, number>> = {
  vendorId: 4,
  deviceId: 4,
  subsystemVendorId: 4,
  subsystemId: 4,
  revision: 2,
  classCode: 6,
};

/** What a host says of a function, with the ids of PCI as text, `"0x1af4"`. */
export function functionJson(about: FunctionInfo): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(about).map(([key, value]) => [
      key,
      typeof value === "number" && HEX_DIGITS[key] !== undefined ? `0x${hex(value, HEX_DIGITS[key])}` : value,
    ]),
  );
}
