/**
 * Frames that can be checked: a receiver knows every byte that it must see.
 *
 * @module
 */

import { requireType } from "../../../lib/errors/doors.ts";
import { UsageError } from "../../../lib/errors/mod.ts";

/** IEEE 802 local experimental EtherType 1. */
const ETHERTYPE = 0x88b5;
/** Where the frame's number is: behind the Ethernet header. */
const NUMBER_AT = 14;
/** Ethernet header and the frame's number. */
const MIN_TEST_FRAME_BYTES = 18;
/** From here on there is nothing but payload. */
const BODY_AT = 20;
/** From one word of the payload to the next: odd, and no byte of it is 0. */
const STEP = 0x05eb_ca6b;
/** Up to here going word by word costs less than a copy of the whole. */
const WORDS_BYTES = 96;
const MAX_TEST_FRAME_BYTES = 65535;

/** A memory with frames in it: the same bytes one by one, and by fours. */
export class FrameMemory {
  /** One by one. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** By fours; none where the first byte is not at a multiple of four. */
  readonly words32: Uint32Array<ArrayBuffer>;

  /** Of all of these bytes. */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    requireType(bytes, "object", "new FrameMemory: bytes", "subarray");
    const { buffer, byteOffset, length } = bytes;
    this.bytes = bytes;
    this.words32 = length > 0 && byteOffset % 4 === 0
      ? new Uint32Array(buffer, byteOffset, length >>> 2)
      : NO_WORDS;
  }
}

const NO_WORDS = new Uint32Array(0);

/** Frames by number, and what a receiver must see. Those who go faster by words are given the memory of the bytes as well. */
export interface FrameStream {
  /** Length of frame `number`, in bytes. */
  lengthOf(number: number): number;
  /** Writes frame `number`. @param memory of `into` @returns its length */
  fill(number: number, into: Uint8Array, memory?: FrameMemory): number;
  /** True for a frame of this stream: a shared link carries others too. */
  isOurs(bytes: Uint8Array, offset: number, length: number): boolean;
  /**
   * Compares every byte with frame `number`. @param memory of `bytes`
   * @returns −1 when all are right, else the first wrong place (the length, when that is wrong)
   */
  mismatch(number: number, bytes: Uint8Array, offset: number, length: number, memory?: FrameMemory): number;
}

/**
 * Frames made up, each from its number alone: behind Ethernet header and number, word k (bytes 4k to 4k + 3) is `seed(number) + k * STEP`, so no two
 * frames that follow each other have a word in common.
 */
export class TestFrames implements FrameStream {
  readonly #header: FrameMemory = new FrameMemory(new Uint8Array(16));
  readonly #minBytes: number;
  readonly #spread: number;

  /** Frames between two MAC addresses (6 bytes each), of lengths from `minBytes` to `maxBytes`: equal for one length. @throws UsageError */
  constructor(to: Uint8Array, from: Uint8Array, minBytes: number, maxBytes: number) {
    requireType(to, "bytes", "TestFrames: to");
    requireType(from, "bytes", "TestFrames: from");
    if (to.length !== 6 || from.length !== 6 || !(Math.max(minBytes, maxBytes) <= MAX_TEST_FRAME_BYTES)) {
      throw new UsageError(`no frames of ${minBytes} to ${maxBytes} bytes between addresses of 6 bytes`);
    }
    const header = this.#header.bytes;
    header.set(to, 0);
    header.set(from, 6);
    header[12] = ETHERTYPE >> 8;
    header[13] = ETHERTYPE & 0xff;
    this.#minBytes = Math.max(minBytes, MIN_TEST_FRAME_BYTES);
    this.#spread = Math.max(0, maxBytes - this.#minBytes) + 1;
  }

  /** Length of frame `number`. */
  lengthOf(number: number): number {
    const spread = this.#spread;
    return this.#minBytes + (spread === 1 ? 0 : (Math.imul(number + 1, 2654435761) >>> 8) % spread);
  }

  /** Writes frame `number`. @param memory of `into` @returns its length */
  fill(number: number, into: Uint8Array, memory?: FrameMemory): number {
    const length = this.lengthOf(number);
    const seed = seedOf(number);
    let done = 0;
    if (memory !== undefined && memory.words32.length > 0 && length >= BODY_AT) {
      const words = memory.words32, header = this.#header.words32, end = length >>> 2;
      words[0] = header[0]!;
      words[1] = header[1]!;
      words[2] = header[2]!;
      words[3] = header[3]! | number << 16;
      words[4] = number >>> 16 | wordOf(seed, 4) & 0xffff_0000;
      let value = wordOf(seed, 5);
      for (let k = 5; k < end; k++) {
        words[k] = value;
        value = value + STEP | 0;
      }
      done = 4 * end;
    }
    for (let i = done; i < length; i++) into[i] = this.#byte(number, seed, i);
    return length;
  }

