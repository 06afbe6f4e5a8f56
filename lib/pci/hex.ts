/**
 * Numbers as PCI writes them.
 *
 * @module
 */

/** Hexadecimal digits without prefix, padded with zeros. */
export function hex(value: number | bigint, digits: number = 1): string {
  return value.toString(16).padStart(digits, "0");
}
