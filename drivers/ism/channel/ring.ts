/**
 * One ring of a channel, as its producer and as its consumer see it. The other side is not trusted: what it writes is checked at each look.
 *
 * @module
 */
import { ProtocolError } from "../../../lib/errors/mod.ts";
import type { IsmRegion } from "../region.ts";
import { RING_CONTROL, RING_CONTROL_AT, RINGS_AT } from "./layout.ts";

/** Shorter copies are done byte by byte: making a view costs more. */
const SHORT_BYTES = 48;

/** What is copied is published in pieces of a ring's sixteenth within these limits: the other side copies at the same time. */
const PIECE_BYTES = { least: 4 * 1024, most: 64 * 1024 } as const;

const FIELDS = RING_CONTROL.fields;

/** Words of a ring's positions, and its bytes wherever they lie. Once the region is closed, the words are gone: to be asked before they are used. */
class RingMemory {
  readonly capacity: number;
  /** Bytes that are copied before they are published. */
  readonly pieceBytes: number;
  readonly words: Uint32Array<ArrayBuffer>;
  readonly #region: IsmRegion;
  readonly #at: number;
  /** All bytes of the ring when they are in one piece. */
  readonly #bytes: Uint8Array<ArrayBuffer> | null;

  /** @throws UsageError when the header is not in one piece, or not mapped */
  constructor(region: IsmRegion, ring: 0 | 1, capacity: number) {
    const control = region.bytes(RING_CONTROL_AT[ring], RING_CONTROL.sizeBytes);
    this.words = new Uint32Array(control.buffer, control.byteOffset, RING_CONTROL.sizeBytes / 4);
    this.capacity = capacity;
    this.pieceBytes = Math.min(Math.max(capacity / 16, PIECE_BYTES.least), PIECE_BYTES.most);
    this.#region = region;
    this.#at = RINGS_AT + ring * capacity;
    const whole = region.segments.some(({ offset, sizeBytes, mapped }) =>
      mapped && offset <= this.#at && this.#at + capacity <= offset + sizeBytes
    );
    this.#bytes = whole ? region.bytes(this.#at, capacity) : null;
  }

  /** Copies into the ring; the range does not wrap. */
  put(at: number, from: Uint8Array, start: number, count: number): void {
    const bytes = this.#bytes;
    if (bytes === null) this.#region.write(this.#at + at, from.subarray(start, start + count));
    else if (count <= SHORT_BYTES) { for (let i = 0; i < count; i++) bytes[at + i] = from[start + i]!; }
    else bytes.set(count === from.length ? from : from.subarray(start, start + count), at);
  }

  /** Copies out of the ring; the range does not wrap. */
  get(at: number, into: Uint8Array, start: number, count: number): void {
    const bytes = this.#bytes;
    if (bytes === null) this.#region.read(this.#at + at, into.subarray(start, start + count));
    else if (count <= SHORT_BYTES) { for (let i = 0; i < count; i++) into[start + i] = bytes[at + i]!; }
    else into.set(bytes.subarray(at, at + count), start);
  }
}

const HEAD = FIELDS.head.offset / 4;
const PRODUCER = FIELDS.producer.offset / 4;
const PRODUCER_SLEEPS = FIELDS.producerSleeps.offset / 4;
const TAIL = FIELDS.tail.offset / 4;
const CONSUMER = FIELDS.consumer.offset / 4;
const CONSUMER_SLEEPS = FIELDS.consumerSleeps.offset / 4;

/** The side that writes. */
export class RingProducer {
  readonly capacity: number;
  readonly #memory: RingMemory;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #mask: number;
  readonly #pieceBytes: number;
  #head: number;
  #tail: number;

  /** @param position where an empty ring is; that of a new one is at 0 */
  constructor(region: IsmRegion, ring: 0 | 1, capacity: number, position = 0) {
    this.#memory = new RingMemory(region, ring, capacity);
    this.#words = this.#memory.words;
    this.capacity = capacity;
    this.#mask = capacity - 1;
    this.#pieceBytes = this.#memory.pieceBytes;
    this.#head = position;
    this.#tail = position;
  }

