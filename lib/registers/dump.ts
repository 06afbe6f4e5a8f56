/**
 * Registers as they stand at one moment: plain data that JSON keeps, text for people, and what differs between two of them.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { InputError } from "../errors/mod.ts";
import {
  decodeRegister,
  isClearedByReading,
  isReadable,
  type RegisterDeclaration,
  type RegisterTable,
  valueName,
} from "./declaration.ts";

/** A decoded field: a single bit; the name of a value that has one; else a number, in hexadecimal where it is beyond 2^53. */
export type DumpedField = boolean | number | string;

/** One register, or one of an array. */
export interface DumpedRegister {
  /** As the table names it; `TDBAL[3]` of an array. */
  readonly name: string;
  /** Bytes from the start of the table. */
  readonly offset: number;
  /** Bytes. */
  readonly width: number;
  /** All digits of it in hexadecimal; null: it was not read. */
  readonly value: string | null;
  /** Why it was not read. */
  readonly lack?: "write-only" | "cleared by reading";
  /** By name, the highest first. */
  readonly fields?: Readonly<Record<string, DumpedField>>;
  /** What it reads after a reset, where the table says so. */
  readonly reset?: string;
}

/** The registers of a table, by offset. */
export interface RegisterDump {
  /** By offset. */
  readonly registers: readonly DumpedRegister[];
  /** Registers that the dump cleared by reading them: none unless that was asked for. */
  readonly clearingReads: number;
}

/** What is dumped. */
export interface DumpOptions {
  /** Only registers whose name has this in it, in any case; with `*` and `?`, whose whole name is so; or of whose name this is true. Default: all. */
  readonly only?: string | ((name: string) => boolean);
  /** Read registers that are cleared by reading, too. */
  readonly readToClear?: boolean;
}

/** What a dump reads: `Registers` of any table. */
export interface DumpedSource {
  /** The declarations. */
  readonly table: RegisterTable;
  /** Whether it is there. */
  has(name: string, index?: number): boolean;
  /** Reads one. */
  get(name: string, index?: number): number | bigint;
}

/** Reads all registers of a table that can be read without changing the device. Those that are not there are left out. */
export function dumpRegisters(source: DumpedSource, options: DumpOptions): RegisterDump {
  requireType(options, "object", "Registers.dump: options");
  const { only } = options;
  const wanted = typeof only === "function" ? only : matcher(only);
  const registers: DumpedRegister[] = [];
  let clearingReads = 0;
  for (const [name, register] of Object.entries(source.table)) {
    for (let index = 0; index < (register.count ?? 1); index++) {
      const title = elementName(name, register, index);
      if (!source.has(name, index) || !wanted(title)) continue;
      const clears = isClearedByReading(register);
      const lack = !isReadable(register)
        ? "write-only"
        : clears && options.readToClear !== true
        ? "cleared by reading"
        : undefined;
      if (lack === undefined && clears) clearingReads++;
      const { offset, width, strideBytes = 0, reset } = register;
      registers.push({
        name: title,
        offset: offset + index * strideBytes,
        width,
        ...(lack === undefined ? read(register, source.get(name, index)) : { value: null, lack }),
        ...(reset === undefined ? {} : { reset: digits(reset, width) }),
      });
    }
  }
  return { registers: registers.sort((one, other) => one.offset - other.offset), clearingReads };
}

function read(register: RegisterDeclaration, raw: number | bigint): Pick<DumpedRegister, "value" | "fields"> {
  const value = digits(raw, register.width);
  return register.fields === undefined ? { value } : { value, fields: fieldsOf(register, raw) };
}

function fieldsOf(register: RegisterDeclaration, raw: number | bigint): Record<string, DumpedField> {
  const { raw: _, ...values } = decodeRegister(register, raw);
  const high = (name: string) => Number([register.fields![name]!.bits].flat()[0]);
  return Object.fromEntries(
    Object.entries(values).sort(([one], [other]) => high(other) - high(one)).map(([name, value]) => {
      const named = valueName(register.fields![name]!, value);
      if (named !== undefined) return [name, named];
      if (typeof value !== "bigint") return [name, value];
      return [name, value <= Number.MAX_SAFE_INTEGER ? Number(value) : `0x${value.toString(16)}`];
    }),
  );
}

function digits(value: number | bigint, width: number): string {
  return `0x${value.toString(16).padStart(2 * width, "0")}`;
}

/** `TDBAL[3]` of an array whose length is known, or where another than the first is meant; else the plain name. */
export function elementName(name: PropertyKey, { count = 1 }: RegisterDeclaration, index: number): string {
  return count > 1 || index > 0 ? `${String(name)}[${index}]` : String(name);
}

