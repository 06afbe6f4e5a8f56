/**
 * A table of registers, bound to whatever reads and writes.
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import { TimeoutError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import {
  type AccessWidth,
  decodeRegister,
  type FieldDeclaration,
  isClearedByReading,
  isReadable,
  isWritable,
  keptOut,
  type RawOf,
  type RegisterDeclaration,
  type RegisterFields,
  type RegisterTable,
  type RegisterValue,
  wideMask,
} from "./declaration.ts";
import { describeValue, type DumpOptions, dumpRegisters, elementName, type RegisterDump } from "./dump.ts";
import { ends, largest, requireSound } from "./table.ts";

/** What registers lie in: configuration space, a BAR, a block that is reached by commands, emulated bytes. Offsets are bytes from its start. */
export interface RegisterSpace {
  /** One access of that width, unsigned. */
  read(offset: number, width: AccessWidth): number;
  /** One access of that width. @throws UsageError for a value that does not fit */
  write(offset: number, width: AccessWidth, value: number): void;
  /** One access of 64 bits, of a space that has such. */
  read64?(offset: number): bigint;
  /** One access of 64 bits, of a space that has such. */
  write64?(offset: number, value: bigint): void;
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

/** What `waitFor` waits for: values of fields, or of the whole register. */
export type RegisterWish<R extends RegisterDeclaration> = RegisterFields<R> | RawOf<R>;

/** Reads in a row before a wait lets the event loop turn. */
const READS_AT_ONCE = 16;

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
  #clearingReads = 0;

  /** Binds; touches nothing. @param space stays the caller's @throws UsageError for a table that is wrong: see `registerTable` */
  constructor(table: T, space: RegisterSpace, place: RegisterPlace = {}) {
    requireType(table, "object", "new Registers: table");
    requireType(space, "object", "new Registers: space", "read", "write");
    requireType(place, "object", "new Registers: place");
    requireSound(table);
    this.table = table;
    this.#space = space;
    this.#offset = place.offset ?? 0;
    this.#lengthBytes = place.lengthBytes ?? Infinity;
  }

  /** Reads of registers that reading clears, since it was bound. */
  get clearingReads(): number {
    return this.#clearingReads;
  }

  /** Whether the register lies wholly inside what is there. @param index of an array of registers */
  has(name: keyof T, index = 0): boolean {
    const { offset, width, strideBytes = 0 } = this.#declared(name);
    return offset + index * strideBytes + width <= this.#lengthBytes;
  }

  /** Reads a register: a number, and a `bigint` of 64 bits. @param index of an array of registers */
  get<N extends keyof T>(name: N, index = 0): RawOf<T[N]> {
    const wide = this.#declared(name).width === 8;
    return (wide ? this.read64(name, index) : this.read(name, index)) as RawOf<T[N]>;
  }

  /**
   * Writes a register: a whole value, or fields; bits that no field names are then 0.
   * @throws UsageError for one that is read-only, or a value that does not fit
   */
  set<N extends keyof T>(name: N, value: RawOf<T[N]> | RegisterFields<T[N]>, index = 0): void {
    const register = this.#declared(name);
    this.#put(name, typeof value === "object" ? mergedFields(name, register, value, 0n) : value, index);
  }

  /** Reads a register of up to 32 bits. @param index of an array of registers */
  read(name: keyof T, index = 0): number {
    const register = this.#declared(name);
    const at = this.#at(name, register, index), width = narrow(name, register);
    if (isClearedByReading(register)) this.#clearingReads++;
    return this.#space.read(at, width);
  }

  /** Writes a register of up to 32 bits. @throws UsageError for one that is read-only, or a value that does not fit */
  write(name: keyof T, value: number, index = 0): void {
    const register = this.#writable(name);
    this.#space.write(this.#at(name, register, index), narrow(name, register), value);
  }

