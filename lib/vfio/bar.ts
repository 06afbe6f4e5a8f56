/**
 * Registers of one BAR, each access of exactly the register's width.
 *
 * Where the server lets the BAR be mapped, an access is one load or store of a typed array; V8 compiles an aligned one to a
 * single instruction of that width (a `DataView` may be read byte by byte, and bulk copies have no defined width). Elsewhere
 * it is one region access through the server.
 *
 * A load is an `Atomics.load`: V8 drops a plain one whose value is not used (a register that is cleared by reading, a read that
 * flushes posted writes), and may take one for several. A store is a plain one: V8 never drops it, and `Atomics.store` is a locked
 * exchange on x86-64, which reads the register as well.
 *
 * @module
 */
import { type MappedMemory, pageSizeBytes } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import type { AccessWidth } from "../registers/declaration.ts";
import { type RegisterSpace, requireFit } from "../registers/registers.ts";
import { REGION, REGION_FLAG, type RegionInfo, type VfioDevice } from "./device.ts";
import {
  AccessDoorbell,
  type BarDoorbell,
  type DoorbellWidth,
  EventFdDoorbell,
  MappedDoorbell,
  MatchingDoorbell,
} from "./doorbell.ts";

/** A part of the BAR that is mapped, or can be. */
interface Window {
  /** First byte, and the one after the last, in the BAR. */
  readonly start: number;
  readonly end: number;
  memory: MappedMemory | null;
  u8: Uint8Array<ArrayBuffer>;
  u16: Uint16Array<ArrayBuffer>;
  u32: Uint32Array<ArrayBuffer>;
  u64: BigUint64Array<ArrayBuffer>;
}

/**
 * One BAR of an opened function. Offsets are bytes from the BAR's start, aligned to the width; values are little-endian.
 *
 * Errors of every access: `UsageError` naming function, BAR and offset for an offset that is outside or not aligned;
 * `ClosedError` after `close()`, here or of the device; else what the device throws.
 */
export class Bar implements RegisterSpace, Disposable {
  static {
    typedErrors(this);
  }

  /** Number of the BAR: 0 … 5. */
  readonly index: number;
  /** Size in bytes. */
  readonly sizeBytes: number;
  readonly #device: VfioDevice;
  readonly #windows: Window[];
  #last: Window | null = null;
  #closed = false;
  readonly #byte = new Uint8Array(1);
  readonly #word = new Uint16Array(1);
  readonly #long = new Uint32Array(1);
  readonly #quad = new BigUint64Array(1);
  readonly #wordBytes = new Uint8Array(this.#word.buffer);
  readonly #longBytes = new Uint8Array(this.#long.buffer);
  readonly #quadBytes = new Uint8Array(this.#quad.buffer);

  /**
   * Maps nothing yet: that happens at the first access to each mappable part.
   * @param device an open function; stays the caller's. @param index 0 … 5. @throws UsageError when it has no such BAR
   */
  constructor(device: VfioDevice, index: number) {
    requireType(device, "object", "new Bar: device", "name", "regionInfo", "readRegion", "writeRegion");
    if (!Number.isInteger(index) || index < REGION.bar0 || index > REGION.bar5) {
      throw new UsageError(`${device.name}: there is no BAR ${shown(index)}`, {
        hint: "BARs are 0 to 5",
      });
    }
    const info = device.regionInfo(index);
    if (info.sizeBytes === 0) throw new UsageError(`${device.name} has no BAR ${index}`);
    this.#device = device;
    this.index = index;
    this.sizeBytes = info.sizeBytes;
    this.#windows = windowsOf(info);
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed || this.#device.closed;
  }

  /** True when an access of `width` bytes at `offset` is a load or store, not a call to the server. */
  isMapped(offset: number, width: DoorbellWidth | 8 = 1): boolean {
    this.#check(offset, width);
    return this.#find(offset, width) !== null;
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
    this.#device.readRegion(this.index, offset, this.#byte);
    return this.#byte[0]!;
  }

  /** Reads 16 bits. */
  read16(offset: number): number {
    this.#check(offset, 2);
    const window = this.#find(offset, 2);
    if (window !== null) return Atomics.load(window.u16, (offset - window.start) / 2);
    this.#device.readRegion(this.index, offset, this.#wordBytes);
    return this.#word[0]!;
  }

  /** Reads 32 bits, unsigned. */
  read32(offset: number): number {
    this.#check(offset, 4);
    const window = this.#find(offset, 4);
    if (window !== null) return Atomics.load(window.u32, (offset - window.start) / 4);
    this.#device.readRegion(this.index, offset, this.#longBytes);
    return this.#long[0]!;
  }

