/**
 * Writes one capability of an image by the names of its registers.
 *
 * @module
 */

import type { ConfigSpaceImage, TriggeredBits } from "./config_writer.ts";
import {
  accessMasks,
  encodeRegister,
  type FieldsOf,
  type RegisterDeclaration,
  type RegisterFields,
  type RegisterTable,
} from "../registers/declaration.ts";

/** The part of an image in which the registers of a table lie. */
export class CapabilityWriter<const T extends RegisterTable> {
  /** The image. */
  readonly image: ConfigSpaceImage;
  /** Byte offset of the capability. */
  readonly offset: number;
  readonly #table: T;

  /** Opens the part of `image` from `offset` on. */
  constructor(image: ConfigSpaceImage, offset: number, table: T) {
    this.image = image;
    this.offset = offset;
    this.#table = table;
  }

  /** The same capability by another table of its registers. */
  by<const U extends RegisterTable>(table: U): CapabilityWriter<U> {
    return new CapabilityWriter(this.image, this.offset, table);
  }

  /**
   * Gives a register its reset value, and its bits the access that its table declares.
   *
   * @param value the whole register, or its fields; what is left out is 0
   * @param unimplemented fields that this function does not have: they get no access at all and keep their value
   */
  set<N extends keyof T>(
    name: N,
    value: number | bigint | RegisterFields<T[N]>,
    unimplemented: readonly (keyof FieldsOf<T[N]> & string)[] = [],
  ): void {
    const { image } = this, register: RegisterDeclaration = this.#table[name]!;
    const at = this.offset + register.offset, { width } = register;
    const raw = BigInt(typeof value === "object" ? encodeRegister<T[N]>(this.#table[name]!, value) : value);
    for (let i = 0; i < width; i++) image.set(at + i, 1, Number((raw >> BigInt(8 * i)) & 0xffn));
    if (register.fields === undefined) {
      if (register.access === "RW") this.allow(name, 0xffffffff);
      return;
    }
    const fields = Object.fromEntries(
      Object.entries(register.fields).filter(([field]) =>
        !(unimplemented as readonly string[]).includes(field)
      ),
    );
    const masks = accessMasks({ ...register, fields });
    image.addMask(image.writeMask, at, width, masks.write);
    image.addMask(image.w1cMask, at, width, masks.writeOneToClear);
    image.addMask(image.triggerMask, at, width, masks.trigger);
  }

  /** Lets software write these bits of a register of up to 32 bits. */
  allow(name: keyof T, bits: number): void {
    const { offset, width } = this.#table[name]!;
    this.image.addMask(this.image.writeMask, this.offset + offset, width, bits);
  }

  /** Restricts the values that bits of a register's first byte can take. */
  restrict(name: keyof T, mask: number, allowed: readonly number[]): void {
    this.image.valueRules.push({ offset: this.offset + this.#table[name]!.offset, mask, allowed });
  }

  /** Locks these bits of a register while other bits are set; `whileSet` has an absolute offset. */
  lock(name: keyof T, bits: number, whileSet: TriggeredBits): void {
    const { offset, width } = this.#table[name]!;
    for (let i = 0; i < width; i++) {
      const mask = (bits >>> (8 * i)) & 0xff;
      if (mask !== 0) this.image.lockRules.push({ offset: this.offset + offset + i, mask, whileSet });
    }
  }
}
