/**
 * Declared wire structures: a table of fields (name, type, offset) and one codec over it.
 *
 * All fields are little-endian, as virtio, PCI and the vfio-user protocol are; kernel structures are native-endian, which
 * is the same on the machines that this library runs on (x86-64 and AArch64). Not for device registers: those need accesses of exact width.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";

/** Field types: unsigned and signed integers by width; `u64` values are `bigint`, the rest `number`. */
export type FieldType = "u8" | "u16" | "u32" | "s32" | "u64";

/** One field of a structure. */
export interface Field<T extends FieldType = FieldType> {
  /** Offset from the start of the structure, in bytes. */
  readonly offset: number;
  /** Width and sign. */
  readonly type: T;
}

/** Field table of a structure, by name. */
export type Fields = Readonly<Record<string, Field>>;

/** Values of a structure as plain data. */
export type Values<F extends Fields> = {
  -readonly [K in keyof F]: F[K]["type"] extends "u64" ? bigint : number;
};

/** Bytes of a field. */
export const FIELD_BYTES: Readonly<Record<FieldType, number>> = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8 };

/** A declared structure of fixed size, with an optional variable tail that the caller handles. */
export class Struct<F extends Fields> {
  /** Name in the source (header or standard). */
  readonly name: string;
  /** Size of the fixed part, in bytes. */
  readonly sizeBytes: number;
  /** The table. */
  readonly fields: F;

  /** Declares a structure. @throws UsageError when a field lies past `sizeBytes`. */
  constructor(name: string, sizeBytes: number, fields: F) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.fields = fields;
    for (const [key, field] of Object.entries(fields)) {
      if (field.offset + FIELD_BYTES[field.type] > sizeBytes) {
        throw new UsageError(`${name}.${key} ends past the structure's ${sizeBytes} bytes`);
      }
    }
  }

  /**
   * Encodes into a new buffer; fields that are not given are zero.
   * @param tail what stands behind the fixed part; a number: so many zero bytes
   * @throws UsageError when a value does not fit its field.
   */
  encode(values: Partial<Values<F>>, tail: number | Uint8Array = 0): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.sizeBytes + (typeof tail === "number" ? tail : tail.byteLength));
    this.encodeInto(bytes, 0, values);
    if (typeof tail !== "number") bytes.set(tail, this.sizeBytes);
    return bytes;
  }

  /** Writes the given fields at `offset` of `bytes`; the others keep what is there. */
  encodeInto(bytes: Uint8Array, offset: number, values: Partial<Values<F>>): void {
    const view = this.#view(bytes, offset);
    requireType(values, "object", `${this.name}: values`);
    for (const key in values) {
      const field = this.fields[key];
      const value = values[key];
      if (field === undefined) throw new UsageError(`${this.name} has no field ${key}`);
      if (value === undefined) continue;
      this.#put(view, key, field, value as number | bigint);
    }
  }

  /** Decodes every field from `offset` of `bytes`. @throws UsageError when the buffer is too short. */
  decode(bytes: Uint8Array, offset = 0): Values<F> {
    const view = this.#view(bytes, offset);
    const out: Record<string, number | bigint> = {};
    for (const key in this.fields) {
      out[key] = get(view, this.fields[key] as Field);
    }
    return out as Values<F>;
  }

  #view(bytes: Uint8Array, offset: number): DataView {
    requireType(bytes, "bytes", this.name);
    requireType(offset, "number", `${this.name}: offset`);
    if (offset < 0 || offset + this.sizeBytes > bytes.byteLength) {
      throw new UsageError(
        `${this.name} needs ${this.sizeBytes} bytes at ${offset}, the buffer has ${bytes.byteLength}`,
      );
    }
    return new DataView(bytes.buffer, bytes.byteOffset + offset, this.sizeBytes);
  }

  #put(view: DataView, key: string, field: Field, value: number | bigint): void {
    const { type, offset } = field;
    if (typeof value !== "bigint" && !Number.isInteger(value)) {
      throw new UsageError(`${this.name}.${key}: ${shown(value)} does not fit ${type}`);
    }
    if (type === "u64") {
      const wide = BigInt(value);
      if (wide < 0n || wide >= 1n << 64n) throw new UsageError(`${this.name}.${key}: ${wide} is not a u64`);
      view.setBigUint64(offset, wide, true);
      return;
    }
    const narrow = Number(value);
    const bits = FIELD_BYTES[type] * 8;
    const low = type === "s32" ? -(2 ** 31) : 0;
    const high = type === "s32" ? 2 ** 31 : 2 ** bits;
    if (narrow < low || narrow >= high) {
      throw new UsageError(`${this.name}.${key}: ${narrow} does not fit ${type}`);
    }
    if (type === "u8") view.setUint8(offset, narrow);
    else if (type === "u16") view.setUint16(offset, narrow, true);
    else if (type === "u32") view.setUint32(offset, narrow, true);
    else view.setInt32(offset, narrow, true);
  }
}

function get(view: DataView, field: Field): number | bigint {
  switch (field.type) {
    case "u8":
      return view.getUint8(field.offset);
    case "u16":
      return view.getUint16(field.offset, true);
    case "u32":
      return view.getUint32(field.offset, true);
    case "s32":
      return view.getInt32(field.offset, true);
    case "u64":
      return view.getBigUint64(field.offset, true);
  }
}

/** Shorthand for field tables: `u32(8)` is a 32-bit field at offset 8. */
export const u8 = (offset: number): Field<"u8"> => ({ offset, type: "u8" });
/** A 16-bit field. */
export const u16 = (offset: number): Field<"u16"> => ({ offset, type: "u16" });
/** A 32-bit field. */
export const u32 = (offset: number): Field<"u32"> => ({ offset, type: "u32" });
/** A signed 32-bit field (file descriptors in kernel structures). */
export const s32 = (offset: number): Field<"s32"> => ({ offset, type: "s32" });
/** A 64-bit field; its value is a `bigint`. */
export const u64 = (offset: number): Field<"u64"> => ({ offset, type: "u64" });
