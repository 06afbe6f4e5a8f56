/**
 * Messages on a stream socket: cutting the stream into messages, and giving each the descriptors that came with it.
 *
 * A protocol says how its header is read and written; both of its sides share this. Nothing is allocated for a message that fits
 * the buffer, but for what the socket itself allocates.
 *
 * @module
 */
import { PeerGoneError, ProtocolError } from "../errors/mod.ts";
import type { OwnedFd, UnixSocket } from "../../ffi/mod.ts";

/** What a peer may send. */
export interface StreamLimits {
  /** Size of a message, header included. */
  messageBytes: number;
  /** Descriptors beside one message. */
  messageFds: number;
}

/** What a `fill` brought. */
export type Filled = "data" | "nothing" | "end";

const FIRST_BUFFER_BYTES = 4096;
const DONT_WAIT = { wait: false } as const;
const WAIT = { wait: true } as const;
const NO_FDS: readonly OwnedFd[] = [];
const NOTHING = new Uint8Array(0);

/**
 * The incoming half of a connection.
 *
 * `next()` makes the next complete message current: its payload is read from this object until `next()` is called again, and so are
 * the header fields that a protocol's class adds. Descriptors of the current message that were not taken by then are closed.
 */
export abstract class IncomingMessages {
  readonly #socket: UnixSocket;
  /** For messages: the peer. */
  readonly #what: string;
  readonly #headerBytes: number;
  /** What the peer may send. */
  readonly limits: StreamLimits;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(FIRST_BUFFER_BYTES));
  #view: DataView<ArrayBuffer> = new DataView(this.#bytes.buffer);
  // Received bytes that are no current or past message are [start, end).
  #start = 0;
  #end = 0;
  /** Where the current message began, and whether it must stay. */
  #mark = 0;
  #held = false;
  /** Bytes of the stream before the buffer's first. */
  #base = 0;
  /** Descriptors that no message was given yet, with the stream position of the last byte that came with them. */
  #passed: { at: number; fds: OwnedFd[] }[] = [];
  #passedCount = 0;
  #fds: OwnedFd[] = [];

  /** Size of the current message with its header. */
  messageBytes = 0;
  /** Where the current message's payload starts in `bytes`. */
  payloadOffset = 0;
  /** Size of the payload. */
  payloadBytes = 0;

  /** Reads from a socket, which stays the caller's. @param what for messages: the peer. */
  constructor(socket: UnixSocket, what: string, limits: StreamLimits, headerBytes: number) {
    this.#socket = socket;
    this.#what = what;
    this.#headerBytes = headerBytes;
    this.limits = limits;
  }

  /** Size of the message, header included, whose header is at `at` of `view`. */
  protected abstract sizeAt(at: number): number;

  /** Takes the fields of the header at `at` of `view`. @returns what is wrong with it; undefined: nothing */
  protected abstract takeHeader(at: number): string | undefined;

  /** What the message is whose header was taken, for errors. */
  protected abstract get title(): string;

  /** The buffer that `payloadOffset` counts in. It is replaced when a larger message comes: fetch it after each `next()`. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** A view of `bytes`, likewise. */
  get view(): DataView<ArrayBuffer> {
    return this.#view;
  }

  /** The current message's payload as a view: valid until the next `next()` or `fill()`. */
  get payload(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(this.payloadOffset, this.payloadOffset + this.payloadBytes);
  }

  /** Descriptors of the current message; they stay with this object until they are taken. */
  get fds(): readonly OwnedFd[] {
    return this.#fds;
  }

  /** Passes the current message's descriptors to the caller. */
  takeFds(): OwnedFd[] {
    const fds = this.#fds;
    if (fds.length > 0) this.#fds = [];
    return fds;
  }

  /** Bytes of a message that has begun and is not complete. */
  get pendingBytes(): number {
    return this.#end - this.#start;
  }

  /** Receives once. @throws PeerGoneError, TimeoutError, ProtocolError (too many descriptors), SyscallError */
  fill(wait: boolean): Filled {
    const received = this.#socket.receive(this.#room(), wait ? WAIT : DONT_WAIT);
    if (received === undefined) return "nothing";
    this.#end += received.length;
    if (received.fds.length > 0) {
      this.#passed.push({ at: this.#base + this.#end - 1, fds: received.fds });
      this.#passedCount += received.fds.length;
      if (this.#passedCount > this.limits.messageFds) {
        throw new ProtocolError(
          `${this.#what}: ${this.#passedCount} descriptors beside one message, ${this.limits.messageFds} are the limit`,
        );
      }
    }
    return received.length === 0 ? "end" : "data";
  }

  /** Where to receive into: the buffer's rest, made large enough for the message that has begun. */
  #room(): Uint8Array<ArrayBuffer> {
    const from = this.#held ? this.#mark : this.#start;
    if (from === this.#end) {
      this.#base += from;
      this.#start = 0;
      this.#end = 0;
      this.#mark = 0;
      return this.#bytes;
    }
    const have = this.#end - this.#start;
    const need = have >= this.#headerBytes ? this.sizeAt(this.#start) : this.#headerBytes;
    const keep = this.#start - from;
    const room = keep + Math.max(need, have + 1);
    if (from + room > this.#bytes.byteLength) {
      // Views of the message that is held stay as they are.
      if (room > this.#bytes.byteLength || this.#held) {
        const larger = new Uint8Array(new ArrayBuffer(roundUp(room)));
        larger.set(this.#bytes.subarray(from, this.#end));
        this.#bytes = larger;
        this.#view = new DataView(larger.buffer);
      } else {
        this.#bytes.copyWithin(0, from, this.#end);
      }
      this.#base += from;
      this.#start = keep;
      this.#end = keep + have;
      this.#mark = 0;
      this.payloadOffset -= from;
    }
    return this.#bytes.subarray(this.#end);
  }

  /**
   * While true the current message stays what it is through `fill`, and those behind it wait: for `takeAhead`.
   * @param held false: go on with `next`
   */
  hold(held: boolean): void {
    this.#held = held;
  }

  /**
   * Takes one message from among those that have arrived behind the current one, which stay in order.
   * @param is tells it by the header at an offset of `view` @param what for messages: what it is
   * @returns the whole of it, or undefined when it has not arrived @throws ProtocolError when too much else has
   */
  protected takeAhead(is: (at: number) => boolean, what: string): Uint8Array<ArrayBuffer> | undefined {
    for (let at = this.#start; this.#end - at >= this.#headerBytes;) {
      const size = this.sizeAt(at);
      // A message that cannot be is found by `next`, in its turn.
      if (size < this.#headerBytes || size > this.limits.messageBytes || this.#end - at < size) break;
      if (!is(at)) {
        at += size;
        continue;
      }
      const message = this.#bytes.slice(at, at + size);
      this.#bytes.copyWithin(at, at + size, this.#end);
      this.#end -= size;
      for (const passed of this.#passed) {
        // Descriptors beside this message itself, which should have none, go to the next message and are closed with it.
        if (passed.at >= this.#base + at) passed.at = Math.max(this.#base + at, passed.at - size);
      }
      return message;
    }
    if (this.pendingBytes > 2 * this.limits.messageBytes) {
      throw new ProtocolError(`${this.#what}: ${this.pendingBytes} bytes of messages instead of ${what}`);
    }
    return undefined;
  }

  /**
   * Makes the next complete message current; false when more must be received first.
   * @throws ProtocolError naming the header's field for a message that cannot be.
   */
  next(): boolean {
    if (this.#fds.length > 0) this.#closeCurrentFds();
    const at = this.#start;
    if (this.#end - at < this.#headerBytes) return false;
    const wrong = this.takeHeader(at);
    const size = this.sizeAt(at);
    this.messageBytes = size;
    this.payloadOffset = at + this.#headerBytes;
    this.payloadBytes = 0;
    if (size < this.#headerBytes) {
      throw this.malformed(`message size ${size} is below the header's ${this.#headerBytes} bytes`);
    }
    if (size > this.limits.messageBytes) {
      throw this.malformed(`message size ${size} is above the limit of ${this.limits.messageBytes} bytes`);
    }
    if (wrong !== undefined) throw this.malformed(wrong);
    if (this.#end - at < size) return false;
    this.payloadBytes = size - this.#headerBytes;
    this.#start = at + size;
    this.#mark = at;
    if (this.#passed.length > 0) this.#assignFds();
    return true;
  }

  /**
   * The kernel ends a read behind the write that carried descriptors, so they belong to the message that holds the last byte
   * of what was read with them.
   */
  #assignFds(): void {
    const end = this.#base + this.#start;
    while (this.#passed.length > 0 && this.#passed[0]!.at < end) {
      const { fds } = this.#passed.shift()!;
      this.#passedCount -= fds.length;
      this.#fds.push(...fds);
    }
  }

  /** An error about the current message. */
  protected malformed(text: string, cause?: unknown): ProtocolError {
    return new ProtocolError(`${this.#what}: ${this.title}: ${text}`, { cause });
  }

  #closeCurrentFds(): void {
    for (const fd of this.#fds) fd.close();
    this.#fds = [];
  }

  /** An error for a stream that ended: in the middle of a message, or between two. */
  endOfStream(): PeerGoneError {
    return new PeerGoneError(
      this.pendingBytes === 0
        ? `${this.#what}: the peer closed the connection`
        : `${this.#what}: the peer closed the connection ${this.pendingBytes} bytes into a message`,
    );
  }

  /** Closes every descriptor that nobody took. The socket stays its owner's. */
  close(): void {
    this.#closeCurrentFds();
    for (const { fds } of this.#passed) {
      for (const fd of fds) fd.close();
    }
    this.#passed = [];
    this.#passedCount = 0;
  }
}

/** The outgoing half: one buffer in which a message is built. */
export class OutgoingMessage {
  readonly #socket: UnixSocket;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(FIRST_BUFFER_BYTES));
  #view: DataView<ArrayBuffer> = new DataView(this.#bytes.buffer);
  /** What `sendNow` could not send. */
  #rest: Uint8Array<ArrayBuffer> = NOTHING;
  /** Of its first byte: duplicates, since their owner may close them in the meantime. */
  #restFds: OwnedFd[] = [];
  /** Views of the buffer's start by length, for the lengths that register accesses have. */
  #prefixes: (Uint8Array<ArrayBuffer> | undefined)[] = [];

  readonly #headerBytes: number;

  /** Writes to a socket, which stays the caller's. */
  constructor(socket: UnixSocket, headerBytes: number) {
    this.#socket = socket;
    this.#headerBytes = headerBytes;
  }

  /** The message; its payload starts behind the header. Replaced by `reserve`. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** A view of `bytes`, likewise. */
  get view(): DataView<ArrayBuffer> {
    return this.#view;
  }

  /** Makes room for a payload; what was in the buffer is not kept. */
  reserve(payloadBytes: number): void {
    const size = this.#headerBytes + payloadBytes;
    if (size <= this.#bytes.byteLength) return;
    this.#bytes = new Uint8Array(new ArrayBuffer(roundUp(size)));
    this.#view = new DataView(this.#bytes.buffer);
    this.#prefixes = [];
  }

  /** Copies a payload in. */
  put(payload: Uint8Array): void {
    this.reserve(payload.byteLength);
    this.#bytes.set(payload, this.#headerBytes);
  }

  /** Sends the message, whose header has been written. @throws PeerGoneError, TimeoutError, SyscallError */
  transmit(payloadBytes: number, fds?: readonly OwnedFd[]): void {
    this.#socket.send(this.#prefix(payloadBytes), fds);
  }

  /**
   * As `transmit`, without waiting: what the peer does not take now stays here, and is sent by `flush`. Until then `waiting` is true, and the
   * buffer must be left alone. The descriptors stay the caller's, whatever becomes of the message.
   * @throws PeerGoneError, SyscallError
   */
  transmitNow(payloadBytes: number, fds: readonly OwnedFd[] = NO_FDS): void {
    const bytes = this.#prefix(payloadBytes);
    const sent = this.#socket.sendSome(bytes, fds);
    if (sent === bytes.byteLength) return;
    this.#rest = bytes.subarray(sent);
    if (sent === 0 && fds.length > 0) this.#restFds = fds.map((fd) => fd.duplicate());
  }

  /** Part of a message has still to be sent. */
  get waiting(): boolean {
    return this.#rest.byteLength > 0;
  }

  /** Sends what is waiting, as far as the peer takes it now. @returns bytes sent @throws PeerGoneError, SyscallError */
  flush(): number {
    let total = 0;
    while (this.#rest.byteLength > 0) {
      const sent = this.#socket.sendSome(this.#rest, this.#restFds);
      if (sent === 0) break;
      this.#dropFds();
      this.#rest = this.#rest.subarray(sent);
      total += sent;
    }
    return total;
  }

  /** Gives up what is waiting. The socket stays its owner's. */
  close(): void {
    this.#rest = NOTHING;
    this.#dropFds();
  }

  #dropFds(): void {
    if (this.#restFds.length === 0) return;
    for (const fd of this.#restFds) fd.close();
    this.#restFds = [];
  }

  #prefix(payloadBytes: number): Uint8Array<ArrayBuffer> {
    const CACHED = 64;
    const size = this.#headerBytes + payloadBytes;
    if (size > CACHED) return this.#bytes.subarray(0, size);
    return this.#prefixes[size] ??= this.#bytes.subarray(0, size);
  }
}

function roundUp(size: number): number {
  let rounded = FIRST_BUFFER_BYTES;
  while (rounded < size) rounded *= 2;
  return rounded;
}
