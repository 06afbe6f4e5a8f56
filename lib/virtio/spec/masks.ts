/**
 * Feature bits as masks.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";

/** Turns a table of bit numbers into one of masks. */
export function masks<K extends string>(bits: Readonly<Record<K, number>>): Readonly<Record<K, bigint>> {
  requireType(bits, "object", "masks: bits");
  for (const bit of Object.values(bits)) {
    if (!Number.isInteger(bit) || (bit as number) < 0 || (bit as number) > 63) {
      throw new UsageError(`masks: bit ${shown(bit)}`);
    }
  }
  const out = {} as Record<K, bigint>;
  for (const name in bits) out[name] = 1n << BigInt(bits[name]);
  return out;
}
