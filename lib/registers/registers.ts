/**
 * A table of registers, bound to whatever reads and writes.
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import {
  type AccessWidth,
  decodeRegister,
  encodeRegister,
  fieldMask,
  type RegisterDeclaration,
  type RegisterFields,
  type RegisterTable,
  type RegisterValue,
} from "./declaration.ts";

/** What registers lie in: configuration space, a BAR, a block that is reached by commands, emulated bytes. Offsets are bytes from its start. */
export interface RegisterSpace {
  /** One access of that width, unsigned. */
  read(offset: number, width: AccessWidth): number;
  /** One access of that width. @throws UsageError for a value that does not fit */
  write(offset: number, width: AccessWidth, value: number): void;
}

/** Where a table lies in its space. */
export interface RegisterPlace {
  /** Bytes from the start of the space to the table's offset 0. Default 0. */
  readonly offset?: number;
  /** Bytes that are there. Default: all of the table's. */
  readonly lengthBytes?: number;
}

/** An access to a register, as `TracedSpace` tells it. */
export interface RegisterAccess {
  /** Which way. */
  readonly kind: "read" | "write";
  /** The table's name for it, with its number where it is one of several, and bytes from its start: `queue_size`, `table[3]`, `queue_desc+4`. */
  readonly register: string;
  /** Bytes from the table's start. */
  readonly offset: number;
  /** Bytes of the access. */
  readonly width: AccessWidth;
  /** Read or written, unsigned. */
  readonly value: number;
}

/** See the module. An access is one access of the register's width; errors are those of the space. */
export class Registers<const T extends RegisterTable> {
  static {
    typedErrors(this);
  }

  /** The declarations. */
  readonly table: T;
  readonly #space: RegisterSpace;
  readonly #offset: number;
  readonly #lengthBytes: number;

  /** Binds; touches nothing. @param space stays the caller's */
  constructor(table: T, space: RegisterSpace, place: RegisterPlace = {}) {
    requireType(table, "object", "new Registers: table");
    requireType(space, "object", "new Registers: space", "read", "write");
    requireType(place, "object", "new Registers: place");
    this.table = table;
    this.#space = space;
    this.#offset = place.offset ?? 0;
    this.#lengthBytes = place.lengthBytes ?? Infinity;
  }

  /** Whether the register lies wholly inside what is there. */
  has(name: keyof T): boolean {
    const { offset, width } = this.#declared(name);
    return offset + width <= this.#lengthBytes;
  }

  /** Reads a register of up to 32 bits. @param index of an array of registers */
  read(name: keyof T, index = 0): number {
    const register = this.#declared(name);
    return this.#space.read(this.#at(register, index), narrow(name, register));
  }

  /** Writes a register of up to 32 bits. @throws UsageError for one that is read-only, or a value that does not fit */
  write(name: keyof T, value: number, index = 0): void {
    const register = this.#declared(name);
    if (register.access === "R") throw new UsageError(`${String(name)} is read-only`);
    this.#space.write(this.#at(register, index), narrow(name, register), value);
  }

  /** Reads a 64-bit register as two accesses of 32 bits, low half first. */
  read64(name: keyof T, index = 0): bigint {
    const at = this.#at(this.#declared(name), index);
    const low = this.#space.read(at, 4);
    return (BigInt(this.#space.read(at + 4, 4)) << 32n) | BigInt(low);
  }

  /** Writes a 64-bit register as two accesses of 32 bits, low half first. */
  write64(name: keyof T, value: bigint, index = 0): void {
    const at = this.#at(this.#declared(name), index);
    this.#space.write(at, 4, Number(value & 0xffff_ffffn));
    this.#space.write(at + 4, 4, Number(value >> 32n));
  }

  /** Reads a register, and splits it into its fields. */
  fields<N extends keyof T>(name: N, index = 0): RegisterValue<T[N]> {
    return decodeRegister(this.#declared(name), this.read(name, index));
  }

  /** Reads a register, changes these fields, and writes it. */
  change<N extends keyof T>(name: N, fields: RegisterFields<T[N]>, index = 0): void {
    const register = this.#declared(name);
    let kept = this.read(name, index);
    for (const field of Object.keys(fields)) {
      const declared = register.fields?.[field];
      if (declared === undefined) throw new UsageError(`${String(name)} has no field ${shown(field)}`);
      kept &= ~fieldMask(declared);
    }
    this.write(name, (kept | encodeRegister<T[N]>(register, fields)) >>> 0, index);
  }

  #declared<N extends keyof T>(name: N): T[N] {
    if (Object.hasOwn(this.table, name)) return this.table[name];
    throw new UsageError(`there is no register ${shown(name)}`, {
      hint: `there are ${Object.keys(this.table).join(", ")}`,
    });
  }

  #at(register: RegisterDeclaration, index: number): number {
    return this.#offset + register.offset + index * (register.strideBytes ?? 0);
  }
}

/** The part of a space that begins at `start`. */
export function partOf(space: RegisterSpace, start: number): RegisterSpace {
  return {
    read: (offset, width) => space.read(start + offset, width),
    write: (offset, width, value) => space.write(start + offset, width, value),
  };
}

/** A space that tells of each access to a register of a table, after it was made. Others go through untold. */
export class TracedSpace implements RegisterSpace {
  static {
    typedErrors(this);
  }

  readonly #space: RegisterSpace;
  readonly #table: RegisterTable;
  readonly #see: (access: RegisterAccess) => void;
  readonly #start: number;

  /** Touches nothing. @param see is told @param place of the table in the space */
  constructor(
    space: RegisterSpace,
    table: RegisterTable,
    see: (access: RegisterAccess) => void,
    place: RegisterPlace = {},
  ) {
    requireType(space, "object", "new TracedSpace: space", "read", "write");
    requireType(table, "object", "new TracedSpace: table");
    requireType(see, "function", "new TracedSpace: see");
    requireType(place, "object", "new TracedSpace: place");
    this.#space = space;
    this.#table = table;
    this.#see = see;
    this.#start = place.offset ?? 0;
  }

  read(offset: number, width: AccessWidth): number {
    const value = this.#space.read(offset, width);
    this.#tell("read", offset, width, value);
    return value;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    this.#space.write(offset, width, value);
    this.#tell("write", offset, width, value);
  }

  #tell(kind: RegisterAccess["kind"], at: number, width: AccessWidth, value: number): void {
    const offset = at - this.#start;
    const register = nameAt(this.#table, offset);
    if (register !== undefined) this.#see({ kind, register, offset, width, value });
  }
}

function nameAt(table: RegisterTable, offset: number): string | undefined {
  for (const [name, { offset: start, width, strideBytes }] of Object.entries(table)) {
    if (offset >= start && offset < start + width) {
      return offset === start ? name : `${name}+${offset - start}`;
    }
    if (strideBytes === undefined || offset < start) continue;
    if ((offset - start) % strideBytes < width) {
      return `${name}[${Math.floor((offset - start) / strideBytes)}]`;
    }
  }
  return undefined;
}

function narrow(name: PropertyKey, { width }: RegisterDeclaration): AccessWidth {
  if (width === 8) throw new UsageError(`${String(name)} has 64 bits`, { hint: "read64 and write64" });
  return width;
}

/** That a value fits a register of this width. @throws UsageError */
export function requireFit(value: number, width: AccessWidth): void {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** (8 * width)) return;
  throw new UsageError(`${shown(value)} does not fit a register of ${8 * width} bits`);
}
