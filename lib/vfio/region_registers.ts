/**
 * Registers of one region of an opened function, each access of exactly the register's width.
 *
 * Where the server lets a part be mapped, an access to it is one load or store of a typed array; V8 compiles an aligned one to a
 * single instruction of that width (a `DataView` may be read byte by byte, and bulk copies have no defined width). Elsewhere
 * it is one region access through the server.
 *
 * A load is an `Atomics.load`: V8 drops a plain one whose value is not used (a register that is cleared by reading, a read that
 * flushes posted writes), and may take one for several. A store is a plain one: V8 never drops it, and `Atomics.store` is a locked
 * exchange on x86-64, which reads the register as well.
 *
 * @module
 */
import type { MappedMemory } from "../../ffi/mod.ts";
import { typedErrors } from "../errors/doors.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import type { AccessWidth } from "../registers/declaration.ts";
import { type RegisterSpace, requireFit } from "../registers/registers.ts";
import type { RegionArea, VfioDevice } from "./device.ts";

/** A part of the region that is mapped, or can be. */
export interface RegionWindow {
  /** First byte of it in the region. */
  readonly start: number;
  /** The one after the last. */
  readonly end: number;
  /** Null before the first access to it. */
  memory: MappedMemory | null;
  /** By bytes; empty before the first access, and when it is unmapped. */
  u8: Uint8Array<ArrayBuffer>;
  /** By 16 bits. */
  u16: Uint16Array<ArrayBuffer>;
  /** By 32 bits. */
  u32: Uint32Array<ArrayBuffer>;
  /** By 64 bits. */
  u64: BigUint64Array<ArrayBuffer>;
}

/**
 * What a BAR and configuration space have in common. Offsets are bytes from the region's start, aligned to the width; values are little-endian.
 *
 * Errors of every access: `UsageError` naming function, region and offset for an offset that is outside or not aligned; `ClosedError` after the
 * mappings or the device were closed; else what the device throws.
 */
export abstract class RegionRegisters implements RegisterSpace {
  static {
    typedErrors(this);
  }

  /** Size in bytes. */
  readonly sizeBytes: number;
  /** The function. */
  protected readonly device: VfioDevice;
  /** Parts that can be mapped. */
  protected readonly windows: readonly RegionWindow[];
  /** They are unmapped for good. */
  protected unmapped = false;
  readonly #region: number;
  readonly #what: string;
  #last: RegionWindow | null = null;
  // One buffer a width, so that polling a register does not allocate.
  readonly #byte = new Uint8Array(1);
  readonly #word = new Uint16Array(1);
  readonly #long = new Uint32Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  readonly #longBytes = new Uint8Array(this.#long.buffer);

  /**
   * Maps nothing yet: that happens at the first access to each part that can be.
   * @param region its `REGION` number. @param what names it in messages, behind the function. @param mappable whole pages of it
   */
  constructor(
    device: VfioDevice,
    region: number,
    what: string,
    sizeBytes: number,
    mappable: readonly RegionArea[] = [],
  ) {
    this.device = device;
    this.#region = region;
    this.#what = what;
    this.sizeBytes = sizeBytes;
    this.windows = mappable.map(({ offset, sizeBytes: length }) => ({
      start: offset,
      end: offset + length,
      memory: null,
      u8: new Uint8Array(0),
      u16: new Uint16Array(0),
      u32: new Uint32Array(0),
      u64: new BigUint64Array(0),
    }));
  }

  /** One access of that width, unsigned. */
  read(offset: number, width: AccessWidth): number {
    return width === 1 ? this.read8(offset) : width === 2 ? this.read16(offset) : this.read32(offset);
  }

  /** One access of that width. @throws UsageError for a value that does not fit */
  write(offset: number, width: AccessWidth, value: number): void {
    requireFit(value, width);
    if (width === 1) this.write8(offset, value);
    else if (width === 2) this.write16(offset, value);
    else this.write32(offset, value);
  }

