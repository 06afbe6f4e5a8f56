/**
 * The client's end of a connection: one request at a time, its reply awaited in this thread.
 *
 * @module
 */
import { ClosedError, PeerGoneError, ProtocolError, TimeoutError } from "../../errors/mod.ts";
import { errnoNumber, type OwnedFd, SyscallError, type UnixSocket } from "../../../ffi/mod.ts";
import type { Lifeline } from "../device.ts";
import type { ClientMemory } from "./client_memory.ts";
import { IncomingMessages, OutgoingMessage } from "./connection.ts";
import {
  COMMAND,
  commandName,
  dmaAccess,
  HEADER_BYTES,
  LIMIT,
  MAX_ERROR_NUMBER,
  maxMessageBytes,
  MESSAGE_FLAG,
} from "./protocol.ts";

/**
 * Requests and replies. After a failure of the connection itself (peer gone, time over, protocol broken) the socket is closed and
 * every later request throws that same error: what the stream still holds can no longer be told apart.
 */
export class ClientChannel implements Disposable {
  /** For messages. */
  readonly name: string;
  /** How long a request may wait, in milliseconds. */
  readonly timeoutMs: number;
  /** Build a request's payload here, from `HEADER_BYTES` on. */
  readonly out: OutgoingMessage;
  /** The reply, after `request` has returned. */
  readonly in: IncomingMessages;
  readonly #socket: UnixSocket;
  readonly #memory: ClientMemory;
  #nextId = 0;
  #broken: Error | null = null;
  readonly #endHandlers = new Set<() => void>();

  /** Takes the socket over, whose timeout must be set. */
  constructor(socket: UnixSocket, name: string, timeoutMs: number, memory: ClientMemory) {
    this.#socket = socket;
    this.name = name;
    this.timeoutMs = timeoutMs;
    this.#memory = memory;
    this.out = new OutgoingMessage(socket);
    this.in = new IncomingMessages(socket, name, {
      messageBytes: maxMessageBytes(LIMIT.dataTransferBytes),
      messageFds: LIMIT.messageFds,
    });
  }

  /** Why the connection is unusable, or null. */
  get broken(): Error | null {
    return this.#broken;
  }

  /**
   * Sends the request whose payload was built in `out`, and waits for its reply, which is then in `in`.
   *
   * @param maxReplyFds how many descriptors the reply may bring.
   * @throws SyscallError with the peer's errno when it refuses; PeerGoneError, TimeoutError, ProtocolError, ClosedError
   */
  request(command: number, payloadBytes: number, fds?: readonly OwnedFd[], maxReplyFds = 0): void {
    if (this.#broken !== null) throw this.#broken;
    if (this.#socket.fd.closed) throw new ClosedError(this.name);
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    try {
      this.#exchange(id, command, payloadBytes, fds, maxReplyFds);
    } catch (error) {
      throw this.fail(error as Error);
    }
    const { flags, errorNumber } = this.in;
    if ((flags & MESSAGE_FLAG.error) !== 0) {
      // An error reply need not say which error.
      throw new SyscallError(`vfio-user ${commandName(command)}`, this.name, errorNumber || errnoNumber.EIO!);
    }
  }

  #exchange(
    id: number,
    command: number,
    payloadBytes: number,
    fds: readonly OwnedFd[] | undefined,
    maxReplyFds: number,
  ): void {
    const deadline = performance.now() + this.timeoutMs;
    try {
      this.out.send(id, command, MESSAGE_FLAG.typeCommand, 0, payloadBytes, fds);
    } catch (error) {
      // A server that refuses us has said why before it closed.
      if (!(error instanceof PeerGoneError) || command !== COMMAND.version) throw error;
    }
    while (true) {
      // A peer that sends a byte now and then never lets the socket's own limit expire.
      if (performance.now() > deadline) this.#late(command);
      if (!this.in.next()) {
        if (this.in.fill(true) === "end") throw this.in.endOfStream();
        continue;
      }
      if (this.in.isReply) break;
      this.#serve();
    }
    this.#checkReply(id, command, maxReplyFds);
  }

  #late(command: number): never {
    throw new TimeoutError(`${this.name}: no reply to ${commandName(command)} within ${this.timeoutMs} ms`, {
      hint: "is the serving process stopped or busy?",
    });
  }

