/**
 * A virtio device that another process serves over the vhost-user protocol.
 *
 * @module
 */
import { isErrno, type OwnedFd, sleepBlocking, TimerFd, UnixSocket } from "../../../../ffi/mod.ts";
import { requireType, typedErrors } from "../../../errors/doors.ts";
import {
  ClosedError,
  PeerGoneError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";
import { type DmaSpace, PooledDmaSpace } from "../../../memory/mod.ts";
import { EndHandlers } from "../../../wait/end_handlers.ts";
import type { Lifeline } from "../../../wait/lifeline.ts";
import { MovableLifeline } from "../../../wait/movable_lifeline.ts";
import { PROTOCOL_FEATURE, protocolFeatureNames, REQUEST, VHOST_FEATURE } from "../protocol.ts";
import { FrontEndChannel } from "./channel.ts";
import { RegionTable } from "./regions.ts";

/** How to connect. */
export interface VhostUserOptions {
  /** Virtio device id, which the protocol does not say: 1 net, 2 block, 4 entropy, … */
  readonly deviceId: number;
  /** For messages. Default: the socket's path. */
  readonly name?: string;
  /** How long a request may wait for the back end, in milliseconds; default 5000. A request that waits longer breaks the connection. */
  readonly timeoutMs?: number;
  /**
   * How long to wait for a back end that was lost to listen again, in milliseconds. Queues then go on where they were: what was in flight is done again,
   * perhaps for the second time. Default 0: the device is gone with its back end.
   */
  readonly reconnectMs?: number;
  /** Address of a network device whose back end does not know one: six bytes. */
  readonly mac?: Uint8Array;
}

/** Protocol features that are accepted. */
const WANTED = PROTOCOL_FEATURE.MQ | PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.BACKEND_REQ |
  PROTOCOL_FEATURE.CONFIG | PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.RESET_DEVICE |
  PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS | PROTOCOL_FEATURE.STATUS;
const DEFAULT_TIMEOUT_MS = 5000;
/** Between two looks whether a back end is back. */
const RETRY_MS = 10;
/** How often whoever does nothing looks after the connection. */
const LOOK_MS = 10;
const MAC_BYTES = 6;

/**
 * The connection and the memory of a front end; what a device does with them is the transport's. Calls block this thread until the back end has answered.
 *
 * A back end that is gone ends the device, unless `reconnectMs` says to wait for it: then calls block until it is back, and whoever waits goes on waiting.
 */
export class VhostUserDevice implements Disposable {
  static {
    typedErrors(this);
  }

  /** For messages. */
  readonly name: string;
  /** Virtio device id, as given. */
  readonly deviceId: number;
  /** As given. */
  readonly mac: Uint8Array | undefined;
  /** Memory that the back end reaches. */
  readonly dma: DmaSpace;
  /** Ends when the back end is gone for good. It moves when the back end is lost, and when it is back. */
  readonly lifeline: Lifeline;
  /** Features of GET_FEATURES, without LOG_ALL, which is for machines that move. */
  readonly features: bigint;
  /** Those in force. */
  readonly protocolFeatures: bigint;

  readonly #connect: () => UnixSocket;
  readonly #timeoutMs: number;
  readonly #reconnectMs: number;
  readonly #regions: RegionTable;
  readonly #pools: PooledDmaSpace;
  readonly #movable: MovableLifeline;
  readonly #ends = new EndHandlers();
  readonly #look: ReturnType<typeof setInterval>;
  #channel: FrontEndChannel;
  /** While the back end is lost. */
  #lost: { readonly timer: TimerFd; readonly until: number; readonly why: PeerGoneError } | null = null;
  /** Why it is gone for good. */
  #end: Error | null = null;
  #returning = false;
  #returns = 0;
  #configChanged = false;
  #onConfigChange: () => void = () => {};
  #onReturn: () => void = () => {};
  #closed = false;

  private constructor(connect: () => UnixSocket, options: VhostUserOptions, name: string) {
    this.#connect = connect;
    this.name = name;
    this.deviceId = options.deviceId;
    this.mac = options.mac?.slice();
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#reconnectMs = options.reconnectMs ?? 0;
    this.#regions = new RegionTable(name, (act) => this.#closed || this.#end !== null || this.use(act));
    const { channel, features, protocolFeatures } = this.#open();
    this.#channel = channel;
    this.features = features;
    this.protocolFeatures = protocolFeatures;
    this.dma = this.#pools = new PooledDmaSpace(this.#regions);
    this.#movable = new MovableLifeline(() => this.#link);
    this.lifeline = this.#movable;
    this.#look = setInterval(() => this.#attend(), LOOK_MS);
    // It is no reason for the process to go on.
    Deno.unrefTimer(this.#look);
  }

  /**
   * Connects to the socket of a back end.
   * @throws UsageError, SyscallError (nobody listens), PeerGoneError, TimeoutError, ProtocolError
   */
  static connect(socketPath: string, options: VhostUserOptions): VhostUserDevice {
    requireType(socketPath, "string", "VhostUserDevice.connect: socketPath");
    const checked = checkOptions(options);
    const timeoutMs = checked.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    return VhostUserDevice.over(() => UnixSocket.connect(socketPath, timeoutMs), {
      name: socketPath,
      ...checked,
    });
  }

  /**
   * As `connect`, on sockets that the caller connects.
   * @param connect gives the first, and then one each time when a lost back end is looked for. They are taken over
   */
  static over(connect: () => UnixSocket, options: VhostUserOptions): VhostUserDevice {
    requireType(connect, "function", "VhostUserDevice.over: connect");
    const checked = checkOptions(options);
    return new VhostUserDevice(connect, checked, checked.name ?? "vhost-user");
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Times that the back end was lost and came back. */
  get returns(): number {
    return this.#returns;
  }

  /** The back end is not there now: it may come back, or not. */
  get lost(): boolean {
    this.#notice();
    return this.#lost !== null || this.#end !== null;
  }

  /** Whether all these protocol features are in force. */
  has(protocolFeatures: bigint): boolean {
    return (this.protocolFeatures & protocolFeatures) === protocolFeatures;
  }

  /**
   * Sets what is called when the config space has changed, and when a back end is back: that sets up again, by `use`, what the one before was told. It must not
   * wait. What it throws is why the device is gone.
   * @internal
   */
  attach(onConfigChange: () => void, onReturn: () => void): void {
    requireType(onConfigChange, "function", "VhostUserDevice.attach: onConfigChange");
    requireType(onReturn, "function", "VhostUserDevice.attach: onReturn");
    this.#onConfigChange = onConfigChange;
    this.#onReturn = onReturn;
  }

  /**
   * Asks the back end something. When it is lost meanwhile and comes back, all of `act` is done again.
   * @throws what `act` throws; why the back end is gone; ClosedError
   * @internal
   */
  use<T>(act: (channel: FrontEndChannel) => T): T {
    for (;;) {
      if (this.#closed) throw new ClosedError(this.name);
      this.#notice();
      if (!this.#returning) this.#awaitReturn();
      if (this.#end !== null) throw this.#end;
      try {
        return act(this.#channel);
      } catch (error) {
        this.#notice();
        // Whoever sets up again is told by the failure; so is who was refused.
        if (this.#returning || this.#channel.broken === null || this.#lost === null) throw error;
      }
    }
  }

  /**
   * As `use`, for what has another answer while the back end is lost: whoever only looks must not hold its thread up until the back end is back.
   * @returns undefined while it is lost @throws as `use`
   * @internal
   */
  useIfThere<T>(act: (channel: FrontEndChannel) => T): T | undefined {
    if (this.#closed) throw new ClosedError(this.name);
    this.#notice();
    if (this.#lost !== null && !this.#returning) return undefined;
    if (this.#end !== null) throw this.#end;
    try {
      return act(this.#channel);
    } catch (error) {
      this.#notice();
      if (this.#returning || this.#channel.broken === null || this.#lost === null) throw error;
      return undefined;
    }
  }

  /**
   * What the back end finds at an address, in this process. @throws UsageError when there is nothing
   * @internal
   */
  bytesAt(iova: bigint, lengthBytes: number): Uint8Array<ArrayBuffer> {
    return this.#pools.bytesAt(iova, lengthBytes);
  }

  /** Connects, and agrees with the back end on protocol features. */
  #open(): { channel: FrontEndChannel; features: bigint; protocolFeatures: bigint } {
    const socket = this.#connect();
    socket.setTimeoutMs(this.#timeoutMs);
    const channel = new FrontEndChannel(socket, this.name, this.#timeoutMs);
    try {
      channel.tell(REQUEST.setOwner, new Uint8Array(0));
      const features = channel.askNumber(REQUEST.getFeatures);
      let protocolFeatures = 0n;
      if ((features & VHOST_FEATURE.PROTOCOL_FEATURES) !== 0n) {
        protocolFeatures = channel.askNumber(REQUEST.getProtocolFeatures) & WANTED;
        channel.tellNumber(REQUEST.setProtocolFeatures, protocolFeatures);
        channel.replyAck = (protocolFeatures & PROTOCOL_FEATURE.REPLY_ACK) !== 0n;
      }
      if ((protocolFeatures & PROTOCOL_FEATURE.BACKEND_REQ) !== 0n) {
        channel.listen(() => {
          this.#configChanged = true;
        });
      }
      this.#regions.begin(channel, protocolFeatures);
      return { channel, features: features & ~VHOST_FEATURE.LOG_ALL, protocolFeatures };
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  /** Sees whether the channel has broken. */
  #notice(): void {
    const { broken } = this.#channel;
    if (broken === null || this.#lost !== null || this.#end !== null || this.#returning) return;
    if (this.#closed) return;
    if (!(broken instanceof PeerGoneError) || this.#reconnectMs === 0) return this.#finish(broken);
    const timer = new TimerFd(RETRY_MS);
    this.#movable.move(() => {
      this.#lost = { timer, until: performance.now() + this.#reconnectMs, why: broken };
    });
  }

  /** Gone for good. */
  #finish(error: Error): void {
    this.#end = error;
    this.#lost?.timer.close();
    this.#lost = null;
    clearInterval(this.#look);
    this.#ends.tell();
  }

  /** One look whether a lost back end is back. */
  #tryReturn(): void {
    const lost = this.#lost;
    if (lost === null || this.#returning) return;
    this.#returning = true;
    try {
      const { channel, features, protocolFeatures } = this.#open();
      try {
        const lacks = this.protocolFeatures & ~protocolFeatures;
        if ((this.features & ~features) !== 0n || lacks !== 0n) {
          const which = lacks === 0n
            ? `features 0x${(this.features & ~features).toString(16)}`
            : protocolFeatureNames(lacks).join(", ");
          throw new UnsupportedError(`${this.name}: the back end came back without ${which}`, {
            hint: "start it as it was before",
          });
        }
        this.#channel = channel;
        this.#onReturn();
      } catch (error) {
        channel.close();
        throw error;
      }
    } catch (error) {
      this.#returning = false;
      const now = performance.now();
      if (!isAbsence(error)) this.#finish(error as Error);
      else if (now >= lost.until) {
        this.#finish(
          new PeerGoneError(`${lost.why.message}, and was not back within ${this.#reconnectMs} ms`, {
            hint: "start the back end, and open the device again",
            cause: error,
          }),
        );
      }
      return;
    }
    this.#returning = false;
    this.#movable.move(() => {
      this.#lost = null;
    });
    lost.timer.close();
    this.#returns++;
  }

  /** Blocks until the back end is back, or given up. */
  #awaitReturn(): void {
    while (this.#lost !== null) {
      this.#tryReturn();
      if (this.#lost !== null) sleepBlocking(RETRY_MS);
    }
  }

  /** Does what is to be done without waiting: requests of the back end, its loss, its return. */
  #attend(): void {
    if (this.#closed || this.#end !== null || this.#returning) return;
    if (this.#lost !== null) {
      if (this.#lost.timer.take()) this.#tryReturn();
    } else {
      this.#channel.answer();
      this.#notice();
    }
    if (this.#configChanged) {
      this.#configChanged = false;
      this.#onConfigChange();
    }
  }

  readonly #link: Lifeline = this.#makeLink();

  #makeLink(): Lifeline {
    const fd = () => this.#lost?.timer.fd ?? this.#channel.lifeline.fd;
    return {
      get fd(): OwnedFd {
        return fd();
      },
      answer: () => this.#attend(),
      check: () => {
        this.#attend();
        if (this.#closed || this.#end !== null) throw this.#reason();
      },
      reason: () => this.#reason(),
      onEnd: (handler) => this.#ends.add(handler, "onEnd: handler"),
    };
  }

  #reason(): Error {
    return this.#end ?? (this.#closed ? new ClosedError(this.name) : this.#channel.lifeline.reason());
  }

  /** Leaves the back end, and frees the memory. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#look);
    this.#lost?.timer.close();
    this.#lost = null;
    this.#channel.close();
    this.dma.close();
    this.#ends.tell();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Nobody listens, or who listened is gone again, or does not answer yet. */
function isAbsence(error: unknown): boolean {
  return error instanceof PeerGoneError || error instanceof TimeoutError ||
    isErrno(error, "ENOENT", "ECONNREFUSED", "ECONNRESET", "EPIPE");
}

/** The caller's fields, each read once. @throws UsageError */
function checkOptions(options: VhostUserOptions): VhostUserOptions {
  requireType(options, "object", "VhostUserDevice.connect: options");
  const { deviceId, name, timeoutMs, reconnectMs, mac } = options;
  if (!Number.isInteger(deviceId) || deviceId < 1 || deviceId > 63) {
    throw new UsageError(`vhost-user: virtio device id ${shown(deviceId)}`, {
      hint: "1 net, 2 block, 4 entropy, …",
    });
  }
  for (const [what, value] of [["timeoutMs", timeoutMs], ["reconnectMs", reconnectMs]] as const) {
    if (value !== undefined && !(typeof value === "number" && value >= 0 && value < 2 ** 31)) {
      throw new UsageError(`vhost-user: ${what} ${shown(value)}`);
    }
  }
  if (timeoutMs === 0) throw new UsageError("vhost-user: timeoutMs 0: nothing is answered at once");
  if (name !== undefined) requireType(name, "string", "VhostUserDevice.connect: name");
  if (mac !== undefined) {
    requireType(mac, "bytes", "VhostUserDevice.connect: mac");
    if (mac.byteLength !== MAC_BYTES || (mac[0]! & 1) !== 0) {
      throw new UsageError(`vhost-user: a MAC address of ${mac.byteLength} bytes, or one of a group`);
    }
  }
  return {
    deviceId,
    ...(name === undefined ? {} : { name }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(reconnectMs === undefined ? {} : { reconnectMs }),
    ...(mac === undefined ? {} : { mac }),
  };
}
