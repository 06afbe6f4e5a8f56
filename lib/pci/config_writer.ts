/**
 * The device's side of configuration space: bytes together with what a software write does to each bit.
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import { ConfigSpace } from "./config_space.ts";
import { EXTENDED_BYTES } from "./header.ts";
import type { AccessWidth, RegisterTable } from "../registers/declaration.ts";
import { Registers } from "../registers/registers.ts";

/** A byte in which software wrote 1 to bits that start something. */
export interface TriggeredBits {
  /** Byte offset in configuration space. */
  readonly offset: number;
  /** The bits of that byte. */
  readonly mask: number;
}

/** Bits of one byte that a write may set to certain values only; any other value leaves them as they are. */
export interface ValueRule {
  /** Byte offset in configuration space. */
  readonly offset: number;
  /** Bits that the rule is about. */
  readonly mask: number;
  /** Values that the bits may take, unshifted. */
  readonly allowed: readonly number[];
}

/** Bits of one byte that cannot be written while some other bit is set. */
export interface LockRule {
  /** Byte offset in configuration space. */
  readonly offset: number;
  /** Bits that are locked. */
  readonly mask: number;
  /** The bits that lock them when any is set. */
  readonly whileSet: TriggeredBits;
}

/**
 * Configuration space of an emulated function.
 *
 * A bit is plain writable (`writeMask`), cleared by writing 1 (`w1cMask`), a trigger (`triggerMask`), or neither: then
 * it keeps its value whatever software writes. Reserved bits are of the last kind and 0. Sizing a BAR needs no code of
 * its own: the address bits below the size are simply not writable.
 */
export class ConfigSpaceImage {
  /** What software reads. */
  readonly bytes: Uint8Array;
  /** Bits that take the written value. */
  readonly writeMask: Uint8Array;
  /** Bits that a written 1 clears. */
  readonly w1cMask: Uint8Array;
  /** Bits that read 0 and report a written 1. */
  readonly triggerMask: Uint8Array;
  /** Rules on values. */
  readonly valueRules: ValueRule[] = [];
  /** Rules on locked bits. */
  readonly lockRules: LockRule[] = [];
  /** The same bytes, decoded; it follows every write. */
  readonly config: ConfigSpace;
  readonly #view: DataView;
  #resetBytes: Uint8Array;

  /**
   * Makes an image in which everything reads 0 and nothing is writable.
   *
   * @throws {UsageError} when `sizeBytes` is below 64 or above 4096
   */
  constructor(sizeBytes: number = EXTENDED_BYTES) {
    this.bytes = new Uint8Array(sizeBytes);
    this.config = new ConfigSpace(this.bytes);
    this.writeMask = new Uint8Array(sizeBytes);
    this.w1cMask = new Uint8Array(sizeBytes);
    this.triggerMask = new Uint8Array(sizeBytes);
    this.#view = new DataView(this.bytes.buffer);
    this.#resetBytes = this.bytes.slice();
  }

  /** A copy of `length` bytes from `offset`, as software reads them. @throws {UsageError} outside the space */
  read(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    return this.bytes.slice(offset, offset + length);
  }

  /**
   * A software write of any length and alignment, byte by byte. Value rules look at each byte as it would become,
   * lock rules at the state before the write.
   *
   * @returns bits such as Initiate Function Level Reset that were written as 1. They still read 0
   * @throws {UsageError} outside the space
   */
  write(offset: number, data: Uint8Array): TriggeredBits[] {
    this.#check(offset, data.length);
    const triggered: TriggeredBits[] = [];
    const locks = this.lockRules.filter(({ whileSet }) =>
      (this.#byte(whileSet.offset) & whileSet.mask) !== 0
    );
    data.forEach((written, i) => {
      const at = offset + i, trigger = written & (this.triggerMask[at] ?? 0);
      if (trigger !== 0) triggered.push({ offset: at, mask: trigger });
      this.#writeByte(at, written, locks);
    });
    return triggered;
  }

  /** Sets 8, 16 or 32 bits from the device's side, whatever the masks. @throws {UsageError} outside the space */
  set(offset: number, width: AccessWidth, value: number): void {
    this.#check(offset, width);
    if (width === 1) this.#view.setUint8(offset, value);
    else if (width === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint32(offset, value, true);
  }

  /** The registers of a table, read and set from the device's side. @param offset of the structure that they lie in */
  registers<const T extends RegisterTable>(table: T, offset: number = 0): Registers<T> {
    const { config } = this;
    return new Registers(table, {
      read: (at, width) => config.read(at, width),
      write: (at, width, value) => this.set(at, width, value),
    }, { offset });
  }

  /** Makes the present contents those that a reset brings back. */
  captureResetState(): void {
    this.#resetBytes = this.bytes.slice();
  }

  /** Brings the reset state back. */
  reset(): void {
    this.bytes.set(this.#resetBytes);
  }

  /** Adds bits to a mask, little-endian over `bytes` bytes. */
  addMask(mask: Uint8Array, offset: number, bytes: number, bits: number): void {
    this.#check(offset, bytes);
    for (let i = 0; i < bytes; i++) mask[offset + i] = (mask[offset + i] ?? 0) | ((bits >>> (8 * i)) & 0xff);
  }

  #writeByte(at: number, written: number, locks: readonly LockRule[]): void {
    const before = this.#byte(at);
    let writable = this.writeMask[at] ?? 0;
    for (const lock of locks) if (lock.offset === at) writable &= ~lock.mask;
    let after = (before & ~writable) | (written & writable);
    for (const rule of this.valueRules) {
      if (rule.offset !== at || rule.allowed.includes(after & rule.mask)) continue;
      after = (after & ~rule.mask) | (before & rule.mask);
    }
    after &= ~(written & (this.w1cMask[at] ?? 0));
    this.bytes[at] = after;
  }

  #byte(at: number): number {
    return this.bytes[at] ?? 0;
  }

  #check(offset: number, length: number): void {
    const size = this.bytes.length;
    if (
      !Number.isInteger(offset) || !Number.isInteger(length) || offset < 0 || length < 0 ||
      offset + length > size
    ) {
      throw new UsageError(
        `configuration space holds ${size} bytes; ${length} at offset ${offset} are not inside it`,
      );
    }
  }
}
