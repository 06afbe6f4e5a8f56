/**
 * What two processes move bytes by: a channel in shared memory, a UNIX socket, a pipe. Both sides block; nothing here is asynchronous.
 *
 * @module
 */
import type { IsmChannel } from "../drivers/ism/ism_channel.ts";
import { type OwnedFd, read, type UnixSocket, writeAll } from "../ffi/mod.ts";
import { PeerGoneError, TimeoutError } from "../lib/errors/mod.ts";
import { PATIENCE_MS } from "./bench_run.ts";

/** One of them. */
export interface Medium {
  /** Sends all. */
  send(bytes: Uint8Array<ArrayBuffer>): void;
  /** Waits for something, and takes what is there. @returns bytes, at least 1 @throws PeerGoneError */
  receive(into: Uint8Array<ArrayBuffer>): number;
}

/** Bytes that a receiver has room for. */
export const RECEIVE_BYTES = 256 * 1024;

/** The peer that waits for its next task does so on its control connection, not here. */

/** Waits as the channel was told to. */
export class ChannelMedium implements Medium {
  readonly #channel: IsmChannel;

  constructor(channel: IsmChannel) {
    this.#channel = channel;
  }
  send(bytes: Uint8Array<ArrayBuffer>): void {
    let at = this.#channel.write(bytes);
    while (at < bytes.length) {
      check(this.#channel.waitWritableBlocking(PATIENCE_MS));
      at += this.#channel.write(bytes, at);
    }
  }
  receive(into: Uint8Array<ArrayBuffer>): number {
    for (;;) {
      const count = this.#channel.read(into);
      if (count > 0) return count;
      if (this.#channel.ended) throw new PeerGoneError("the other process has closed the channel");
      check(this.#channel.waitReadableBlocking(PATIENCE_MS));
    }
  }
}

function check(woken: boolean): void {
  if (!woken) throw new TimeoutError(`nothing moved through the channel in ${PATIENCE_MS / 1000} s`);
}

/** Sleeps in the kernel, or asks it again and again. */
export class SocketMedium implements Medium {
  readonly #socket: UnixSocket;
  readonly #wait: boolean;

  constructor(socket: UnixSocket, wait: boolean) {
    this.#socket = socket;
    this.#wait = wait;
  }
  send(bytes: Uint8Array<ArrayBuffer>): void {
    this.#socket.send(bytes);
  }
  receive(into: Uint8Array<ArrayBuffer>): number {
    for (;;) {
      const received = this.#socket.receive(into, { wait: this.#wait });
      if (received === undefined) continue;
      if (received.length === 0) throw new PeerGoneError("the other process has closed the socket");
      return received.length;
    }
  }
}

/** Two named pipes. */
export class PipeMedium implements Medium {
  readonly #out: OwnedFd;
  readonly #in: OwnedFd;

  constructor(out: OwnedFd, incoming: OwnedFd) {
    this.#out = out;
    this.#in = incoming;
  }
  send(bytes: Uint8Array<ArrayBuffer>): void {
    writeAll(this.#out, bytes);
  }
  receive(into: Uint8Array<ArrayBuffer>): number {
    return read(this.#in, into);
  }
}

/** Names of the media, in the order in which the other process knows them. */
export const MEDIA = ["channel, polled", "channel, asleep", "socket", "socket, polled", "pipe"] as const;

/** What the other process is asked to do: `sink` takes `bytes` bytes, `echo` sends each of `count` messages of `bytes` bytes back. */
export interface Task {
  readonly work: "sink" | "echo";
  /** Index of `MEDIA`. */
  readonly medium: number;
  readonly bytes: number;
  readonly count: number;
}

/** Bytes of a task on the control connection. */
export const TASK_BYTES = 32;

/** As it goes over the control connection. */
export function encodeTask({ work, medium, bytes, count }: Task): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Float64Array.of(work === "sink" ? 0 : 1, medium, bytes, count).buffer);
}

/** The opposite. */
export function decodeTask(bytes: Uint8Array): Task {
  const [work, medium, size, count] = new Float64Array(bytes.slice(0, TASK_BYTES).buffer);
  return { work: work === 0 ? "sink" : "echo", medium: medium!, bytes: size!, count: count! };
}

/** Long enough for a side that finds nothing to fall asleep. */
export const PAUSE_US = 300;

/**
 * Works for `PAUSE_US`. Both sides of a round trip do so before they send: without it, whether anybody sleeps is the scheduler's whim, and the same
 * code gave 15 µs in one run and 70 in the next.
 */
export function pause(): void {
  for (const end = performance.now() + PAUSE_US / 1000; performance.now() < end;);
}

/** Takes exactly so many bytes. */
export function receiveAll(medium: Medium, into: Uint8Array<ArrayBuffer>, bytes: number): void {
  for (let got = 0; got < bytes;) got += medium.receive(into.subarray(0, Math.min(into.length, bytes - got)));
}
