/**
 * Registers declared as a datasheet declares them (place, width, access; bit range and short label of each field) and the one decoder, encoder
 * and mask maker that work on any such table. The same table therefore reads a register of real hardware, prints it, and tells an emulated
 * device which of its bits software may write.
 *
 * @module
 */

/**
 * How software may touch a field, in the words of PCIe 6.0 §7.4 and of device datasheets.
 *
 * `ROS`, `RWS` and `RW1CS` are the sticky variants that survive a function level reset. `RWZ` is a field that
 * software writes but that always reads 0, such as Initiate Function Level Reset; `SC` one that reads 1 until the
 * device has done what was asked, and clears itself. `WO` cannot be read. `RC` is cleared by reading, and `RC/W1C` by
 * reading and by a written 1.
 */
export type FieldAccess =
  | "RO"
  | "ROS"
  | "HwInit"
  | "RW"
  | "RWS"
  | "RW1C"
  | "RW1CS"
  | "RWZ"
  | "SC"
  | "WO"
  | "RC"
  | "RC/W1C";

/**
 * How software may touch a register as a whole: read, write, both; `RC` is read-only and cleared by reading (a statistics counter), `RC/W1C` also by a
 * written 1 (a cause of interrupts), `W1C` by a written 1 alone.
 */
export type RegisterMode = "R" | "W" | "RW" | "RC" | "W1C" | "RC/W1C";

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
  /** What its values mean: number by name. Fields are written by these names too. */
  readonly values?: Readonly<Record<string, number>>;
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
  /** Default: what its fields say, else both ways. */
  readonly access?: RegisterMode;
  /** Fields by name. Bits that no field covers are reserved. */
  readonly fields?: Readonly<Record<string, FieldDeclaration>>;
  /** For one of an array of registers: bytes from each to the next. */
  readonly strideBytes?: number;
  /** How many there are of an array. Default: as many as are asked for. */
  readonly count?: number;
  /** What it reads after a reset. */
  readonly reset?: number | bigint;
  /** A register of 8 bytes is one access of 8. The space must have such accesses, as a BAR has. Default: two of 4, low half first. */
  readonly oneAccess?: true;
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

/** A whole register, undecoded: a number, and a `bigint` of 64 bits. */
export type RawOf<R extends RegisterDeclaration> = R extends { readonly width: 8 } ? bigint : number;

/** A decoded register: the raw value, one boolean per single-bit field and one number per range (of a register of 64 bits a `bigint`). */
export type RegisterValue<R extends RegisterDeclaration> =
  & {
    /** The undecoded value. */
    readonly raw: RawOf<R>;
  }
  & {
    readonly [F in keyof FieldsOf<R>]: FieldsOf<R>[F] extends { readonly bits: number } ? boolean : RawOf<R>;
  };

/** A register as it is read: split into its fields where it has some, else a number, and a `bigint` of 64 bits. */
export type ValueOf<R extends RegisterDeclaration> = R extends { readonly fields: object } ? RegisterValue<R>
  : RawOf<R>;

/** All registers of a table, by name. */
export type RegisterValues<T extends RegisterTable> = { readonly [N in keyof T]: ValueOf<T[N]> };

/** Field values to encode: the same shape as a decoded register, every field optional; a value that has a name also by it. */
export type RegisterFields<R extends RegisterDeclaration> = {
  readonly [F in keyof FieldsOf<R>]?:
    | (FieldsOf<R>[F] extends { readonly bits: number } ? boolean : RawOf<R>)
    | (FieldsOf<R>[F] extends { readonly values: infer V } ? keyof V & string : never);
};

