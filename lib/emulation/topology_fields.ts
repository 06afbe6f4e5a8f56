/**
 * What the fields of a topology may be: schemas whose messages say what was given, and after a line break what would be right.
 *
 * @module
 */
import * as v from "valibot";
import { isOfType } from "../errors/doors.ts";
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

/** What a field may be, or fields by name. */
export type FieldSchema<T> = v.GenericSchema<unknown, T>;

/** Schemas by the names of their fields. */
export type FieldSchemas = Readonly<Record<string, FieldSchema<unknown>>>;

/** Whatever `is` takes. What cannot even be looked at, as a proxy that was revoked, is a wrong value like any other. */
export function fits<T>(is: (value: unknown) => boolean, wrong: (value: unknown) => string): FieldSchema<T> {
  return v.pipe(
    v.unknown(),
    v.rawCheck(({ dataset: { value }, addIssue }) => {
      if (!is(value)) addIssue({ message: wrong(value), received: "" });
    }),
  ) as v.GenericSchema<unknown> as FieldSchema<T>;
}

/** A whole number from `low` to `high`. */
export function whole(low: number, high: number): FieldSchema<number> {
  const inside = (value: unknown) => Number.isInteger(value) && Number(value) >= low && Number(value) <= high;
  return fits(inside, not(`an integer from ${low} to ${high}`));
}

/** A power of two from `low` to `high`, both powers of two up to 2^30. */
export function powerOfTwo(low: number, high: number): FieldSchema<number> {
  return which(whole(low, high), (value) => (value & (value - 1)) === 0, not("a power of two"));
}

/** A text that matches. */
export function text(pattern: RegExp, what: string, hint = ""): FieldSchema<string> {
  return fits((value) => typeof value === "string" && pattern.test(value), not(what, hint));
}

/** True or false. */
export const flag: FieldSchema<boolean> = fits(
  (value) => typeof value === "boolean",
  (value) => `${show(value)} is neither true nor false`,
);

/** One of some names. @param more what the hint names besides */
export function oneOf<const T extends string>(
  names: readonly T[],
  what: string,
  ...more: string[]
): FieldSchema<T> {
  const known = (value: unknown) => (names as readonly unknown[]).includes(value);
  return fits(known, not(what, `one of ${[...names, ...more].join(", ")}`));
}

/** A list. */
export function listOf<T>(item: FieldSchema<T>, wanted = "must be a list"): FieldSchema<T[]> {
  return v.pipe(fits<unknown[]>((value) => isOfType(value, "array"), () => wanted), v.array(item));
}

/** A value of which more must be true. */
export function which<T>(
  schema: FieldSchema<T>,
  is: (value: T) => boolean,
  wrong: (value: T) => string,
): FieldSchema<T> {
  return v.pipe(schema, v.check(is, ({ input }) => wrong(input)));
}

/** An object with these fields and no others. @param alien what is wrong with another one */
export function record(fields: FieldSchemas, alien: string): FieldSchema<Record<string, unknown>> {
  const needed = Object.keys(fields).filter((key) => fields[key]!.type !== "optional");
  const nothing = Object.fromEntries(needed.map((key) => [key, undefined]));
  // Without a prototype: "constructor" is no field.
  const entries: Record<string, FieldSchema<unknown>> = Object.assign(Object.create(null), fields);
  return v.pipe(
    anyRecord,
    v.transform((given) => ({ ...nothing, ...given })),
    v.strictObject(entries, alien),
  );
}

/** An object that is no list. */
export const anyRecord: FieldSchema<Record<string, unknown>> = fits(
  (value) => isOfType(value, "object") && !isOfType(value, "array"),
  not("an object"),
);

/** Reads by a schema. @param at path of the value @throws TopologyError for the first thing that is wrong */
export function read<T>(schema: FieldSchema<T>, value: unknown, at: string): T {
  const { success, output, issues } = v.safeParse(schema, value, { abortEarly: true });
  if (success) return output;
  const [{ message, path }] = issues;
  const [what, hint] = message.split("\n");
  const steps = path?.map(({ key }) => typeof key === "number" ? `[${key}]` : `.${key}`) ?? [];
  throw new TopologyError(`${at}${steps.join("")}`.replace(/^\./, "") || "top level", what!, hint);
}

/** Message: the value, and what it is not. */
export function not(what: string, hint = ""): (value: unknown) => string {
  return (value) => `${show(value)} is not ${what}\n${hint}`;
}

/** A value for a message. */
export function show(value: unknown): string {
  return value === undefined ? "nothing" : shown(value);
}
