/**
 * The client's end of a connection: one request at a time, its reply awaited in this thread.
 *
 * @module
 */
import { requireType } from "../../../errors/doors.ts";
import { ClosedError, PeerGoneError, ProtocolError, TimeoutError } from "../../../errors/mod.ts";
import { Epoll, errnoNumber, type OwnedFd, SyscallError, UnixSocket } from "../../../../ffi/mod.ts";
import type { Lifeline } from "../../../wait/lifeline.ts";
import { CommandWay } from "./answers.ts";
import type { ClientMemory } from "./memory.ts";
import type { IncomingMessages, OutgoingMessage } from "../connection.ts";
import { COMMAND, commandName, MAX_ERROR_NUMBER, MESSAGE_FLAG } from "../protocol.ts";

/** How often a client that does nothing looks for what its server asks. */
const LOOK_MS = 10;
/** How long it looks for the next command after one: they come in rows, each when the one before is answered. */
const ROW_MS = 0.1;
/** The longest such row before others have their turn. */
const LONGEST_ROW_MS = 2;

/** The longest that epoll takes. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

/** A second socket, on which the server's commands come. */
interface Twin {
  readonly way: CommandWay;
  /** Watches both sockets, this one with tag 1. */
  readonly epoll: Epoll;
}

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
  readonly #way: CommandWay;
  readonly #memory: ClientMemory;
  #twin: Twin | null = null;
  #looking: ReturnType<typeof setInterval> | undefined;
  #lifeline: Lifeline | null = null;
  #nextId = 0;
  #broken: Error | null = null;
  readonly #endHandlers = new Set<() => void>();

  /** Takes the socket over, whose timeout must be set. */
  constructor(socket: UnixSocket, name: string, timeoutMs: number, memory: ClientMemory) {
    this.#socket = socket;
    this.name = name;
    this.timeoutMs = timeoutMs;
    this.#memory = memory;
    this.#way = new CommandWay(socket, name);
    this.out = this.#way.out;
    this.in = this.#way.in;
  }

  /** From now on the server sends its commands over `fd`, a socket, which is taken over. @throws ProtocolError when it is none */
  useTwin(fd: OwnedFd): void {
    const socket = new UnixSocket(fd);
    let epoll: Epoll | undefined;
    try {
      socket.setTimeoutMs(this.timeoutMs);
      epoll = new Epoll();
      epoll.add(this.#socket.fd, 0);
      epoll.add(fd, 1);
    } catch (error) {
      fd.close();
      epoll?.close();
      throw this.fail(
        new ProtocolError(`${this.name}: the twin socket passed cannot be used`, { cause: error }),
      );
    }
    this.#twin = { way: new CommandWay(socket, this.name), epoll };
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
    // What cannot be sent is the caller's fault, and no end of the connection.
    for (const fd of fds ?? []) if (fd.number < 0) throw new ClosedError(fd.target);
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
        this.#fill(deadline);
        continue;
      }
      if (this.in.isReply) break;
      this.#way.answer(this.#memory);
    }
    this.#checkReply(id, command, maxReplyFds);
  }

  /** Waits for more of the reply, and answers what comes on the twin. */
  #fill(deadline: number): void {
    const twin = this.#twin;
    if (twin !== null) {
      const leftMs = Math.ceil(deadline - performance.now());
      const ready = twin.epoll.waitBlocking(Math.min(Math.max(1, leftMs), LONGEST_WAIT_MS));
      if (ready === 0) return;
      // The reply goes first: with it comes the end of the server, too.
      if (!twin.epoll.tags.subarray(0, ready).includes(0)) return void this.#answerOn(twin.way);
    }
    if (this.in.fill(true) === "end") throw this.in.endOfStream();
  }

  /** Answers the commands that are there. @returns whether there were any. @throws PeerGoneError, ProtocolError, TimeoutError, SyscallError */
  #answerOn(way: CommandWay): boolean {
    // One read: a server that sends without end does not hold us for ever.
    if (way.in.fill(false) === "end") throw this.#gone();
    let any = false;
    while (way.in.next()) {
      if (way.in.isReply) {
        throw new ProtocolError(`${this.name}: a reply to nothing (${commandName(way.in.command)})`);
      }
      way.answer(this.#memory);
      any = true;
    }
    return any;
  }

  /**
   * Answers what the server asks while no reply is awaited, and sees its end. Nothing is thrown: what goes wrong breaks the connection, and
   * whoever listens to the lifeline is told.
   */
  answer(): void {
    const begin = performance.now();
    for (let last = begin;;) {
      if (this.#broken !== null || this.#socket.fd.closed) return;
      try {
        let any = this.#answerOn(this.#way);
        if (this.#twin !== null) any = this.#answerOn(this.#twin.way) || any;
        const now = performance.now();
        if (any) last = now;
        else if (last === begin || now - last > ROW_MS) return;
        if (now - begin > LONGEST_ROW_MS) return;
      } catch (error) {
        this.fail(error as Error);
        return;
      }
    }
  }

  /** Begins to look for commands of the server now and then: it may read our memory by message at any time. */
  lookForCommands(): void {
    if (this.#looking !== undefined || this.#broken !== null) return;
    this.#looking = setInterval(() => this.answer(), LOOK_MS);
    // It is no reason for the process to go on.
    Deno.unrefTimer(this.#looking);
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
    return this.#lifeline ??= {
      // Readable when one of its sockets is.
      fd: this.#twin === null ? this.#socket.fd : this.#twin.epoll.fd,
      answer: () => this.answer(),
      check: () => {
        this.answer();
        if (this.#broken !== null || this.#socket.fd.closed) throw this.#reason();
      },
      reason: () => this.#reason(),
      onEnd: (handler) => {
        requireType(handler, "function", "onEnd: handler");
        this.#endHandlers.add(handler);
        return () => void this.#endHandlers.delete(handler);
      },
    };
  }

  #reason(): Error {
    if (this.#broken !== null) return this.#broken;
    return this.#socket.fd.closed ? new ClosedError(this.name) : this.#gone();
  }

  #gone(): PeerGoneError {
    const { target } = this.#socket.fd;
    const where = target === this.name ? "" : ` behind ${target}`;
    return new PeerGoneError(`${this.name}: the process that serves it${where} is gone`);
  }

  #release(): void {
    clearInterval(this.#looking);
    this.#way.close();
    this.#twin?.way.close();
    this.#twin?.epoll.close();
    const handlers = [...this.#endHandlers];
    this.#endHandlers.clear();
    for (const handler of handlers) {
      try {
        handler();
      } catch (error) {
        // What a listener throws is its caller's, and keeps nothing from being closed.
        reportError(error);
      }
    }
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
