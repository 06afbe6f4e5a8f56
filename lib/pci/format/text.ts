/**
 * Small pieces of text that `lspci` prints the same way everywhere.
 *
 * @module
 */

import type { RegisterDeclaration } from "../../registers/declaration.ts";

/** Hexadecimal digits without prefix, padded with zeros. */
export function hex(value: number | bigint, digits: number = 1): string {
  return value.toString(16).padStart(digits, "0");
}

/** `+` for a set flag, `-` for a clear one. */
export function flag(value: boolean): string {
  return value ? "+" : "-";
}

/** The text where the condition holds, else nothing. */
export function when(condition: boolean, text: string): string {
  return condition ? text : "";
}

/**
 * Fills the fields of a register into a line. `Label±` becomes `Label+` or `Label-`, by the first single bit with that label. `{field}` is the sign
 * of a bit, or a number in decimal; `{field:4}` a number in at least four hexadecimal digits.
 */
export function fill(line: string, register: RegisterDeclaration, value: { readonly raw: number }): string {
  const fields = Object.entries(register.fields ?? {});
  const values = value as Readonly<Record<string, number | boolean>>;
  return line.replaceAll(/([^\s,;:()=]+)±|\{(\w+)(?::(\d+))?\}/g, (_, label, name, digits) => {
    if (label !== undefined) {
      const found = fields.find(([, field]) => field.label === label && typeof field.bits === "number");
      return found === undefined ? `${label}?` : label + flag(values[found[0]] === true);
    }
    const one = values[name];
    return typeof one === "boolean"
      ? flag(one)
      : digits === undefined
      ? `${one}`
      : hex(one ?? 0, Number(digits));
  });
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
