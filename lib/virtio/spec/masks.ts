/**
 * Feature bits as masks.
 *
 * @module
 */
/** Turns a table of bit numbers into one of masks. */
export function masks<K extends string>(bits: Readonly<Record<K, number>>): Readonly<Record<K, bigint>> {
  const out = {} as Record<K, bigint>;
  for (const name in bits) out[name] = 1n << BigInt(bits[name]);
  return out;
}
