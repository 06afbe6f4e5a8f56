/**
 * Frames of one transmit queue that are on their way together, each in one buffer of its sender's memory.
 *
 * @module
 */
import { ETHERNET_HEADER_BYTES, NET_HDR_BYTES } from "../../../virtio/spec/net.ts";
import { Burst } from "../queue/burst.ts";
import { FLOW_BYTES, flowOf } from "./flow.ts";

/** What frames that go together have in common: found by `run`, valid until the next. All have the whole virtio header, with nothing asked in it. */
export class FrameBurst {
  /** The buffers: virtio header, then the frame. */
  readonly burst: Burst;
  /** Bytes of the virtio header. */
  headerBytes: number = NET_HDR_BYTES;
  /** First two bytes of the destination address. */
  destinationHigh = 0;
  /** Last four bytes of the destination address. */
  destinationLow = 0;
  /** Bytes of the longest frame, without virtio header. */
  longestBytes = 0;
  /** By frame, as far as they are known. */
  readonly #flows: Uint32Array<ArrayBuffer>;
  #flowsKnown = 0;

  /** None yet. */
  constructor(capacity: number) {
    this.burst = new Burst(capacity);
    this.#flows = new Uint32Array(capacity);
  }

  /** The buffers are others. */
  loaded(): void {
    this.#flowsKnown = 0;
  }

  /**
   * Counts the frames from `from` to `end` that have one destination, and nothing that a sender must not send.
   * @param mostBytes of a frame, without virtio header @returns how many; 0: the first is to be looked at by itself
   */
  run(from: number, end: number, mostBytes: number): number {
    const { regions, offsets, lengths } = this.burst;
    const { headerBytes } = this;
    const least = headerBytes + ETHERNET_HEADER_BYTES, most = headerBytes + mostBytes;
    // Word by word where the addresses are whole words.
    const aligned = headerBytes % 4 === 0;
    let longest = 0;
    let first = 0, second = 0;
    let i = from;
    for (; i < end; i++) {
      const length = lengths[i]!;
      if (length < least || length > most) break;
      const region = regions[i]!;
      const at = offsets[i]!;
      let header: number, high: number, low: number;
      if (aligned && at % 4 === 0) {
        const { words32 } = region;
        const word = at / 4, frame = word + headerBytes / 4;
        header = words32[word]!;
        high = words32[frame]!;
        low = words32[frame + 1]!;
      } else {
        const { bytes } = region;
        const frame = at + headerBytes;
        header = bytes[at]! | bytes[at + 1]! << 8;
        high =
          (bytes[frame]! | bytes[frame + 1]! << 8 | bytes[frame + 2]! << 16 | bytes[frame + 3]! << 24) >>>
          0;
        low = bytes[frame + 4]! | bytes[frame + 5]! << 8;
      }
      // flags and gso_type.
      if ((header & 0xffff) !== 0) break;
      low &= 0xffff;
      if (i === from) {
        first = high;
        second = low;
      } else if (high !== first || low !== second) break;
      if (length > longest) longest = length;
    }
    if (i === from) return 0;
    // Bytes in the order of memory, to numbers in network order.
    this.destinationHigh = (first & 0xff) << 8 | first >>> 8 & 0xff;
    this.destinationLow =
      ((first >>> 16 & 0xff) << 24 | first >>> 24 << 16 | (second & 0xff) << 8 | second >>> 8) >>>
      0;
    this.longestBytes = longest - headerBytes;
    return i - from;
  }

  /** Flow of a frame; see `flowOf`. Both ports ask for it. */
  flow(i: number): number {
    while (this.#flowsKnown <= i) this.#flows[this.#flowsKnown] = this.#find(this.#flowsKnown++);
    return this.#flows[i]!;
  }

  #find(i: number): number {
    const { regions, offsets, lengths } = this.burst;
    const at = offsets[i]! + this.headerBytes;
    const length = lengths[i]! - this.headerBytes;
    return flowOf(regions[i]!.bytes, at, at + (length < FLOW_BYTES ? length : FLOW_BYTES));
  }

  /** Bytes of `count` frames, without virtio headers. */
  bytes(from: number, count: number): number {
    const { lengths } = this.burst;
    let bytes = -count * this.headerBytes;
    for (let i = from; i < from + count; i++) bytes += lengths[i]!;
    return bytes;
  }
}
