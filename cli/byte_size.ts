/**
 * Sizes as people write them.
 *
 * @module
 */
const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** Bytes of `4096`, `64K`, `1M`, `2G`, `0x1000`; undefined when it is none of these, or too large to be exact. */
export function parseSize(text: string): number | undefined {
  const found = /^(0x[0-9a-f]+|\d+)([KMG]?)$/i.exec(text);
  if (found === null) return undefined;
  const value = Number(found[1]) * UNITS[found[2]!.toUpperCase()]!;
  return Number.isSafeInteger(value) ? value : undefined;
}
