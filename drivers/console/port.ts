/**
 * One port of a console.
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { ClosedError, TimeoutError, UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import { CONSOLE_EVENT, CONSOLE_RESIZE } from "../../lib/virtio/spec/console.ts";
import type { Waiter, WaitTarget } from "../../lib/wait/waiter.ts";
import { newBytes, stillThere } from "../caller_bytes.ts";
import type { ConsoleSize } from "./config.ts";
import type { ControlMessage, ControlQueues } from "./control.ts";
import { orHandled } from "./message_target.ts";
import type { PortBuffers } from "./port_buffers.ts";

const READ_BYTES = 65536;
const decoder = new TextDecoder();

/** What happened to a port. */
export type PortChange =
  | "added"
  | "removed"
  | "peer-opened"
  | "peer-closed"
  | "named"
  | "resized"
  | "console";

/** What a port needs of its console. */
export interface PortHolder {
  /** Function, for messages. */
  readonly name: string;
  readonly waiter: Waiter;
  /** Undefined without MULTIPORT. */
  readonly control: ControlQueues | undefined;
  /** Takes control messages. */
  service(): void;
  /** How many it has taken. */
  readonly handled: number;
  /** Throws when the device has stopped. */
  checkAlive(): void;
}

/**
 * A port: bytes in and out. With MULTIPORT both ends open and close it; a port that was never opened here receives nothing. Control messages
 * are looked at while something is waited for.
 *
 * Errors: `UsageError` (not open), `DeviceError` when the device lies, `TimeoutError`, `ClosedError` when the port was pulled out or the console
 * closed or reset.
 */
export class ConsolePort {
  static {
    typedErrors(this);
  }

  /** Number. */
  readonly index: number;
  readonly #holder: PortHolder;
  readonly #buffers: PortBuffers;
  readonly #incoming: WaitTarget;
  readonly #outgoing: WaitTarget;
  #name = "";
  #console = false;
  #size: ConsoleSize | undefined;
  #opened: boolean;
  #peerOpen: boolean;
  /** The peer was there, and has closed. */
  #hungUp = false;
  #removed = false;
  #reading: Promise<unknown> = Promise.resolve();
  #writing: Promise<unknown> = Promise.resolve();

  /** Made by its console. */
  constructor(index: number, holder: PortHolder, buffers: PortBuffers) {
    this.index = index;
    this.#holder = holder;
    this.#buffers = buffers;
    this.#opened = holder.control === undefined;
    this.#peerOpen = holder.control === undefined;
    this.#incoming = this.#target(buffers.receiveQueue, () => buffers.readable);
    this.#outgoing = this.#target(buffers.transmitQueue, () => buffers.transmitQueue.hasUsed());
  }

  /** As the device calls it; empty when it does not. */
  get name(): string {
    return this.#name;
  }

  /** The device said that it is for a person at a terminal. */
  get isConsole(): boolean {
    return this.#console;
  }

  /** Size in characters; undefined when it is not known. */
  get size(): ConsoleSize | undefined {
    return this.#size;
  }

  /** It is open at this end. */
  get opened(): boolean {
    return this.#opened;
  }

  /** It is open at the other end, as of the last look at control messages. */
  get peerOpen(): boolean {
    return this.#peerOpen;
  }

  /** True when the port was pulled out, or the console closed or reset. */
  get closed(): boolean {
    return this.#removed || this.#buffers.closed;
  }

