/**
 * A table of registers as text, in the shape of a datasheet's:
 *
 * ```
 * # name   offset                    width  access  reset
 * CTRL     0x00000                   32     RW      0x00000001
 *   FD     0                         RW
 *   SPEED  9:8                       RW     10=0 100=1 1000=2
 * ICR      0x000c0                   32     RC/W1C
 * TDBAL    0x0e000 + 0x40 * 0..15    32     RW
 * ```
 *
 * A line that begins at its margin is a register, an indented one a field of the register above. Widths are in bits; 64 is two accesses of 32, low half
 * first, `64/64` one of 64. Numbers are decimal, or `0x…`. What stands behind `#` is for the reader.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { InputError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import type {
  FieldAccess,
  FieldDeclaration,
  RegisterDeclaration,
  RegisterMode,
  RegisterTable,
} from "./declaration.ts";
import { ends, requireSound } from "./table.ts";

const FIELD_ACCESS: readonly FieldAccess[] = [
  "RO",
  "ROS",
  "HwInit",
  "RW",
  "RWS",
  "RW1C",
  "RW1CS",
  "RWZ",
  "SC",
  "WO",
  "RC",
  "RC/W1C",
];
const REGISTER_ACCESS: readonly RegisterMode[] = ["R", "W", "RW", "RC", "W1C", "RC/W1C"];
/** Datasheets write these, too. */
const ALSO: Readonly<Record<string, string>> = {
  RO: "R",
  WO: "W",
  "R/W": "RW",
  RW1C: "W1C",
  "RC/RW1C": "RC/W1C",
};

const NAME = /^[A-Za-z_][\w.-]*$/;
const NUMBER = "0x[0-9a-f]+|[0-9]+";
const REGISTER = new RegExp(
  `^(\\S+)\\s+(${NUMBER})(?:\\s*\\+\\s*(${NUMBER})\\s*[*×x]\\s*0\\s*\\.\\.\\s*(${NUMBER}))?\\s+(\\S+)\\s+(\\S+)(?:\\s+(${NUMBER}))?$`,
  "i",
);

interface Found {
  readonly register: RegisterDeclaration;
  readonly fields: Map<string, FieldDeclaration>;
}

