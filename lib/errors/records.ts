/**
 * What came from a file, another process or a caller without types, looked at field by field. A BigInt, a circle or a proxy that was revoked is no
 * more than a wrong value.
 *
 * @module
 */
import { isOfType } from "./doors.ts";
import { UsageError } from "./mod.ts";
import { shown } from "./shown.ts";

/** A list that can be looked at. */
export function isList(value: unknown): value is unknown[] {
  return isOfType(value, "array");
}

/** An object that is no list. @throws UsageError */
export function object(value: unknown, where: string): Record<string, unknown> {
  if (isOfType(value, "object") && !isList(value)) return value as Record<string, unknown>;
  throw new UsageError(`${where} is not an object`);
}

/** A list. @throws UsageError */
export function array(value: unknown, where: string): unknown[] {
  if (isList(value)) return value;
  throw new UsageError(`${where} is not a list`);
}

/** A whole number from `least` to `most`. @throws UsageError */
export function integer(value: unknown, least: number, most: number, where: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${where} ${shown(value)} is not an integer from ${least} to ${most}`);
}