  /** Bytes that can be written now. @throws ProtocolError when the consumer's position cannot be */
  free(): number {
    const tail = Atomics.load(this.#words, TAIL);
    // What is in the ring can only have become less since the last look.
    if (((this.#head - tail) >>> 0) > ((this.#head - this.#tail) >>> 0)) {
      throw new ProtocolError(
        `the channel's consumer says it is at ${tail}; it was at ${this.#tail} of ${this.#head}`,
      );
    }
    this.#tail = tail;
    return this.capacity - ((this.#head - tail) >>> 0);
  }

  /** True when the consumer has read everything. */
  get drained(): boolean {
    return this.free() === this.capacity;
  }

  /** Copies as much as there is room for, and publishes it. @returns how many bytes */
  write(from: Uint8Array, start: number, end: number): number {
    const wanted = end - start;
    let free = this.capacity - ((this.#head - this.#tail) >>> 0);
    if (free < wanted) free = this.free();
    const count = wanted < free ? wanted : free;
    if (count === 0) return 0;
    for (let done = 0; done < count;) {
      const at = this.#head & this.#mask;
      const piece = Math.min(count - done, this.capacity - at, this.#pieceBytes);
      this.#memory.put(at, from, start + done, piece);
      done += piece;
      this.#head = (this.#head + piece) >>> 0;
      Atomics.store(this.#words, HEAD, this.#head);
    }
    return count;
  }

  /** Says `SIDE` bits. */
  say(bits: number): void {
    Atomics.or(this.#words, PRODUCER, bits);
  }

  /** What the consumer says. */
  get consumerSays(): number {
    return Atomics.load(this.#words, CONSUMER);
  }

  /** Asks for a notification when there is room, or takes that back. */
  sleep(sleeps: boolean): void {
    Atomics.store(this.#words, PRODUCER_SLEEPS, sleeps ? 1 : 0);
  }

  /** True once when the consumer asked for a notification. After something was published or said. */
  wakes(): boolean {
    return Atomics.load(this.#words, CONSUMER_SLEEPS) !== 0 &&
      Atomics.exchange(this.#words, CONSUMER_SLEEPS, 0) !== 0;
  }
}

/** The side that reads. */
export class RingConsumer {
  readonly capacity: number;
  readonly #memory: RingMemory;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #mask: number;
  readonly #pieceBytes: number;
  #head: number;
  #tail: number;

  /** As `RingProducer`. */
  constructor(region: IsmRegion, ring: 0 | 1, capacity: number, position = 0) {
    this.#memory = new RingMemory(region, ring, capacity);
    this.#words = this.#memory.words;
    this.capacity = capacity;
    this.#mask = capacity - 1;
    this.#pieceBytes = this.#memory.pieceBytes;
    this.#head = position;
    this.#tail = position;
  }

  /** Bytes that can be read now. @throws ProtocolError when the producer's position cannot be */
  available(): number {
    const head = Atomics.load(this.#words, HEAD);
    const count = (head - this.#tail) >>> 0;
    // It can only have become more, and never more than the ring holds.
    if (count > this.capacity || count < ((this.#head - this.#tail) >>> 0)) {
      throw new ProtocolError(
        `the channel's producer says it is at ${head}; it was at ${this.#head}, and ${this.#tail} is read of a ring of ${this.capacity} bytes`,
      );
    }
    this.#head = head;
    return count;
  }

  /** Copies what is there, as much as fits. @returns how many bytes */
  read(into: Uint8Array, start: number, end: number): number {
    const wanted = end - start;
    let available = (this.#head - this.#tail) >>> 0;
    if (available < wanted) available = this.available();
    const count = wanted < available ? wanted : available;
    if (count === 0) return 0;
    for (let done = 0; done < count;) {
      const at = this.#tail & this.#mask;
      const piece = Math.min(count - done, this.capacity - at, this.#pieceBytes);
      this.#memory.get(at, into, start + done, piece);
      done += piece;
      this.#tail = (this.#tail + piece) >>> 0;
      Atomics.store(this.#words, TAIL, this.#tail);
    }
    return count;
  }

  /** True when the memory is gone. */
  get detached(): boolean {
    return this.#words.length === 0;
  }

  /** Says `SIDE` bits. */
  say(bits: number): void {
    Atomics.or(this.#words, CONSUMER, bits);
  }

  /** What the producer says. */
  get producerSays(): number {
    return Atomics.load(this.#words, PRODUCER);
  }

  /** Asks for a notification when there is something, or takes that back. */
  sleep(sleeps: boolean): void {
    Atomics.store(this.#words, CONSUMER_SLEEPS, sleeps ? 1 : 0);
  }

  /**
   * True once when the producer asked for a notification, and enough was read that it is worth it: a quarter of the ring, or all.
   * With less, more can be read, and the producer is woken then.
   * @param always however little was read
   */
  wakes(always = false): boolean {
    if (Atomics.load(this.#words, PRODUCER_SLEEPS) === 0) return false;
    if (always) return Atomics.exchange(this.#words, PRODUCER_SLEEPS, 0) !== 0;
    const left = (Atomics.load(this.#words, HEAD) - this.#tail) >>> 0;
    if (left !== 0 && this.capacity - left < this.capacity / 4) return false;
    return Atomics.exchange(this.#words, PRODUCER_SLEEPS, 0) !== 0;
  }
}
