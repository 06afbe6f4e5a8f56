/**
 * Everything of a device that lives from one reset to the next.
 *
 * @module
 */
import { ClosedError, UsageError } from "../lib/errors/mod.ts";
import type { CommandSite } from "../lib/virtio/control/engine.ts";
import type { VirtioDevice } from "../lib/virtio/device.ts";
import { type FeatureWishes, refusedRingFeatures } from "../lib/virtio/features.ts";
import { bindInterrupts, type BoundInterrupts } from "../lib/virtio/interrupts.ts";
import type { QueueState } from "../lib/virtio/spec/queue_state.ts";
import type { Virtqueue } from "../lib/virtio/queue/virtqueue.ts";
import type { InterruptKind } from "../lib/virtio/transport/transport.ts";
import type { InterruptVector } from "../lib/wait/interrupt_vector.ts";
import { Waiter } from "../lib/wait/waiter.ts";
import type { DriverOptions } from "./driver_options.ts";

/** MSI-X vectors beyond those of config space and queues. */
export interface SpareVectors {
  /** How many, as far as the device has them. */
  readonly count: number;
  /** One of them was raised. */
  onSignal(vector: number): void;
}

/** What a driver sets its device up with: `negotiate`, `listen`, `queue`, then `device.driverOk()`. */
export class Session {
  /** The device, reset, and then as far as the driver brought it. */
  readonly device: VirtioDevice;
  readonly #options: DriverOptions;
  readonly #onConfig: () => void;
  readonly #owned: Disposable[] = [];
  #interrupts: BoundInterrupts | null = null;
  #waiter: Waiter | null = null;

  /** Owns nothing yet. @param onConfig called when an interrupt may mean a change of the config space */
  constructor(device: VirtioDevice, options: DriverOptions, onConfig: () => void) {
    this.device = device;
    this.#options = options;
    this.#onConfig = onConfig;
  }

  /** Closes it when the session ends, after the device is reset and before what was owned earlier. */
  own<T extends Disposable>(one: T): T {
    this.#owned.push(one);
    return one;
  }

  /** As `VirtioDevice.negotiate`, without what the options turn off. */
  negotiate(wishes: FeatureWishes = {}): void {
    const { refusedFeatures = 0n } = this.#options;
    const rings = refusedRingFeatures(this.#options, this.device.transport.profile);
    this.device.negotiate({ ...wishes, refused: (wishes.refused ?? 0n) | refusedFeatures | rings });
  }

  /**
   * Turns interrupts on for the config space and these queues, and makes the waiter.
   * @param spare MSI-X vectors for what the device type binds to vectors itself
   * @param lent queues that other threads use: what is theirs alone is not waited for here
   * @throws UnsupportedError, DeviceError, UsageError, SyscallError
   */
  listen(queues: readonly number[], spare?: SpareVectors, lent: readonly number[] = []): void {
    const { transport } = this.device;
    const options = this.#options;
    const interrupts = bindInterrupts(transport, options.interrupts ?? "auto", queues, spare?.count ?? 0);
    this.own({ [Symbol.dispose]: () => transport.closed || transport.disableInterrupts() });
    this.#interrupts = interrupts;
    const mode = options.wait ?? (interrupts.kind === "none" ? "poll" : "adaptive");
    if (mode !== "poll" && interrupts.kind === "none") {
      throw new UsageError(`${transport.name}: wait mode "${mode}" without interrupts`, {
        hint: 'use wait: "poll"',
      });
    }
    const waiter = this.own(new Waiter({ mode, spinMicroseconds: options.spinMicroseconds }));
    if (transport.lifeline !== undefined) waiter.watchLifeline(transport.lifeline);
    const forget = transport.onClose?.(() =>
      waiter.lose(new ClosedError(`virtio transport ${transport.name}`))
    );
    if (forget !== undefined) this.own({ [Symbol.dispose]: forget });
    this.#waiter = waiter;
    const others = lent.map((queue) => interrupts.ownVector(queue));
    interrupts.vectors.forEach((vector, at) => {
      if (others.includes(vector)) return;
      if (interrupts.carriesConfig(at)) {
        waiter.watch(vector, (isr) => void ((isr & 2) !== 0 && this.#onConfig()));
      } else if (interrupts.spareVectors.includes(at)) waiter.watch(vector, () => spare?.onSignal(at));
      else waiter.watch(vector);
    });
  }

  /** Vectors that `listen` turned on for `spare`. */
  get spareVectors(): readonly number[] {
    return this.#interrupts?.spareVectors ?? [];
  }

  /** Sets a queue up, with the vector that `listen` chose for it. @param start, lendable as in `VirtqueueOptions` @throws as `VirtioDevice.createQueue` */
  queue(index: number, size: number, maxSegments = 0, start?: QueueState, lendable = false): Virtqueue {
    const vector = this.#interrupts?.queueVector(index);
    return this.device.createQueue(index, { size, maxSegments, start, vector, lendable });
  }

  /** The vector of a queue where nothing else raises it; else undefined. */
  ownVector(queue: number): InterruptVector | undefined {
    return this.#interrupts?.ownVector(queue);
  }

  /** After `listen`. */
  get waiter(): Waiter {
    return this.#waiter!;
  }

  /** Where commands of this device go. */
  get site(): CommandSite {
    const { device, waiter } = this;
    const { name, dma, absence } = device.transport;
    return { name, dma, waiter, absence, alive: () => device.checkAlive() };
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
