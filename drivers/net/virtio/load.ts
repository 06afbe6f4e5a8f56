/**
 * Loads for network functions: frames sent for as long as the device takes them, and frames sent to another function and back.
 *
 * @module
 */
import { UsageError } from "../../../lib/errors/mod.ts";
import { Latencies } from "../../latencies.ts";
import type { Load } from "../../load.ts";
import { FrameBurst, type VirtioNet } from "../virtio_net.ts";
import type { TransmitQueue } from "./transmit.ts";

/** What to send. */
export interface NetLoadOptions {
  /** Frames that are sent at once, on each queue pair. Two bursts are on their way at a time: one that the device has, and one that is made ready. */
  readonly burst: number;
  /** Bytes of each frame, Ethernet header included, checksum at the end not. */
  readonly frameBytes: number;
}

const HEADER_BYTES = 14;
const TYPE_AT = 12;
/** IEEE 802 local experimental EtherType 1. */
const ETHERTYPE = 0x88b5;
/** Behind the header: when it was sent, in nanoseconds modulo 2^32, and the number of the queue pair. */
const TIME_AT = 14;
const PAIR_AT = 18;
const LEAST_BYTES = 60;
const AT_ONCE = 64;
/** A frame that has not come after so long is lost. */
const LOST_MS = 1000;
const WAYS = 2;

/** Sends from one function; what comes is taken and counted. A frame is done when the device gives its buffer back. */
export class TransmitLoad implements Load {
  readonly latencies: Latencies = new Latencies();
  /** Frames that came. */
  received = 0;
  readonly #net: VirtioNet;
  readonly #senders: readonly Sender[];
  readonly #burst: FrameBurst = new FrameBurst(AT_ONCE);

  /** @param to 6 bytes: where frames are addressed to @throws UsageError for a burst or length that cannot be */
  constructor(net: VirtioNet, to: Uint8Array, options: NetLoadOptions) {
    this.#net = net;
    this.#senders = net.tx.map((tx) => new Sender(net, tx, to, options));
  }

  begin(): void {
    quiet(this.#net);
    this.turn();
  }

  turn(): number {
    let done = 0;
    for (const sender of this.#senders) {
      done += sender.reclaim(this.latencies);
      if (sender.inFlight <= sender.burst) sender.sendBurst();
    }
    this.#receive();
    return done;
  }

  wait(timeoutMs: number): void {
    this.#net.waitTransmitBlocking(timeoutMs);
  }

  end(): number {
    let left = 0;
    for (const sender of this.#senders) {
      sender.reclaim(this.latencies);
      left += sender.inFlight;
    }
    this.#receive();
    return left;
  }

  #receive(): void {
    const burst = this.#burst;
    for (const rx of this.#net.rx) {
      if (rx.receiveBurst(burst) === 0) continue;
      this.received += burst.frames;
      rx.recycle(burst);
    }
  }
}

/** Sends from one function to another, which sends a frame of the same length back for each that comes. A frame is done when it is home. */
export class EchoLoad implements Load {
  readonly latencies: Latencies = new Latencies();
  /** Frames that did not come home. */
  lost = 0;
  readonly #near: VirtioNet;
  readonly #far: VirtioNet;
  readonly #out: readonly Sender[];
  readonly #back: readonly Sender[];
  /** By queue pair of the near function: frames that are not home. */
  readonly #away: Uint32Array<ArrayBuffer>;
  /** Frames that the far function has sent back and that are not home. */
  #returning = 0;
  readonly #burst: FrameBurst = new FrameBurst(AT_ONCE);
  readonly #nearFrames: readonly (readonly DataView[])[];
  readonly #farFrames: readonly (readonly DataView[])[];
  #seenMs = 0;

  /** @throws UsageError for a burst or length that cannot be */
  constructor(near: VirtioNet, far: VirtioNet, options: NetLoadOptions) {
    this.#near = near;
    this.#far = far;
    this.#out = near.tx.map((tx) => new Sender(near, tx, far.mac, options));
    this.#back = far.tx.map((tx) => new Sender(far, tx, near.mac, options));
    this.#away = new Uint32Array(this.#out.length);
    this.#nearFrames = near.rx.map(({ views }) => views.map(viewOf));
    this.#farFrames = far.rx.map(({ views }) => views.map(viewOf));
  }

