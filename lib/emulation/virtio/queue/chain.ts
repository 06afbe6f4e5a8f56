/**
 * A descriptor chain that a device took from its queue, as places in the client's memory.
 *
 * @module
 */
import type { DmaRegion, DmaTable } from "../../../sockets/dma_table.ts";

/** Most segments of a chain: buffers of a client that maps page by page (QEMU, behind a virtual IOMMU) have many. */
const SEGMENTS_MAX = 65536;

/**
 * One chain, owned by the caller of `DeviceQueue.pop` and filled in place again and again: nothing is allocated per chain.
 *
 * Segments `0 … readableCount − 1` are device-readable, the rest device-writable. They are valid until the next change of the client's
 * mappings, so a device uses them at once and keeps none from one `poll` to the next.
 */
export class Chain {
  /** Id of the chain: what `pushUsed` takes. −1 when it holds none. */
  id: number = -1;
  /** Number of segments. */
  count = 0;
  /** Number of device-readable segments. */
  readableCount = 0;
  /** Bytes in all device-readable segments. */
  readableBytes = 0;
  /** Bytes in all device-writable segments. */
  writableBytes = 0;
  /** A device-writable segment is a window of memory that is not mapped here. */
  far = false;
  /** Mapping that `locate` found. */
  foundRegion: DmaRegion | null = null;
  /** Byte offset that `locate` found. */
  foundOffset = 0;
  /** Mapping of each segment. */
  readonly regions: DmaRegion[];
  /** Byte offset of each segment in its mapping: a mapping may be larger than 4 GiB. Replaced when a chain has more segments than any before. */
  offsets: Float64Array<ArrayBuffer>;
  /** Bytes of each segment; likewise. */
  lengths: Uint32Array<ArrayBuffer>;

  /** An empty one. @param maxDescriptors largest queue that it is used with; it grows where buffers lie in several mappings */
  constructor(maxDescriptors: number) {
    const capacity = 2 * maxDescriptors + 16;
    this.regions = new Array<DmaRegion>(capacity);
    this.offsets = new Float64Array(capacity);
    this.lengths = new Uint32Array(capacity);
  }

  /** Empties it, for a new chain. */
  begin(id: number): void {
    this.id = id;
    this.count = 0;
    this.readableCount = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
    this.far = false;
  }

  /**
   * Appends a buffer, as one segment or, when it runs over mappings that follow each other, as several.
   * @returns false when part of it is not mapped for this direction, or in too many pieces
   */
  add(dma: DmaTable, lo: number, hi: number, lengthBytes: number, deviceWrites: boolean): boolean {
    if (dma.find(lo, hi, lengthBytes, deviceWrites)) {
      return this.#append(dma.region!, dma.offset, lengthBytes, deviceWrites);
    }
    let left = lengthBytes;
    while (left > 0) {
      const part = Math.min(left, dma.extent(lo, hi));
      if (part === 0 || !dma.find(lo, hi, part, deviceWrites)) return false;
      if (!this.#append(dma.region!, dma.offset, part, deviceWrites)) return false;
      left -= part;
      const end = lo + part;
      lo = end >>> 0;
      // A carry past 2^64 finds no mapping, since none passes that.
      hi += Math.floor(end / 4294967296);
    }
    return true;
  }

  /** Makes it a chain of one buffer. */
  single(id: number, region: DmaRegion, offset: number, lengthBytes: number, deviceWrites: boolean): void {
    this.begin(id);
    this.#append(region, offset, lengthBytes, deviceWrites);
  }

  #append(region: DmaRegion, offset: number, lengthBytes: number, deviceWrites: boolean): boolean {
    const at = this.count;
    if (at === this.lengths.length && !this.#grow()) return false;
    this.regions[at] = region;
    this.offsets[at] = offset;
    this.lengths[at] = lengthBytes;
    this.count = at + 1;
    if (deviceWrites) {
      this.writableBytes += lengthBytes;
      if (region.far !== null) this.far = true;
    } else {
      this.readableCount = at + 1;
      this.readableBytes += lengthBytes;
    }
    return true;
  }

  #grow(): boolean {
    const capacity = Math.min(2 * this.lengths.length, SEGMENTS_MAX);
    if (this.count >= capacity) return false;
    const { offsets, lengths } = this;
    this.offsets = new Float64Array(capacity);
    this.offsets.set(offsets);
    this.lengths = new Uint32Array(capacity);
    this.lengths.set(lengths);
    return true;
  }

  /** One byte of the device-readable part, or −1 past its end. For headers, not for bulk. */
  readByte(position: number): number {
    for (let i = 0; i < this.readableCount; i++) {
      const length = this.lengths[i]!;
      if (position < length) return this.regions[i]!.bytes[this.offsets[i]! + position]!;
      position -= length;
    }
    return -1;
  }

  /** Copies the start of the device-readable part. @returns bytes copied: fewer than `into` holds when the part is shorter */
  peek(into: Uint8Array, skip = 0): number {
    let filled = 0;
    for (let i = 0; i < this.readableCount && filled < into.length; i++) {
      const length = this.lengths[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const bytes = this.regions[i]!.bytes;
      let from = this.offsets[i]! + skip;
      const end = this.offsets[i]! + length;
      skip = 0;
      while (from < end && filled < into.length) into[filled++] = bytes[from++]!;
    }
    return filled;
  }

  /** Finds a byte of the device-writable part: leaves it in `foundRegion` and `foundOffset`. @returns false past its end */
  locate(position: number): boolean {
    for (let i = this.readableCount; i < this.count; i++) {
      const length = this.lengths[i]!;
      if (position < length) {
        this.foundRegion = this.regions[i]!;
        this.foundOffset = this.offsets[i]! + position;
        return true;
      }
      position -= length;
    }
    return false;
  }

  /** Writes bytes to a position of the device-writable part; what does not fit is discarded. @returns bytes written */
  write(bytes: Uint8Array, position = 0): number {
    let done = 0;
    for (let i = this.readableCount; i < this.count && done < bytes.length; i++) {
      const length = this.lengths[i]!;
      if (position >= length) {
        position -= length;
        continue;
      }
      const part = Math.min(length - position, bytes.length - done);
      const whole = part === bytes.length ? bytes : bytes.subarray(done, done + part);
      this.regions[i]!.bytes.set(whole, this.offsets[i]! + position);
      done += part;
      position = 0;
    }
    return done;
  }

  /** Writes one byte of the device-writable part; past its end nothing happens. */
  writeByte(position: number, value: number): void {
    if (this.locate(position)) this.foundRegion!.bytes[this.foundOffset] = value;
  }
}