  /** True for a frame of this kind: a shared link carries others too. */
  isOurs(bytes: Uint8Array, offset: number, length: number): boolean {
    return length >= MIN_TEST_FRAME_BYTES && bytes[offset + 12] === ETHERTYPE >> 8 &&
      bytes[offset + 13] === (ETHERTYPE & 0xff);
  }

  /**
   * Compares every byte with frame `number`. @param memory of `bytes`
   * @returns −1 when all are right, else the first wrong place (the length, when that is wrong)
   */
  mismatch(number: number, bytes: Uint8Array, offset: number, length: number, memory?: FrameMemory): number {
    if (length !== this.lengthOf(number)) return length;
    const seed = seedOf(number);
    let right = 0;
    if (memory !== undefined && memory.words32.length > 0 && offset % 4 === 0 && length >= BODY_AT) {
      if (this.#differ(number, seed, memory.words32, offset / 4, length >>> 2) === 0) right = length & ~3;
    }
    for (let i = right; i < length; i++) if (bytes[offset + i] !== this.#byte(number, seed, i)) return i;
    return -1;
  }

  /** Bits in which the first `count` words are not as they must be, all together. */
  #differ(number: number, seed: number, words: Uint32Array, at: number, count: number): number {
    const header = this.#header.words32;
    let differ = words[at]! ^ header[0]! | words[at + 1]! ^ header[1]! | words[at + 2]! ^ header[2]! |
      words[at + 3]! ^ (header[3]! | number << 16) |
      words[at + 4]! ^ (number >>> 16 | wordOf(seed, 4) & 0xffff_0000);
    let value = wordOf(seed, 5);
    for (let k = at + 5, end = at + count; k < end; k++) {
      differ |= words[k]! ^ value;
      value = value + STEP | 0;
    }
    return differ;
  }

  #byte(number: number, seed: number, i: number): number {
    if (i < NUMBER_AT) return this.#header.bytes[i]!;
    if (i < MIN_TEST_FRAME_BYTES) return number >>> 8 * (i - NUMBER_AT) & 0xff;
    return wordOf(seed, i >>> 2) >>> 8 * (i & 3) & 0xff;
  }
}

/** What all words of a frame's payload begin from: every bit of the number changes it from its lowest byte on. */
function seedOf(number: number): number {
  const mixed = Math.imul(number + 1, 0x9e3779b1);
  return Math.imul(mixed ^ mixed >>> 15, 0x2c1b3c6d);
}

function wordOf(seed: number, k: number): number {
  return seed + Math.imul(k, STEP) | 0;
}

/** Frames of one length that are written whole, and of which only length, kind and number are looked at: what is measured is the way between. */
export class MarkedFrames implements FrameStream {
  readonly #frame: FrameMemory;
  readonly #kind: TestFrames;

  /** As `TestFrames` of one length. @throws UsageError */
  constructor(to: Uint8Array, from: Uint8Array, lengthBytes: number) {
    this.#kind = new TestFrames(to, from, lengthBytes, lengthBytes);
    const frame = new Uint8Array(this.#kind.lengthOf(0));
    this.#kind.fill(0, frame);
    this.#frame = new FrameMemory(frame);
  }

  lengthOf(): number {
    return this.#frame.bytes.length;
  }

  fill(number: number, into: Uint8Array, memory?: FrameMemory): number {
    const { bytes, words32 } = this.#frame;
    if (memory !== undefined && memory.words32.length > 0 && bytes.length <= WORDS_BYTES) {
      const words = memory.words32;
      for (let word = 0; word < words32.length; word++) words[word] = words32[word]!;
      for (let i = bytes.length & ~3; i < bytes.length; i++) into[i] = bytes[i]!;
    } else into.set(bytes);
    for (let i = 0; i < 4; i++) into[NUMBER_AT + i] = number >>> 8 * i;
    return bytes.length;
  }

  isOurs(bytes: Uint8Array, offset: number, length: number): boolean {
    return this.#kind.isOurs(bytes, offset, length);
  }

  mismatch(number: number, bytes: Uint8Array, offset: number, length: number): number {
    if (length !== this.#frame.bytes.length) return length;
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