/** Which bits of a register react to a software write, and how. */
export interface AccessMasks {
  /** Bits that take the written value (RW, RWS, WO). */
  readonly write: number;
  /** Bits that a written 1 clears (RW1C, RW1CS, RC/W1C). */
  readonly writeOneToClear: number;
  /** Bits that start something when 1 is written and then read 0 (RWZ, SC). */
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

/** As `fieldMask`, of a register of any width. */
export function wideMask({ bits }: FieldDeclaration): bigint {
  const high = typeof bits === "number" ? bits : bits[0];
  return ((1n << BigInt(high + 1)) - 1n) & ~((1n << BigInt(lowBit(bits))) - 1n);
}

/** Splits a raw register value into its declared fields. */
export function decodeRegister<const R extends RegisterDeclaration>(
  register: R,
  raw: RawOf<R>,
): RegisterValue<R>;
/** The same, of a width that is not known. */
export function decodeRegister(
  register: RegisterDeclaration,
  raw: number | bigint,
): Readonly<Record<string, number | bigint | boolean>>;
export function decodeRegister(
  register: RegisterDeclaration,
  raw: number | bigint,
): Record<string, number | bigint | boolean> {
  const decoded: Record<string, number | bigint | boolean> = {
    raw: typeof raw === "bigint" ? raw : raw >>> 0,
  };
  for (const [name, field] of Object.entries(register.fields ?? {})) {
    const value = typeof raw === "bigint"
      ? (raw & wideMask(field)) >> BigInt(lowBit(field.bits))
      : ((raw >>> lowBit(field.bits)) & valueMask(field.bits)) >>> 0;
    decoded[name] = typeof field.bits === "number" ? Number(value) === 1 : value;
  }
  return decoded;
}

/** Joins field values into a raw register value of up to 32 bits. A value wider than its field is cut to the field. */
export function encodeRegister<const R extends RegisterDeclaration>(
  register: R,
  fields: RegisterFields<R>,
): number {
  let raw = 0;
  for (
    const [name, value] of Object.entries(fields as Record<string, number | boolean | string | undefined>)
  ) {
    const field = register.fields?.[name];
    if (field === undefined || value === undefined) continue;
    const number = typeof value === "string" ? field.values?.[value] : value;
    raw |= (Number(number) & valueMask(field.bits)) << lowBit(field.bits);
  }
  return raw >>> 0;
}

/** Name of a field's value, where it has one. */
export function valueName(field: FieldDeclaration, value: number | bigint | boolean): string | undefined {
  return Object.entries(field.values ?? {}).find(([, one]) => one === Number(value))?.[0];
}

/** Whether a read of it changes the device: it, or one of its fields, is cleared by reading. */
export function isClearedByReading({ access, fields }: RegisterDeclaration): boolean {
  return access === "RC" || access === "RC/W1C" ||
    Object.values(fields ?? {}).some((one) => one.access === "RC" || one.access === "RC/W1C");
}

/** Whether it can be read: it is not write-only, and not all of its fields are. */
export function isReadable({ access, fields }: RegisterDeclaration): boolean {
  if (access !== undefined) return access !== "W";
  const all = Object.values(fields ?? {});
  return all.length === 0 || all.some((one) => one.access !== "WO");
}

/** Whether it can be written, as far as it is said of the whole register. */
export function isWritable({ access }: RegisterDeclaration): boolean {
  return access !== "R" && access !== "RC";
}

/** Bits that a written 1 does something to, other than being kept: where the others are changed, 0 is written to these. */
export function keptOut(register: RegisterDeclaration): bigint {
  if (register.access === "W1C" || register.access === "RC/W1C") {
    return (1n << BigInt(8 * register.width)) - 1n;
  }
  const acts: readonly FieldAccess[] = ["RW1C", "RW1CS", "RC/W1C", "RWZ", "SC", "WO"];
  return Object.values(register.fields ?? {}).filter((one) => acts.includes(one.access))
    .reduce((mask, field) => mask | wideMask(field), 0n);
}

/** Derives from the declared access which bits react to a software write. */
export function accessMasks(register: RegisterDeclaration): AccessMasks {
  let write = 0, writeOneToClear = 0, trigger = 0;
  for (const field of Object.values(register.fields ?? {})) {
    if (field.access === "RW" || field.access === "RWS" || field.access === "WO") write |= fieldMask(field);
    else if (field.access === "RW1C" || field.access === "RW1CS" || field.access === "RC/W1C") {
      writeOneToClear |= fieldMask(field);
    } else if (field.access === "RWZ" || field.access === "SC") trigger |= fieldMask(field);
  }
  return { write: write >>> 0, writeOneToClear: writeOneToClear >>> 0, trigger: trigger >>> 0 };
}
