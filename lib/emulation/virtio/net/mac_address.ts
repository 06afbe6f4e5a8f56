/**
 * MAC addresses as text, as bytes, and as the two numbers that filters compare.
 *
 * @module
 */
import { requireType } from "../../../errors/doors.ts";
import { UsageError } from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";

const TEXT = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** Reads `52:54:00:12:34:56`. @throws UsageError for other text, or a multicast address */
export function parseMac(text: string): Uint8Array<ArrayBuffer> {
  if (!TEXT.test(text)) throw new UsageError(`${JSON.stringify(text)} is not a MAC address`);
  const bytes = Uint8Array.from(text.split(":"), (byte) => parseInt(byte, 16));
  if ((bytes[0]! & 1) !== 0) throw new UsageError(`${text} is a multicast address`);
  return bytes;
}

/** Writes `52:54:00:12:34:56`. */
export function formatMac(high: number, low: number): string {
  const bytes = [high >>> 8, high & 0xff, low >>> 24, (low >>> 16) & 0xff, (low >>> 8) & 0xff, low & 0xff];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The first two bytes of the address at `at`, as a number in network order. */
export function macHigh(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 8 | bytes[at + 1]!;
}

/** The last four bytes of the address at `at`, as a number in network order. */
export function macLow(bytes: Uint8Array, at: number): number {
  return (bytes[at + 2]! << 24 | bytes[at + 3]! << 16 | bytes[at + 4]! << 8 | bytes[at + 5]!) >>> 0;
}

/** MAC address of VF `index` of a PF: the PF's plus `index` + 1 in its low 24 bits. @throws UsageError */
export function vfMac(pfMac: string, index: number): string {
  requireType(index, "number", "vfMac: index");
  requireType(pfMac, "string", "vfMac: pfMac");
  if (!TEXT.test(pfMac)) throw new UsageError(`${shown(pfMac)} is not a MAC address`);
  const high = parseInt(pfMac.replaceAll(":", "").slice(0, 6), 16);
  const low = parseInt(pfMac.replaceAll(":", "").slice(6), 16) + index + 1 & 0xff_ffff;
  return formatMac(high >>> 8, ((high & 0xff) << 24 | low) >>> 0);
}
