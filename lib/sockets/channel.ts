/**
 * A client's end of a connection: one request at a time, its reply awaited in this thread, and commands of the peer answered meanwhile.
 *
 * @module
 */
import { ClosedError, PeerGoneError, ProtocolError, TimeoutError } from "../errors/mod.ts";
import { Epoll, type OwnedFd, UnixSocket } from "../../ffi/mod.ts";
import { EndHandlers } from "../wait/end_handlers.ts";
import type { Lifeline } from "../wait/lifeline.ts";
import type { IncomingMessages } from "./messages.ts";

/** How often a client that does nothing looks for what its server asks. */
const LOOK_MS = 10;
/** How long it looks for the next command after one: they come in rows, each when the one before is answered. */
const ROW_MS = 0.1;
/** The longest such row before others have their turn. */
const LONGEST_ROW_MS = 2;

/** The longest that epoll takes. */
const LONGEST_WAIT_MS = 2 ** 31 - 1;

/** A socket on which the peer sends. */
export interface Way {
  /** The socket. */
  readonly socket: UnixSocket;
  /** What comes on it. */
  readonly in: IncomingMessages;
  /** Whether the current message is a reply; else it is a command of the peer. */
  readonly isReply: boolean;
  /** What the current message is, for messages. */
  readonly title: string;
  /** Answers the command that is current. @throws PeerGoneError, TimeoutError, SyscallError when the answer cannot be sent */
  answer(): void;
  /** Closes the socket, and every descriptor that nobody took. */
  close(): void;
}

/** A second socket, on which the peer's commands come. */
interface Twin<W> {
  readonly way: W;
  /** Watches both sockets, this one with tag 1. */
  readonly epoll: Epoll;
}

/**
 * Requests and replies. After a failure of the connection itself (peer gone, time over, protocol broken) the socket is closed and
 * every later request throws that same error: what the stream still holds can no longer be told apart.
 */
export abstract class RequestChannel<W extends Way> implements Disposable {
  /** For messages. */
  readonly name: string;
  /** How long a request may wait, in milliseconds. */
  readonly timeoutMs: number;
  /** The socket that requests go out on. */
  protected readonly way: W;
  #twin: Twin<W> | null = null;
  #looking: ReturnType<typeof setInterval> | undefined;
  #lifeline: Lifeline | null = null;
  #broken: Error | null = null;
  readonly #endHandlers = new EndHandlers();

  /** Takes the way over, whose socket's timeout must be set. */
  constructor(way: W, name: string, timeoutMs: number) {
    this.way = way;
    this.name = name;
    this.timeoutMs = timeoutMs;
  }

  /** From now on the peer sends its commands over `fd`, a socket, which is taken over. @throws ProtocolError when it is none */
  protected addTwin(fd: OwnedFd, wayOf: (socket: UnixSocket) => W): void {
    const socket = new UnixSocket(fd);
    let epoll: Epoll | undefined;
    try {
      socket.setTimeoutMs(this.timeoutMs);
      epoll = new Epoll();
      epoll.add(this.way.socket.fd, 0);
      epoll.add(fd, 1);
    } catch (error) {
      fd.close();
      epoll?.close();
      throw this.fail(
        new ProtocolError(`${this.name}: the twin socket passed cannot be used`, { cause: error }),
      );
    }
    this.#twin = { way: wayOf(socket), epoll };
  }

  /** Why the connection is unusable, or null. */
  get broken(): Error | null {
    return this.#broken;
  }

  /** Before a request. @throws why the connection is unusable; ClosedError for a descriptor that is closed, which is no end of it */
  protected requireUsable(fds: readonly OwnedFd[]): void {
    if (this.#broken !== null) throw this.#broken;
    if (this.way.socket.fd.closed) throw new ClosedError(this.name);
    // What cannot be sent is the caller's fault, and no end of the connection.
    for (const fd of fds) if (fd.number < 0) throw new ClosedError(fd.target);
  }

  /**
   * Waits until a reply is current, and answers the commands that come before it.
   * @param deadline of `performance.now` @throws PeerGoneError, TimeoutError, ProtocolError, SyscallError
   */
  protected awaitReply(what: string, deadline: number): void {
    const late = () =>
      new TimeoutError(`${this.name}: no reply to ${what} within ${this.timeoutMs} ms`, {
        hint: "is the serving process stopped or busy?",
      });
    while (true) {
      // A peer that sends a byte now and then never lets the socket's own limit expire.
      if (performance.now() > deadline) throw late();
      if (!this.way.in.next()) {
        if (!this.#fill(deadline)) throw late();
      } else if (this.way.isReply) return;
      else this.way.answer();
    }
  }

  /**
   * As `awaitReply`, of what is there already. Nobody is waited for.
   * @returns whether the reply is current @throws PeerGoneError, ProtocolError, SyscallError
   */
  protected replyIsThere(): boolean {
    for (;;) {
      while (this.way.in.next()) {
        if (this.way.isReply) return true;
        this.way.answer();
      }
      const filled = this.way.in.fill(false);
      if (filled === "nothing") return false;
      if (filled === "end") throw this.way.in.endOfStream();
    }
  }

  /** Waits for more of the reply, and answers what comes on the twin. @returns false: nothing came for as long as the socket waits */
  #fill(deadline: number): boolean {
    const twin = this.#twin;
    if (twin !== null) {
      const leftMs = Math.ceil(deadline - performance.now());
      const ready = twin.epoll.waitBlocking(Math.min(Math.max(1, leftMs), LONGEST_WAIT_MS));
      if (ready === 0) return true;
      // The reply goes first: with it comes the end of the server, too.
      if (!twin.epoll.tags.subarray(0, ready).includes(0)) {
        this.#answerOn(twin.way);
        return true;
      }
    }
    try {
      if (this.way.in.fill(true) === "end") throw this.way.in.endOfStream();
      return true;
    } catch (error) {
      if (error instanceof TimeoutError) return false;
      throw error;
    }
  }

  /** Answers the commands that are there. @returns whether there were any. @throws PeerGoneError, ProtocolError, TimeoutError, SyscallError */
  #answerOn(way: W): boolean {
    // One read: a server that sends without end does not hold us for ever.
    if (way.in.fill(false) === "end") throw this.#gone();
    let any = false;
    while (way.in.next()) {
      if (way.isReply) throw new ProtocolError(`${this.name}: a reply to nothing (${way.title})`);
      way.answer();
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
      if (this.#broken !== null || this.way.socket.fd.closed) return;
      try {
        let any = this.#answerOn(this.way);
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

  get lifeline(): Lifeline {
    return this.#lifeline ??= {
      fds: this.#twin === null ? [this.way.socket.fd] : [this.way.socket.fd, this.#twin.way.socket.fd],
      answer: () => this.answer(),
      check: () => {
        this.answer();
        if (this.#broken !== null || this.way.socket.fd.closed) throw this.#reason();
      },
      reason: () => this.#reason(),
      onEnd: (handler) => this.#endHandlers.add(handler, "onEnd: handler"),
    };
  }

  #reason(): Error {
    if (this.#broken !== null) return this.#broken;
    return this.way.socket.fd.closed ? new ClosedError(this.name) : this.#gone();
  }

  #gone(): PeerGoneError {
    const { target } = this.way.socket.fd;
    const where = target === this.name ? "" : ` behind ${target}`;
    return new PeerGoneError(`${this.name}: the process that serves it${where} is gone`);
  }

  #release(): void {
    clearInterval(this.#looking);
    this.way.close();
    this.#twin?.way.close();
    this.#twin?.epoll.close();
    this.#endHandlers.tell();
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
