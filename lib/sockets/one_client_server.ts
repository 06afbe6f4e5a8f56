/**
 * A listening socket, and one client at a time.
 *
 * It never waits for a client. The process that hosts it watches `fds()` in its own loop and calls `handleReadable()` when one is
 * readable, or when the client's, while it is `blocked`, is writable. Clients that owe something are let go by `expire`.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { isErrno, type OwnedFd, type UnixSocket } from "../../ffi/mod.ts";
import type { ClientConnection } from "./client_connection.ts";

const CLIENTS_A_CALL = 8;
const LONGEST_MS = 3_600_000;

/** What the host's loop wants to hear. */
export interface ServerWatcher {
  /** A client connected: its descriptor is to be watched for reading. */
  connected?(fd: OwnedFd): void;
  /** The client is about to be let go: its descriptor is closed after this. `reason` is null when it left in an orderly way. */
  disconnecting?(fd: OwnedFd, reason: Error | null): void;
  /**
   * Something that the client asked for is refused, and it is told no more than that: what it wanted to map ends too soon, or is not sealed (said
   * once a client); a message cannot be carried out.
   */
  refused?(reason: Error): void;
  /**
   * The client does not read its replies: from now on its descriptor is to be watched for writing instead of reading. False: the other way round.
   */
  blocked?(fd: OwnedFd, blocked: boolean): void;
}

/** Where clients come from: a listening socket, or one that connects to them. */
export interface ClientSource extends Disposable {
  /** Path of the socket. */
  readonly path: string;
  /** Readable when there may be one. */
  readonly fd: OwnedFd;
  /** The next; undefined: there is none. @throws SyscallError */
  accept(): UnixSocket | undefined;
  /** Takes no more. */
  close(): void;
}

/** What a protocol does with those who connect. */
export interface ClientHandling {
  /** Takes a client's socket over. @throws what keeps it from being served */
  serve(socket: UnixSocket): ClientConnection;
  /** Turns a client away, whose socket is closed afterwards: another is there. */
  refuse?(socket: UnixSocket): void;
}

/** See the module. */
export abstract class OneClientServer implements Disposable {
  static {
    typedErrors(this);
  }

  /** What is served, for messages. */
  readonly #what: string;
  readonly #listener: ClientSource;
  readonly #handling: ClientHandling;
  readonly #watcher: ServerWatcher;
  #connection: ClientConnection | null = null;
  #lastReason: Error | null = null;
  #toldBlocked = false;
  #closed = false;

  /** Takes the listener over. @param what is served, for messages @param watcher told of clients */
  protected constructor(
    listener: ClientSource,
    what: string,
    handling: ClientHandling,
    watcher: ServerWatcher = {},
  ) {
    this.#listener = listener;
    this.#what = what;
    this.#handling = handling;
    this.#watcher = watcher;
  }

  /** Path of the socket. */
  get path(): string {
    return this.#listener.path;
  }

