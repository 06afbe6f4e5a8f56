/**
 * Lists of attributes as people write them: `mac=52:54:00:12:34:56,mtu=9000`.
 *
 * @module
 */
import { UsageError } from "../../lib/errors/mod.ts";

/** Names and values; a name without one has an empty value. @param known names that may be there @param of for messages @throws UsageError */
export function parseAttributes(text: string, known: readonly string[], of: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const one of text === "" ? [] : text.split(",")) {
    const equals = one.indexOf("=");
    const name = equals < 0 ? one : one.slice(0, equals);
    if (!known.includes(name)) {
      throw new UsageError(`${of} has no attribute ${JSON.stringify(name)}`, { hint: known.join(", ") });
    }
    if (found.has(name)) throw new UsageError(`${of}: ${name} is there twice`);
    found.set(name, equals < 0 ? "" : one.slice(equals + 1));
  }
  return found;
}

/** A whole number, decimal or hexadecimal. @param what for messages @throws UsageError */
export function parseNumber(text: string, least: bigint, most: bigint, what: string): bigint {
  const value = /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? BigInt(text) : -1n;
  if (value >= least && value <= most) return value;
  throw new UsageError(`${what}: ${JSON.stringify(text)}`, {
    hint: `a whole number from ${least} to ${most < 1n << 53n ? most : `0x${most.toString(16)}`}`,
  });
}