  #checkReply(id: number, command: number, maxReplyFds: number): void {
    const reply = this.in;
    const what = `${this.name}: reply to ${commandName(command)}`;
    const failed = (reply.flags & MESSAGE_FLAG.error) !== 0;
    // A server that is taken refuses before it has read our VERSION, so it cannot know the message's id.
    const refusal = failed && command === COMMAND.version && reply.command === command;
    if (reply.messageId !== id && !refusal) {
      throw new ProtocolError(`${what}: message id ${reply.messageId} instead of ${id}`);
    }
    if (reply.command !== command) {
      throw new ProtocolError(`${what}: command is ${commandName(reply.command)}`);
    }
    if (failed && reply.errorNumber > MAX_ERROR_NUMBER) {
      throw new ProtocolError(`${what}: error number ${reply.errorNumber}`);
    }
    if (reply.fds.length > (failed ? 0 : maxReplyFds)) {
      throw new ProtocolError(`${what}: ${reply.fds.length} descriptors instead of at most ${maxReplyFds}`);
    }
  }

  /** Answers a command of the server, which may come while a reply is awaited. */
  #serve(): void {
    const { command, flags, messageId } = this.in;
    const wantsReply = (flags & MESSAGE_FLAG.noReply) === 0;
    if (command !== COMMAND.dmaRead && command !== COMMAND.dmaWrite) {
      if (wantsReply) this.#replyError(errnoNumber.ENOTSUP!);
      return;
    }
    const { view, payloadOffset, payloadBytes } = this.in;
    const writes = command === COMMAND.dmaWrite;
    if (payloadBytes < dmaAccess.sizeBytes) return this.#replyError(errnoNumber.EINVAL!);
    const address = view.getBigUint64(payloadOffset + dmaAccess.fields.address.offset, true);
    const count = Number(view.getBigUint64(payloadOffset + dmaAccess.fields.count.offset, true));
    const expected = dmaAccess.sizeBytes + (writes ? count : 0);
    if (count > LIMIT.dataTransferBytes || payloadBytes !== expected) {
      return this.#replyError(errnoNumber.EINVAL!);
    }
    const memory = this.#memory.view(address, count, writes);
    if (memory === undefined) return this.#replyError(errnoNumber.EFAULT!);
    if (writes) memory.set(this.in.payload.subarray(dmaAccess.sizeBytes));
    if (!wantsReply) return;
    const replyBytes = dmaAccess.sizeBytes + (writes ? 0 : count);
    this.out.reserve(replyBytes);
    dmaAccess.encodeInto(this.out.bytes, HEADER_BYTES, { address, count: BigInt(count) });
    if (!writes) this.out.bytes.set(memory, HEADER_BYTES + dmaAccess.sizeBytes);
    this.out.send(messageId, command, MESSAGE_FLAG.typeReply, 0, replyBytes);
  }

  #replyError(error: number): void {
    const { command, flags, messageId } = this.in;
    if ((flags & MESSAGE_FLAG.noReply) !== 0) return;
    this.out.send(messageId, command, MESSAGE_FLAG.typeReply | MESSAGE_FLAG.error, error, 0);
  }

  /** Marks the connection as unusable, and closes it. @returns the error, to be thrown. */
  fail(error: Error): Error {
    this.#broken ??= error;
    this.#release();
    return this.#broken;
  }

  /** The server contradicts the protocol in an answer, so nothing that it says can be relied on. @returns the error, to be thrown. */
  malformed(text: string): Error {
    return this.fail(new ProtocolError(`${this.name}: ${text}`));
  }

  /** Runs a decoder over the reply; what it throws breaks the connection. */
  decode<T>(decoder: () => T): T {
    try {
      return decoder();
    } catch (error) {
      throw this.fail(error as Error);
    }
  }

  /** Checks that the reply's payload has `bytes` or more. @throws ProtocolError */
  expectAtLeast(bytes: number): void {
    const have = this.in.payloadBytes;
    if (have >= bytes) return;
    throw this.malformed(`reply to ${commandName(this.in.command)}: ${have} of ${bytes} bytes`);
  }

  /** Checks that the reply's payload has exactly `bytes`. @throws ProtocolError */
  expectExactly(bytes: number): void {
    const have = this.in.payloadBytes;
    if (have === bytes) return;
    throw this.malformed(`reply to ${commandName(this.in.command)}: ${have} bytes instead of ${bytes}`);
  }

  /** See `VfioDevice`. */
  get lifeline(): Lifeline {
    return {
      fd: this.#socket.fd,
      reason: () => {
        if (this.#broken !== null) return this.#broken;
        if (this.#socket.fd.closed) return new ClosedError(this.name);
        return new PeerGoneError(`${this.name}: the process that serves it is gone`);
      },
      onEnd: (handler) => {
        this.#endHandlers.add(handler);
        return () => void this.#endHandlers.delete(handler);
      },
    };
  }

  #release(): void {
    this.in.close();
    this.#socket.close();
    const handlers = [...this.#endHandlers];
    this.#endHandlers.clear();
    for (const handler of handlers) handler();
  }

  /** Closes the connection, and every descriptor that nobody took. */
  close(): void {
    this.#release();
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
