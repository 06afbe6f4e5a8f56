/**
 * What a capability is made of: one declaration says under which ID it is found, how long it is, which registers it has, and what follows from
 * them. By it a function's capability is decoded, printed, and built for an emulated function.
 *
 * @module
 */

import type { RegisterTable, RegisterValues } from "../../registers/declaration.ts";
import type { CapabilityListName } from "./names.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** One capability: its kind `K`, its table of registers `T`, and what is worked out from them, `D`. */
export interface CapabilityDeclaration<
  K extends string = string,
  T extends RegisterTable = RegisterTable,
  D = unknown,
> {
  /** Which list it is on. */
  readonly list: CapabilityListName;
  /** Capability ID: 8 bits on the standard list, 16 on the extended one. */
  readonly id: number;
  /** Vendor of the function, where the ID means this for its functions only. */
  readonly vendorId?: number;
  /** Discriminator of the decoded capability. */
  readonly kind: K;
  /** Name of the ID, as `lspci` prints it. */
  readonly title: string;
  /** Bytes that the structure occupies; where they depend on its contents, worked out before any register is read. */
  readonly lengthBytes: number | ((window: CapabilityWindow) => number);
  /** Registers that every such capability has; offsets count from its start. */
  readonly registers: T;
  /** What is worked out: it stands beside the registers, or in the place of one of the same name. @throws {WindowOverrun} */
  derive?(registers: RegisterValues<T>, window: CapabilityWindow): D;
}

/** A capability as it is decoded: header, kind, length, registers by name, and what is worked out from them. */
export type Decoded<C> = C extends CapabilityDeclaration<infer K, infer T, infer D> ?
    & CapabilityHeader
    & {
      /** Discriminator. */
      readonly kind: K;
      /** Bytes that the structure occupies. */
      readonly lengthBytes: number;
    }
    & { readonly [N in keyof T as Exclude<N, keyof D>]: RegisterValues<T>[N] }
    & D
  : never;

/** Decodes a capability by its declaration. @throws {WindowOverrun} when it does not fit into its window */
export function decodeCapability<const C extends CapabilityDeclaration>(
  declaration: C,
  window: CapabilityWindow,
): Decoded<C> {
  const { kind, lengthBytes: stated } = declaration;
  const lengthBytes = typeof stated === "number" ? stated : stated(window);
  window.require(lengthBytes);
  const registers = window.registers(declaration.registers);
  const derived = declaration.derive?.(registers, window) as object | undefined;
  return { ...window.header, kind, lengthBytes, ...registers, ...derived } as Decoded<C>;
}