  /** Readable when a client wants to connect. @throws ClosedError */
  get listenerFd(): OwnedFd {
    if (this.#closed) throw new ClosedError(`server of ${this.#what}`);
    return this.#listener.fd;
  }

  /** Readable when the client has sent something or is gone; null while there is no client. */
  get connectionFd(): OwnedFd | null {
    return this.#connection?.fd ?? null;
  }

  /** All descriptors to watch for reading now. The set changes when a client comes or goes: see `ServerWatcher`. */
  fds(): OwnedFd[] {
    const connection = this.connectionFd;
    return connection === null ? [this.listenerFd] : [this.listenerFd, connection];
  }

  /** True while a client is connected and has shown that it knows the protocol (vfio-user: by its VERSION). */
  get connected(): boolean {
    return this.#connection?.greeted ?? false;
  }

  /** Why the last client was let go; null when it left in an orderly way, or none has been there. */
  get lastReason(): Error | null {
    return this.#lastReason;
  }

  /**
   * Does what is ready, on the connection and on the listener. Never waits.
   * @throws ClosedError; what the device throws by mistake (errors of this library become error replies), after its client was let go
   */
  handleReadable(): void {
    if (this.#closed) throw new ClosedError(`server of ${this.#what}`);
    this.handleConnection();
    this.handleListener();
  }

  /** As `handleReadable`, for the connection alone. */
  handleConnection(): void {
    const connection = this.#connection;
    if (connection === null) return;
    let ended = true;
    try {
      ended = connection.serve() === "ended";
    } finally {
      if (ended) this.#disconnect(connection.reason);
    }
    // The device may have let its client go.
    if (ended || this.#connection !== connection || connection.blocked === this.#toldBlocked) return;
    this.#toldBlocked = connection.blocked;
    this.#watcher.blocked?.(connection.fd, connection.blocked);
  }

  /** When `expire` should be called, in milliseconds of `performance.now`; `Infinity` while the client owes nothing. */
  get dueAt(): number {
    const connection = this.#connection;
    return connection === null ? Infinity : connection.hasArrivals ? 0 : connection.dueAt;
  }

  /**
   * The device has waited for its client's memory for so long that others come first: its work should rest until this is false. Then answers
   * never take more than half of the time, and hold up nobody for longer than their limit.
   */
  get exhausted(): boolean {
    return this.#connection?.exhausted ?? false;
  }

  /** A reply waits until the client reads. */
  get blocked(): boolean {
    return this.#connection?.blocked ?? false;
  }

  /**
   * Lets a client go that has been silent, or has read nothing, for too long; and does what the client asked for while it was itself asked for
   * memory. To be called from time to time, and at `dueAt`, which a device's access to far memory may have brought forward.
   */
  expire(nowMs: number = performance.now()): void {
    const connection = this.#connection;
    if (connection === null) return;
    if (connection.expire(nowMs) === "ended") this.#disconnect(connection.reason);
    else if (connection.hasArrivals) this.handleConnection();
  }

  /** As `handleReadable`, for the listener alone. Who keeps connecting keeps nobody waiting: what is left wakes the host again. */
  handleListener(): void {
    for (let i = 0; i < CLIENTS_A_CALL; i++) {
      const socket = this.#accept();
      if (socket === undefined) return;
      // A client that has just died, or is overdue, must not keep the next one out.
      if (this.#connection !== null) this.handleConnection();
      this.expire();
      if (this.#connection !== null) {
        this.#turnAway(socket);
        continue;
      }
      this.#connect(socket);
      this.handleConnection();
    }
  }

  #accept(): UnixSocket | undefined {
    try {
      return this.#listener.accept();
    } catch (error) {
      // Out of descriptors: this client was let go, the others stay.
      if (isErrno(error, "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EINTR")) return undefined;
      throw error;
    }
  }

  #turnAway(socket: UnixSocket): void {
    try {
      this.#handling.refuse?.(socket);
    } catch {
      // It has gone already, or broke the protocol: nothing to tell it.
    } finally {
      socket.close();
    }
  }

  #connect(socket: UnixSocket): void {
    try {
      this.#connection = this.#handling.serve(socket);
      this.#watcher.connected?.(socket.fd);
    } catch (error) {
      this.#connection = null;
      socket.close();
      throw error;
    }
  }

  #disconnect(reason: Error | null): void {
    const connection = this.#connection;
    if (connection === null) return;
    this.#connection = null;
    this.#toldBlocked = false;
    this.#lastReason = reason;
    try {
      this.#watcher.disconnecting?.(connection.fd, reason);
    } finally {
      connection.close();
    }
  }

  /** Lets the client go, if there is one, and waits for the next. */
  disconnect(): void {
    this.#disconnect(null);
  }

  /** Lets the client go, closes the listener and removes its socket file. The device stays its owner's. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.disconnect();
    } finally {
      this.#listener.close();
    }
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** How long clients may take; see `ClientPatience`. */
export const PATIENCE = {
  sendTimeoutMs: [10_000, 1, LONGEST_MS],
  messageTimeoutMs: [10_000, 1, LONGEST_MS],
} as const;

/** What `options` say of a setting, or its default. @throws UsageError when it cannot be */
export function settingOf<Name extends string>(
  settings: Readonly<Record<Name, readonly [number, number, number]>>,
  options: { readonly [N in Name]?: number },
  name: Name,
): number {
  const [fallback, least, most] = settings[name];
  const chosen = options[name] ?? fallback;
  if (!Number.isSafeInteger(chosen) || chosen < least || chosen > most) {
    throw new UsageError(`${name} ${chosen} is not between ${least} and ${most}`);
  }
  return chosen;
}