/** Reads a table from its text. @throws InputError with the line; UsageError for a table that is wrong: see `registerTable` */
export function parseRegisters(text: string): RegisterTable {
  return typedCall("parseRegisters", [text], () => {
    requireType(text, "string", "parseRegisters: text");
    const found = new Map<string, Found>();
    let last: Found | undefined;
    for (const [i, whole] of text.split(/\r?\n/).entries()) {
      const line = whole.replace(/#.*/, "").trimEnd();
      if (line.trim() === "") continue;
      const wrong = (what: string): never => {
        throw new InputError(`line ${i + 1} of the table: ${what}: ${shown(line.trim())}`, {
          hint:
            "a register is NAME OFFSET WIDTH ACCESS [RESET], a field below it NAME BITS ACCESS [VALUE=NUMBER …]",
        });
      };
      if (/^\s/.test(line)) {
        if (last === undefined) wrong("a field without a register above it");
        const [name, field] = readField(line.trim(), wrong);
        if (last!.fields.has(name)) wrong(`the register has two fields of the name ${name}`);
        last!.fields.set(name, field);
      } else {
        const [name, register] = readRegister(line, wrong);
        if (found.has(name)) wrong(`there are two registers of the name ${name}`);
        found.set(name, last = { register, fields: new Map() });
      }
    }
    const table = Object.fromEntries(
      [...found].map(([name, { register, fields }]) => [
        name,
        fields.size === 0 ? register : { ...register, fields: Object.fromEntries(fields) },
      ]),
    );
    requireSound(table);
    return table;
  });
}

function readRegister(line: string, wrong: (what: string) => never): [string, RegisterDeclaration] {
  const [, name = "", offset, stride, lastIndex, width = "", mode = "", reset] = REGISTER.exec(line) ??
    wrong("it is no register");
  if (!NAME.test(name)) wrong("a name has letters, digits, _, - and .");
  const bits = ["8", "16", "32", "64", "64/64"].indexOf(width);
  if (bits < 0) wrong("the width is none of 8, 16, 32, 64 and 64/64 bits");
  const access = ALSO[mode.toUpperCase()] ?? mode.toUpperCase();
  if (!(REGISTER_ACCESS as readonly string[]).includes(access)) {
    wrong(`the access is none of ${REGISTER_ACCESS.join(", ")}`);
  }
  return [name, {
    offset: Number(offset),
    width: ([1, 2, 4, 8, 8] as const)[bits]!,
    access: access as RegisterMode,
    ...(stride === undefined ? {} : { strideBytes: Number(stride), count: Number(lastIndex) + 1 }),
    ...(reset === undefined ? {} : { reset: bits >= 3 ? BigInt(reset) : Number(reset) }),
    ...(bits === 4 ? { oneAccess: true } : {}),
  }];
}

function readField(line: string, wrong: (what: string) => never): [string, FieldDeclaration] {
  const [name = "", bits = "", mode = "", ...pairs] = line.split(/\s+/);
  if (!NAME.test(name)) wrong("a name has letters, digits, _, - and .");
  const range = /^(\d{1,2})(?::(\d{1,2}))?$/.exec(bits) ?? wrong("bits are a number, or HIGH:LOW");
  const access = FIELD_ACCESS.find((one) => one.toUpperCase() === mode.toUpperCase()) ??
    wrong(`the access is none of ${FIELD_ACCESS.join(", ")}`);
  const values = new Map<string, number>();
  for (const pair of pairs) {
    const [, value = "", number] = new RegExp(`^([^=\\s]+)=(${NUMBER})$`, "i").exec(pair) ??
      wrong("what a value means is said as NAME=NUMBER");
    if (values.has(value)) wrong(`the field has two values of the name ${value}`);
    values.set(value, Number(number));
  }
  return [name, {
    bits: range[2] === undefined ? Number(range[1]) : [Number(range[1]), Number(range[2])],
    access,
    ...(values.size === 0 ? {} : { values: Object.fromEntries(values) }),
  }];
}

/**
 * Writes a table as text that `parseRegisters` reads. Not in it: `name`, `label`, `text` and `feature`.
 * @throws UsageError for a table that is wrong, an array without `count`, a name with a blank
 */
export function formatRegisters(table: RegisterTable): string {
  return typedCall("formatRegisters", [table], () => {
    requireType(table, "object", "formatRegisters: table");
    requireSound(table);
    const rows = Object.entries(table).flatMap(([name, register]) => [
      [requireName(name), placeText(name, register), ...registerWords(register)],
      ...Object.entries(register.fields ?? {}).map(([field, declared]) => {
        const [high, low] = ends(declared);
        const values = Object.entries(declared.values ?? {}).map(([value, number]) => `${value}=${number}`);
        const bits = typeof declared.bits === "number" ? `${high}` : `${high}:${low}`;
        return [`  ${requireName(field)}`, bits, "", declared.access, values.join(" ")];
      }),
    ]);
    const widths = [0, 1, 2, 3, 4].map((column) =>
      Math.max(0, ...rows.map((row) => row[column]?.length ?? 0))
    );
    return rows.map((row) => `${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd()}\n`)
      .join("");
  });
}

function placeText(name: string, { offset, strideBytes, count }: RegisterDeclaration): string {
  const start = `0x${offset.toString(16).padStart(4, "0")}`;
  if (strideBytes === undefined) return start;
  if (count === undefined) {
    throw new UsageError(`${name} is an array, and it is not said how many there are`, {
      hint: "declare `count`",
    });
  }
  return `${start} + 0x${strideBytes.toString(16)} * 0..${count - 1}`;
}

function registerWords({ width, access, fields, reset, oneAccess }: RegisterDeclaration): string[] {
  const only = Object.values(fields ?? {}).map((one) => one.access);
  const said = access ?? (only.length > 0 && only.every((one) => one === "WO") ? "W" : "RW");
  const bits = oneAccess === true ? "64/64" : `${8 * width}`;
  return [bits, said, ...(reset === undefined ? [] : [`0x${reset.toString(16)}`])];
}

function requireName(name: string): string {
  if (NAME.test(name)) return name;
  throw new UsageError(`${shown(name)} cannot be a name in the text of a table`, {
    hint: "letters, digits, _, - and .",
  });
}
