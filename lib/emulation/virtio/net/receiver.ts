/**
 * Puts a frame into the buffers of a receive queue (virtio 1.2 §5.1.6.3, §5.1.6.4).
 *
 * @module
 */
import { NET_HDR, NET_HDR_BYTES } from "../../../virtio/spec/net.ts";
import type { DmaRegion } from "../../../sockets/dma_table.ts";
import { Chain } from "../queue/chain.ts";
import { Burst } from "../queue/burst.ts";
import { copyBytes, copyChain } from "../queue/chain_copy.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { LegacyFraming } from "../queue/legacy_framing.ts";
import type { NetFrame } from "./frame.ts";
import type { FrameBurst } from "./frame_burst.ts";
import { DELIVERY } from "./switch_port.ts";

const NUM_BUFFERS_AT = NET_HDR.fields.num_buffers.offset;
/** A virtio header up to `num_buffers`. */
const NO_OFFLOADS = new Uint8Array(NUM_BUFFERS_AT);
/** Last word of a virtio header that says: one buffer. */
const ONE_BUFFER = 1 << 16;
const HEADER_WORDS = NET_HDR_BYTES / 4;
/** Frames up to here, with their header, are copied word by word: see `copyMemory`. */
const SHORT_BYTES = 96 + NET_HDR_BYTES;
/** Frames that go into a queue together. */
export const FRAMES_TOGETHER = 64;

/** What one device needs to fill receive buffers, made once. */
export class NetReceiver {
  /** After `noRoom`: buffers that were there, and too few. */
  buffersFound = 0;
  /** After `notReceiving`: what was wrong with a buffer; undefined when the queue itself is broken. */
  problem: string | undefined = undefined;
  readonly #buffer: Chain;
  /** By lane: a queue that takes part in a burst. */
  readonly #lanes: Burst[] = [];
  readonly #heads: Uint16Array;
  readonly #lengths: Uint32Array;

  /** For one device. @param queueSize entries of the largest receive queue */
  constructor(queueSize: number) {
    this.#buffer = new Chain(queueSize);
    this.#heads = new Uint16Array(queueSize);
    this.#lengths = new Uint32Array(queueSize);
  }

  /**
   * Copies header and frame, from the sender's memory to the receiver's, and pushes the buffers, unpublished. When there are too few they
   * all stay in the queue.
   * @param mergeable MRG_RXBUF was negotiated: a frame may take several buffers
   * @param headerBytes of the receiver's virtio header, which may be another than the sender's; one without `num_buffers` has 10
   * @param framing judges the buffers that begin a frame
   * @returns one of `DELIVERY`
   */
  deliver(
    queue: DeviceQueue,
    frame: NetFrame,
    mergeable: boolean,
    headerBytes: number,
    framing: LegacyFraming,
  ): number {
    const buffer = this.#buffer;
    const total = frame.lengthBytes;
    let copied = 0, count = 0;
    let lowRegion: DmaRegion | null = null, highRegion: DmaRegion | null = null;
    let lowAt = 0, highAt = 0;
    const counted = headerBytes > NUM_BUFFERS_AT;
    this.problem = undefined;
    do {
      const id = queue.pop(buffer);
      if (id < 0) {
        if (queue.broken) return DELIVERY.notReceiving;
        this.buffersFound = count;
        for (; count > 0; count--) queue.unpop();
        return DELIVERY.noRoom;
      }
      if (!this.#check(buffer, headerBytes)) return DELIVERY.notReceiving;
      const skip = count === 0 ? headerBytes : 0;
      const room = buffer.writableBytes - skip;
      if (!mergeable && room < total) {
        queue.unpop();
        return DELIVERY.tooLong;
      }
      const part = room < total - copied ? room : total - copied;
      if (count === 0) {
        framing.receive(buffer, queue.index, headerBytes);
        buffer.write(NO_OFFLOADS);
      }
      if (count === 0 && counted) {
        // num_buffers is known at the end only, when the chain holds another buffer: remember where its two bytes are.
        buffer.locate(NUM_BUFFERS_AT);
        lowRegion = buffer.foundRegion;
        lowAt = buffer.foundOffset;
        buffer.locate(NUM_BUFFERS_AT + 1);
        highRegion = buffer.foundRegion;
        highAt = buffer.foundOffset;
      }
      copyChain(frame.chain, frame.headerBytes + copied, buffer, skip, part);
      this.#heads[count] = id;
      this.#lengths[count] = part + skip;
      copied += part;
      count++;
    } while (copied < total);

    if (counted) {
      lowRegion!.bytes[lowAt] = count;
      highRegion!.bytes[highAt] = count >> 8;
    }
    for (let i = 0; i < count; i++) queue.pushUsed(this.#heads[i]!, this.#lengths[i]!);
    return DELIVERY.delivered;
  }

  /** Takes up to `count` buffers of a queue, for `fill`: those of each lane from the first on. @returns how many */
  take(queue: DeviceQueue, lane: number, count: number): number {
    return queue.popBurst(this.#lanes[lane] ??= new Burst(FRAMES_TOGETHER), count, true);
  }

  /**
   * Copies frames into buffers of a lane, from `at` on, as far as each holds its frame whole.
   * @param frames of a sender that has this receiver's virtio header @returns how many
   */
  fill(lane: number, at: number, frames: FrameBurst, from: number, count: number): number {
    const buffers = this.#lanes[lane]!, source = frames.burst;
    const { headerBytes } = frames;
    for (let done = 0; done < count; done++) {
      const total = source.lengths[from + done]!, place = at + done;
      if (buffers.lengths[place]! < total) return done;
      const region = buffers.regions[place]!, offset = buffers.offsets[place]!;
      const origin = source.regions[from + done]!, start = source.offsets[from + done]!;
      const byWords = (offset | start) % 4 === 0 && headerBytes === NET_HDR_BYTES;
      if (byWords) {
        const { words32 } = region;
        const word = offset / 4;
        words32[word] = 0;
        words32[word + 1] = 0;
        words32[word + 2] = ONE_BUFFER;
      } else {
        const { bytes } = region;
        for (let i = 0; i < headerBytes; i++) bytes[offset + i] = i === NUM_BUFFERS_AT ? 1 : 0;
      }
      if (byWords && total <= SHORT_BYTES && origin.far === null) {
        // Here, since the engine does not put `copyBytes` into this loop: a tenth of a short frame's whole way.
        const words = origin.words32, into = region.words32;
        let word = start / 4 + HEADER_WORDS, to = offset / 4 + HEADER_WORDS;
        for (const end = (start + total) >> 2; word < end;) into[to++] = words[word++]!;
        const { bytes } = region;
        for (let at = total & ~3; at < total; at++) bytes[offset + at] = origin.bytes[start + at]!;
      } else copyBytes(origin, start + headerBytes, region, offset + headerBytes, total - headerBytes);
      buffers.written[place] = total;
    }
    return count;
  }

  /** Pushes the first `filled` buffers that a lane took, and gives the others back: with the next frame `deliver` says what is the matter. */
  give(queue: DeviceQueue, lane: number, taken: number, filled: number): void {
    for (let left = taken; left > filled; left--) queue.unpop();
    if (filled > 0) queue.pushBurst(this.#lanes[lane]!, filled);
  }

  #check(buffer: Chain, headerBytes: number): boolean {
    if (buffer.readableCount > 0) this.problem = "a receive buffer is device-readable";
    else if (buffer.writableBytes < headerBytes) {
      this.problem = `a receive buffer of ${buffer.writableBytes} bytes has no room for virtio_net_hdr`;
    } else return true;
    return false;
  }
}
