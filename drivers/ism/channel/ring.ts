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

const HEAD = FIELDS.head.offset / 4;
const TAIL = FIELDS.tail.offset / 4;
type EndWords = {
  /** Word of its `SIDE` bits. */
  readonly says: number;
  /** Word that says it sleeps. */
  readonly sleeps: number;
};
const PRODUCER: EndWords = { says: FIELDS.producer.offset / 4, sleeps: FIELDS.producerSleeps.offset / 4 };
const CONSUMER: EndWords = { says: FIELDS.consumer.offset / 4, sleeps: FIELDS.consumerSleeps.offset / 4 };

/**
 * What both ends of a ring have: its words, its bytes wherever they lie, and both positions as this end knows them. Once the region is closed, the
 * words are gone: to be asked before the bytes are used.
 */
abstract class RingEnd {
  readonly capacity: number;
  protected readonly words: Uint32Array<ArrayBuffer>;
  protected readonly mask: number;
  /** Bytes that are copied before they are published. */
  protected readonly pieceBytes: number;
  protected head: number;
  protected tail: number;
  readonly #says: number;
  readonly #sleeps: number;
  readonly #peerSays: number;
  readonly #peerSleeps: number;
  readonly #region: IsmRegion;
  readonly #at: number;
  /** All bytes of the ring when they are in one piece. */
  readonly #bytes: Uint8Array<ArrayBuffer> | null;

  /** @param position where an empty ring is; that of a new one is at 0 @throws UsageError when the header is not in one piece, or not mapped */
  constructor(
    own: EndWords,
    peer: EndWords,
    region: IsmRegion,
    ring: 0 | 1,
    capacity: number,
    position: number,
  ) {
    const control = region.bytes(RING_CONTROL_AT[ring], RING_CONTROL.sizeBytes);
    this.words = new Uint32Array(control.buffer, control.byteOffset, RING_CONTROL.sizeBytes / 4);
    this.capacity = capacity;
    this.mask = capacity - 1;
    this.pieceBytes = Math.min(Math.max(capacity / 16, PIECE_BYTES.least), PIECE_BYTES.most);
    this.head = position;
    this.tail = position;
    this.#says = own.says;
    this.#sleeps = own.sleeps;
    this.#peerSays = peer.says;
    this.#peerSleeps = peer.sleeps;
    this.#region = region;
    this.#at = RINGS_AT + ring * capacity;
    const whole = region.segments.some(({ offset, sizeBytes, mapped }) =>
      mapped && offset <= this.#at && this.#at + capacity <= offset + sizeBytes
    );
    this.#bytes = whole ? region.bytes(this.#at, capacity) : null;
  }

  /** True when the memory is gone. */
  get detached(): boolean {
    return this.words.length === 0;
  }

