/**
 * The same frames over UNIX stream sockets to another process and back: what they are measured beside.
 *
 * @module
 */
import type { UnixSocket } from "../ffi/mod.ts";
import { DeviceError, PeerGoneError } from "../lib/errors/mod.ts";
import { BURST, numberOf, putNumber, WINDOW } from "./frame_pair.ts";

/** Frames written here, passed on by the other process, and read here again: as a switch in that process would do it. */
export class SocketPair {
  readonly #there: UnixSocket;
  readonly #back: UnixSocket;
  readonly #out: Uint8Array<ArrayBuffer>;
  readonly #in: Uint8Array<ArrayBuffer>;
  readonly #returning: Uint8Array<ArrayBuffer>;
  readonly #home: Uint8Array<ArrayBuffer>;

  /** @param there, back connections on which a process echoes @param maxFrameBytes longest frame */
  constructor(there: UnixSocket, back: UnixSocket, maxFrameBytes: number) {
    this.#there = there;
    this.#back = back;
    this.#out = new Uint8Array(BURST * maxFrameBytes);
    this.#in = new Uint8Array((WINDOW + 1) * maxFrameBytes);
    this.#returning = new Uint8Array((WINDOW + 1) * maxFrameBytes);
    this.#home = new Uint8Array((WINDOW + 1) * maxFrameBytes);
  }

  /** Moves `count` frames through the other process, `framesAWrite` with each write; length and number are checked. */
  oneWay(template: Uint8Array, count: number, framesAWrite: number = BURST): void {
    const length = template.length;
    let sent = 0, received = 0, rest = 0;
    while (received < count) {
      sent = this.#send(template, sent, Math.min(count, received + WINDOW), framesAWrite);
      const bytes = receive(this.#there, this.#in, rest) + rest;
      const frames = Math.floor(bytes / length);
      for (let i = 0; i < frames; i++) check(this.#in, i * length, received++);
      rest = bytes - frames * length;
      this.#in.copyWithin(0, frames * length, bytes);
    }
  }

  /** The same, and each frame is copied and goes through the other process once more. */
  outAndBack(template: Uint8Array, count: number): void {
    const length = template.length;
    let sent = 0, turned = 0, received = 0, rest = 0, restBack = 0;
    while (received < count) {
      sent = this.#send(template, sent, Math.min(count, received + WINDOW), BURST);
      if (turned < sent) {
        const bytes = receive(this.#there, this.#in, rest) + rest;
        const frames = Math.floor(bytes / length);
        const out = this.#returning.subarray(0, frames * length);
        out.set(this.#in.subarray(0, frames * length));
        if (frames > 0) this.#back.send(out);
        turned += frames;
        rest = bytes - frames * length;
        this.#in.copyWithin(0, frames * length, bytes);
      }
      if (received < turned) {
        const bytes = receive(this.#back, this.#home, restBack) + restBack;
        const frames = Math.floor(bytes / length);
        for (let i = 0; i < frames; i++) check(this.#home, i * length, received++);
        restBack = bytes - frames * length;
        this.#home.copyWithin(0, frames * length, bytes);
      }
    }
  }

  #send(template: Uint8Array, from: number, limit: number, framesAWrite: number): number {
    const length = template.length;
    const end = Math.min(limit, from + BURST);
    let number = from;
    while (number < end) {
      let frames = 0;
      for (; frames < framesAWrite && number < end; frames++) {
        this.#out.set(template, frames * length);
        putNumber(this.#out, frames * length, number++);
      }
      this.#there.send(this.#out.subarray(0, frames * length));
    }
    return number;
  }
}

function receive(socket: UnixSocket, into: Uint8Array<ArrayBuffer>, at: number): number {
  const received = socket.receive(into.subarray(at), { wait: false });
  if (received === undefined) return 0;
  if (received.length === 0) throw new PeerGoneError(`${socket.fd.target}: the echoing process is gone`);
  return received.length;
}

function check(bytes: Uint8Array, at: number, expected: number): void {
  const number = numberOf(bytes, at);
  if (number !== expected) throw new DeviceError(`frame ${expected} was expected, ${number} came`);
}
