/**
 * Values in messages.
 *
 * @module
 */

/**
 * A value that a caller passed, for a message. Unlike a template string it takes anything: a symbol, and an object that does not turn into text, make
 * the template itself throw.
 */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (
    value === null || (typeof value !== "object" && typeof value !== "function" && typeof value !== "symbol")
  ) {
    return `${value as number}`;
  }
  if (typeof value !== "object") return `a ${typeof value}`;
  try {
    return Array.isArray(value) ? "an array" : "an object";
  } catch {
    // A proxy that was revoked.
    return "an object";
  }
}
