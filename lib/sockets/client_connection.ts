/**
 * One client's connection, from the server's side, whatever the protocol: what has arrived is carried out without waiting, and a client that
 * owes something is let go in time.
 *
 * @module
 */
import { PeerGoneError, TimeoutError } from "../errors/mod.ts";
import type { OwnedFd, UnixSocket } from "../../ffi/mod.ts";
import type { IncomingMessages, OutgoingMessage } from "./messages.ts";

/** How `ClientConnection.serve` left the connection. */
export type Served =
  /** All that was there is done; more may come. */
  | "open"
  /** The client is gone, or had to be let go: see `reason`. */
  | "ended";

/** How long a client may take, in milliseconds. */
export interface ClientPatience {
  /** To read the next byte of a reply. */
  readonly sendTimeoutMs: number;
  /** For the message by which it shows that it knows the protocol, and for each message from its first byte to its last. */
  readonly messageTimeoutMs: number;
}

// So that one client's stream of messages does not keep the host from its other devices; what is left in the socket wakes it again.
const FILLS_A_CALL = 16;
const MESSAGES_A_CALL = 256;

/** See the module. */
export abstract class ClientConnection<
  In extends IncomingMessages = IncomingMessages,
  Out extends OutgoingMessage = OutgoingMessage,
> {
  /** For messages: the client. */
  protected readonly what: string;
  /** What comes. */
  protected readonly in: In;
  /** What goes. */
  protected readonly out: Out;
  readonly #socket: UnixSocket;
  readonly #patience: ClientPatience;
  /** Messages that were carried out. */
  #handled = 0;
  /** More were there than one call carries out. */
  #interrupted = false;
  // Of the current call of `serve`: whether it goes on, what it came to, how often it has read, and at how many messages it ends.
  #going = false;
  #served: Served = "open";
  #fills = 0;
  #most = 0;
  /** What the client owes, since which message, and until when. */
  #owes: "nothing" | "greeting" | "message" | "reading" = "nothing";
  #owesSince = -1;
  #dueAt = Infinity;
  /** Why the connection ended; null when the client closed it between two messages. */
  reason: Error | null = null;

  /** Of an accepted socket, which is this object's from now on. */
  protected constructor(
    socket: UnixSocket,
    incoming: In,
    outgoing: Out,
    what: string,
    patience: ClientPatience,
  ) {
    this.#socket = socket;
    this.in = incoming;
    this.out = outgoing;
    this.what = what;
    this.#patience = patience;
  }

  /** What a client has to send first, for messages: `its VERSION`. */
  protected abstract readonly greeting: string;
  /** It has sent that. */
  abstract readonly greeted: boolean;
  /** The current message cannot be, which `reason` says: an answer may still be sent. */
  protected refuseMalformed(): void {}

  /** Why the connection cannot go on, where something else than its messages found it out. */
  protected get failure(): Error | null {
    return null;
  }

  /** The descriptor to wait on for more. */
  get fd(): OwnedFd {
    return this.#socket.fd;
  }

  /** Messages have been received that were not carried out, and no descriptor tells of them any more: `serve` is to be called. */
  get hasArrivals(): boolean {
    return this.#interrupted;
  }

  /** A reply waits until the client reads: the descriptor is to be watched for writing, and no more is read from it. */
  get blocked(): boolean {
    return this.out.waiting;
  }

  /** See `OneClientServer.exhausted`. */
  get exhausted(): boolean {
    return false;
  }

  /** When the client is to be let go unless it does something, in milliseconds of `performance.now`; `Infinity`: never. */
  get dueAt(): number {
    return this.failure === null ? this.#dueAt : 0;
  }

  /** Ends the connection when its client is overdue. */
  expire(nowMs: number): Served {
    if (this.failure !== null) return this.#end(this.failure);
    return nowMs < this.#dueAt ? "open" : this.#end(new TimeoutError(this.#overdue()));
  }

  #overdue(): string {
    const { sendTimeoutMs, messageTimeoutMs } = this.#patience;
    if (this.blocked) return `${this.what}: it has read nothing of a reply for ${sendTimeoutMs} ms`;
    if (!this.greeted) return `${this.what}: it has not sent ${this.greeting} within ${messageTimeoutMs} ms`;
    return `${this.what}: the message that it began ${messageTimeoutMs} ms ago is not complete`;
  }

  /**
   * Does what has arrived, without waiting for more or for the client to read its replies: `begin`, then `handle` for each message that `arrives`
   * and `carriedOut`, then `finish`. While one reply waits nothing more is read, so that a client which sends without reading costs one message of
   * memory.
   * @throws what the device throws by mistake (no error of this library); the connection has ended then.
   */
  abstract serve(): Served;

  /** Before the first message. */
  protected begin(): void {
    this.#served = "open";
    this.#fills = 0;
    if (this.failure !== null) return this.#stop(this.#end(this.failure));
    this.#going = true;
    this.#interrupted = false;
    this.#most = this.#handled + MESSAGES_A_CALL;
    if (!this.out.waiting) return;
    try {
      // Whatever the client takes shows that it is alive.
      if (this.out.flush() > 0) this.#dueAt = Infinity;
    } catch (error) {
      return this.#stop(this.#end(error as Error));
    }
    if (this.out.waiting) this.#stop("open");
  }

  /** @returns whether a message is current; false: this call of `serve` is over */
  protected arrives(): boolean {
    while (this.#going) {
      if (this.#nextMessage()) {
        this.#handled++;
        return true;
      }
      if (this.reason !== null) this.#stop("ended");
      else if (this.#fills++ === FILLS_A_CALL) this.#stop("open");
      else this.#fill();
    }
    return false;
  }

  /** What `handle` said of the current message. */
  protected carriedOut(goesOn: boolean): void {
    if (this.failure !== null) this.#stop(this.#end(this.failure));
    else if (!goesOn) this.#stop("ended");
    else if (this.out.waiting) this.#stop("open");
    else if (this.#handled === this.#most) {
      this.#interrupted = true;
      this.#stop("open");
    }
  }

  /** After the last message. */
  protected finish(): Served {
    if (this.#served === "open") this.#setDeadline();
    return this.#served;
  }

  #stop(served: Served): void {
    this.#going = false;
    this.#served = served;
  }

  #fill(): void {
    try {
      const filled = this.in.fill(false);
      if (filled === "nothing") this.#stop("open");
      else if (filled === "end") {
        if (this.in.pendingBytes > 0) this.reason = this.in.endOfStream();
        this.#stop("ended");
      }
    } catch (error) {
      this.#stop(this.#end(error as Error));
    }
  }

  /** What the client owes now, and until when. */
  #setDeadline(): void {
    const owes = this.out.waiting
      ? "reading"
      : !this.greeted
      ? "greeting"
      : this.in.pendingBytes > 0
      ? "message"
      : "nothing";
    const since = owes === "message" ? this.#handled : -1;
    if (owes === this.#owes && since === this.#owesSince && this.#dueAt !== Infinity) return;
    this.#owes = owes;
    this.#owesSince = since;
    if (owes === "nothing") this.#dueAt = Infinity;
    else {
      const { sendTimeoutMs, messageTimeoutMs } = this.#patience;
      this.#dueAt = performance.now() + (owes === "reading" ? sendTimeoutMs : messageTimeoutMs);
    }
  }

  /** Whom no reply or question reaches has left, as a process may at any time, whatever it sent before. */
  #end(reason: Error | null): Served {
    this.reason = reason instanceof PeerGoneError ? null : reason;
    return "ended";
  }

  #nextMessage(): boolean {
    try {
      return this.in.next();
    } catch (error) {
      this.reason = error as Error;
      this.refuseMalformed();
      return false;
    }
  }

  /** Lets go of the client. To be overridden, and called last. */
  close(): void {
    this.out.close();
    this.in.close();
    this.#socket.close();
  }
}
