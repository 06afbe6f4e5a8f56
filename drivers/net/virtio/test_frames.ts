/**
 * Frames that can be checked: a receiver knows every byte that it must see.
 *
 * @module
 */

import { requireType, typedErrors } from "../../../lib/errors/doors.ts";
import { UsageError } from "../../../lib/errors/mod.ts";

/** IEEE 802 local experimental EtherType 1. */
const ETHERTYPE = 0x88b5;
/** Where the frame's number is: behind the Ethernet header. */
const NUMBER_AT = 14;
/** Ethernet header and the frame's number. */
const MIN_TEST_FRAME_BYTES = 18;
const MAX_TEST_FRAME_BYTES = 65535;

/** Frames by number, and what a receiver must see. */
export interface FrameStream {
  /** Length of frame `number`, in bytes. */
  lengthOf(number: number): number;
  /** Writes frame `number`. @returns its length */
  fill(number: number, into: Uint8Array): number;
  /** True for a frame of this stream: a shared link carries others too. */
  isOurs(bytes: Uint8Array, offset: number, length: number): boolean;
  /** Compares every byte with frame `number`. @returns −1 when all are right, else the first wrong place (the length, when that is wrong) */
  mismatch(number: number, bytes: Uint8Array, offset: number, length: number): number;
}

/** Frames made up, each from its number alone. */
export class TestFrames implements FrameStream {
  static {
    typedErrors(this);
  }

  readonly #header: Uint8Array;
  readonly #minBytes: number;
  readonly #spread: number;

  /** Frames between two MAC addresses (6 bytes each), of lengths from `minBytes` to `maxBytes`: equal for one length. @throws UsageError */
  constructor(to: Uint8Array, from: Uint8Array, minBytes: number, maxBytes: number) {
    requireType(to, "bytes", "TestFrames: to");
    requireType(from, "bytes", "TestFrames: from");
    if (to.length !== 6 || from.length !== 6 || !(Math.max(minBytes, maxBytes) <= MAX_TEST_FRAME_BYTES)) {
      throw new UsageError(`no frames of ${minBytes} to ${maxBytes} bytes between addresses of 6 bytes`);
    }
    this.#header = new Uint8Array(14);
    this.#header.set(to, 0);
    this.#header.set(from, 6);
    this.#header[12] = ETHERTYPE >> 8;
    this.#header[13] = ETHERTYPE & 0xff;
    this.#minBytes = Math.max(minBytes, MIN_TEST_FRAME_BYTES);
    this.#spread = Math.max(0, maxBytes - this.#minBytes) + 1;
  }

  /** Length of frame `number`. */
  lengthOf(number: number): number {
    return this.#minBytes + (Math.imul(number + 1, 2654435761) >>> 8) % this.#spread;
  }

  /** Writes frame `number`. @returns its length */
  fill(number: number, into: Uint8Array): number {
    const length = this.lengthOf(number);
    into.set(this.#header, 0);
    into[14] = number & 0xff;
    into[15] = (number >>> 8) & 0xff;
    into[16] = (number >>> 16) & 0xff;
    into[17] = number >>> 24;
    let state = number | 1;
    for (let i = MIN_TEST_FRAME_BYTES; i < length; i++) {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      into[i] = state >>> 24;
    }
    return length;
  }

  /** True for a frame of this kind: a shared link carries others too. */
  isOurs(bytes: Uint8Array, offset: number, length: number): boolean {
    return length >= MIN_TEST_FRAME_BYTES && bytes[offset + 12] === ETHERTYPE >> 8 &&
      bytes[offset + 13] === (ETHERTYPE & 0xff);
  }

  /** Compares every byte with frame `number`. @returns −1 when all are right, else the first wrong place (the length, when that is wrong) */
  mismatch(number: number, bytes: Uint8Array, offset: number, length: number): number {
    if (length !== this.lengthOf(number)) return length;
    for (let i = 0; i < 14; i++) if (bytes[offset + i] !== this.#header[i]) return i;
    for (let i = 0; i < 4; i++) {
      if (bytes[offset + 14 + i] !== ((number >>> (8 * i)) & 0xff)) return 14 + i;
    }
    let state = number | 1;
    for (let i = MIN_TEST_FRAME_BYTES; i < length; i++) {
      state = Math.imul(state, 1664525) + 1013904223 | 0;
      if (bytes[offset + i] !== state >>> 24) return i;
    }
    return -1;
  }
}

/** Frames of one length that are written whole, and of which only length, kind and number are looked at: what is measured is the way between. */
export class MarkedFrames implements FrameStream {
  readonly #frame: Uint8Array<ArrayBuffer>;
  readonly #kind: TestFrames;

  /** As `TestFrames` of one length. @throws UsageError */
  constructor(to: Uint8Array, from: Uint8Array, lengthBytes: number) {
    this.#kind = new TestFrames(to, from, lengthBytes, lengthBytes);
    this.#frame = new Uint8Array(this.#kind.lengthOf(0));
    this.#kind.fill(0, this.#frame);
  }

  lengthOf(): number {
    return this.#frame.length;
  }

  fill(number: number, into: Uint8Array): number {
    into.set(this.#frame);
    for (let i = 0; i < 4; i++) into[NUMBER_AT + i] = number >>> 8 * i;
    return this.#frame.length;
  }

  isOurs(bytes: Uint8Array, offset: number, length: number): boolean {
    return this.#kind.isOurs(bytes, offset, length);
  }

  mismatch(number: number, bytes: Uint8Array, offset: number, length: number): number {
    if (length !== this.#frame.length) return length;
    for (let i = 0; i < 4; i++) {
      if (bytes[offset + NUMBER_AT + i] !== (number >>> 8 * i & 0xff)) return NUMBER_AT + i;
    }
    return -1;
  }
}

/** Frames of a capture, over and over. */
export class RecordedFrames implements FrameStream {
  readonly #frames: readonly Uint8Array[];

  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
  }

  /** Frames of one round. */
  get count(): number {
    return this.#frames.length;
  }

  lengthOf(number: number): number {
    return this.#at(number).length;
  }

  fill(number: number, into: Uint8Array): number {
    const frame = this.#at(number);
    into.set(frame);
    return frame.length;
  }

  /** A recorded frame cannot be told from others, so the link must carry nothing else. */
  isOurs(): boolean {
    return true;
  }

  mismatch(number: number, bytes: Uint8Array, offset: number, length: number): number {
    const frame = this.#at(number);
    if (frame.length !== length) return length;
    for (let i = 0; i < length; i++) if (bytes[offset + i] !== frame[i]) return i;
    return -1;
  }

  #at(number: number): Uint8Array {
    return this.#frames[number % this.#frames.length]!;
  }
}
