/**
 * Registers declared as a datasheet declares them (place, width, access; bit range and short label of each field) and the one decoder, encoder
 * and mask maker that work on any such table. The same table therefore reads a register of real hardware, prints it, and tells an emulated
 * device which of its bits software may write.
 *
 * @module
 */

/**
 * How software may touch a field, in the words of PCIe 6.0 §7.4.
 *
 * `ROS`, `RWS` and `RW1CS` are the sticky variants that survive a function level reset. `RWZ` is a field that
 * software writes but that always reads 0, such as Initiate Function Level Reset.
 */
export type FieldAccess = "RO" | "ROS" | "HwInit" | "RW" | "RWS" | "RW1C" | "RW1CS" | "RWZ";

/** One bit number, or `[high, low]` inclusive as a datasheet writes `[high:low]`. */
export type FieldBits = number | readonly [high: number, low: number];

/** One field of a register. */
export interface FieldDeclaration {
  /** A single bit (decodes to a boolean) or a range (decodes to a number). */
  readonly bits: FieldBits;
  /** What a software write does to it. */
  readonly access: FieldAccess;
  /** Short name as `lspci -vv` prints it; the field's own name when absent. */
  readonly label?: string;
}

/** Bytes of one access. A register of 8 bytes is two accesses of 4, low half first, where nothing else is said of it. */
export type AccessWidth = 1 | 2 | 4;

/** One register: its place in the structure that holds it, and what a driver may do with it. */
export interface RegisterDeclaration {
  /** The standard's name for it, where the table has another. */
  readonly name?: string;
  /** Bytes from the start of the structure: a capability, a register block, configuration space. */
  readonly offset: number;
  /** Bytes. */
  readonly width: AccessWidth | 8;
  /** Read-only, write-only, or both. Default: what its fields say. */
  readonly access?: "R" | "W" | "RW";
  /** Fields by name. Bits that no field covers are reserved. */
  readonly fields?: Readonly<Record<string, FieldDeclaration>>;
  /** For one of an array of registers: bytes from each to the next. */
  readonly strideBytes?: number;
  /** Its lines as `lspci -vv` prints them, with places for fields and values: `lib/pci/format/text.ts` says which. */
  readonly text?: string;
  /** Feature bit that must be offered for it to exist (virtio). */
  readonly feature?: number;
}

/** The registers of a structure, by name. */
export type RegisterTable = Readonly<Record<string, RegisterDeclaration>>;

/** The fields of a register; of one without fields none. */
export type FieldsOf<R extends RegisterDeclaration> = R["fields"] extends
  Readonly<Record<string, FieldDeclaration>> ? R["fields"] : Readonly<Record<never, FieldDeclaration>>;

/** A decoded register: the raw value, one boolean per single-bit field and one number per range. */
export type RegisterValue<R extends RegisterDeclaration> =
  & {
    /** The undecoded value. */
    readonly raw: number;
  }
  & {
    readonly [F in keyof FieldsOf<R>]: FieldsOf<R>[F] extends { readonly bits: number } ? boolean : number;
  };

/** A register as it is read: split into its fields where it has some, else a number, and a `bigint` of 64 bits. */
export type ValueOf<R extends RegisterDeclaration> = R extends { readonly fields: object } ? RegisterValue<R>
  : R extends { readonly width: 8 } ? bigint
  : number;

/** All registers of a table, by name. */
export type RegisterValues<T extends RegisterTable> = { readonly [N in keyof T]: ValueOf<T[N]> };

/** Field values to encode: the same shape as a decoded register, every field optional. */
export type RegisterFields<R extends RegisterDeclaration> = {
  readonly [F in keyof FieldsOf<R>]?: FieldsOf<R>[F] extends { readonly bits: number } ? boolean : number;
};

/** Which bits of a register react to a software write, and how. */
export interface AccessMasks {
  /** Bits that take the written value (RW, RWS). */
  readonly write: number;
  /** Bits that a written 1 clears (RW1C, RW1CS). */
  readonly writeOneToClear: number;
  /** Bits that start something when 1 is written and always read 0 (RWZ). */
  readonly trigger: number;
}

/** Position of a field's lowest bit. */
function lowBit(bits: FieldBits): number {
  return typeof bits === "number" ? bits : bits[1];
}

/** Value mask of a field, shifted down to bit 0. */
function valueMask(bits: FieldBits): number {
  if (typeof bits === "number") return 1;
  const width = bits[0] - bits[1] + 1;
  // 1 << 32 is 1 in JavaScript, so a full-width field needs its own case.
  return width >= 32 ? 0xffffffff : (1 << width) - 1;
}

/** Bits of the register that a field occupies, as an unsigned 32-bit number. */
export function fieldMask(field: FieldDeclaration): number {
  return (valueMask(field.bits) << lowBit(field.bits)) >>> 0;
}

/** Splits a raw register value into its declared fields. */
export function decodeRegister<const R extends RegisterDeclaration>(
  register: R,
  raw: number,
): RegisterValue<R> {
  const decoded: Record<string, number | boolean> = { raw: raw >>> 0 };
  for (const [name, field] of Object.entries(register.fields ?? {})) {
    const value = ((raw >>> lowBit(field.bits)) & valueMask(field.bits)) >>> 0;
    decoded[name] = typeof field.bits === "number" ? value === 1 : value;
  }
  return decoded as RegisterValue<R>;
}

/** Joins field values into a raw register value. A value wider than its field is cut to the field. */
export function encodeRegister<const R extends RegisterDeclaration>(
  register: R,
  fields: RegisterFields<R>,
): number {
  let raw = 0;
  for (const [name, value] of Object.entries(fields as Record<string, number | boolean | undefined>)) {
    const field = register.fields?.[name];
    if (field === undefined || value === undefined) continue;
    raw |= (Number(value) & valueMask(field.bits)) << lowBit(field.bits);
  }
  return raw >>> 0;
}

/** Derives from the declared access which bits react to a software write. */
export function accessMasks(register: RegisterDeclaration): AccessMasks {
  let write = 0, writeOneToClear = 0, trigger = 0;
  for (const field of Object.values(register.fields ?? {})) {
    if (field.access === "RW" || field.access === "RWS") write |= fieldMask(field);
    else if (field.access === "RW1C" || field.access === "RW1CS") writeOneToClear |= fieldMask(field);
    else if (field.access === "RWZ") trigger |= fieldMask(field);
  }
  return { write: write >>> 0, writeOneToClear: writeOneToClear >>> 0, trigger: trigger >>> 0 };
}