  /**
   * Reads 64 bits in one access, for registers that a device's manual calls 64 bits wide. Virtio's are two of 32 bits (§4.1.3.1).
   * Where the place is not mapped, what answers may split it.
   */
  read64(offset: number): bigint {
    this.#check(offset, 8);
    const window = this.#find(offset, 8);
    if (window !== null) return Atomics.load(window.u64, (offset - window.start) / 8);
    this.#device.readRegion(this.index, offset, this.#quadBytes);
    return this.#quad[0]!;
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
    this.#device.writeRegion(this.index, offset, this.#byte);
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
    this.#device.writeRegion(this.index, offset, this.#wordBytes);
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
    this.#device.writeRegion(this.index, offset, this.#longBytes);
  }

  /** Writes 64 bits in one access; see `read64`. Bits above are dropped. */
  write64(offset: number, value: bigint): void {
    this.#check(offset, 8);
    const window = this.#find(offset, 8);
    if (window !== null) {
      window.u64[(offset - window.start) / 8] = value;
      return;
    }
    this.#quad[0] = value;
    this.#device.writeRegion(this.index, offset, this.#quadBytes);
  }

  /**
   * A register that is written often and never read, looked up once.
   *
   * Its `write` is a typed array store when the place is mapped, else an eventfd signal when the server offers one for it,
   * else a region write; it allocates nothing.
   *
   * @param width bytes of each write: 1, 2 or 4.
   * @param options.value the value that will be written most: a server may have an eventfd for each value at the same place. Others may be written, too.
   */
  doorbell(offset: number, width: DoorbellWidth, options: { readonly value?: number } = {}): BarDoorbell {
    if (width !== 1 && width !== 2 && width !== 4) {
      throw new UsageError(`${this.#where(offset)}: a write of ${width} bytes`, { hint: "1, 2 or 4" });
    }
    this.#check(offset, width);
    const window = this.#find(offset, width);
    const what = this.#where(offset);
    if (window !== null) {
      const view = width === 1 ? window.u8 : width === 2 ? window.u16 : window.u32;
      return new MappedDoorbell(view, (offset - window.start) / width, what);
    }
    const access = new AccessDoorbell(this.#device, this.index, offset, width);
    const offered = this.#device.doorbellFd(this.index, offset, width, options.value);
    if (offered === undefined) return access;
    return offered.value === undefined
      ? new EventFdDoorbell(offered.fd)
      : new MatchingDoorbell(offered.fd, offered.value, access);
  }

  /** Unmaps; every view is detached. The device stays open. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const window of this.#windows) window.memory?.close();
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #check(offset: number, width: number): void {
    if (
      Number.isInteger(offset) && offset >= 0 && offset + width <= this.sizeBytes && offset % width === 0
    ) return;
    throw new UsageError(`${this.#where(offset)}: no ${8 * width}-bit register is there`, {
      hint: `offsets are multiples of ${width} below ${this.sizeBytes}`,
    });
  }

  /** The window that the access lies in, mapped; null when it goes through the server. */
  #find(offset: number, width: number): Window | null {
    let window = this.#last;
    if (window === null || offset < window.start || offset + width > window.end) {
      window = this.#search(offset, width);
      if (window === null) {
        if (this.#closed) this.#gone();
        return null;
      }
      this.#last = window;
    }
    // Length 0: not mapped yet, or detached because the device was closed or stopped decoding memory.
    return window.u8.length === 0 ? this.#open(window) : window;
  }

  #search(offset: number, width: number): Window | null {
    for (const window of this.#windows) {
      if (offset >= window.start && offset + width <= window.end) return window;
    }
    return null;
  }

  #open(window: Window): Window {
    if (this.closed) this.#gone();
    const sizeBytes = window.end - window.start;
    const memory = this.#device.mapRegion(this.index, { offset: window.start, sizeBytes }, {
      writable: true,
    });
    window.memory = memory;
    window.u8 = new Uint8Array(memory.buffer, 0, sizeBytes);
    window.u16 = new Uint16Array(memory.buffer, 0, Math.floor(sizeBytes / 2));
    window.u32 = new Uint32Array(memory.buffer, 0, Math.floor(sizeBytes / 4));
    window.u64 = new BigUint64Array(memory.buffer, 0, Math.floor(sizeBytes / 8));
    return window;
  }

  #where(offset: number): string {
    return `${this.#device.name} BAR ${this.index} offset ${offset}`;
  }

  #gone(): never {
    throw new ClosedError(`${this.#device.name} BAR ${this.index}`);
  }
}

/** Mappable parts, cut to what can be mapped by this processor's pages and read and written. */
function windowsOf(info: RegionInfo): Window[] {
  const both = REGION_FLAG.read | REGION_FLAG.write;
  if ((info.flags & both) !== both) return [];
  const windows: Window[] = [];
  for (const area of info.mmapAreas) {
    const start = Math.ceil(area.offset / pageSizeBytes) * pageSizeBytes;
    const end = area.offset + area.sizeBytes;
    if (start >= end) continue;
    windows.push({
      start,
      end,
      memory: null,
      u8: new Uint8Array(0),
      u16: new Uint16Array(0),
      u32: new Uint32Array(0),
      u64: new BigUint64Array(0),
    });
  }
  return windows;
}
