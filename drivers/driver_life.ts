/**
 * The life of a driver: opened, reset as often as need be, closed once. All drivers have it.
 *
 * @module
 */
import { ClosedError, DeviceError, UnsupportedError } from "../lib/errors/mod.ts";
import { VirtioDevice } from "../lib/virtio/device.ts";
import type { QueueState } from "../lib/virtio/spec/queue_state.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import type { Waiter, WaitTarget } from "../lib/wait/waiter.ts";
import type { DriverOptions } from "./driver_options.ts";
import { Session } from "./session.ts";

/** What a driver drives. */
export interface DriverKind {
  /** For messages: `block device`. */
  readonly what: string;
  /** Virtio id. Default: any. */
  readonly deviceId?: number;
  /** What it relies on that a legacy device does not promise. Default: nothing, it drives them, too. */
  readonly modernOnly?: string;
}

/** What a driver makes of a session: its queues, and what it knows of the device. */
export interface DriverParts {
  /** An interrupt may mean a change of the config space, or that the device stopped. @throws DeviceError when it did */
  configChanged(): void;
  /** What needs a running device: once, before the driver is open. When it fails, the session ends. */
  begin?(): Promise<void>;
  /** The device is about to be reset. */
  end?(): void;
}

/** @throws UnsupportedError when it is no such device */
export function checkKind(transport: VirtioTransport, { what, deviceId, modernOnly }: DriverKind): void {
  if (deviceId !== undefined && transport.deviceId !== deviceId) {
    throw new UnsupportedError(`${transport.name} is no ${what}: its virtio id is ${transport.deviceId}`);
  }
  if (modernOnly === undefined || !transport.legacy) return;
  throw new UnsupportedError(`${transport.name}: this driver does not drive legacy devices: ${modernOnly}`, {
    hint: "use the modern interface of the function",
  });
}

/** Owns at most one session. */
export class DriverLife<P extends DriverParts> {
  /** How the function is reached; its owner's. */
  readonly transport: VirtioTransport;
  /** The device, through all sessions. */
  readonly device: VirtioDevice;
  readonly #what: string;
  readonly #options: DriverOptions;
  readonly #build: (session: Session) => P;
  #session: Session | null = null;
  #parts: P | null = null;
  #interruptsBefore = 0;
  #resets = 0;
  /** Calls of `reset` that have not ended. */
  #resetting = 0;
  #settling: Promise<void> = Promise.resolve();
  #closed = false;

  /** No session yet. @param build brings the device up to DRIVER_OK; when it throws, what it had made is undone @throws UnsupportedError as `checkKind` */
  constructor(
    transport: VirtioTransport,
    kind: DriverKind,
    options: DriverOptions,
    build: (session: Session) => P,
  ) {
    checkKind(transport, kind);
    this.transport = transport;
    this.#what = kind.what;
    this.#options = options;
    this.#build = build;
    this.device = new VirtioDevice(transport, { resetTimeoutMs: options.resetTimeoutMs });
  }

  /** Resolves to the driver when the first session is under way; closes it when there will be none. @throws as `start` */
  async open<D>(driver: D): Promise<D> {
    try {
      await this.start();
      return driver;
    } catch (error) {
      this.close();
      await this.#settling;
      throw error;
    }
  }

  /** Begins a session. @returns undefined when nothing is left to be waited for @throws what `build` and `begin` throw */
  start(): Promise<void> | undefined {
    const session = new Session(this.device, this.#options, () => this.#parts?.configChanged());
    let parts: P;
    try {
      parts = this.#build(session);
    } catch (error) {
      session.stop();
      throw error;
    }
    this.#session = session;
    this.#parts = parts;
    return parts.begin === undefined ? undefined : this.#begin(parts, parts.begin());
  }

  async #begin(parts: P, begun: Promise<void>): Promise<void> {
    try {
      await begun;
    } catch (error) {
      // What overtook it may be another reset, with a session of its own.
      if (this.isLive(parts)) this.stop();
      await this.#settling;
      throw error;
    }
  }

  /** What the driver made. @throws ClosedError, DeviceError after a reset that failed */
  get live(): P {
    this.#check();
    return this.#parts!;
  }

