/**
 * What is to be written into a register, by the words of a command line.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import { isClearedByReading, isReadable, isWritable } from "../lib/registers/declaration.ts";
import { mergedFields } from "../lib/registers/registers.ts";
import type { MeantRegister } from "./register_place.ts";

/** That a place can be accessed. @param sizeBytes of its region @throws UsageError */
export function requireThere(
  { name, region, offset, width, known }: MeantRegister,
  address: string,
  sizeBytes: number,
): void {
  const where = region === "config" ? "configuration space" : `BAR ${region}`;
  if (sizeBytes === 0) {
    throw new UsageError(`${address} has no ${where}`, {
      hint: `ringside show ${address} lists what it has`,
    });
  }
  // A register of 64 bits is two accesses of 32 where it is not said otherwise.
  const alignment = known === undefined ? width : Math.min(width, 4);
  if (offset + width <= sizeBytes && offset % alignment === 0) return;
  throw new UsageError(`${address} ${where} has no ${8 * width}-bit register at ${name}`, {
    hint: `offsets are multiples of ${alignment} below ${sizeBytes}`,
  });
}

/**
 * VALUE: a number, or fields as `busMaster=1,speed=1000`, which leave the others as they are.
 * @returns the whole value, from what the register reads before (undefined: it is not read)
 * @throws UsageError for a value that does not fit, or a register that cannot be written
 */
export function valueFor(
  { name, width, known }: MeantRegister,
  text: string,
): (before: number | bigint | undefined) => number | bigint {
  if (known !== undefined && !isWritable(known.declared)) throw new UsageError(`${name} is read-only`);
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text)) {
    const value = BigInt(text);
    if (value >= 1n << BigInt(8 * width)) {
      throw new UsageError(`${text} does not fit ${name}, a register of ${8 * width} bits`);
    }
    return () => width === 8 ? value : Number(value);
  }
  if (known === undefined || !/^[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*$/.test(text)) {
    throw new UsageError(`${JSON.stringify(text)} is no value`, {
      hint: known === undefined ? "decimal, or 0x…" : "decimal, 0x…, or FIELD=VALUE,…",
    });
  }
  const { declared, register } = known;
  const fields = Object.fromEntries(
    text.split(",").map((part) => {
      const [field = "", value = ""] = part.split("=");
      const isName = Object.hasOwn(declared.fields?.[field]?.values ?? {}, value);
      return [field, !isName && /^(0x[0-9a-f]+|\d+)$/i.test(value) ? BigInt(value) : value];
    }),
  );
  // Looked at before anything is opened.
  mergedFields(register, declared, fields, 0n);
  if (!isReadable(declared) || isClearedByReading(declared)) {
    throw new UsageError(
      `${name} cannot be read without clearing it, so that its other fields are not known`,
      {
        hint: "write the whole value",
      },
    );
  }
  return (before) => {
    const value = mergedFields(register, declared, fields, BigInt(before ?? 0));
    return width === 8 ? value : Number(value);
  };
}