  /** Says `SIDE` bits. */
  say(bits: number): void {
    Atomics.or(this.words, this.#says, bits);
  }

  /** What the other end says. */
  get peerSays(): number {
    return Atomics.load(this.words, this.#peerSays);
  }

  /** Asks for a notification when there is something to do, or takes that back. */
  sleep(sleeps: boolean): void {
    Atomics.store(this.words, this.#sleeps, sleeps ? 1 : 0);
  }

  /** The other end has asked for a notification. */
  protected get peerSleeps(): boolean {
    return Atomics.load(this.words, this.#peerSleeps) !== 0;
  }

  /** True once when the other end asked for a notification. After something was published or said. */
  wakes(): boolean {
    return this.peerSleeps && Atomics.exchange(this.words, this.#peerSleeps, 0) !== 0;
  }

  /** Copies into the ring; the range does not wrap. */
  protected put(at: number, from: Uint8Array, start: number, count: number): void {
    const bytes = this.#bytes;
    if (bytes === null) this.#region.write(this.#at + at, from.subarray(start, start + count));
    else if (count <= SHORT_BYTES) { for (let i = 0; i < count; i++) bytes[at + i] = from[start + i]!; }
    else bytes.set(count === from.length ? from : from.subarray(start, start + count), at);
  }

  /** Copies out of the ring; the range does not wrap. */
  protected get(at: number, into: Uint8Array, start: number, count: number): void {
    const bytes = this.#bytes;
    if (bytes === null) this.#region.read(this.#at + at, into.subarray(start, start + count));
    else if (count <= SHORT_BYTES) { for (let i = 0; i < count; i++) into[start + i] = bytes[at + i]!; }
    else into.set(bytes.subarray(at, at + count), start);
  }
}

/** The side that writes. */
export class RingProducer extends RingEnd {
  /** As `RingEnd`. */
  constructor(region: IsmRegion, ring: 0 | 1, capacity: number, position = 0) {
    super(PRODUCER, CONSUMER, region, ring, capacity, position);
  }

  /** Bytes that can be written now. @throws ProtocolError when the consumer's position cannot be */
  free(): number {
    const tail = Atomics.load(this.words, TAIL);
    // What is in the ring can only have become less since the last look.
    if (((this.head - tail) >>> 0) > ((this.head - this.tail) >>> 0)) {
      throw new ProtocolError(
        `the channel's consumer says it is at ${tail}; it was at ${this.tail} of ${this.head}`,
      );
    }
    this.tail = tail;
    return this.capacity - ((this.head - tail) >>> 0);
  }

  /** True when the consumer has read everything. */
  get drained(): boolean {
    return this.free() === this.capacity;
  }

  /** Copies as much as there is room for, and publishes it. @returns how many bytes */
  write(from: Uint8Array, start: number, end: number): number {
    const wanted = end - start;
    let free = this.capacity - ((this.head - this.tail) >>> 0);
    if (free < wanted) free = this.free();
    const count = wanted < free ? wanted : free;
    for (let done = 0; done < count;) {
      const at = this.head & this.mask;
      const piece = Math.min(count - done, this.capacity - at, this.pieceBytes);
      this.put(at, from, start + done, piece);
      done += piece;
      this.head = (this.head + piece) >>> 0;
      Atomics.store(this.words, HEAD, this.head);
    }
    return count;
  }
}

/** The side that reads. */
export class RingConsumer extends RingEnd {
  /** As `RingEnd`. */
  constructor(region: IsmRegion, ring: 0 | 1, capacity: number, position = 0) {
    super(CONSUMER, PRODUCER, region, ring, capacity, position);
  }

  /** Bytes that can be read now. @throws ProtocolError when the producer's position cannot be */
  available(): number {
    const head = Atomics.load(this.words, HEAD);
    const count = (head - this.tail) >>> 0;
    // It can only have become more, and never more than the ring holds.
    if (count > this.capacity || count < ((this.head - this.tail) >>> 0)) {
      throw new ProtocolError(
        `the channel's producer says it is at ${head}; it was at ${this.head}, and ${this.tail} is read of a ring of ${this.capacity} bytes`,
      );
    }
    this.head = head;
    return count;
  }

  /** Copies what is there, as much as fits. @returns how many bytes */
  read(into: Uint8Array, start: number, end: number): number {
    const wanted = end - start;
    let available = (this.head - this.tail) >>> 0;
    if (available < wanted) available = this.available();
    const count = wanted < available ? wanted : available;
    for (let done = 0; done < count;) {
      const at = this.tail & this.mask;
      const piece = Math.min(count - done, this.capacity - at, this.pieceBytes);
      this.get(at, into, start + done, piece);
      done += piece;
      this.tail = (this.tail + piece) >>> 0;
      Atomics.store(this.words, TAIL, this.tail);
    }
    return count;
  }

  /**
   * True once when the producer asked for a notification, and enough was read that it is worth it: a quarter of the ring, or all.
   * With less, more can be read, and the producer is woken then.
   * @param always however little was read
   */
  override wakes(always = false): boolean {
    if (!this.peerSleeps) return false;
    const left = (Atomics.load(this.words, HEAD) - this.tail) >>> 0;
    if (!always && left !== 0 && this.capacity - left < this.capacity / 4) return false;
    return super.wakes();
  }
}
