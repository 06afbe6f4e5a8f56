/**
 * The life of a driver: opened, reset as often as need be, closed once. All drivers share it.
 *
 * @module
 */
import { ClosedError, DeviceError, UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import { VirtioDevice } from "../lib/virtio/device.ts";
import { bindInterrupts, type BoundInterrupts, type InterruptChoice } from "../lib/virtio/interrupts.ts";
import type { QueueState } from "../lib/virtio/queue/queue_state.ts";
import type { Virtqueue } from "../lib/virtio/queue/virtqueue.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import { Waiter, type WaitMode } from "../lib/virtio/waiter.ts";

/** How a driver waits for its device. */
export interface WaitOptions {
  /** Default `auto`: MSI-X, else INTx, else polling. */
  readonly interrupts?: InterruptChoice;
  /** Default `adaptive`, or `poll` without interrupts. */
  readonly wait?: WaitMode;
  /** How long an adaptive wait spins, in microseconds. Default 50. */
  readonly spinMicroseconds?: number;
  /** How long a reset of the device may take, in milliseconds. Default: the transport's. */
  readonly resetTimeoutMs?: number;
}

/** MSI-X vectors beyond those of config space and queues. */
export interface SpareVectors {
  /** How many, as far as the device has them. */
  readonly count: number;
  /** One of them was raised. */
  onSignal(vector: number): void;
}

/**
 * For a driver that knows the modern device only.
 * @param why what it relies on that a legacy device does not promise @throws UnsupportedError
 */
export function refuseLegacy(transport: VirtioTransport, why: string): void {
  if (!transport.legacy) return;
  throw new UnsupportedError(`${transport.name}: this driver does not drive legacy devices: ${why}`, {
    hint: "use the modern interface of the function",
  });
}

/** Everything of a device that lives from one reset to the next. */
export class Session {
  /** The device, reset, and then as far as the driver brought it. */
  readonly device: VirtioDevice;
  readonly #owned: Disposable[] = [];
  #interrupts: BoundInterrupts | null = null;
  #waiter: Waiter | null = null;

  /** Owns nothing yet. */
  constructor(device: VirtioDevice) {
    this.device = device;
  }

  /** Closes it when the session ends, after the device is reset and before what was owned earlier. */
  own<T extends Disposable>(one: T): T {
    this.#owned.push(one);
    return one;
  }

  /**
   * Turns interrupts on for the config space and these queues, and makes the waiter.
   * @param onConfig called when an interrupt may mean a change of the config space
   * @param spare MSI-X vectors for what the device type binds to vectors itself
   * @throws UnsupportedError, DeviceError, UsageError, SyscallError
   */
  listen(options: WaitOptions, queues: readonly number[], onConfig: () => void, spare?: SpareVectors): void {
    const { transport } = this.device;
    const interrupts = bindInterrupts(transport, options.interrupts ?? "auto", queues, spare?.count ?? 0);
    this.own({ [Symbol.dispose]: () => transport.closed || transport.disableInterrupts() });
    this.#interrupts = interrupts;
    const mode = options.wait ?? (interrupts.kind === "none" ? "poll" : "adaptive");
    if (mode !== "poll" && interrupts.kind === "none") {
      throw new UsageError(`${transport.name}: wait mode "${mode}" without interrupts`, {
        hint: 'use wait: "poll"',
      });
    }
    const waiter = this.own(
      new Waiter({
        mode,
        ...(options.spinMicroseconds === undefined ? {} : { spinMicroseconds: options.spinMicroseconds }),
      }),
    );
    if (transport.lifeline !== undefined) waiter.watchLifeline(transport.lifeline);
    this.#waiter = waiter;
    interrupts.vectors.forEach((vector, at) => {
      if (interrupts.carriesConfig(at)) waiter.watch(vector, (isr) => void ((isr & 2) !== 0 && onConfig()));
      else if (interrupts.spareVectors.includes(at)) waiter.watch(vector, () => spare?.onSignal(at));
      else waiter.watch(vector);
    });
  }

  /** Vectors that `listen` turned on for `spare`. */
  get spareVectors(): readonly number[] {
    return this.#interrupts?.spareVectors ?? [];
  }

  /** Sets a queue up, with the vector that `listen` chose for it. @param start as `VirtqueueOptions.start` @throws as `VirtioDevice.createQueue` */
  queue(index: number, size: number, maxSegments = 0, start?: QueueState): Virtqueue {
    const vector = this.#interrupts?.queueVector(index);
    return this.device.createQueue(index, {
      size,
      maxSegments,
      ...(start === undefined ? {} : { start }),
      ...(vector === undefined ? {} : { vector }),
    });
  }

  /** After `listen`. */
  get waiter(): Waiter {
    return this.#waiter!;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#interrupts?.kind ?? "none";
  }

  /**
   * Resets the device, then lets everything go: a device that does not reset loses its memory all the same. Never throws.
   * @returns why the reset failed; undefined when it did not
   */
  stop(): unknown {
    const failure = this.device.stop();
    for (const one of this.#owned.splice(0).reverse()) {
      try {
        one[Symbol.dispose]();
      } catch {
        // The device does not reset, or the peer is gone. What is left to do is to let go of the rest.
      }
    }
    return failure;
  }
}

/** Owns at most one session. `P` is what the driver made in it. */
export class SessionOwner<P> {
  /** How the function is reached; its owner's. */
  readonly transport: VirtioTransport;
  /** The device, through all sessions. */
  readonly device: VirtioDevice;
  readonly #what: string;
  #session: Session | null = null;
  #parts: P | null = null;
  #interruptsBefore = 0;
  #resets = 0;
  #settling: Promise<void> = Promise.resolve();
  #closed = false;

  /** No session yet. @param what for messages: `block device` */
  constructor(transport: VirtioTransport, what: string, resetTimeoutMs?: number) {
    this.transport = transport;
    this.#what = what;
    this.device = new VirtioDevice(transport, resetTimeoutMs === undefined ? {} : { resetTimeoutMs });
  }

  /** Begins a session; when `build` throws, what it had made is undone. @throws what `build` throws */
  start(build: (session: Session) => P): P {
    const session = new Session(this.device);
    try {
      this.#parts = build(session);
      this.#session = session;
      return this.#parts;
    } catch (error) {
      session.stop();
      throw error;
    }
  }

  /** What the driver made. @throws ClosedError, DeviceError after a reset that failed */
  get live(): P {
    if (this.#session === null || this.#closed || this.transport.closed) this.#refuse();
    return this.#parts!;
  }

  /** True while `parts` are those of the session that lives. */
  isLive(parts: P): boolean {
    return this.#parts === parts;
  }

  /** The session's waiter. @throws as `live` */
  get waiter(): Waiter {
    if (this.#session === null || this.#closed || this.transport.closed) this.#refuse();
    return this.#session!.waiter;
  }

  /** Kind of interrupt in use. @throws as `live` */
  get interruptKind(): InterruptKind {
    if (this.#session === null || this.#closed || this.transport.closed) this.#refuse();
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

  /** Ends the session, and calls `restart` unless another reset has been quicker. @throws ClosedError, why the reset failed, what `restart` throws */
  async reset(restart: () => void | Promise<void>): Promise<void> {
    if (this.#closed) this.#refuse();
    const failure = this.stop();
    await this.#settling;
    // Whoever waited may have closed it on hearing of the reset.
    if (this.#closed) this.#refuse();
    if (failure !== undefined) throw failure;
    // Another reset that was called meanwhile has brought it up already.
    if (this.#session !== null) return;
    this.#resets++;
    await restart();
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

  #refuse(): never {
    if (this.#closed || this.transport.closed) throw this.gone();
    throw new DeviceError("the device is stopped after a failed reset", { function: this.transport.name }, {
      hint: "call reset() again, or close it",
    });
  }
}
