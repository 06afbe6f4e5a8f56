/**
 * Messages on a stream socket: cutting the stream into messages, and giving each the descriptors that came with it.
 *
 * Client and server share this. Nothing is allocated for a message that fits the buffer, but for what the socket itself
 * allocates.
 *
 * @module
 */
import { PeerGoneError, ProtocolError } from "../../errors/mod.ts";
import type { OwnedFd, UnixSocket } from "../../../ffi/mod.ts";
import { commandName, HEADER_BYTES, MESSAGE_FLAG, messageHeader } from "./protocol.ts";

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
const { messageId, command, messageBytes, flags, errorNumber } = messageHeader.fields;

/**
 * The incoming half of a connection.
 *
 * `next()` makes the next complete message current: its header fields and payload are read from this object until `next()` is
 * called again. Descriptors of the current message that were not taken by then are closed.
 */
export class IncomingMessages {
  readonly #socket: UnixSocket;
  /** For messages: the peer. */
  readonly #what: string;
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

  /** Header of the current message: its id, which a reply echoes. */
  messageId = 0;
  /** `COMMAND` number. */
  command = 0;
  /** Size with the header. */
  messageBytes = 0;
  /** `MESSAGE_FLAG` bits. */
  flags = 0;
  /** Error of a reply that has the error flag. */
  errorNumber = 0;
  /** Where the current message's payload starts in `bytes`. */
  payloadOffset = 0;
  /** Size of the payload. */
  payloadBytes = 0;

  /** Reads from a socket, which stays the caller's. @param what for messages: the peer. */
  constructor(socket: UnixSocket, what: string, limits: StreamLimits) {
    this.#socket = socket;
    this.#what = what;
    this.limits = limits;
  }

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

