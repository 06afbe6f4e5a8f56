/**
 * Writes one capability of an image: offsets are relative to the capability, as in the standard's figures.
 *
 * @module
 */

import type { ConfigSpaceImage, TriggeredBits } from "./config_writer.ts";
import {
  accessMasks,
  encodeRegister,
  fieldMask,
  type FieldsOf,
  type RegisterDeclaration,
  type RegisterFields,
} from "../registers/declaration.ts";

/** The part of an image that a capability occupies. */
export class CapabilityWriter {
  /** The image. */
  readonly image: ConfigSpaceImage;
  /** Byte offset of the capability. */
  readonly offset: number;

  /** Opens the part of `image` from `offset` on. */
  constructor(image: ConfigSpaceImage, offset: number) {
    this.image = image;
    this.offset = offset;
  }

  /**
   * Gives a register its reset value, and its bits the access that its table declares.
   *
   * @param unimplemented fields that this function does not have: they get no access at all and keep their value
   */
  register<const R extends RegisterDeclaration>(
    register: R,
    fields: RegisterFields<R>,
    unimplemented: readonly (keyof FieldsOf<R> & string)[] = [],
  ): void {
    const { image } = this, at = this.offset + register.offset;
    const value = encodeRegister(register, fields);
    for (let i = 0; i < register.width; i++) image.set8(at + i, (value >>> (8 * i)) & 0xff);
    let absent = 0, sticky = 0;
    for (const [name, field] of Object.entries(register.fields ?? {})) {
      if ((unimplemented as readonly string[]).includes(name)) absent |= fieldMask(field);
      else if (field.access.endsWith("S")) sticky |= fieldMask(field);
    }
    const masks = accessMasks(register);
    image.addMask(image.writeMask, at, register.width, masks.write & ~absent);
    image.addMask(image.w1cMask, at, register.width, masks.writeOneToClear & ~absent);
    image.addMask(image.triggerMask, at, register.width, masks.trigger & ~absent);
    image.addMask(image.stickyMask, at, register.width, sticky);
  }

  /** Sets a byte. */
  set8(at: number, value: number): void {
    this.image.set8(this.offset + at, value);
  }

  /** Sets 16 bits. */
  set16(at: number, value: number): void {
    this.image.set16(this.offset + at, value);
  }

  /** Sets 32 bits. */
  set32(at: number, value: number): void {
    this.image.set32(this.offset + at, value);
  }

  /** Sets a run of bytes. */
  setBytes(at: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => this.set8(at + i, byte));
  }

  /** Lets software write `bits` of the `bytes` bytes at `at`. */
  allow(at: number, bytes: number, bits: number): void {
    this.image.addMask(this.image.writeMask, this.offset + at, bytes, bits);
  }

  /** Lets software write the bits that are set in `masks`. */
  allowBytes(at: number, masks: Uint8Array): void {
    masks.forEach((mask, i) => this.allow(at + i, 1, mask));
  }

  /** Keeps the bits of the `bytes` bytes at `at` through a function level reset. */
  keepThroughFlr(at: number, bytes: number, bits: number): void {
    this.image.addMask(this.image.stickyMask, this.offset + at, bytes, bits);
  }

  /** Restricts the values that bits of a byte can take. */
  valueRule(at: number, mask: number, allowed: readonly number[]): void {
    this.image.valueRules.push({ offset: this.offset + at, mask, allowed });
  }

  /** Locks bits of a byte while other bits are set; `whileSet` has an absolute offset. */
  lockRule(at: number, mask: number, whileSet: TriggeredBits): void {
    this.image.lockRules.push({ offset: this.offset + at, mask, whileSet });
  }
}