  /** Reads a byte. */
  read8(offset: number): number {
    this.#check(offset, 1);
    const window = this.#find(offset, 1);
    if (window !== null) return Atomics.load(window.u8, offset - window.start);
    this.device.readRegion(this.#region, offset, this.#byte);
    return this.#byte[0]!;
  }

  /** Reads 16 bits. */
  read16(offset: number): number {
    this.#check(offset, 2);
    const window = this.#find(offset, 2);
    if (window !== null) return Atomics.load(window.u16, (offset - window.start) / 2);
    this.device.readRegion(this.#region, offset, this.#wordBytes);
    return this.#word[0]!;
  }

  /** Reads 32 bits, unsigned. */
  read32(offset: number): number {
    this.#check(offset, 4);
    const window = this.#find(offset, 4);
    if (window !== null) return Atomics.load(window.u32, (offset - window.start) / 4);
    this.device.readRegion(this.#region, offset, this.#longBytes);
    return this.#long[0]!;
  }

  /** Writes a byte. */
  write8(offset: number, value: number): void {
    this.#check(offset, 1);
    const window = this.#find(offset, 1);
    if (window !== null) {
      window.u8[offset - window.start] = value;
      return;
    }
    this.#byte[0] = value;
    this.device.writeRegion(this.#region, offset, this.#byte);
  }

  /** Writes 16 bits. */
  write16(offset: number, value: number): void {
    this.#check(offset, 2);
    const window = this.#find(offset, 2);
    if (window !== null) {
      window.u16[(offset - window.start) / 2] = value;
      return;
    }
    this.#word[0] = value;
    this.device.writeRegion(this.#region, offset, this.#wordBytes);
  }

  /** Writes 32 bits. */
  write32(offset: number, value: number): void {
    this.#check(offset, 4);
    const window = this.#find(offset, 4);
    if (window !== null) {
      window.u32[(offset - window.start) / 4] = value;
      return;
    }
    this.#long[0] = value;
    this.device.writeRegion(this.#region, offset, this.#longBytes);
  }

  /** The window that an access lies in, mapped; null when it goes through the server. @throws UsageError, ClosedError */
  protected find(offset: number, width: number): RegionWindow | null {
    this.#check(offset, width);
    return this.#find(offset, width);
  }

  #check(offset: number, width: number): void {
    if (
      Number.isInteger(offset) && offset >= 0 && offset + width <= this.sizeBytes && offset % width === 0
    ) return;
    throw new UsageError(`${this.where(offset)}: no ${8 * width}-bit register is there`, {
      hint: `offsets are multiples of ${width} below ${this.sizeBytes}`,
    });
  }

  #find(offset: number, width: number): RegionWindow | null {
    let window = this.#last;
    if (window === null || offset < window.start || offset + width > window.end) {
      window = this.#search(offset, width);
      if (window === null) {
        if (this.unmapped) this.#gone();
        return null;
      }
      this.#last = window;
    }
    // Length 0: not mapped yet, or detached because the device was closed or stopped decoding memory.
    return window.u8.length === 0 ? this.#open(window) : window;
  }

  #search(offset: number, width: number): RegionWindow | null {
    for (const window of this.windows) {
      if (offset >= window.start && offset + width <= window.end) return window;
    }
    return null;
  }

  #open(window: RegionWindow): RegionWindow {
    if (this.unmapped || this.device.closed) this.#gone();
    const sizeBytes = window.end - window.start;
    const memory = this.device.mapRegion(this.#region, { offset: window.start, sizeBytes }, {
      writable: true,
    });
    window.memory = memory;
    window.u8 = new Uint8Array(memory.buffer, 0, sizeBytes);
    window.u16 = new Uint16Array(memory.buffer, 0, Math.floor(sizeBytes / 2));
    window.u32 = new Uint32Array(memory.buffer, 0, Math.floor(sizeBytes / 4));
    window.u64 = new BigUint64Array(memory.buffer, 0, Math.floor(sizeBytes / 8));
    return window;
  }

  /** A place, for messages. */
  protected where(offset: number): string {
    return `${this.device.name} ${this.#what} offset ${offset}`;
  }

  #gone(): never {
    throw new ClosedError(`${this.device.name} ${this.#what}`);
  }
}