  /** True when the current message is a reply. */
  get isReply(): boolean {
    return (this.flags & MESSAGE_FLAG.typeMask) === MESSAGE_FLAG.typeReply;
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
    const need = have >= HEADER_BYTES
      ? this.#view.getUint32(this.#start + messageBytes.offset, true)
      : HEADER_BYTES;
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
   * While true the current message stays what it is through `fill`, and those behind it wait: for `takeReply`.
   * @param held false: go on with `next`
   */
  hold(held: boolean): void {
    this.#held = held;
  }

  /**
   * Takes the reply to a command of ours from among the messages that have arrived behind the current one, which stay in order.
   * @returns its flags and payload, or undefined when it has not arrived @throws ProtocolError when too much else has
   */
  takeReply(
    id: number,
    commandNumber: number,
  ): { flags: number; payload: Uint8Array<ArrayBuffer> } | undefined {
    for (let at = this.#start; this.#end - at >= HEADER_BYTES;) {
      const size = this.#view.getUint32(at + messageBytes.offset, true);
      // A message that cannot be is found by `next`, in its turn.
      if (size < HEADER_BYTES || size > this.limits.messageBytes || this.#end - at < size) break;
      const flagBits = this.#view.getUint32(at + flags.offset, true);
      const is = (flagBits & MESSAGE_FLAG.typeMask) === MESSAGE_FLAG.typeReply &&
        this.#view.getUint16(at + messageId.offset, true) === id &&
        this.#view.getUint16(at + command.offset, true) === commandNumber;
      if (!is) {
        at += size;
        continue;
      }
      const payload = this.#bytes.slice(at + HEADER_BYTES, at + size);
      this.#bytes.copyWithin(at, at + size, this.#end);
      this.#end -= size;
      for (const passed of this.#passed) {
        // Descriptors beside the reply itself, which should have none, go to the next message and are closed with it.
        if (passed.at >= this.#base + at) passed.at = Math.max(this.#base + at, passed.at - size);
      }
      return { flags: flagBits, payload };
    }
    if (this.#end - this.#start > 2 * this.limits.messageBytes) {
      throw new ProtocolError(
        `${this.#what}: ${this.#end - this.#start} bytes of messages instead of a reply to ${
          commandName(commandNumber)
        }`,
      );
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
    if (this.#end - at < HEADER_BYTES) return false;
    const size = this.#view.getUint32(at + messageBytes.offset, true);
    this.messageId = this.#view.getUint16(at + messageId.offset, true);
    this.command = this.#view.getUint16(at + command.offset, true);
    this.flags = this.#view.getUint32(at + flags.offset, true);
    this.errorNumber = this.#view.getUint32(at + errorNumber.offset, true);
    this.messageBytes = size;
    this.payloadOffset = at + HEADER_BYTES;
    this.payloadBytes = 0;
    if (size < HEADER_BYTES) {
      throw this.#malformed(`message size ${size} is below the header's ${HEADER_BYTES} bytes`);
    }
    if (size > this.limits.messageBytes) {
      throw this.#malformed(`message size ${size} is above the limit of ${this.limits.messageBytes} bytes`);
    }
    const type = this.flags & MESSAGE_FLAG.typeMask;
    if (type !== MESSAGE_FLAG.typeCommand && type !== MESSAGE_FLAG.typeReply) {
      throw this.#malformed(`flags 0x${this.flags.toString(16)} have message type ${type}`);
    }
    if (this.#end - at < size) return false;
    this.payloadBytes = size - HEADER_BYTES;
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

  #malformed(text: string): ProtocolError {
    return new ProtocolError(`${this.#what}: ${commandName(this.command)} ${this.messageId}: ${text}`);
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

  /** Writes to a socket, which stays the caller's. */
  constructor(socket: UnixSocket) {
    this.#socket = socket;
  }

  /** The message; its payload starts at `HEADER_BYTES`. Replaced by `reserve`. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** A view of `bytes`, likewise. */
  get view(): DataView<ArrayBuffer> {
    return this.#view;
  }

  /** Makes room for a payload; what was in the buffer is not kept. */
  reserve(payloadBytes: number): void {
    const size = HEADER_BYTES + payloadBytes;
    if (size <= this.#bytes.byteLength) return;
    this.#bytes = new Uint8Array(new ArrayBuffer(roundUp(size)));
    this.#view = new DataView(this.#bytes.buffer);
    this.#prefixes = [];
  }

  /** Copies a payload in. */
  put(payload: Uint8Array): void {
    this.reserve(payload.byteLength);
    this.#bytes.set(payload, HEADER_BYTES);
  }

  /**
   * Writes the header and sends the message.
   * @throws PeerGoneError, TimeoutError, SyscallError
   */
  send(
    id: number,
    commandNumber: number,
    flagBits: number,
    error: number,
    payloadBytes: number,
    fds?: readonly OwnedFd[],
  ): void {
    this.#socket.send(this.#finish(id, commandNumber, flagBits, error, payloadBytes), fds);
  }

  /**
   * As `send`, without waiting: what the peer does not take now stays here, and is sent by `flush`. Until then `waiting` is true, and the buffer
   * must be left alone. The descriptors stay the caller's, whatever becomes of the message.
   * @throws PeerGoneError, SyscallError
   */
  sendNow(
    id: number,
    commandNumber: number,
    flagBits: number,
    error: number,
    payloadBytes: number,
    fds: readonly OwnedFd[] = NO_FDS,
  ): void {
    const bytes = this.#finish(id, commandNumber, flagBits, error, payloadBytes);
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

  #finish(
    id: number,
    commandNumber: number,
    flagBits: number,
    error: number,
    payloadBytes: number,
  ): Uint8Array<ArrayBuffer> {
    const size = HEADER_BYTES + payloadBytes;
    this.#view.setUint16(messageId.offset, id, true);
    this.#view.setUint16(command.offset, commandNumber, true);
    this.#view.setUint32(messageBytes.offset, size, true);
    this.#view.setUint32(flags.offset, flagBits, true);
    this.#view.setUint32(errorNumber.offset, error, true);
    return this.#prefix(size);
  }

  #prefix(size: number): Uint8Array<ArrayBuffer> {
    const CACHED = 64;
    if (size > CACHED) return this.#bytes.subarray(0, size);
    return this.#prefixes[size] ??= this.#bytes.subarray(0, size);
  }
}

function roundUp(size: number): number {
  let rounded = FIRST_BUFFER_BYTES;
  while (rounded < size) rounded *= 2;
  return rounded;
}