  /** Reads a 64-bit register, as two accesses of 32 bits, low half first, or as one where it is declared so. */
  read64(name: keyof T, index = 0): bigint {
    const register = this.#declared(name);
    const at = this.#at(name, register, index);
    if (isClearedByReading(register)) this.#clearingReads++;
    if (register.oneAccess) return this.#wideSpace(name).read64(at);
    const low = this.#space.read(at, 4);
    return (BigInt(this.#space.read(at + 4, 4)) << 32n) | BigInt(low);
  }

  /** Writes a 64-bit register; see `read64`. @throws UsageError for one that is read-only */
  write64(name: keyof T, value: bigint, index = 0): void {
    const register = this.#writable(name);
    const at = this.#at(name, register, index);
    if (register.oneAccess) return this.#wideSpace(name).write64(at, value);
    this.#space.write(at, 4, Number(value & 0xffff_ffffn));
    this.#space.write(at + 4, 4, Number(value >> 32n));
  }

  /** Reads a register, and splits it into its fields. */
  fields<N extends keyof T>(name: N, index = 0): RegisterValue<T[N]> {
    return decodeRegister<T[N]>(this.#declared(name), this.get(name, index));
  }

  /**
   * Reads a register, changes these fields, and writes it. Bits that a written 1 clears or starts are written as 0 unless they are named.
   * @throws UsageError for a register that cannot be read, or is cleared by it: nothing is accessed
   */
  update<N extends keyof T>(name: N, fields: RegisterFields<T[N]>, index = 0): void {
    const register = this.#writable(name);
    requireType(fields, "object", "Registers.update: fields");
    if (!isReadable(register) || isClearedByReading(register)) {
      const why = isReadable(register) ? "is cleared by reading it" : "cannot be read";
      throw new UsageError(`${String(name)} ${why}, so that its other fields are not known`, {
        hint: "set writes all of its fields",
      });
    }
    mergedFields(name, register, fields, 0n);
    this.#put(name, mergedFields(name, register, fields, BigInt(this.get(name, index))), index);
  }

  /**
   * Reads a register again and again until it has these values; with sleeps in between. For what a device says by no interrupt.
   * @param wish fields, by name: all of them must be as said; or the whole value
   * @returns the register when it was so
   * @throws TimeoutError with the register as it was read last, decoded
   */
  async waitFor<N extends keyof T>(
    name: N,
    wish: RegisterWish<T[N]>,
    timeoutMs: number,
    index = 0,
  ): Promise<RegisterValue<T[N]>> {
    requireType(timeoutMs, "number", "Registers.waitFor: timeoutMs");
    const register = this.#declared(name);
    const mask = typeof wish === "object" ? maskOf(name, register, wish) : (1n << 64n) - 1n;
    const wanted = typeof wish === "object" ? mergedFields(name, register, wish, 0n) : BigInt(wish);
    const end = performance.now() + timeoutMs;
    for (let reads = 1;; reads++) {
      // Asked before it is read: who was kept from running for long looks once more.
      const late = performance.now() >= end;
      const raw = this.get(name, index);
      if ((BigInt(raw) & mask) === wanted) return decodeRegister<T[N]>(register, raw);
      if (late) {
        const last = describeValue(register, raw);
        throw new TimeoutError(
          `${elementName(name, register, index)} was not ${
            wishText(wish)
          } within ${timeoutMs} ms: it is ${last}`,
        );
      }
      if (reads % READS_AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Reads all registers that can be read without changing the device; those that are not there are left out. */
  dump(options: DumpOptions = {}): RegisterDump {
    return dumpRegisters(this, options);
  }

  #put(name: keyof T, value: number | bigint, index: number): void {
    const { width } = this.#declared(name);
    if (width === 8) this.write64(name, wideValue(name, value), index);
    else this.write(name, typeof value === "bigint" ? Number(value) : value, index);
  }

  #wideSpace(name: keyof T): Required<RegisterSpace> {
    const space = this.#space;
    if (space.read64 !== undefined && space.write64 !== undefined) return space as Required<RegisterSpace>;
    throw new UsageError(`${String(name)} is one access of 64 bits, which its space does not have`, {
      hint: "a BAR has them",
    });
  }

  #writable<N extends keyof T>(name: N): T[N] {
    const register = this.#declared(name);
    if (!isWritable(register)) throw new UsageError(`${String(name)} is read-only`);
    return register;
  }

  #declared<N extends keyof T>(name: N): T[N] {
    if (Object.hasOwn(this.table, name)) return this.table[name];
    throw new UsageError(`there is no register ${shown(name)}`, {
      hint: `there are ${Object.keys(this.table).join(", ")}`,
    });
  }

  #at(name: keyof T, { offset, strideBytes = 0, count }: RegisterDeclaration, index: number): number {
    const most = count ?? (strideBytes === 0 ? 1 : Infinity);
    if (Number.isInteger(index) && index >= 0 && index < most) {
      return this.#offset + offset + index * strideBytes;
    }
    throw new UsageError(`there is no ${String(name)}[${shown(index)}]`, {
      hint: most === Infinity ? "numbers start at 0" : `there are ${most}, from 0`,
    });
  }
}

/** Bits of the fields that are named. */
function maskOf(name: PropertyKey, register: RegisterDeclaration, fields: object): bigint {
  return Object.keys(fields).reduce((mask, field) => mask | wideMask(fieldOf(name, register, field)), 0n);
}

function fieldOf(name: PropertyKey, { fields = {} }: RegisterDeclaration, field: string): FieldDeclaration {
  if (Object.hasOwn(fields, field)) return fields[field]!;
  throw new UsageError(`${String(name)} has no field ${shown(field)}`, {
    hint: Object.keys(fields).length === 0 ? "it has none" : `there are ${Object.keys(fields).join(", ")}`,
  });
}

/**
 * A register's value with these fields as said; bits that a written 1 clears or starts are 0 unless they are named.
 * @throws UsageError for a field that is not there, and a value that does not fit
 */
export function mergedFields(
  name: PropertyKey,
  register: RegisterDeclaration,
  fields: object,
  before: bigint,
): bigint {
  let raw = before & ~keptOut(register);
  for (const [field, value] of Object.entries(fields)) {
    const declared = fieldOf(name, register, field);
    if (value === undefined) continue;
    const wanted = typeof value === "string" ? declared.values?.[value] : value;
    const whole = typeof wanted === "bigint" || typeof wanted === "boolean" || Number.isSafeInteger(wanted);
    if (!whole || BigInt(wanted) < 0n || BigInt(wanted) > largest(declared)) {
      const values = Object.keys(declared.values ?? {});
      throw new UsageError(`${shown(value)} does not fit field ${field} of ${String(name)}`, {
        hint: `0 to ${largest(declared)}${values.length === 0 ? "" : `, or ${values.join(", ")}`}`,
      });
    }
    raw = (raw & ~wideMask(declared)) | (BigInt(wanted) << BigInt(ends(declared)[1]));
  }
  return raw;
}

function wideValue(name: PropertyKey, value: number | bigint): bigint {
  if (typeof value === "bigint" || Number.isSafeInteger(value)) {
    const wide = BigInt(value);
    if (wide >= 0n && wide < 1n << 64n) return wide;
  }
  throw new UsageError(`${shown(value)} does not fit ${String(name)}, a register of 64 bits`);
}

function wishText(wish: object | number | bigint): string {
  if (typeof wish !== "object") return `0x${wish.toString(16)}`;
  return Object.entries(wish).map(([field, value]) =>
    `${field} ${Number.isNaN(Number(value)) ? value : Number(value)}`
  )
    .join(", ");
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
