/**
 * Checks of single fields of a topology.
 *
 * @module
 */
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";

/** A topology that cannot be: `field` says where, as in `functions[1].mac`. */
export class TopologyError extends UsageError {
  /** Name of the class. */
  override name = "TopologyError";
  /** Path of the offending field. */
  readonly field: string;

  /** Notes where and what. */
  constructor(field: string, message: string, hint = "") {
    super(`topology, ${field}: ${message}`, { hint });
    this.field = field;
  }
}

/** An integer of a range, or nothing. @throws TopologyError */
export function optional(value: unknown, field: string, low: number, high: number): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value) || value < low || value > high) {
    throw new TopologyError(field, `${show(value)} is not an integer from ${low} to ${high}`);
  }
  return value;
}

/** A text that matches, or nothing. @throws TopologyError */
export function optionalText(
  value: unknown,
  field: string,
  pattern: RegExp,
  what: string,
): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "string" || !pattern.test(value)) {
    throw new TopologyError(field, `${show(value)} is not ${what}`);
  }
  return value;
}

/** A value for a message. */
export function show(value: unknown): string {
  return value === undefined ? "nothing" : shown(value);
}

/** `one of …`, as a hint; empty when the names are not known. */
export function known(names: readonly string[] | undefined, more?: string): string {
  if (names === undefined) return "";
  return `one of ${[...names, ...(more === undefined ? [] : [more])].join(", ")}`;
}
