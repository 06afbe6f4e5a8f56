/**
 * Where the requests of one queue lie, and how they become chains: header, data and status of each slot (virtio 1.4 §5.2.6).
 *
 * With INDIRECT_DESC each slot has a table of its own, which shares a cache line with the header behind it. It is written once, and again only when
 * the slot's next request is of another length or direction: one like the last costs its sector, its status and one descriptor. Without, a chain
 * takes descriptors of the ring, which are written each time.
 *
 * @module
 */
import type { DmaSpace } from "../../lib/memory/mod.ts";
import { BufferPool, type BufferPoolOptions } from "../../lib/virtio/queue/buffer_pool.ts";
import type { SavedPart } from "../../lib/virtio/queue/saved_queue.ts";
import type { SlotTables, UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import { BLK_HEADER_BYTES } from "../../lib/virtio/spec/blk.ts";
import { DESC_FLAG, VIRTQ_DESC } from "../../lib/virtio/spec/ring.ts";

const LINE_BYTES = 64;
const TWO_32 = 4294967296;
/** Of data: devices copy whole pages the fastest. */
const DATA_ALIGN_BYTES = 4096;
const STATUS_BYTES = 1;
/** What a status byte holds until the device writes it. */
export const NOT_WRITTEN = 0xff;

/** How to lay requests out. */
export interface RequestLayout {
  /** Number of slots; the queue has room for a chain of each. */
  readonly slots: number;
  /** Bytes of data in each. */
  readonly requestBytes: number;
  /** Most bytes of one data segment. */
  readonly segmentBytes: number;
  /** INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
}

/** See the module. `put` each request of a burst, then `addAll`. Calls but the constructor allocate nothing. */
export class RequestChains implements SlotTables, Disposable {
  /** The data of each slot, and which slots are free. */
  readonly data: BufferPool;
  /** By slot: sector of the next request, or of the last one. An argument of that many bits would be allocated. */
  readonly sectors: Float64Array<ArrayBuffer>;
  /** By slot: bytes that the device writes when all goes well, the status included. */
  readonly writable: Uint32Array<ArrayBuffer>;
  readonly #queue: Virtqueue;
  readonly #segmentBytes: number;
  readonly #indirect: boolean;
  /** Table entries of a split ring name the next one. */
  readonly #linked: boolean;
  readonly #memory: DisposableStack;
  /** By slot, a number of cache lines each: a table, then a header. */
  readonly #requests: BufferPool;
  readonly #requestWords: Uint32Array<ArrayBuffer>;
  readonly #stride: number;
  readonly #headerAt: number;
  /** By slot, a cache line each: answers of different requests do not share one. */
  readonly #status: BufferPool;
  readonly #statusBytes: Uint8Array<ArrayBuffer>;
  /** By slot: bytes of data of the last request; −1 before the first. */
  readonly #lengths: Int32Array<ArrayBuffer>;
  /** By slot: 1 when the device writes its data. */
  readonly #answers: Uint8Array<ArrayBuffer>;
  /** By slot: bytes of its table. */
  readonly #tableBytes: Uint32Array<ArrayBuffer>;
  readonly #batch: Uint16Array<ArrayBuffer>;
  readonly #batchBytes: Uint32Array<ArrayBuffer>;
  #batched = 0;

  /** Allocates the memory, and takes the queue over. @throws ExhaustedError, SyscallError, UsageError */
  constructor(queue: Virtqueue, dma: DmaSpace, layout: RequestLayout) {
    const { slots, requestBytes, indirect } = layout;
    this.#queue = queue;
    this.#segmentBytes = Math.min(layout.segmentBytes, requestBytes);
    this.#indirect = indirect;
    this.#linked = queue.layout === "split";
    this.writable = new Uint32Array(slots);
    this.#lengths = new Int32Array(slots).fill(-1);
    this.sectors = new Float64Array(slots);
    this.#answers = new Uint8Array(slots);
    this.#tableBytes = new Uint32Array(slots);
    this.#batch = new Uint16Array(slots);
    this.#batchBytes = new Uint32Array(slots);

    using memory = new DisposableStack();
    const pool = (options: BufferPoolOptions) =>
      memory.use(new BufferPool(queue, dma, { ...options, count: slots }));
    const tableBytes = indirect
      ? VIRTQ_DESC.sizeBytes * (2 + Math.ceil(requestBytes / this.#segmentBytes))
      : 0;
    this.#status = pool({
      label: "request status",
      slotBytes: STATUS_BYTES,
      access: { deviceReads: false, deviceWrites: true },
    });
    this.data = pool({ label: "request data", slotBytes: requestBytes, alignBytes: DATA_ALIGN_BYTES });
    this.#requests = pool({
      label: "request headers",
      slotBytes: tableBytes + BLK_HEADER_BYTES,
      access: { deviceReads: true, deviceWrites: false },
      ...(indirect ? { chains: this } : {}),
    });
    const requests = this.#requests.views[0]!, status = this.#status.views[0]!;
    this.#stride = this.#requests.strideBytes / 4;
    this.#headerAt = tableBytes / 4;
    this.#requestWords = new Uint32Array(requests.buffer, requests.byteOffset, slots * this.#stride);
    this.#statusBytes = new Uint8Array(status.buffer, status.byteOffset, slots * LINE_BYTES);
    this.#memory = memory.move();
  }

  /**
   * Makes a request ready in a slot that is not in flight, of the sector in `sectors`. @param answers the device writes its data
   * @returns false when the queue has no room for it
   */
  put(slot: number, type: number, lengthBytes: number, answers: boolean): boolean {
    // Also what has broken the queue is thrown before anything is changed.
    if (this.#queue.freeDescriptors <= this.#batched) return false;
    const words = this.#requestWords;
    const header = slot * this.#stride + this.#headerAt;
    const sector = this.sectors[slot]!;
    const high = Math.floor(sector / TWO_32);
    words[header] = type;
    words[header + 2] = sector - high * TWO_32;
    words[header + 3] = high;
    this.#statusBytes[slot * LINE_BYTES] = NOT_WRITTEN;
    const known = this.#lengths[slot] === lengthBytes && (this.#answers[slot] === 1) === answers;
    if (!known) {
      this.#lengths[slot] = lengthBytes;
      this.#answers[slot] = answers ? 1 : 0;
      this.writable[slot] = answers ? lengthBytes + STATUS_BYTES : STATUS_BYTES;
    }
    if (!this.#indirect) return this.#addParts(slot, lengthBytes, answers);
    if (!known) this.#writeTable(slot, lengthBytes, answers);
    this.#batch[this.#batched] = slot;
    this.#batchBytes[this.#batched++] = this.#tableBytes[slot]!;
    return true;
  }

  /** Adds what was made ready to the queue. */
  addAll(): void {
    const count = this.#batched;
    if (count === 0) return;
    this.#batched = 0;
    this.#queue.addSlots(this.#batch, this.#batchBytes, count);
  }

  /** As `Virtqueue.takeUsed`, with slots in place of ids. */
  takeUsed(into: UsedBurst, max?: number): number {
    return (this.#indirect ? this.#requests : this.data).takeUsed(into, max);
  }

  /** Status of an answered request, as the device wrote it. */
  status(slot: number): number {
    return this.#statusBytes[slot * LINE_BYTES]!;
  }

  /** Bytes of data of a slot's last request. */
  lengthBytes(slot: number): number {
    return this.#lengths[slot]!;
  }

  /** As `SlotTables.partsOf`: from what is known here, since nobody vouches for what the memory holds. */
  partsOf(slot: number): { readable: SavedPart[]; writable: SavedPart[] } {
    const header = this.#requests.partOf(slot, this.#headerAt * 4, BLK_HEADER_BYTES);
    const status = this.#status.partOf(slot, 0, STATUS_BYTES);
    const data: SavedPart[] = [];
    const lengthBytes = this.#lengths[slot]!;
    for (let at = 0; at < lengthBytes; at += this.#segmentBytes) {
      data.push(this.data.partOf(slot, at, Math.min(this.#segmentBytes, lengthBytes - at)));
    }
    return this.#answers[slot] === 1
      ? { readable: [header], writable: [...data, status] }
      : { readable: [header, ...data], writable: [status] };
  }

  /** Unmaps the memory. The queue is its device's. May be called again. */
  [Symbol.dispose](): void {
    this.#memory.dispose();
  }

  #addParts(slot: number, lengthBytes: number, answers: boolean): boolean {
    const segmentBytes = this.#segmentBytes;
    const segments = Math.ceil(lengthBytes / segmentBytes);
    if (!this.#queue.begin(answers ? 1 : 1 + segments, answers ? 1 + segments : 1)) return false;
    this.#requests.addPart(slot, 0, BLK_HEADER_BYTES);
    for (let at = 0; at < lengthBytes; at += segmentBytes) {
      const left = lengthBytes - at;
      this.data.addPart(slot, at, left < segmentBytes ? left : segmentBytes);
    }
    this.#status.addPart(slot, 0, STATUS_BYTES);
    this.data.commit(slot);
    return true;
  }

  #writeTable(slot: number, lengthBytes: number, answers: boolean): void {
    const segmentBytes = this.#segmentBytes;
    const write = answers ? DESC_FLAG.write : 0;
    this.#writeEntry(slot, 0, this.#requests, this.#headerAt * 4, BLK_HEADER_BYTES, 0);
    let entry = 1;
    for (let at = 0; at < lengthBytes; at += segmentBytes) {
      const left = lengthBytes - at;
      this.#writeEntry(slot, entry++, this.data, at, left < segmentBytes ? left : segmentBytes, write);
    }
    this.#writeEntry(slot, entry, this.#status, 0, STATUS_BYTES, DESC_FLAG.write);
    this.#tableBytes[slot] = (entry + 1) * VIRTQ_DESC.sizeBytes;
    if (this.#linked) this.#requestWords[slot * this.#stride + entry * 4 + 3] = DESC_FLAG.write;
  }

  /** In a split ring each but the last, which the caller corrects, names the next; in a packed one only WRITE means something. */
  #writeEntry(slot: number, entry: number, of: BufferPool, at: number, bytes: number, write: number): void {
    const words = this.#requestWords;
    const word = slot * this.#stride + entry * 4;
    const lo = of.iovaLo[slot]! + at;
    const carry = lo >= TWO_32 ? 1 : 0;
    words[word] = lo - TWO_32 * carry;
    words[word + 1] = of.iovaHi[slot]! + carry;
    words[word + 2] = bytes;
    words[word + 3] = this.#linked ? write | DESC_FLAG.next | ((entry + 1) << 16) : write << 16;
  }
}
