/**
 * A vfio-user server for one function: a listening socket, and one client at a time.
 *
 * It never waits for a client. The process that hosts it watches `fds()` in its own loop and calls `handleReadable()` when one is
 * readable, or when the client's, while it is `blocked`, is writable. Clients that owe something are let go by `expire`.
 *
 * @module
 */
import { requireType, typedErrors } from "../../../errors/doors.ts";
import { ClosedError, UsageError } from "../../../errors/mod.ts";
import { errnoNumber, isErrno, type OwnedFd, UnixListener, type UnixSocket } from "../../../../ffi/mod.ts";
import { AnswerBudget } from "../../answer_budget.ts";
import { DmaTable } from "../../dma_table.ts";
import { COMMAND, HEADER_BYTES, LIMIT, MESSAGE_FLAG, messageHeader } from "../protocol.ts";
import type { ServedDevice } from "./served_device.ts";
import { type ConnectionLimits, ServerConnection } from "./connection.ts";
import type { UnsealedFiles } from "./dma.ts";

const CLIENTS_A_CALL = 8;
const LONGEST_MS = 3_600_000;
/** Default, least and most of each setting that is a number. */
const SETTINGS = {
  maxDataTransferBytes: [LIMIT.dataTransferBytes, 8, LIMIT.largestDataTransferBytes],
  maxMessageFds: [LIMIT.messageFds, 1, LIMIT.messageFds],
  maxDmaMaps: [32768, 1, LIMIT.dmaMaps],
  dmaTimeoutMs: [500, 1, LONGEST_MS],
  sendTimeoutMs: [10_000, 1, LONGEST_MS],
  messageTimeoutMs: [10_000, 1, LONGEST_MS],
} as const;

/** What the host's loop wants to hear. */
export interface ServerWatcher {
  /** A client connected: its descriptor is to be watched for reading. */
  connected?(fd: OwnedFd): void;
  /** The client is about to be let go: its descriptor is closed after this. `reason` is null when it left in an orderly way. */
  disconnecting?(fd: OwnedFd, reason: Error | null): void;
  /** A file that the client wanted to map is refused: it ends too soon, or is not sealed. Said once a client, which has no more than an errno. */
  refused?(reason: Error): void;
  /**
   * The client does not read its replies: from now on its descriptor is to be watched for writing instead of reading. False: the other way round.
   */
  blocked?(fd: OwnedFd, blocked: boolean): void;
}

/** Settings of a server, all optional. */
export interface VfioUserServerOptions {
  /** Data bytes in one transfer message; default 1 MiB, least 8. */
  readonly maxDataTransferBytes?: number;
  /** Descriptors in one message; default and most 64. */
  readonly maxMessageFds?: number;
  /** DMA mappings at a time; default 32768 (the kernel gives a process some 65,000 mappings in all). */
  readonly maxDmaMaps?: number;
  /** What becomes of files of the client that it could truncate: see `UnsealedFiles`. Default `copy`. */
  readonly unsealed?: UnsealedFiles;
  /**
   * How long this thread waits for answers to DMA_READ and DMA_WRITE, in milliseconds; default 500: for one, and for all of them together beyond
   * half of the time (see `exhausted`). A client that does not answer one gets no more of them.
   */
  readonly dmaTimeoutMs?: number;
  /** The same for all servers of a thread together, instead of `dmaTimeoutMs`. */
  readonly answers?: AnswerBudget;
  /**
   * How long a reply may wait for a client that does not read any of it, in milliseconds; default 10000. Then the client is let go. Nobody
   * else waits meanwhile.
   */
  readonly sendTimeoutMs?: number;
  /**
   * How long a client may take for its VERSION, and for each message from its first byte to its last, in milliseconds; default 10000. Then it
   * is let go, so that the next one gets the function.
   */
  readonly messageTimeoutMs?: number;
  /** Told of connections that come and go. */
  readonly watcher?: ServerWatcher;
}

/** Serves one device on one socket. */
export class VfioUserServer implements Disposable {
  static {
    typedErrors(this);
  }

