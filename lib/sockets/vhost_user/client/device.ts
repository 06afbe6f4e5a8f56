/**
 * A virtio device that another process serves over the vhost-user protocol.
 *
 * @module
 */
import { type OwnedFd, sleepBlocking, UnixListener, UnixSocket } from "../../../../ffi/mod.ts";
import { requireType, typedErrors } from "../../../errors/doors.ts";
import { ClosedError, PeerGoneError, TimeoutError, UnsupportedError } from "../../../errors/mod.ts";
import { type DmaSpace, PooledDmaSpace } from "../../../memory/mod.ts";
import { EndHandlers } from "../../../wait/end_handlers.ts";
import type { Lifeline } from "../../../wait/lifeline.ts";
import { MovableLifeline } from "../../../wait/movable_lifeline.ts";
import { PROTOCOL_FEATURE, protocolFeatureNames, REQUEST, VHOST_FEATURE } from "../protocol.ts";
import {
  Absence,
  acceptWithin,
  type Connect,
  type Greeted,
  knock,
  type Patience,
  RETRY_MS,
} from "./absence.ts";
import type { FrontEndChannel } from "./channel.ts";
import { checkOptions, DEFAULT_TIMEOUT_MS, type VhostUserOptions } from "./options.ts";
import { RegionTable } from "./regions.ts";

/** Protocol features that are accepted. */
const WANTED = PROTOCOL_FEATURE.MQ | PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.BACKEND_REQ |
  PROTOCOL_FEATURE.CONFIG | PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.RESET_DEVICE |
  PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS | PROTOCOL_FEATURE.STATUS;
/** How often whoever does nothing looks after the connection. */
const LOOK_MS = 10;

/** What there is of a back end, without what is not used. */
interface Agreed {
  readonly features: bigint;
  readonly protocolFeatures: bigint;
}

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

  readonly #connect: Connect;
  readonly #patience: Patience;
  readonly #regions: RegionTable;
  readonly #pools: PooledDmaSpace;
  readonly #movable: MovableLifeline;
  readonly #ends = new EndHandlers();
  readonly #look: ReturnType<typeof setInterval>;
  #channel: FrontEndChannel;
  /** While the back end is lost. */
  #lost: Absence | null = null;
  /** Why it is gone for good. */
  #end: Error | null = null;
  #returning = false;
  #returns = 0;
  #configChanged = false;
  #onConfigChange: () => void = () => {};
  #onReturn: () => void = () => {};
  #closed = false;
  /** Where back ends connect; closed with this. */
  #listener: UnixListener | null = null;

  private constructor(connect: Connect, options: VhostUserOptions, name: string) {
    this.#connect = connect;
    this.name = name;
    this.deviceId = options.deviceId;
    this.mac = options.mac?.slice();
    const { timeoutMs = DEFAULT_TIMEOUT_MS, reconnectMs = 0 } = options;
    this.#patience = { timeoutMs, reconnectMs };
    this.#regions = new RegionTable(name, (act) => this.#closed || this.#end !== null || this.use(act));
    const channel = this.#channel = knock(connect, name, timeoutMs);
    const { features, protocolFeatures } = this.#greet(channel);
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
    return VhostUserDevice.over((timeoutMs) => UnixSocket.connect(socketPath, timeoutMs), {
      name: socketPath,
      ...checked,
    });
  }

  /**
   * Listens on a socket, and waits for a back end to connect, no longer than `timeoutMs`; for a lost one that connects again, no longer than `reconnectMs`. A
   * stale socket file is replaced.
   * @throws UsageError, SyscallError (somebody listens there), PeerGoneError, TimeoutError (nobody connects), ProtocolError
   */
  static listen(socketPath: string, options: VhostUserOptions): VhostUserDevice {
    requireType(socketPath, "string", "VhostUserDevice.listen: socketPath");
    const checked = checkOptions(options);
    using opened = new DisposableStack();
    const listener = opened.use(UnixListener.listen(socketPath));
    const connect = (timeoutMs: number) => acceptWithin(listener, timeoutMs);
    const device = new VhostUserDevice(connect, checked, checked.name ?? socketPath);
    device.#listener = listener;
    opened.move();
    return device;
  }

  /**
   * As `connect`, on sockets that the caller connects.
   * @param connect gives the first, and then one each time when a lost back end is looked for. They are taken over. It may wait so many milliseconds
   */
  static over(connect: (timeoutMs: number) => UnixSocket, options: VhostUserOptions): VhostUserDevice {
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
   * A back end that is back cannot be brought to where the lost one was: the device is gone.
   * @internal
   */
  giveUp(why: Error): void {
    if (this.#closed || this.#end !== null) return;
    this.#finish(why);
    this.#channel.close();
  }

  /**
   * What the back end finds at an address, in this process. @throws UsageError when there is nothing
   * @internal
   */
  bytesAt(iova: bigint, lengthBytes: number): Uint8Array<ArrayBuffer> {
    return this.#pools.bytesAt(iova, lengthBytes);
  }

  /** Waits for the answer of one that was knocked at, and agrees with it. */
  #greet(channel: FrontEndChannel): Agreed {
    try {
      return this.#agree({ channel, features: channel.awaitHeard(REQUEST.getFeatures) });
    } catch (error) {
      channel.close();
      throw error;
    }
  }

  /** Agrees with a back end on protocol features, and tells it of the memory. */
  #agree({ channel, features }: Greeted): Agreed {
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
    return { features: features & ~VHOST_FEATURE.LOG_ALL, protocolFeatures };
  }

  /** Sees whether the channel has broken. */
  #notice(): void {
    const { broken } = this.#channel;
    if (broken === null || this.#lost !== null || this.#end !== null || this.#returning) return;
    if (this.#closed) return;
    const patience = this.#patience;
    const lost = broken instanceof PeerGoneError || broken instanceof TimeoutError;
    if (!lost || patience.reconnectMs === 0) return this.#finish(broken);
    const absence = new Absence(this.#connect, this.name, patience, broken);
    this.#movable.move(() => {
      this.#lost = absence;
    });
  }

  /** Gone for good. */
  #finish(error: Error): void {
    this.#end = error;
    this.#lost?.[Symbol.dispose]();
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
      const greeted = lost.look();
      if (greeted === undefined || !this.#begin(lost, greeted)) {
        const { over } = lost;
        if (over !== undefined) this.#finish(over);
        return;
      }
    } catch (error) {
      return this.#finish(error as Error);
    } finally {
      this.#returning = false;
    }
    this.#movable.move(() => {
      this.#lost = null;
      this.#returns++;
    });
    lost[Symbol.dispose]();
  }

  /** Brings a back end that has answered to where the lost one was. @returns false when it is gone again @throws what it is not as it was before */
  #begin(lost: Absence, greeted: Greeted): boolean {
    const { channel } = greeted;
    try {
      const { features, protocolFeatures } = this.#agree(greeted);
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
      return true;
    } catch (error) {
      channel.close();
      lost.failed(error);
      return false;
    }
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
      if (this.#lost.due()) this.#tryReturn();
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
    const fds = () => this.#lost === null ? this.#channel.lifeline.fds : [this.#lost.fd];
    return {
      get fds(): readonly OwnedFd[] {
        return fds();
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
    this.#lost?.[Symbol.dispose]();
    this.#lost = null;
    this.#channel.close();
    this.#listener?.close();
    this.dma.close();
    this.#ends.tell();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
