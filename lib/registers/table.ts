/**
 * Tables of registers that are refused when they are wrong: by their types where these can say it, and by a message.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import {
  type FieldBits,
  type FieldDeclaration,
  isReadable,
  isWritable,
  type RegisterDeclaration,
  type RegisterTable,
} from "./declaration.ts";

/** The numbers below `N`. */
export type Below<N extends number, Seen extends readonly number[] = []> = Seen["length"] extends N
  ? Seen[number]
  : Below<N, [...Seen, Seen["length"]]>;

/** Numbers of the bits that a register of so many bytes has. */
export type BitsOf<W> = W extends 1 ? Below<8>
  : W extends 2 ? Below<16>
  : W extends 4 ? Below<32>
  : Below<64>;

/** What the fields of a register of `W` bytes must be besides. */
export type FieldsInside<F, W> = {
  readonly [K in keyof F]: F[K] extends { readonly bits: BitsOf<W> | readonly [BitsOf<W>, BitsOf<W>] }
    ? unknown
    : { readonly bits: "outside of the register" };
};

/** One can only be read, the other only written: 16550's RBR and THR are two registers at one place. */
export type OneWayEach<A, B> = A extends { readonly access: "R" | "RC" }
  ? B extends { readonly access: "W" } ? true : false
  : A extends { readonly access: "W" } ? B extends { readonly access: "R" | "RC" } ? true : false
  : false;

/** Offsets of the other registers that would be reached by the same accesses as `N`. */
export type OthersAt<T extends RegisterTable, N extends keyof T> = {
  [M in Exclude<keyof T, N>]: OneWayEach<T[N], T[M]> extends true ? never : T[M]["offset"];
}[Exclude<keyof T, N>];

/** What a table's type must be besides: no field outside of its register, no two registers at one offset. */
export type SoundTable<T extends RegisterTable> = {
  readonly [N in keyof T]:
    & (T[N] extends { readonly fields: infer F } ? { readonly fields: FieldsInside<F, T[N]["width"]> }
      : unknown)
    & (number extends T[N]["offset"] ? unknown
      : T[N]["offset"] extends OthersAt<T, N> ? { readonly offset: "taken by another register" }
      : unknown);
};

/**
 * A table that was looked at: what is wrong does not compile where types can say so, and is refused here in any case.
 * @returns the same table
 * @throws UsageError naming the register: registers that overlap, a field outside of its register or over another field, a value, reset or array that
 * cannot be
 */
export function registerTable<const T extends RegisterTable>(table: T & SoundTable<T>): T {
  return typedCall("registerTable", [table], () => {
    requireType(table, "object", "registerTable: table");
    requireSound(table);
    return table;
  });
}

/** Tables that were looked at. */
const SOUND = new WeakSet<RegisterTable>();
/** More elements than a BAR has room for are a slip. */
const MOST_ELEMENTS = 1 << 20;

/** Each table is looked at once. @throws UsageError */
export function requireSound(table: RegisterTable): void {
  if (SOUND.has(table)) return;
  for (const [name, register] of Object.entries(table)) requireRegister(name, register);
  requireApart(table, "read", isReadable);
  requireApart(table, "written", isWritable);
  SOUND.add(table);
}

function requireRegister(name: string, register: RegisterDeclaration): void {
  const wrong = (what: string): never => {
    throw new UsageError(`register ${name}: ${what}`, { hint: "mend its declaration" });
  };
  requireType(register, "object", `register ${name}`);
  const { offset, width, strideBytes, count, reset, fields = {}, oneAccess } = register;
  if (!isCount(offset)) wrong(`offset ${shown(offset)} is no number of bytes`);
  if (![1, 2, 4, 8].includes(width)) wrong(`width ${shown(width)} is none of 1, 2, 4 and 8 bytes`);
  if (oneAccess === true && width !== 8) wrong("oneAccess is for a register of 8 bytes");
  if (strideBytes !== undefined && !(isCount(strideBytes) && strideBytes >= width)) {
    wrong(`a stride of ${shown(strideBytes)} bytes is less than the ${width} of the register`);
  }
  if (count !== undefined) {
    if (!isCount(count) || count < 1 || count > MOST_ELEMENTS) wrong(`there cannot be ${shown(count)} of it`);
    if (count > 1 && strideBytes === undefined) wrong(`there are ${count} of it, and no stride`);
  }
  const most = (1n << BigInt(8 * width)) - 1n;
  if (reset !== undefined && !(isWhole(reset) && BigInt(reset) >= 0n && BigInt(reset) <= most)) {
    wrong(`a reset value of ${shown(reset)} does not fit ${8 * width} bits`);
  }
  const owners: (string | undefined)[] = [];
  for (const [field, declared] of Object.entries(fields)) {
    const [high, low] = ends(declared);
    if (!isCount(low) || !isCount(high) || low > high) wrong(`field ${field} has no bits [high, low]`);
    if (high >= 8 * width) wrong(`field ${field} is outside of it: bit ${high} of ${8 * width} bits`);
    for (let bit = low; bit <= high; bit++) {
      if (owners[bit] !== undefined) wrong(`fields ${owners[bit]} and ${field} both have bit ${bit}`);
      owners[bit] = field;
    }
    const named = new Map<number, string>();
    for (const [value, number] of Object.entries(declared.values ?? {})) {
      if (!isCount(number) || number >= 2 ** (high - low + 1)) {
        wrong(`value ${value} of field ${field} does not fit it: ${shown(number)}`);
      }
      if (named.has(number)) {
        wrong(`values ${named.get(number)} and ${value} of field ${field} are both ${number}`);
      }
      named.set(number, value);
    }
  }
}

/** No two registers that are reached by the same kind of access have a byte in common. */
function requireApart(
  table: RegisterTable,
  how: string,
  reached: (register: RegisterDeclaration) => boolean,
): void {
  const places = Object.entries(table).filter(([, register]) => reached(register)).flatMap(
    ([name, register]) => {
      const { offset, width, strideBytes = 0, count = 1 } = register;
      return Array.from({ length: count }, (_, i) => {
        const start = offset + i * strideBytes;
        return { start, end: start + width, name: count > 1 ? `${name}[${i}]` : name };
      });
    },
  ).sort((one, other) => one.start - other.start);
  places.forEach((place, i) => {
    const next = places[i + 1];
    if (next === undefined || next.start >= place.end) return;
    const at = `0x${next.start.toString(16)}`;
    throw new UsageError(`registers ${place.name} and ${next.name} overlap: both are ${how} at ${at}`, {
      hint: 'two registers are at one place only if one has access "R" and the other "W"',
    });
  });
}

/** Highest and lowest bit of a field. */
export function ends({ bits }: { readonly bits: FieldBits }): readonly [high: number, low: number] {
  return typeof bits === "number" ? [bits, bits] : bits;
}

/** A field's largest value. */
export function largest(field: FieldDeclaration): bigint {
  const [high, low] = ends(field);
  return (1n << BigInt(high - low + 1)) - 1n;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isWhole(value: unknown): boolean {
  return typeof value === "bigint" || Number.isSafeInteger(value);
}
