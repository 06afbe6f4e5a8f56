/**
 * The bytes of a region: mapped where that is possible, else reached by messages; as one range, whatever chunks it is made of.
 *
 * @module
 */
import { type MappedMemory, pageSizeBytes } from "../../ffi/mod.ts";
import { typedErrors } from "../../lib/errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import type { SharedMemory } from "../../lib/virtio/transport/transport.ts";
import type { ChunkRun } from "./chunks.ts";

/** What may be done with a region's bytes. */
export interface IsmRights {
  /** They may be read. */
  readonly read: boolean;
  /** They may be written. */
  readonly write: boolean;
}

/** A part of a region whose bytes follow each other in the device's memory. */
export interface IsmSegment {
  /** First byte in the region. */
  readonly offset: number;
  /** Bytes of the region in it; the tail of a last chunk is not counted (N-5.14). */
  readonly sizeBytes: number;
  /** First byte in the device's area of regions. */
  readonly areaOffset: number;
  /** Reached by loads and stores; else each access is one or more messages. */
  readonly mapped: boolean;
}

interface Part extends IsmSegment {
  readonly end: number;
  readonly memory: MappedMemory | null;
  /** Over `memory` when that may be written, else null. */
  readonly u8: Uint8Array<ArrayBuffer> | null;
  readonly view: DataView<ArrayBuffer> | null;
  readonly u16: Uint16Array<ArrayBuffer> | null;
  readonly u32: Uint32Array<ArrayBuffer> | null;
  readonly u64: BigUint64Array<ArrayBuffer> | null;
}

/**
 * See the module's text. Multi-byte values are little-endian. A load that is aligned is one access and is always made, in a loop that waits
 * for another side, too: V8 may drop or merge plain loads, not those of `Atomics`. Any other access may touch its bytes one by one.
 */
export class RegionMemory {
  static {
    // Callers have regions, which it is a part of.
    typedErrors({ prototype: this.prototype, name: "IsmRegion" });
  }

  /** Its size. The last chunk may have more, which is not reached (N-5.14). */
  readonly sizeBytes: number;
  /** What may be done with its bytes here. */
  readonly rights: IsmRights;
  readonly #area: SharedMemory;
  readonly #what: string;
  readonly #parts: Part[] = [];
  readonly #scratch = new Uint8Array(8);
  readonly #scratchView: DataView<ArrayBuffer> = new DataView(this.#scratch.buffer);
  #closed = false;