  begin(): void {
    quiet(this.#near);
    quiet(this.#far);
    this.#seenMs = performance.now();
    this.turn();
  }

  turn(): number {
    for (let pair = 0; pair < this.#out.length; pair++) {
      const sender = this.#out[pair]!;
      if (this.#away[pair]! <= sender.burst) this.#away[pair]! += sender.sendBurst(pair);
    }
    return this.#move();
  }

  /** Frames on their way back come for certain, so these are waited for first. */
  wait(timeoutMs: number): void {
    (this.#returning > 0 ? this.#near : this.#far).waitReceiveBlocking(timeoutMs);
  }

  end(): number {
    this.#move();
    let left = 0;
    for (const away of this.#away) left += away;
    return left;
  }

  #move(): number {
    this.#turnRound();
    const home = this.#takeHome();
    const now = performance.now();
    if (home > 0) this.#seenMs = now;
    else if (now - this.#seenMs > LOST_MS) {
      for (const away of this.#away) this.lost += away;
      this.#away.fill(0);
      this.#returning = 0;
      this.#seenMs = now;
    }
    return home;
  }

  #turnRound(): void {
    const burst = this.#burst;
    for (let number = 0; number < this.#far.rx.length; number++) {
      const rx = this.#far.rx[number]!;
      if (rx.receiveBurst(burst) === 0) continue;
      const back = this.#back[number]!;
      const frames = this.#farFrames[number]!;
      back.begin(burst.frames);
      for (let i = 0; i < burst.frames; i++) {
        const part = burst.first[i]!;
        const at = burst.offsets[part]!;
        const view = frames[burst.slots[part]!]!;
        if (isOurs(view, at, burst.lengths[part]!)) {
          back.answer(view.getUint32(at + TIME_AT), view.getUint8(at + PAIR_AT));
        }
      }
      this.#returning += back.end();
      rx.recycle(burst);
    }
  }

  #takeHome(): number {
    const burst = this.#burst;
    let home = 0;
    for (let number = 0; number < this.#near.rx.length; number++) {
      const rx = this.#near.rx[number]!;
      if (rx.receiveBurst(burst) === 0) continue;
      const nowNs = stampNow();
      const frames = this.#nearFrames[number]!;
      for (let i = 0; i < burst.frames; i++) {
        const part = burst.first[i]!;
        const at = burst.offsets[part]!;
        const view = frames[burst.slots[part]!]!;
        if (!isOurs(view, at, burst.lengths[part]!)) continue;
        const pair = view.getUint8(at + PAIR_AT);
        // One that was given up may come after all.
        if (pair >= this.#away.length || this.#away[pair] === 0) continue;
        this.#away[pair]!--;
        if (this.#returning > 0) this.#returning--;
        this.latencies.add(((nowNs - view.getUint32(at + TIME_AT)) >>> 0) / 1e6);
        home++;
      }
      rx.recycle(burst);
    }
    return home;
  }
}

/** One transmit queue whose buffers hold frames that are ready but for their stamp. */
class Sender {
  readonly burst: number;
  readonly #tx: TransmitQueue;
  /** By slot. */
  readonly #frames: readonly DataView[];
  readonly #slots: Uint16Array<ArrayBuffer>;
  readonly #lengths: Uint32Array<ArrayBuffer>;
  /** When each burst that is in flight was sent, and how much of it is; oldest first. */
  readonly #sentMs = new Float64Array(WAYS);
  readonly #left = new Uint32Array(WAYS);
  #oldest = 0;
  // Answers: slots that are reserved for them, how many those are, and how many of them are used.
  readonly #answers = new Uint16Array(AT_ONCE);
  readonly #answerLengths: Uint32Array<ArrayBuffer>;
  #ready = 0;
  #answered = 0;

  constructor(net: VirtioNet, tx: TransmitQueue, to: Uint8Array, { burst, frameBytes }: NetLoadOptions) {
    const { name } = net.transport;
    const most = Math.floor(tx.slotCount / WAYS);
    if (!(Number.isInteger(burst) && burst >= 1 && burst <= most)) {
      throw new UsageError(`${name}: bursts of ${burst} frames`, { hint: `1 to ${most}` });
    }
    if (!(Number.isInteger(frameBytes) && frameBytes >= LEAST_BYTES && frameBytes <= net.maxFrameBytes)) {
      throw new UsageError(`${name}: frames of ${frameBytes} bytes`, {
        hint: `${LEAST_BYTES} to ${net.maxFrameBytes}`,
      });
    }
    this.burst = burst;
    this.#tx = tx;
    this.#slots = new Uint16Array(burst);
    this.#lengths = new Uint32Array(burst).fill(frameBytes);
    this.#answerLengths = new Uint32Array(AT_ONCE).fill(frameBytes);
    const frames: DataView[] = [];
    const reserved: number[] = [];
    for (let slot = tx.reserve(); slot >= 0; slot = tx.reserve()) {
      const frame = tx.frame(slot);
      frame.fill(slot, HEADER_BYTES, frameBytes);
      frame.set(to, 0);
      frame.set(net.mac, 6);
      const view = viewOf(frame);
      view.setUint16(TYPE_AT, ETHERTYPE);
      frames[slot] = view;
      reserved.push(slot);
    }
    for (const slot of reserved) tx.cancel(slot);
    this.#frames = frames;
  }

  /** Frames of bursts that the device has. */
  get inFlight(): number {
    return this.#left[0]! + this.#left[1]!;
  }

  /** Sends a burst, or what there are buffers for. @returns frames */
  sendBurst(pair = 0): number {
    const slots = this.#slots;
    const stamp = stampNow();
    const count = this.#tx.reserveBurst(slots, this.burst);
    if (count === 0) return 0;
    for (let at = 0; at < count; at++) this.#stamp(slots[at]!, stamp, pair);
    this.#tx.transmitBurst(slots, this.#lengths, count);
    const at = this.#left[this.#oldest] === 0 ? this.#oldest : 1 - this.#oldest;
    this.#left[at] = count;
    this.#sentMs[at] = performance.now();
    return count;
  }

  /** Takes buffers back, of the oldest burst first. @returns frames */
  reclaim(latencies: Latencies): number {
    const count = this.#tx.reclaim();
    if (count === 0) return 0;
    const now = performance.now();
    for (let rest = count; rest > 0;) {
      const oldest = this.#oldest;
      const part = Math.min(rest, this.#left[oldest]!);
      if (part === 0) break;
      latencies.add(now - this.#sentMs[oldest]!, part);
      this.#left[oldest]! -= part;
      if (this.#left[oldest] === 0) this.#oldest = 1 - oldest;
      rest -= part;
    }
    return count;
  }

  #stamp(slot: number, stamp: number, pair: number): void {
    const frame = this.#frames[slot]!;
    frame.setUint32(TIME_AT, stamp);
    frame.setUint8(PAIR_AT, pair);
  }

  /** Up to `count` answers follow, as far as there are buffers. */
  begin(count: number): void {
    this.#ready = this.#tx.reserveBurst(this.#answers, count);
    this.#answered = 0;
  }

  /** One frame with a stamp of another's. */
  answer(stamp: number, pair: number): void {
    if (this.#answered < this.#ready) this.#stamp(this.#answers[this.#answered++]!, stamp, pair);
  }

  /** Sends the answers. @returns how many */
  end(): number {
    const tx = this.#tx, slots = this.#answers, count = this.#answered;
    for (let at = count; at < this.#ready; at++) tx.cancel(slots[at]!);
    return count === 0 ? 0 : tx.transmitBurst(slots, this.#answerLengths, count);
  }
}

function quiet({ rx, tx }: VirtioNet): void {
  for (const queue of [...rx, ...tx]) queue.suppressInterrupts();
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function isOurs(view: DataView, at: number, length: number): boolean {
  return length >= LEAST_BYTES && view.getUint16(at + TYPE_AT) === ETHERTYPE;
}

/** Nanoseconds modulo 2^32: differences up to four seconds are right. */
function stampNow(): number {
  return Math.floor(performance.now() * 1e6) % 4294967296;
}
