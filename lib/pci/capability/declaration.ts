/**
 * What a capability is made of: one declaration says under which ID it is found, how long it is, which registers it has, and what follows from
 * them. By it a function's capability is decoded, printed, and built for an emulated function.
 *
 * @module
 */

import type { FieldAccess, FieldDeclaration, RegisterTable, ValueOf } from "../../registers/declaration.ts";
import type { CapabilityListName } from "./names.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** One capability. */
export interface CapabilityDeclaration {
  /** Which list it is on. */
  readonly list: CapabilityListName;
  /** Capability ID: 8 bits on the standard list, 16 on the extended one. */
  readonly id: number;
  /** Vendor of the function, where the ID means this for its functions only. */
  readonly vendorId?: number;
  /** Discriminator of the decoded capability. */
  readonly kind: string;
  /** Name of the ID, as `lspci` prints it. */
  readonly title: string;
  /** Its title as `lspci -vv` prints it, with places for values. Default: its name. */
  readonly heading?: string;
  /** Bytes that the structure occupies; where they depend on its contents, worked out before any register is read. */
  readonly lengthBytes: number | ((window: CapabilityWindow) => number);
  /** Registers that every such capability has; offsets count from its start. */
  readonly registers: RegisterTable;
  /** What is worked out: it stands beside the registers, or in the place of one of the same name. @throws {WindowOverrun} */
  readonly derive?: (window: CapabilityWindow) => object;
}

/** What a declaration works out. */
export type DerivedOf<C> = C extends { derive(window: CapabilityWindow): infer D } ? D : unknown;

/** A capability as it is decoded: header, kind, length, registers by name, and what is worked out from them. */
export type Decoded<C> = C extends CapabilityDeclaration ?
    & CapabilityHeader
    & {
      /** Discriminator. */
      readonly kind: C["kind"];
      /** Bytes that the structure occupies. */
      readonly lengthBytes: number;
    }
    & { readonly [N in keyof C["registers"] as Exclude<N, keyof DerivedOf<C>>]: ValueOf<C["registers"][N]> }
    & DerivedOf<C>
  : never;

/** Decodes a capability by its declaration. @throws {WindowOverrun} when it does not fit into its window */
export function decodeCapability<const C extends CapabilityDeclaration>(
  declaration: C,
  window: CapabilityWindow,
): Decoded<C> {
  const { kind, lengthBytes: stated, registers, derive } = declaration;
  const lengthBytes = typeof stated === "number" ? stated : stated(window);
  window.require(lengthBytes);
  return {
    ...window.header,
    kind,
    lengthBytes,
    ...window.registers(registers),
    ...derive?.(window),
  } as Decoded<C>;
}

/** The fields of a register in one that repeats its bits. */
export type Repeated<F, A extends FieldAccess> = {
  readonly [K in keyof F]: Omit<F[K], "access"> & { readonly access: A };
};

/** The bits of a register that another one repeats, by the access that they have there. */
export function repeated<const F extends Readonly<Record<string, FieldDeclaration>>, A extends FieldAccess>(
  fields: F,
  access: A,
): Repeated<F, A> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, { ...field, access }]),
  ) as Repeated<F, A>;
}