/** A value and its fields in one line: `0x00000081 computing 1, interrupt 1`. */
export function describeValue(register: RegisterDeclaration, raw: number | bigint): string {
  const { value, fields } = read(register, raw);
  return [value, fieldText(fields)].filter((part) => part !== "").join(" ");
}

/** Fields in one line: `interrupt 1, computing 0`. Empty where there are none. */
export function fieldText(fields: DumpedRegister["fields"] = {}): string {
  return Object.entries(fields).map(([name, value]) => `${name} ${plain(value)}`).join(", ");
}

function plain(value: DumpedField): string {
  return typeof value === "boolean" ? `${Number(value)}` : `${value}`;
}

/** Whether a name is meant by a pattern: see `DumpOptions`. */
export function matcher(pattern: string | undefined): (name: string) => boolean {
  if (pattern === undefined || pattern === "") return () => true;
  if (!/[*?]/.test(pattern)) return (name) => name.toLowerCase().includes(pattern.toLowerCase());
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  const whole = new RegExp(`^${escaped}$`, "i");
  return (name) => whole.test(name);
}

/** A dump as text: a line a register, and where a register is not as after a reset, what it was then. */
export function formatDump(dump: RegisterDump): string {
  return typedCall("formatDump", [dump], () => {
    const { registers } = checkDump(dump);
    const offset = Math.max(3, ...registers.map((one) => one.offset.toString(16).length));
    const name = Math.max(0, ...registers.map((one) => one.name.length));
    return registers.map((one) => {
      const { value, lack, reset, fields } = one;
      const changed = value !== null && reset !== undefined && reset !== value ? `(reset ${reset})` : "";
      const place = `0x${one.offset.toString(16).padStart(offset, "0")}`;
      const parts = [place, one.name.padEnd(name), value ?? `(${lack})`, fieldText(fields), changed];
      return `${parts.filter((part) => part !== "").join("  ")}\n`;
    }).join("");
  });
}

/** A register that is not the same in two dumps. */
export interface RegisterChange {
  /** As the table names it. */
  readonly name: string;
  /** Null: not read, or not in that dump. */
  readonly before: string | null;
  /** Null: not read, or not in that dump. */
  readonly after: string | null;
  /** Those of its fields that differ. */
  readonly fields: Readonly<Record<string, { readonly before: DumpedField; readonly after: DumpedField }>>;
}

/** What differs from one dump to the other. A register that neither has read is no difference. */
export function diffDumps(before: RegisterDump, after: RegisterDump): RegisterChange[] {
  return typedCall("diffDumps", [before, after], () => {
    const old = new Map(checkDump(before).registers.map((one) => [one.name, one]));
    const now = new Map(checkDump(after).registers.map((one) => [one.name, one]));
    return [...new Set([...old.keys(), ...now.keys()])].flatMap((name) => {
      const [one, other] = [old.get(name), now.get(name)];
      const [from, to] = [one?.value ?? null, other?.value ?? null];
      if (from === to) return [];
      const fields = Object.entries(other?.fields ?? {}).flatMap(([field, value]) => {
        const was = one?.fields?.[field];
        return was === undefined || was === value ? [] : [[field, { before: was, after: value }] as const];
      });
      return [{ name, before: from, after: to, fields: Object.fromEntries(fields) }];
    });
  });
}

/** Differences as text, a line a register: `status  0x00 -> 0x81  interrupt 0 -> 1`. */
export function formatDiff(changes: readonly RegisterChange[]): string {
  return typedCall("formatDiff", [changes], () => {
    const width = Math.max(0, ...changes.map((one) => one.name.length));
    return changes.map(({ name, before, after, fields }) => {
      const changed = Object.entries(fields).map(([field, one]) =>
        `${field} ${plain(one.before)} -> ${plain(one.after)}`
      );
      const values = `${before ?? "(not read)"} -> ${after ?? "(not read)"}`;
      return `${[name.padEnd(width), values, changed.join(", ")].filter((part) => part !== "").join("  ")}\n`;
    }).join("");
  });
}

/** A dump that came from elsewhere, such as a file of JSON. @throws InputError where it is none */
export function checkDump(value: unknown): RegisterDump {
  const sound = typedCall("checkDump", [value], () => {
    const registers = (value as RegisterDump | null | undefined)?.registers;
    return Array.isArray(registers) &&
      registers.every((one: Partial<DumpedRegister> | null) =>
        typeof one === "object" && one !== null && typeof one.name === "string" &&
        (one.value === null || typeof one.value === "string") &&
        (one.fields === undefined || (typeof one.fields === "object" && one.fields !== null))
      );
  });
  if (sound) return value as RegisterDump;
  throw new InputError("it is no dump of registers: it has no list `registers` of `name` and `value`");
}
