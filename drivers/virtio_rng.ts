/**
 * Driver of the virtio entropy device (id 4; virtio 1.4 §5.4): random bytes, as many as asked for.
 *
 * @module
 */
import { typedErrors } from "../lib/errors/doors.ts";
import { DeviceError, shown, TimeoutError, UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import type { DmaMemory } from "../lib/memory/mod.ts";
import { DEVICE_ID } from "../lib/virtio/constants/device_id.ts";
import { ENTROPY_QUEUE } from "../lib/virtio/constants/entropy.ts";
import { refusedRingFeatures, type RingOptions } from "../lib/virtio/features.ts";
import type { InterruptChoice } from "../lib/virtio/interrupts.ts";
import { usedBurst } from "../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../lib/virtio/queue/virtqueue.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import type { Waiter, WaitMode } from "../lib/virtio/waiter.ts";
import { newBytes, stillThere } from "./caller_bytes.ts";
import { refuseLegacy, type Session, SessionOwner } from "./session_owner.ts";

export type { RingOptions } from "../lib/virtio/features.ts";
export type { InterruptChoice } from "../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../lib/virtio/waiter.ts";

/** How to open an entropy device. Ring features are accepted when offered, unless turned off (`RingOptions`). */
export interface VirtioRngOptions extends RingOptions {
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

interface RngParts {
  readonly queue: Virtqueue;
  readonly memory: DmaMemory;
  readonly waiter: Waiter;
}

/**
 * An opened entropy device. Errors: `DeviceError` when the device lies (`reset()` brings it back), `TimeoutError`, `UsageError`, `ClosedError`.
 */
export class VirtioRng implements Disposable, AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** How the function is reached; stays the caller's. */
  readonly transport: VirtioTransport;
  readonly #owner: SessionOwner<RngParts>;
  readonly #options: VirtioRngOptions;
  readonly #used = usedBurst(1);
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(transport: VirtioTransport, options: VirtioRngOptions) {
    this.transport = transport;
    this.#options = options;
    this.#owner = new SessionOwner(transport, "entropy device", options.resetTimeoutMs);
  }

  /** Resets and starts the device. @throws UnsupportedError (no entropy device), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError */
  static open(transport: VirtioTransport, options: VirtioRngOptions = {}): VirtioRng {
    if (transport.deviceId !== DEVICE_ID.entropy) {
      throw new UnsupportedError(
        `${transport.name} is no entropy device: its virtio id is ${transport.deviceId}`,
      );
    }
    refuseLegacy(transport, "only the used length says how many bytes are random");
    const rng = new VirtioRng(transport, options);
    try {
      rng.#owner.start((session) => rng.#build(session));
      return rng;
    } catch (error) {
      rng.close();
      throw error;
    }
  }

  /** Features in force. */
  get features(): bigint {
    return this.#owner.device.features;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#owner.interruptKind;
  }

  /** Interrupts that were taken so far. */
  get interrupts(): number {
    return this.#owner.interrupts;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#owner.closed;
  }

  /** `count` random bytes. Reads that are called meanwhile wait for their turn. */
  async read(count: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw new UsageError(`${this.transport.name}: ${shown(count)} random bytes`);
    }
    return await this.fill(newBytes(count, `${this.transport.name}, read`));
  }

  /** Fills an array of the caller's, and resolves to it. Its buffer must be left alone until then. */
  fill<T extends Uint8Array>(into: T): Promise<T> {
    if (this.#owner.closed) return Promise.reject(this.#owner.gone());
    const { length } = into;
    const mine = this.#turn.then(() => this.#fill(into, length));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** Resets the device and brings it up again. Reads under way end with an error. */
  reset(): Promise<void> {
    return this.#owner.reset(() => void this.#owner.start((session) => this.#build(session)));
  }

  /** Resets the device and frees queue and buffer. The transport stays open. */
  close(): void {
    this.#owner.close();
  }

  /** Resolves when nothing of a read that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#owner.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until an interrupted read is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#owner.settled;
  }

  async #fill<T extends Uint8Array>(into: T, lengthBytes: number): Promise<T> {
    const { queue, memory, waiter } = this.#owner.live;
    const timeoutMs = this.#options.timeoutMs ?? 5000;
    const where = { function: this.transport.name, queue: queue.index };
    const call = `${this.transport.name}, fill`;
    stillThere(into, lengthBytes, call);
    for (let at = 0; at < lengthBytes;) {
      const ask = Math.min(lengthBytes - at, memory.sizeBytes, this.#options.bufferBytes ?? 4096);
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
      stillThere(into, lengthBytes, call).set(memory.bytes(0, got), at);
      at += got;
    }
    return into;
  }

  #build(session: Session): RngParts {
    const { device } = session;
    const { requests } = ENTROPY_QUEUE;
    device.negotiate({ refused: refusedRingFeatures(this.#options, this.transport.profile) });
    // There is no config space: such an interrupt can only mean that the device stopped.
    session.listen(this.#options, [requests], () => device.checkAlive());
    const queue = session.queue(requests, 4);
    const memory = session.own(
      device.transport.dma.allocate(this.#options.bufferBytes ?? 4096, {
        label: "random bytes",
        access: { deviceReads: false, deviceWrites: true },
      }),
    );
    device.driverOk();
    return { queue, memory, waiter: session.waiter };
  }
}
