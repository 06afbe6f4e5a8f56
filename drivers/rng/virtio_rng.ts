/**
 * Driver of the virtio entropy device (id 4; virtio 1.4 §5.4): random bytes, as many as asked for.
 *
 * ```ts
 * import { VirtioRng } from "@ringside/ringside/drivers/virtio-rng";
 *
 * await using rng = VirtioRng.open(transport); // of `openTransport`
 * const seed = await rng.read(32);
 * ```
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import { DeviceError, TimeoutError, UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import { DEVICE_ID } from "../../lib/virtio/spec/device_id.ts";
import { ENTROPY_QUEUE } from "../../lib/virtio/spec/entropy.ts";
import { BufferPool } from "../../lib/virtio/queue/buffer_pool.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import type { Waiter } from "../../lib/wait/waiter.ts";
import { newBytes, stillThere } from "../caller_bytes.ts";
import { VirtioDriver } from "../driver.ts";
import { type DriverKind, DriverLife, type DriverParts } from "../driver_life.ts";
import type { DriverOptions } from "../driver_options.ts";
import type { Session } from "../session.ts";

export type { RingOptions } from "../../lib/virtio/features.ts";
export type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../../lib/wait/waiter.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";

/** How to open an entropy device. */
export interface VirtioRngOptions extends DriverOptions {
  /** Most bytes asked for at once. Default 4096. */
  readonly bufferBytes?: number;
  /** How long the device may take over one buffer, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
}

const KIND: DriverKind = {
  what: "entropy device",
  deviceId: DEVICE_ID.entropy,
  modernOnly: "only the used length says how many bytes are random",
};

interface RngParts extends DriverParts {
  readonly buffer: BufferPool;
  readonly waiter: Waiter;
}

/**
 * An opened entropy device. Errors: `DeviceError` when the device lies (`reset()` brings it back), `TimeoutError`, `UsageError`, `ClosedError`.
 */
export class VirtioRng extends VirtioDriver {
  static {
    typedErrors(this);
  }

  readonly #life: DriverLife<RngParts>;
  readonly #timeoutMs: number;
  readonly #used = usedBurst(1);
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(life: DriverLife<RngParts>, options: VirtioRngOptions) {
    super(life);
    this.#life = life;
    this.#timeoutMs = options.timeoutMs ?? 5000;
  }

  /** Resets and starts the device. @throws UnsupportedError (no entropy device), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError */
  static open(transport: VirtioTransport, options: VirtioRngOptions = {}): VirtioRng {
    const life = new DriverLife(transport, KIND, options, (session) => build(session, options));
    try {
      void life.start();
      return new VirtioRng(life, options);
    } catch (error) {
      life.close();
      throw error;
    }
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
    if (this.closed) return Promise.reject(this.#life.gone());
    const { length } = into;
    const mine = this.#turn.then(() => this.#fill(into, length));
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async #fill<T extends Uint8Array>(into: T, lengthBytes: number): Promise<T> {
    const { buffer, waiter } = this.#life.live;
    const { queue } = buffer;
    const timeoutMs = this.#timeoutMs;
    const where = { function: this.transport.name, queue: queue.index };
    const call = `${this.transport.name}, fill`;
    stillThere(into, lengthBytes, call);
    for (let at = 0; at < lengthBytes;) {
      const ask = Math.min(lengthBytes - at, buffer.slotBytes);
      if (queue.inFlight > 0) {
        // After a timeout the device still has the buffer; two requests in it would mix their bytes.
        throw new DeviceError("the request before was never answered", where, { hint: "reset the device" });
      }
      buffer.add(0, ask);
      queue.flush();
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
      stillThere(into, lengthBytes, call).set(buffer.views[0]!.subarray(0, got), at);
      at += got;
    }
    return into;
  }
}

function build(session: Session, options: VirtioRngOptions): RngParts {
  const { device } = session;
  const { requests } = ENTROPY_QUEUE;
  session.negotiate();
  session.listen([requests]);
  const buffer = session.own(
    new BufferPool(session.queue(requests, 4), device.transport.dma, {
      label: "random bytes",
      count: 1,
      slotBytes: options.bufferBytes ?? 4096,
      access: { deviceReads: false, deviceWrites: true },
      chains: "writable",
    }),
  );
  device.driverOk();
  // There is no config space: such an interrupt can only mean that the device stopped.
  return { buffer, waiter: session.waiter, configChanged: () => device.checkAlive() };
}
