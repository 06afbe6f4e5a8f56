/**
 * Frames from one network function to another, by polling: the loops that are measured.
 *
 * @module
 */
import { FrameBurst, type VirtioNet } from "../drivers/net/virtio_net.ts";
import { DeviceError, TimeoutError } from "../lib/errors/mod.ts";
import { PATIENCE_MS } from "./bench_run.ts";

/** Frames a burst. */
export const BURST = 32;
/** Frames on their way at once: below what any receive queue holds, so that no device has a reason to drop one. */
export const WINDOW = 128;
const ETHERTYPE_AT = 12;
/** Where the frame's number is. */
const NUMBER_AT = 14;
/** IEEE 802 local experimental EtherType 1. */
const ETHERTYPE = 0x88b5;

/** An Ethernet frame of `lengthBytes` with a pattern as payload. */
export function templateFrame(
  to: Uint8Array,
  from: Uint8Array,
  lengthBytes: number,
): Uint8Array<ArrayBuffer> {
  const frame = Uint8Array.from({ length: lengthBytes }, (_, i) => (i * 31) & 0xff);
  frame.set(to, 0);
  frame.set(from, 6);
  frame[ETHERTYPE_AT] = ETHERTYPE >> 8;
  frame[ETHERTYPE_AT + 1] = ETHERTYPE & 0xff;
  return frame;
}

/** Writes a frame's number. */
export function putNumber(bytes: Uint8Array, at: number, number: number): void {
  bytes[at + NUMBER_AT] = number;
  bytes[at + NUMBER_AT + 1] = number >> 8;
  bytes[at + NUMBER_AT + 2] = number >> 16;
  bytes[at + NUMBER_AT + 3] = number >> 24;
}

/** Reads a frame's number. */
export function numberOf(bytes: Uint8Array, at: number): number {
  return (bytes[at + NUMBER_AT]! | bytes[at + NUMBER_AT + 1]! << 8 | bytes[at + NUMBER_AT + 2]! << 16 |
    bytes[at + NUMBER_AT + 3]! << 24) >>> 0;
}

/** One end: an opened function, or a queue pair of one. */
export type FrameEnd = Pick<VirtioNet, "mac" | "rx" | "tx"> & {
  readonly transport: { readonly name: string };
};

/** Two ends on one switch. `idle` is called when nothing arrived: where driver and device share a thread it drives the device. */
export class FramePair {
  readonly #first: FrameEnd;
  readonly #second: FrameEnd;
  readonly #idle: () => void;
  readonly #there = new FrameBurst(BURST);
  readonly #back = new FrameBurst(BURST);
  readonly #slots = new Uint16Array(BURST);
  readonly #lengths = new Uint32Array(BURST);

  /** Sends and receives by polling: interrupts are turned off. */
  constructor(first: FrameEnd, second: FrameEnd, idle: () => void = () => {}) {
    this.#first = first;
    this.#second = second;
    this.#idle = idle;
    for (const net of [first, second]) {
      net.rx[0]!.suppressInterrupts();
      net.tx[0]!.suppressInterrupts();
    }
  }

  /** A frame for this pair. */
  template(lengthBytes: number): Uint8Array<ArrayBuffer> {
    return templateFrame(this.#second.mac, this.#first.mac, lengthBytes);
  }

  /** Sends `count` frames one way; each is written whole, and its length and number are checked on arrival. */
  oneWay(template: Uint8Array, count: number): void {
    const rx = this.#second.rx[0]!, burst = this.#there;
    let sent = 0, received = 0;
    let quietSince = performance.now();
    while (received < count) {
      sent = this.#send(template, sent, Math.min(count, received + WINDOW));
      if (rx.receiveBurst(burst) > 0) {
        received = this.#check(this.#second, burst, received, template.length);
        rx.recycle(burst);
        quietSince = 0;
      } else quietSince = this.#quiet(quietSince, received);
    }
  }

  /** Sends `count` frames, copies each into a frame back, and checks what returns. */
  outAndBack(template: Uint8Array, count: number): void {
    const far = this.#second.rx[0]!, near = this.#first.rx[0]!;
    const there = this.#there, back = this.#back;
    let sent = 0, received = 0;
    let quietSince = performance.now();
    while (received < count) {
      sent = this.#send(template, sent, Math.min(count, received + WINDOW));
      let moved = far.receiveBurst(there);
      if (moved > 0) {
        this.#return(there);
        far.recycle(there);
      }
      if (near.receiveBurst(back) > 0) {
        received = this.#check(this.#first, back, received, template.length);
        near.recycle(back);
        moved++;
      }
      quietSince = moved > 0 ? 0 : this.#quiet(quietSince, received);
    }
  }

  #send(template: Uint8Array, from: number, limit: number): number {
    const tx = this.#first.tx[0]!, slots = this.#slots;
    const count = tx.reserveBurst(slots, Math.min(limit - from, BURST));
    for (let at = 0; at < count; at++) {
      const frame = tx.frame(slots[at]!);
      frame.set(template);
      putNumber(frame, 0, from + at);
      this.#lengths[at] = template.length;
    }
    return count === 0 ? from : from + tx.transmitBurst(slots, this.#lengths, count);
  }

  /** The copy is changed to go back: the addresses change places. */
  #return(burst: FrameBurst): void {
    const rx = this.#second.rx[0]!, tx = this.#second.tx[0]!, slots = this.#slots;
    if (tx.reserveBurst(slots, burst.frames) < burst.frames) {
      throw new DeviceError("no transmit slot for a frame that came in");
    }
    for (let i = 0; i < burst.frames; i++) {
      const frame = tx.frame(slots[i]!);
      this.#lengths[i] = rx.copyFrame(burst, i, frame);
      for (let at = 0; at < 6; at++) {
        const byte = frame[at]!;
        frame[at] = frame[at + 6]!;
        frame[at + 6] = byte;
      }
    }
    tx.transmitBurst(slots, this.#lengths, burst.frames);
  }

  #check(net: FrameEnd, burst: FrameBurst, expected: number, lengthBytes: number): number {
    const { views } = net.rx[0]!;
    for (let i = 0; i < burst.frames; i++) {
      const part = burst.first[i]!;
      const number = numberOf(views[burst.slots[part]!]!, burst.offsets[part]!);
      if (number !== expected || burst.lengths[part] !== lengthBytes) {
        throw new DeviceError(
          `frame ${expected} was expected; number ${number} with ${burst.lengths[part]} bytes came`,
          { function: net.transport.name },
        );
      }
      expected++;
    }
    return expected;
  }

  /** @returns since when nothing came; the clock is only read while nothing comes */
  #quiet(since: number, received: number): number {
    this.#idle();
    const now = performance.now();
    if (since === 0) return now;
    if (now - since < PATIENCE_MS) return since;
    throw new TimeoutError(`no frame came for ${PATIENCE_MS / 1000} s, after ${received}`);
  }
}
