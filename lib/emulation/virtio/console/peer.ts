/**
 * What is at the other end of an emulated console port: the port itself, or whoever connects to a UNIX socket.
 *
 * @module
 */
import { UnixListener, type UnixSocket } from "../../../../ffi/mod.ts";
import { PeerGoneError, UnsupportedError } from "../../../errors/mod.ts";
import type { DeviceCore } from "../../device_model.ts";

/** The other end. No call blocks. */
export interface ConsolePeer {
  /** Somebody is there. */
  readonly connected: boolean;
  /** `read` may have something: it is a guess that only `read` settles. */
  readonly readable: boolean;
  /** `write` took less than it was given, and nothing but time will tell when there is room again. */
  readonly blocked: boolean;
  /** Begins. `changed` is called whenever `connected` changes. @throws SyscallError, UsageError */
  start(core: DeviceCore, changed: () => void): void;
  /** Takes what it can. @returns bytes taken; what nobody listens to is taken and lost */
  write(bytes: Uint8Array<ArrayBuffer>): number;
  /** Fills what it can. @returns bytes; 0: there is nothing now */
  read(into: Uint8Array<ArrayBuffer>): number;
  /** The driver is gone: forget what was on the way. */
  forget(): void;
  /** Ends. May be called again. */
  close(): void;
}

const LOOP_BYTES = 65536;

/** Gives back what it is given. */
export class LoopbackPeer implements ConsolePeer {
  readonly connected = true;
  readonly blocked = false;
  readonly #ring = new Uint8Array(LOOP_BYTES);
  #from = 0;
  #count = 0;

  /** True when something was written that was not read yet. */
  get readable(): boolean {
    return this.#count > 0;
  }

  /** Nothing to begin. */
  start(): void {}

  /** Takes what there is room for. */
  write(bytes: Uint8Array<ArrayBuffer>): number {
    const count = Math.min(bytes.length, LOOP_BYTES - this.#count);
    const at = (this.#from + this.#count) % LOOP_BYTES;
    const first = Math.min(count, LOOP_BYTES - at);
    this.#ring.set(bytes.subarray(0, first), at);
    this.#ring.set(bytes.subarray(first, count), 0);
    this.#count += count;
    return count;
  }

  /** Gives the oldest bytes. */
  read(into: Uint8Array<ArrayBuffer>): number {
    const count = Math.min(into.length, this.#count, LOOP_BYTES - this.#from);
    into.set(this.#ring.subarray(this.#from, this.#from + count));
    this.#from = (this.#from + count) % LOOP_BYTES;
    this.#count -= count;
    return count;
  }

  /** Empties it. */
  forget(): void {
    this.#count = 0;
  }

  /** Nothing to end. */
  close(): void {}
}

/** One client at a time of a UNIX socket; the next is taken when it has left. */
export class SocketPeer implements ConsolePeer {
  /** Path of the socket. */
  readonly path: string;
  #core: DeviceCore | null = null;
  #changed: () => void = () => {};
  #listener: UnixListener | null = null;
  #socket: UnixSocket | null = null;
  #readable = false;
  #blocked = false;

  /** A socket that is made by `start`. */
  constructor(path: string) {
    this.path = path;
  }

  /** A client is connected. */
  get connected(): boolean {
    return this.#socket !== null;
  }

  /** The client has sent something, or left. */
  get readable(): boolean {
    return this.#readable;
  }

  /** The client does not read. */
  get blocked(): boolean {
    return this.#blocked;
  }

  /** Makes the socket. @throws SyscallError, UsageError, UnsupportedError in a machine without a loop */
  start(core: DeviceCore, changed: () => void): void {
    if (core.watch === undefined) throw new UnsupportedError(`${this.path}: nobody here waits for sockets`);
    this.#core = core;
    this.#changed = changed;
    this.#listener = UnixListener.listen(this.path);
    core.watch(this.#listener.fd, () => this.#accept());
  }

  /** Passes bytes on to the client. */
  write(bytes: Uint8Array<ArrayBuffer>): number {
    if (this.#socket === null) return bytes.length;
    try {
      const count = this.#socket.sendSome(bytes);
      this.#blocked = count < bytes.length;
      return count;
    } catch (error) {
      if (!(error instanceof PeerGoneError)) throw error;
      this.#blocked = false;
      // What it sent before it left is still to be read; `read` finds the end.
      this.#readable = true;
      return bytes.length;
    }
  }

  /** Takes bytes from the client; at their end it is let go. */
  read(into: Uint8Array<ArrayBuffer>): number {
    const socket = this.#socket;
    if (socket === null || into.length === 0) return 0;
    let count = 0;
    try {
      const received = socket.receive(into, { wait: false });
      if (received === undefined) {
        this.#readable = false;
        this.#core?.watch?.(socket.fd, () => this.#arrived());
        return 0;
      }
      for (const fd of received.fds) fd.close();
      count = received.length;
    } catch (error) {
      if (!(error instanceof PeerGoneError)) throw error;
    }
    if (count === 0) this.#leave();
    return count;
  }

  /** The client stays, and so does what it sent. */
  forget(): void {}

  /** Removes the socket, and lets the client go. */
  close(): void {
    const listener = this.#listener;
    this.#listener = null;
    if (this.#socket !== null) this.#leave();
    if (listener !== null) {
      this.#core?.unwatch?.(listener.fd);
      listener.close();
    }
    this.#core = null;
  }

  #accept(): void {
    const socket = this.#socket === null ? this.#listener?.accept() : undefined;
    if (socket === undefined) return;
    this.#socket = socket;
    // The next one waits in the kernel's queue.
    this.#core?.unwatch?.(this.#listener!.fd);
    this.#readable = true;
    this.#blocked = false;
    this.#changed();
  }

  /** Level-triggered: not watched again before `read` has found it empty. */
  #arrived(): void {
    this.#readable = true;
    if (this.#socket !== null) this.#core?.unwatch?.(this.#socket.fd);
  }

  #leave(): void {
    const socket = this.#socket!;
    this.#socket = null;
    this.#readable = false;
    this.#blocked = false;
    this.#core?.unwatch?.(socket.fd);
    socket.close();
    this.#changed();
    if (this.#listener !== null) this.#core?.watch?.(this.#listener.fd, () => this.#accept());
  }
}
