/**
 * Small pieces of text that `lspci` prints the same way everywhere.
 *
 * @module
 */

/** Hexadecimal digits without prefix, padded with zeros. */
export function hex(value: number | bigint, digits: number = 1): string {
  return value.toString(16).padStart(digits, "0");
}

/** `+` for a set flag, `-` for a clear one. */
export function flag(value: boolean): string {
  return value ? "+" : "-";
}

const SIZE_UNITS = ["", "K", "M", "G", "T", "P"];

/** A size in the largest unit that divides it: 4096 is `4K`, 1536 is `1536`. */
export function sizeText(bytes: number | bigint): string {
  let value = BigInt(bytes), unit = 0;
  while (value !== 0n && value % 1024n === 0n && unit < SIZE_UNITS.length - 1) {
    value /= 1024n;
    unit++;
  }
  return `${value}${SIZE_UNITS[unit]}`;
}
