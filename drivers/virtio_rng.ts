/**
 * Driver of the virtio entropy device (id 4; virtio 1.4 §5.4): random bytes, as many as asked for.
 *
 * @module
 */
import { ClosedError, DeviceError, TimeoutError, UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import type { DmaMemory } from "../lib/memory/mod.ts";
import { DEVICE_ID } from "../lib/virtio/constants/device_id.ts";
import { ENTROPY_QUEUE } from "../lib/virtio/constants/entropy.ts";
import { FEATURE } from "../lib/virtio/constants/features.ts";
import { VirtioDevice } from "../lib/virtio/device.ts";
import { bindInterrupts, type InterruptChoice } from "../lib/virtio/interrupts.ts";
import { usedBurst } from "../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../lib/virtio/queue/virtqueue.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import { Waiter, type WaitMode } from "../lib/virtio/waiter.ts";

export type { InterruptChoice } from "../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../lib/virtio/waiter.ts";

/** How to open an entropy device. */
export interface VirtioRngOptions {
  /** Most bytes asked for at once. Default 4096. */
  readonly bufferBytes?: number;
  /** Default `auto`: MSI-X, else INTx, else polling. */
  readonly interrupts?: InterruptChoice;
  /** Default `adaptive`, or `poll` without interrupts. */
  readonly wait?: WaitMode;
  /** How long the device may take over one buffer, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
  /** How long a reset of the device may take, in milliseconds. Default: the transport's. */
  readonly resetTimeoutMs?: number;
}

interface Session {
  readonly queue: Virtqueue;
  readonly memory: DmaMemory;
  readonly waiter: Waiter;
  readonly kind: InterruptKind;
}

/**
 * An opened entropy device. Errors: `DeviceError` when the device lies (`reset()` brings it back), `TimeoutError`, `UsageError`, `ClosedError`.
 */
export class VirtioRng implements Disposable, AsyncDisposable {
  /** How the function is reached; stays the caller's. */
  readonly transport: VirtioTransport;
  readonly #device: VirtioDevice;
  readonly #options: VirtioRngOptions;
  readonly #used = usedBurst(1);
  #session: Session | null = null;
  #interruptsBefore = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #settling: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(transport: VirtioTransport, options: VirtioRngOptions) {
    this.transport = transport;
    this.#options = options;
    this.#device = new VirtioDevice(
      transport,
      options.resetTimeoutMs === undefined ? {} : { resetTimeoutMs: options.resetTimeoutMs },
    );
  }

  /** Resets and starts the device. @throws UnsupportedError (no entropy device), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError */
  static open(transport: VirtioTransport, options: VirtioRngOptions = {}): VirtioRng {
    if (transport.deviceId !== DEVICE_ID.entropy) {
      throw new UnsupportedError(
        `${transport.name} is no entropy device: its virtio id is ${transport.deviceId}`,
      );
    }
    const rng = new VirtioRng(transport, options);
    try {
      rng.#start();
      return rng;
    } catch (error) {
      rng.close();
      throw error;
    }
  }

  /** Features in force. */
  get features(): bigint {
    return this.#device.features;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#live().kind;
  }

  /** Interrupts that were taken so far. */
  get interrupts(): number {
    return this.#interruptsBefore + (this.#session?.waiter.interrupts ?? 0);
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** `count` random bytes. Reads that are called meanwhile wait for their turn. */
  async read(count: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!Number.isSafeInteger(count) || count < 0) throw new UsageError(`${count} random bytes`);
    return await this.fill(new Uint8Array(count));
  }

  /** Fills an array of the caller's, and resolves to it. */
  fill<T extends Uint8Array>(into: T): Promise<T> {
    if (this.#closed) return Promise.reject(this.#gone());
    const mine = this.#turn.then(() => this.#fill(into));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** Resets the device and brings it up again. Reads under way end with an error. */
  async reset(): Promise<void> {
    if (this.#closed) throw this.#gone();
    const failure = this.#stop();
    await this.#settling;
    if (this.#closed) throw this.#gone();
    if (failure !== undefined) throw failure;
    // Another reset that was called meanwhile has brought it up already.
    if (this.#session === null) this.#start();
  }

  /** Resets the device and frees queue and buffer. The transport stays open. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    this.#device.close();
  }

  /** Resolves when nothing of a read that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#settling;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until an interrupted read is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#settling;
  }

  async #fill<T extends Uint8Array>(into: T): Promise<T> {
    const { queue, memory, waiter } = this.#live();
    const timeoutMs = this.#options.timeoutMs ?? 5000;
    const where = { function: this.transport.name, queue: queue.index };
    for (let at = 0; at < into.length;) {
      const ask = Math.min(into.length - at, memory.sizeBytes, this.#options.bufferBytes ?? 4096);
      if (queue.inFlight > 0) {
        // After a timeout the device still has the buffer; two requests in it would mix their bytes.
        throw new DeviceError("the request before was never answered", where, { hint: "reset the device" });
      }
      queue.addSingle(memory.iovaLo, memory.iovaHi, ask, true);
      queue.kick();
      if (!await waiter.wait(queue, timeoutMs)) {
        throw new TimeoutError(
          `${this.transport.name}, queue ${queue.index}: no random bytes in ${timeoutMs} ms`,
          {
            hint: "reset the device",
          },
        );
      }
      queue.takeUsed(this.#used);
      const got = this.#used.lengths[0]!;
      if (got === 0) {
        throw new DeviceError("the device returned no byte; the standard demands one at least", {
          ...where,
          field: "used.len",
        });
      }
      into.set(memory.bytes(0, got), at);
      at += got;
    }
    return into;
  }

  #start(): void {
    const { transport } = this;
    const bufferBytes = this.#options.bufferBytes ?? 4096;
    const undo: (() => void)[] = [];
    try {
      this.#device.negotiate({ wanted: FEATURE.EVENT_IDX });
      const { requests } = ENTROPY_QUEUE;
      const interrupts = bindInterrupts(transport, this.#options.interrupts ?? "auto", [requests]);
      undo.push(() => transport.disableInterrupts());
      const waiter = new Waiter({
        mode: this.#options.wait ?? (interrupts.kind === "none" ? "poll" : "adaptive"),
      });
      undo.push(() => waiter.close());
      interrupts.vectors.forEach((vector, at) =>
        waiter.watch(vector, interrupts.carriesConfig(at) ? (isr) => this.#configInterrupt(isr) : undefined)
      );
      const vector = interrupts.queueVector(requests);
      const queue = this.#device.createQueue(requests, {
        size: 4,
        ...(vector === undefined ? {} : { vector }),
      });
      const memory = transport.dma.allocate(bufferBytes, {
        label: "random bytes",
        access: { deviceReads: false, deviceWrites: true },
      });
      undo.push(() => memory.close());
      this.#device.driverOk();
      this.#session = { queue, memory, waiter, kind: interrupts.kind };
    } catch (error) {
      this.#device.stop();
      for (const one of undo.reverse()) attempt(one);
      throw error;
    }
  }

  /** @returns why the device's reset failed; undefined when it did not */
  #stop(): unknown {
    const session = this.#session;
    if (session === null) return undefined;
    this.#session = null;
    this.#interruptsBefore += session.waiter.interrupts;
    session.waiter.close();
    const failure = this.#device.stop();
    if (!this.transport.closed) attempt(() => this.transport.disableInterrupts());
    attempt(() => session.memory.close());
    this.#settling = session.waiter.settled;
    return failure;
  }

  /** An entropy device has no config space: such an interrupt can only mean that it stopped. */
  #configInterrupt(isr: number): void {
    if ((isr & 2) !== 0) this.#device.checkAlive();
  }

  #live(): Session {
    if (this.#closed || this.transport.closed) throw this.#gone();
    if (this.#session === null) {
      throw new DeviceError("the device is stopped after a failed reset", { function: this.transport.name }, {
        hint: "call reset() again, or close it",
      });
    }
    return this.#session;
  }

  #gone(): ClosedError {
    return new ClosedError(`entropy device ${this.transport.name}`);
  }
}

function attempt(act: () => void): void {
  try {
    act();
  } catch {
    // The device does not reset, or its peer is gone: what is ours is let go of all the same.
  }
}