  /** What the driver made; null while there is no session. */
  get parts(): P | null {
    return this.#parts;
  }

  /** True while `parts` are those of the session that lives. */
  isLive(parts: P): boolean {
    return this.#parts === parts;
  }

  /** The session's waiter. @throws as `live` */
  get waiter(): Waiter {
    this.#check();
    return this.#session!.waiter;
  }

  /**
   * As `Waiter.wait`. Silence may mean that the device stopped; a mere look (0 ms) is not worth a register access.
   * @param timeoutMs what the caller asked for @param leftMs of it: other work may have taken all
   * @throws DeviceError when it did
   */
  async wait(target: WaitTarget, timeoutMs: number, leftMs: number = timeoutMs): Promise<boolean> {
    const parts = this.live;
    if (await this.waiter.wait(target, leftMs)) return true;
    if (timeoutMs > 0 && this.isLive(parts)) this.device.checkAlive();
    return false;
  }

  /** Takes pending interrupts, and looks whether the config changed or the device stopped. @throws DeviceError when it did */
  service(): void {
    this.waiter.service();
    this.live.configChanged();
  }

  /** Why nothing comes of the device any more; null while something may. */
  get lost(): Error | null {
    return this.#session?.waiter.lost ?? null;
  }

  /** Kind of interrupt in use. @throws as `live` */
  get interruptKind(): InterruptKind {
    this.#check();
    return this.#session!.interruptKind;
  }

  /** Interrupts taken so far, in all sessions. */
  get interrupts(): number {
    return this.#interruptsBefore + (this.#session?.waiter.interrupts ?? 0);
  }

  /** Times that the device was reset after the first start. */
  get resets(): number {
    return this.#resets;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves when nothing of the waits that `stop` interrupted is left. */
  get settled(): Promise<void> {
    return this.#settling;
  }

  /** Ends the session. @returns why the device's reset failed; undefined when it did not */
  stop(): unknown {
    const session = this.#session;
    if (session === null) return undefined;
    try {
      this.#parts!.end?.();
    } catch {
      // The function is closed, or its peer is gone: the rest is to be let go of all the same.
    }
    this.#session = null;
    this.#parts = null;
    this.#interruptsBefore += session.waiter.interrupts;
    const failure = session.stop();
    this.#settling = session.waiter.settled;
    return failure;
  }

  /**
   * Stops the device by a reset, has `save` take what is in its queues, and closes for good, whatever comes of it.
   * @throws what `VirtioDevice.suspend` and `save` throw
   */
  suspend<T>(save: (parts: P, states: ReadonlyMap<number, QueueState>) => T): T {
    const parts = this.live;
    try {
      return save(parts, this.device.suspend());
    } finally {
      this.close();
    }
  }

  /** Ends the session, and begins another unless another reset has been quicker. @throws ClosedError, why the reset failed, as `start` */
  async reset(): Promise<void> {
    if (this.#closed) this.#refuse();
    this.#resetting++;
    try {
      const failure = this.stop();
      await this.#settling;
      // Whoever waited may have closed it on hearing of the reset.
      if (this.#closed) this.#refuse();
      if (failure !== undefined) throw failure;
      // Another reset that was called meanwhile has brought it up already.
      if (this.#session !== null) return;
      this.#resets++;
      await this.start();
    } finally {
      this.#resetting--;
    }
  }

  /** Ends the session for good. May be called again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.stop();
    this.device.close();
  }

  /** That it is closed. */
  gone(): ClosedError {
    return new ClosedError(`${this.#what} ${this.transport.name}`);
  }

  #check(): void {
    if (this.#session === null || this.#closed || this.transport.closed) this.#refuse();
    if (this.lost !== null) throw this.lost;
  }

  #refuse(): never {
    if (this.#closed || this.transport.closed) throw this.gone();
    const [why, hint] = this.#resetting > 0
      ? ["the device is being reset", "wait for reset()"]
      : ["the device is stopped after a failed reset", "call reset() again, or close it"];
    throw new DeviceError(why!, { function: this.transport.name }, { hint: hint! });
  }
}