  /** What is served. */
  readonly device: ServedDevice;
  /** The client's memory; empty while there is no client. */
  readonly dma: DmaTable = new DmaTable();
  readonly #listener: UnixListener;
  readonly #limits: ConnectionLimits;
  readonly #watcher: ServerWatcher;
  #connection: ServerConnection | null = null;
  #lastReason: Error | null = null;
  #toldBlocked = false;
  #closed = false;

  /** Takes the listener over. @throws UsageError for options that cannot be */
  constructor(device: ServedDevice, listener: UnixListener, options: VfioUserServerOptions = {}) {
    requireType(
      device,
      "object",
      "new VfioUserServer: device",
      "name",
      "readRegion",
      "writeRegion",
      "region",
    );
    requireType(listener, "object", "new VfioUserServer: listener", "fd", "accept", "close");
    this.device = device;
    this.#listener = listener;
    this.#limits = {
      maxDataTransferBytes: settingOf(options, "maxDataTransferBytes"),
      maxMessageFds: settingOf(options, "maxMessageFds"),
      maxDmaMaps: settingOf(options, "maxDmaMaps"),
      unsealed: options.unsealed ?? "copy",
      refused: (reason) => this.#watcher.refused?.(reason),
      answers: options.answers ?? new AnswerBudget(settingOf(options, "dmaTimeoutMs")),
      sendTimeoutMs: settingOf(options, "sendTimeoutMs"),
      messageTimeoutMs: settingOf(options, "messageTimeoutMs"),
    };
    this.#watcher = options.watcher ?? {};
    this.dma.rests = () => this.exhausted;
  }

  /** Listens on `path`; a stale socket file is replaced. @throws SyscallError, UsageError */
  static listen(path: string, device: ServedDevice, options: VfioUserServerOptions = {}): VfioUserServer {
    using opened = new DisposableStack();
    const server = new VfioUserServer(device, opened.use(UnixListener.listen(path)), options);
    opened.move();
    return server;
  }

  /** Path of the socket. */
  get path(): string {
    return this.#listener.path;
  }

  /** Readable when a client wants to connect. @throws ClosedError */
  get listenerFd(): OwnedFd {
    if (this.#closed) throw new ClosedError(`server of ${this.device.name}`);
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

  /** True while a client is connected and has negotiated the version. */
  get connected(): boolean {
    return this.#connection?.attached ?? false;
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
    if (this.#closed) throw new ClosedError(`server of ${this.device.name}`);
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
   * never take more than half of the time, and hold up nobody for longer than `dmaTimeoutMs`.
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
        refuse(socket);
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

  #connect(socket: UnixSocket): void {
    try {
      this.#connection = new ServerConnection(socket, this.device, this.dma, this.#limits);
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

function settingOf(options: VfioUserServerOptions, name: keyof typeof SETTINGS): number {
  const [fallback, least, most] = SETTINGS[name];
  const chosen = options[name] ?? fallback;
  if (!Number.isSafeInteger(chosen) || chosen < least || chosen > most) {
    throw new UsageError(`${name} ${chosen} is not between ${least} and ${most}`);
  }
  return chosen;
}

/** Tells a second client that the function is taken. Its VERSION need not be there yet; then its id is unknown. */
function refuse(socket: UnixSocket): void {
  try {
    const request = new Uint8Array(new ArrayBuffer(HEADER_BYTES));
    const received = socket.receive(request, { wait: false });
    for (const fd of received?.fds ?? []) fd.close();
    const { messageId } = messageHeader.decode(request);
    // A socket that nothing was sent on has room for a header.
    socket.sendSome(messageHeader.encode({
      messageId,
      command: COMMAND.version,
      messageBytes: HEADER_BYTES,
      flags: MESSAGE_FLAG.typeReply | MESSAGE_FLAG.error,
      errorNumber: errnoNumber.EBUSY!,
    }));
  } catch {
    // It has gone already, or broke the protocol: nothing to tell it.
  } finally {
    socket.close();
  }
}
