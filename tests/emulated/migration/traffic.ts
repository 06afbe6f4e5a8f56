/**
 * Traffic whose every byte counts: numbered frames, hashed in order at both ends.
 *
 * @module
 */
import { FrameBurst, type VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { Random } from "../../random.ts";

/** Counts and hash of one end. */
export interface Tally {
  frames: number;
  bytes: number;
  /** FNV-1a over lengths and bytes, in order. */
  hash: number;
}

function tally(): Tally {
  return { frames: 0, bytes: 0, hash: 0x811c9dc5 };
}

function count(into: Tally, frame: Uint8Array, from: number, length: number): void {
  let { hash } = into;
  hash = Math.imul(hash ^ length, 0x01000193);
  for (let at = from; at < from + length; at++) hash = Math.imul(hash ^ frame[at]!, 0x01000193);
  into.hash = hash;
  into.frames++;
  into.bytes += length;
}

/** Frames from one address to another; the devices behind may be others from call to call. */
export class Traffic {
  readonly sent: Tally = tally();
  readonly received: Tally = tally();
  readonly #random: Random;
  readonly #header: Uint8Array;
  readonly #burst = new FrameBurst(16, 512);
  readonly #frame = new Uint8Array(2048);

  /** @param to destination address @param from source address */
  constructor(to: Uint8Array, from: Uint8Array, seed: number) {
    this.#random = new Random(seed);
    this.#header = Uint8Array.of(...to, ...from, 0x88, 0xb5);
  }

  /** Sends up to `most` frames of 60 to 460 bytes, as many as there are slots. @returns how many */
  send(net: VirtioNet, most: number, pair = 0): number {
    const tx = net.tx[pair]!;
    let done = 0;
    for (; done < most; done++) {
      const slot = tx.reserve();
      if (slot < 0) break;
      const bytes = tx.frame(slot);
      const length = 60 + this.#random.below(400);
      bytes.set(this.#header);
      new DataView(bytes.buffer, bytes.byteOffset).setUint32(14, this.sent.frames);
      for (let at = 18; at < length; at++) bytes[at] = (this.sent.frames * 31 + at) & 0xff;
      count(this.sent, bytes, 0, length);
      tx.send(slot, length);
    }
    tx.flush();
    return done;
  }

  /** Takes what is there, at most `most` frames; they must come in order. @returns how many */
  receive(net: VirtioNet, most: number = Infinity): number {
    let done = 0;
    for (const rx of net.rx) {
      while (done < most) {
        const got = rx.receiveBurst(this.#burst);
        for (let at = 0; at < got; at++) {
          const length = rx.copyFrame(this.#burst, at, this.#frame);
          const number = new DataView(this.#frame.buffer).getUint32(14);
          if (number !== this.received.frames) {
            throw new UsageError(`frame ${number} came where frame ${this.received.frames} was expected`);
          }
          count(this.received, this.#frame, 0, length);
        }
        rx.recycle(this.#burst);
        done += got;
        if (got === 0) break;
      }
    }
    return done;
  }

  /** Sends at least `frames` and receives them all, as many as may be on the way at a time: an embedded switch drops what it cannot deliver. */
  async exchange(from: VirtioNet, to: VirtioNet, frames: number, timeoutMs = 30_000): Promise<this> {
    const deadline = performance.now() + timeoutMs;
    while (this.sent.frames < frames) {
      if (performance.now() >= deadline) {
        throw new UsageError(`${this.received.frames} of ${this.sent.frames} frames arrived`);
      }
      if (this.sent.frames - this.received.frames < 32) this.send(from, 16);
      if (this.receive(to) === 0) await to.waitReceive(5);
    }
    await this.drain(to);
    return this;
  }

  /** Receives until everything that was sent is there. */
  async drain(net: VirtioNet, timeoutMs = 10_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (this.received.frames < this.sent.frames) {
      if (this.receive(net) > 0) continue;
      if (performance.now() >= deadline) {
        throw new UsageError(`${this.received.frames} of ${this.sent.frames} frames arrived`);
      }
      await net.waitReceive(50);
    }
  }
}
