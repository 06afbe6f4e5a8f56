/**
 * Which register of a declared table an access hits.
 *
 * @module
 */
import type { RegisterDeclaration } from "../../../registers/declaration.ts";

/** A register of a table, with its name. */
export interface PlacedRegister<Name extends string> extends RegisterDeclaration {
  /** The table's name for it. */
  readonly name: Name;
}

/** The registers of a table by each byte that they take; undefined where there is none. */
export function byByte<Name extends string>(
  table: Readonly<Record<Name, RegisterDeclaration>>,
): readonly (PlacedRegister<Name> | undefined)[] {
  const list: (PlacedRegister<Name> | undefined)[] = [];
  for (const [name, register] of Object.entries(table) as [Name, RegisterDeclaration][]) {
    const end = register.offset + register.width;
    for (let byte = register.offset; byte < end; byte++) list[byte] = { ...register, name };
  }
  return list;
}