  /** Bytes that came in and went out through the port's queues. */
  get counts(): { readonly received: number; readonly sent: number } {
    return { ...this.#buffers.counts };
  }

  /** Opens this end. Once is enough; the device opens console ports by itself. */
  open(): void {
    this.#check();
    if (this.#opened) return;
    this.#opened = true;
    this.#holder.control?.send(this.index, CONSOLE_EVENT.portOpen, 1);
  }

  /** Closes this end. Without MULTIPORT there is nothing to tell. */
  hangUp(): void {
    this.#check();
    if (!this.#opened || this.#holder.control === undefined) return;
    this.#opened = false;
    this.#holder.control.send(this.index, CONSOLE_EVENT.portOpen, 0);
  }

  /** Copies what has come in, without waiting. @returns bytes; 0: nothing */
  tryRead(into: Uint8Array): number {
    this.#checkOpen();
    if (into.length === 0) stillThere(into, 0, `${this.#where}, tryRead`);
    return this.#buffers.read(into);
  }

  /**
   * What has come in, up to `maxBytes`, a copy; waits for at least one byte. Reads that are called meanwhile wait for their turn.
   * @returns undefined after `timeoutMs` (default: no limit), and when the peer has closed and nothing is left: `peerOpen` tells which
   */
  read(
    timeoutMs: number = Infinity,
    maxBytes: number = READ_BYTES,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const mine = this.#reading.then(() => this.#read(timeoutMs, maxBytes));
    this.#reading = mine.catch(() => {});
    return mine;
  }

  /** What comes in, until the peer closes. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    for (;;) {
      const bytes = await this.read();
      if (bytes === undefined) return;
      yield bytes;
    }
  }

  /** Sends what there are free buffers for, without waiting. @returns bytes taken; 0 while the other end is not open */
  tryWrite(bytes: Uint8Array): number {
    this.#checkOpen();
    if (bytes.length === 0) stillThere(bytes, 0, `${this.#where}, tryWrite`);
    return this.#peerOpen ? this.#buffers.write(bytes) : 0;
  }

  /**
   * Resolves when the device has been given all bytes. Writes that are called meanwhile wait for their turn. `bytes` must stay as they are.
   * @throws TimeoutError when the peer is not there, or does not read, for `timeoutMs` (default: no limit)
   */
  write(bytes: Uint8Array, timeoutMs: number = Infinity): Promise<void> {
    const { length } = bytes;
    const mine = this.#writing.then(() => this.#write(bytes, length, timeoutMs));
    this.#writing = mine.catch(() => {});
    return mine;
  }

  /** Resolves when the device is done with all that was written. @throws TimeoutError */
  async drain(timeoutMs: number = Infinity): Promise<void> {
    await this.#writing;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      this.#check();
      this.#buffers.reclaim();
      if (this.#buffers.outstanding === 0) return;
      if (!await this.#wait(this.#outgoing, deadline, timeoutMs)) {
        throw new TimeoutError(`${this.#where}: not everything was taken in ${timeoutMs} ms`);
      }
    }
  }

  /** Resolves when the other end is open. @returns false after `timeoutMs` */
  async waitPeer(timeoutMs: number = Infinity): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      this.#check();
      this.#holder.service();
      if (this.#peerOpen) return true;
      if (!await this.#wait(this.#holder.control ?? this.#incoming, deadline, timeoutMs)) {
        return this.#peerOpen;
      }
    }
  }

  /**
   * The device says something of it. For the holder. @returns what changed; undefined for what this driver need not know of
   * @internal
   */
  handle({ event, value, more }: ControlMessage): PortChange | undefined {
    switch (event) {
      case CONSOLE_EVENT.deviceRemove:
        this.#removed = true;
        this.#peerOpen = false;
        return "removed";
      case CONSOLE_EVENT.consolePort:
        this.#console = true;
        // The standard demands the answer, whether it was open before or not.
        this.#opened = true;
        this.#holder.control?.send(this.index, CONSOLE_EVENT.portOpen, 1);
        return "console";
      case CONSOLE_EVENT.portOpen:
        this.#hungUp = value === 0 && (this.#peerOpen || this.#hungUp);
        this.#peerOpen = value !== 0;
        return this.#peerOpen ? "peer-opened" : "peer-closed";
      case CONSOLE_EVENT.portName: {
        // Some devices end the name with NUL.
        const end = more.indexOf(0);
        this.#name = decoder.decode(end < 0 ? more : more.subarray(0, end));
        return "named";
      }
      case CONSOLE_EVENT.resize:
        this.#size = CONSOLE_RESIZE.decode(more);
        return "resized";
      default:
        return undefined;
    }
  }

  /**
   * The device is one that has come back, and has not said yet whether the other end is open. For the holder.
   * @internal
   */
  forget(): void {
    this.#peerOpen = false;
  }

  /**
   * The device that has come back has added it: it is open there, too, when it is here. For the holder.
   * @internal
   */
  resume(): void {
    if (this.#opened) this.#holder.control?.send(this.index, CONSOLE_EVENT.portOpen, 1);
  }

  /** The config space says how large it is. For the holder. */
  setSize(size: ConsoleSize | undefined): void {
    this.#size = size;
  }

  async #read(timeoutMs: number, maxBytes: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (!Number.isInteger(maxBytes) || maxBytes < 1) {
      throw new UsageError(`${this.#where}: read of ${shown(maxBytes)} bytes`);
    }
    const deadline = performance.now() + timeoutMs;
    const into = newBytes(maxBytes, `${this.#where}, read`);
    for (;;) {
      this.#checkOpen();
      // Control messages first: what came before the peer closed is then there to be read.
      this.#holder.service();
      const hungUp = this.#hungUp;
      const turn = this.#holder.waiter.turnIfDue();
      if (turn !== null) await turn;
      this.#checkOpen();
      const count = this.#buffers.read(into);
      if (count > 0) return count === maxBytes ? into : into.slice(0, count);
      if (hungUp || !await this.#wait(this.#incoming, deadline, timeoutMs)) return undefined;
    }
  }

  async #write(bytes: Uint8Array, lengthBytes: number, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const there = (at: number) => stillThere(bytes, lengthBytes, `${this.#where}, write, ${at} bytes sent`);
    there(0);
    for (let at = 0; at < lengthBytes;) {
      this.#checkOpen();
      this.#holder.service();
      const turn = this.#holder.waiter.turnIfDue();
      if (turn !== null) await turn;
      const count = this.tryWrite(there(at).subarray(at, lengthBytes));
      at += count;
      if (count > 0) continue;
      // What the device has returned meanwhile is room to go on with: nothing more might come to end a wait for it. Without a peer it must not
      // end the wait for one.
      if (this.#buffers.reclaim() > 0 && this.#peerOpen) continue;
      if (await this.#wait(this.#outgoing, deadline, timeoutMs)) continue;
      const why = this.#peerOpen ? "does not read" : "is not there";
      throw new TimeoutError(
        `${this.#where}: ${at} of ${lengthBytes} bytes, the peer ${why} for ${timeoutMs} ms`,
      );
    }
  }

  /** As `DriverLife.wait`. @returns false at the deadline */
  async #wait(target: WaitTarget, deadline: number, timeoutMs: number): Promise<boolean> {
    const leftMs = Math.max(deadline - performance.now(), 0);
    if (await this.#holder.waiter.wait(orHandled(this.#holder, target), leftMs)) return true;
    if (timeoutMs > 0 && !this.closed) this.#holder.checkAlive();
    return false;
  }

  /** A queue together with the control messages, and with the port's being pulled out. */
  #target(queue: WaitTarget, ready: () => boolean): WaitTarget {
    const { control } = this.#holder;
    return {
      hasUsed: () => this.#removed || ready() || (control?.hasUsed() ?? false),
      suppressInterrupts: () => {
        queue.suppressInterrupts();
        control?.suppressInterrupts();
      },
      enableInterrupts: () => {
        const mine = queue.enableInterrupts();
        const theirs = control?.enableInterrupts() ?? false;
        return mine || theirs || this.#removed || ready();
      },
    };
  }

  get #where(): string {
    return `${this.#holder.name}, port ${this.index}`;
  }

  #check(): void {
    if (this.closed) throw new ClosedError(`port ${this.index} of ${this.#holder.name}`);
  }

  #checkOpen(): void {
    this.#check();
    if (!this.#opened) {
      throw new UsageError(`${this.#where} is not open at this end`, { hint: "call open() first" });
    }
  }
}
