/**
 * Tokens of regions as text.
 *
 * @module
 */

/** `0x` and 16 digits. */
export function tokenText(token: bigint): string {
  return `0x${token.toString(16).padStart(16, "0")}`;
}

/** A number of 64 bits, in hexadecimal as 0x… or in decimal; undefined when it is none. */
export function parseToken(text: string): bigint | undefined {
  if (!/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text)) return undefined;
  const value = BigInt(text);
  return value < 1n << 64n ? value : undefined;
}
