/**
 * Small pieces of text that `lspci` prints the same way everywhere.
 *
 * @module
 */

import type { RegisterDeclaration, RegisterTable } from "../../registers/declaration.ts";
import { hex } from "../hex.ts";

/** `+` for a set flag, `-` for a clear one. */
export function flag(value: boolean): string {
  return value ? "+" : "-";
}

/** The text where the condition holds, else nothing. */
export function when(condition: boolean, text: string): string {
  return condition ? text : "";
}

/**
 * Fills values into a line. `Label±` becomes `Label+` or `Label-`, by the first single bit of the register with that label. `{name}` is a field
 * of the register, or else a value of the structure that holds it (`{table.offset}` one of its parts): the sign of a bit, a number in decimal,
 * or a text; `{name:4}` is a number in at least four hexadecimal digits.
 *
 * @param register whose fields `value` has, where the line has labels
 */
export function fill(line: string, values: object, register?: RegisterDeclaration, value?: unknown): string {
  const fields = Object.entries(register?.fields ?? {});
  const own = (typeof value === "object" ? value : {}) as Readonly<Record<string, unknown>>;
  return line.replaceAll(/([^\s,;:()=]+)±|\{([\w.]+)(?::(\d+))?\}/g, (_, label, name, digits) => {
    if (label !== undefined) {
      const found = fields.find(([, field]) => field.label === label && typeof field.bits === "number");
      return found === undefined ? `${label}?` : label + flag(own[found[0]] === true);
    }
    const one = own[name] ?? valueAt(values, name);
    if (typeof one === "boolean") return flag(one);
    return digits === undefined ? `${one}` : hex(one as number | bigint, Number(digits));
  });
}

function valueAt(values: unknown, path: string): unknown {
  return path.split(".").reduce((value, name) => (value as Readonly<Record<string, unknown>>)[name], values);
}

/** The name of a code, or the code as `lspci` prints one that it has no name for. */
export function nameOf(names: readonly string[], code: number): string {
  return names[code] ?? `??${code}`;
}

/** Texts by register. */
export type Texts<T extends RegisterTable> = { readonly [N in keyof T]?: string | undefined };

/** The lines of a table's registers, by the texts that its declarations have, or by these. @param values of the registers, and what else the texts name */
export function registerLines<const T extends RegisterTable>(
  table: T,
  values: object,
  texts: Texts<T> = textsOf(table),
): string[] {
  return Object.entries<string | undefined>(texts).flatMap(([name, text]) =>
    text === undefined
      ? []
      : fill(text, values, table[name], valueAt(values, name)).split("\n").map((line) => `\t\t${line}`)
  );
}

function textsOf<T extends RegisterTable>(table: T): Texts<T> {
  return Object.fromEntries(Object.entries(table).map(([name, { text }]) => [name, text])) as Texts<T>;
}

const SIZE_UNITS = ["", "K", "M", "G", "T", "P"];

/** A size in the largest unit that divides it: 4096 is `4K`, 1536 is `1536`. */
export function sizeText(bytes: number | bigint): string {
  let value = BigInt(bytes), unit = 0;
  while (value !== 0n && value % 1024n === 0n && unit < SIZE_UNITS.length - 1) {
    value /= 1024n;
    unit++;
  }
  return `${value}${SIZE_UNITS[unit]}`;
}