  /**
   * Maps what can be mapped: for reading only when the rights are so. Bytes that may be written but not read are not mapped, since a mapping that can
   * be written can be read.
   * @param what for messages @throws SyscallError, and what else `SharedMemory.map` throws; nothing stays mapped then
   */
  constructor(
    area: SharedMemory,
    runs: readonly ChunkRun[],
    sizeBytes: number,
    rights: IsmRights,
    what: string,
  ) {
    this.#area = area;
    this.#what = what;
    this.rights = rights;
    this.sizeBytes = sizeBytes;
    let offset = 0;
    try {
      for (const run of runs) {
        const used = Math.min(run.sizeBytes, sizeBytes - offset);
        const memory = rights.read ? mapRun(area, run, used, rights.write) : null;
        const u8 = memory !== null && rights.write ? memory.bytes(0, used) : null;
        const buffer = u8?.buffer;
        this.#parts.push({
          offset,
          end: offset + used,
          sizeBytes: used,
          areaOffset: run.areaOffset,
          mapped: memory !== null,
          memory,
          u8,
          view: buffer ? new DataView(buffer, 0, used) : null,
          u16: buffer ? new Uint16Array(buffer, 0, Math.floor(used / 2)) : null,
          u32: buffer ? new Uint32Array(buffer, 0, Math.floor(used / 4)) : null,
          u64: buffer ? new BigUint64Array(buffer, 0, Math.floor(used / 8)) : null,
        });
        offset += used;
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Its parts whose bytes follow each other in the device's memory. */
  get segments(): readonly IsmSegment[] {
    return this.#parts.map(({ offset, sizeBytes, areaOffset, mapped }) => ({
      offset,
      sizeBytes,
      areaOffset,
      mapped,
    }));
  }

  /** One segment holds all of it. */
  get contiguous(): boolean {
    return this.#parts.length === 1;
  }

  /** All of it is mapped: accesses are loads and stores. */
  get mapped(): boolean {
    return this.#parts.every(({ mapped }) => mapped);
  }

  /** Bytes of this process's mappings. */
  get mappedBytes(): number {
    return this.#parts.reduce((sum, { memory }) => sum + (memory?.sizeBytes ?? 0), 0);
  }

  /** True when the region can no longer be used. */
  get closed(): boolean {
    return this.#closed || this.#parts.some(({ memory }) => memory?.closed);
  }

  /** A view of bytes that lie in one segment. @throws also UsageError when they do not, or are not mapped, or may not be written or not be read */
  bytes(offset = 0, lengthBytes: number = this.sizeBytes - offset): Uint8Array<ArrayBuffer> {
    this.#check(offset, lengthBytes);
    if (!this.rights.read || !this.rights.write) {
      throw new UsageError(`${this.#what} may not be ${this.rights.read ? "written" : "read"}`, {
        hint: `there is no view of it; use ${this.rights.read ? "read()" : "write()"}`,
      });
    }
    const part = this.#find(offset);
    if (part === undefined || offset + lengthBytes > part.end) {
      throw new UsageError(`${this.#what}: [${offset}, +${lengthBytes}) is not in one piece`, {
        hint: "see `segments`, or use read() and write()",
      });
    }
    if (part.memory === null) {
      throw new UsageError(`${this.#what} is not mapped`, { hint: "use read() and write()" });
    }
    return part.memory.bytes(offset - part.offset, lengthBytes);
  }

  /** Copies out `into.length` bytes. @throws also what messages throw */
  read(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length);
    this.#mayRead();
    for (let done = 0; done < into.length;) {
      const part = this.#find(offset + done)!;
      const count = Math.min(into.length - done, part.end - offset - done);
      const piece = count === into.length ? into : into.subarray(done, done + count);
      const at = offset + done - part.offset;
      if (part.memory !== null) part.memory.copyInto(at, piece);
      else {
        const copy = new Uint8Array(count);
        this.#area.read(part.areaOffset + at, copy);
        piece.set(copy);
      }
      done += count;
    }
  }

  /** Copies `from` in. @throws also what messages throw */
  write(offset: number, from: Uint8Array): void {
    this.#check(offset, from.length);
    this.#mayWrite();
    for (let done = 0; done < from.length;) {
      const part = this.#find(offset + done)!;
      const count = Math.min(from.length - done, part.end - offset - done);
      const piece = count === from.length ? from : from.subarray(done, done + count);
      const at = offset + done - part.offset;
      if (part.u8 !== null) {
        if (part.memory!.closed) throw new ClosedError(this.#what);
        part.u8.set(piece, at);
      } else this.#area.write(part.areaOffset + at, piece.slice());
      done += count;
    }
  }

  /** One byte. Like all `get` and `set`: not atomic, wherever it lies. */
  getUint8(offset: number): number {
    const part = this.#whole(offset, 1, true);
    if (part === null) return this.#load(offset, 1).getUint8(0);
    return Atomics.load(part.u8!, offset - part.offset);
  }

  /** Two bytes. */
  getUint16(offset: number): number {
    const part = this.#whole(offset, 2, true);
    if (part === null) return this.#load(offset, 2).getUint16(0, true);
    const at = offset - part.offset;
    return at % 2 === 0 ? Atomics.load(part.u16!, at / 2) : part.view!.getUint16(at, true);
  }

  /** Four bytes. */
  getUint32(offset: number): number {
    const part = this.#whole(offset, 4, true);
    if (part === null) return this.#load(offset, 4).getUint32(0, true);
    const at = offset - part.offset;
    return at % 4 === 0 ? Atomics.load(part.u32!, at / 4) : part.view!.getUint32(at, true);
  }

  /** Eight bytes. */
  getBigUint64(offset: number): bigint {
    const part = this.#whole(offset, 8, true);
    if (part === null) return this.#load(offset, 8).getBigUint64(0, true);
    const at = offset - part.offset;
    return at % 8 === 0 ? Atomics.load(part.u64!, at / 8) : part.view!.getBigUint64(at, true);
  }

  /** One byte. */
  setUint8(offset: number, value: number): void {
    const part = this.#whole(offset, 1, false);
    if (part !== null) return part.view!.setUint8(offset - part.offset, value);
    this.#scratchView.setUint8(0, value);
    this.#store(offset, 1);
  }

  /** Two bytes. */
  setUint16(offset: number, value: number): void {
    const part = this.#whole(offset, 2, false);
    if (part !== null) return part.view!.setUint16(offset - part.offset, value, true);
    this.#scratchView.setUint16(0, value, true);
    this.#store(offset, 2);
  }

  /** Four bytes. */
  setUint32(offset: number, value: number): void {
    const part = this.#whole(offset, 4, false);
    if (part !== null) return part.view!.setUint32(offset - part.offset, value, true);
    this.#scratchView.setUint32(0, value, true);
    this.#store(offset, 4);
  }

  /** Eight bytes. */
  setBigUint64(offset: number, value: bigint): void {
    const part = this.#whole(offset, 8, false);
    if (part !== null) return part.view!.setBigUint64(offset - part.offset, value, true);
    this.#scratchView.setBigUint64(0, value, true);
    this.#store(offset, 8);
  }

  /** For the driver: unmaps; every view is detached. Never throws, since nothing can be done about it. */
  release(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { memory } of this.#parts) {
      try {
        memory?.close();
      } catch {
        // munmap of a range that was mapped does not fail; what the function was closed with is closed already.
      }
    }
  }

  #load(offset: number, width: number): DataView<ArrayBuffer> {
    this.read(offset, this.#scratch.subarray(0, width));
    return this.#scratchView;
  }

  #store(offset: number, width: number): void {
    this.write(offset, this.#scratch.subarray(0, width));
  }

  /** The part that has all of it and can be viewed; null: go by `read` and `write`. */
  #whole(offset: number, width: number, reads: boolean): Part | null {
    this.#check(offset, width);
    if (reads) this.#mayRead();
    else this.#mayWrite();
    const part = this.#find(offset)!;
    if (part.view === null || offset + width > part.end) return null;
    if (part.memory!.closed) throw new ClosedError(this.#what);
    return part;
  }

  #find(offset: number): Part | undefined {
    const parts = this.#parts;
    let low = 0, high = parts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (parts[middle]!.offset <= offset) low = middle;
      else high = middle - 1;
    }
    return parts[low];
  }

  #mayRead(): void {
    if (!this.rights.read) throw new UsageError(`${this.#what} is attached without the right to read`);
  }

  #mayWrite(): void {
    if (!this.rights.write) throw new UsageError(`${this.#what} is attached without the right to write`);
  }

  #check(offset: number, lengthBytes: number): void {
    if (this.#closed) throw new ClosedError(this.#what);
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(lengthBytes) && offset >= 0 &&
      lengthBytes >= 0;
    if (whole && offset + lengthBytes <= this.sizeBytes) return;
    throw new UsageError(
      `${this.#what}: [${offset}, +${lengthBytes}) is outside its ${this.sizeBytes} bytes (N-5.14)`,
    );
  }
}

/** Maps the pages that hold the used bytes of a run; null when it can only be reached by messages. */
function mapRun(area: SharedMemory, run: ChunkRun, used: number, writable: boolean): MappedMemory | null {
  const sizeBytes = Math.ceil(used / pageSizeBytes) * pageSizeBytes;
  // A page that holds other chunks, too, must not be touched (N-5.3).
  if (run.areaOffset % pageSizeBytes !== 0 || sizeBytes > run.sizeBytes) return null;
  try {
    return area.map({ offset: run.areaOffset, sizeBytes }, { writable });
  } catch (error) {
    if (error instanceof UnsupportedError) return null;
    throw error;
  }
}
