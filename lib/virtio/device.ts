/**
 * A virtio device through its life: reset, negotiation, queues, DRIVER_OK, failure, reset again (SPEC device initialization; reference 1.1).
 *
 * @module
 */
import { ClosedError, DeviceError, UsageError } from "../errors/mod.ts";
import { describeStatus, STATUS } from "./constants/status.ts";
import { chooseFeatures, type FeatureWishes } from "./features.ts";
import { createVirtqueue, type VirtqueueOptions } from "./queue/create.ts";
import type { NotifyGate } from "./queue/split.ts";
import type { Virtqueue } from "./queue/virtqueue.ts";
import type { VirtioTransport } from "./transport/transport.ts";

/** Where the initialisation is. `failed` and `idle` need a reset before anything else. */
export type DeviceState = "idle" | "driver" | "negotiated" | "live" | "failed" | "closed";

/** How to drive the device. */
export interface VirtioDeviceOptions {
  /** How long a reset may take. Default: the transport's. */
  readonly resetTimeoutMs?: number;
}

const GENERATION_TRIES = 100;
/** A function that is gone, or whose memory decoding is off, reads as all ones. */
const GONE = 0xff;

/**
 * Keeps the order that the standard demands of a driver, whatever the transport. The transport stays its owner's: closing the device
 * resets it and frees its queues, and it can be opened again on the same transport.
 */
export class VirtioDevice implements NotifyGate, Disposable {
  /** The registers behind it. */
  readonly transport: VirtioTransport;
  readonly #resetTimeoutMs: number | undefined;
  readonly #queues = new Map<number, Virtqueue>();
  #state: DeviceState = "idle";
  #resetFailed = false;
  #features = 0n;

  /** Takes a device whose state is unknown; nothing is written before `negotiate` or `reset`. */
  constructor(transport: VirtioTransport, options: VirtioDeviceOptions = {}) {
    this.transport = transport;
    this.#resetTimeoutMs = options.resetTimeoutMs;
  }

  /** Where the initialisation is. */
  get state(): DeviceState {
    return this.transport.closed ? "closed" : this.#state;
  }

  /** True between DRIVER_OK and reset: only then may the device be notified. */
  get live(): boolean {
    return this.#state === "live" && !this.transport.closed;
  }

  /** What was negotiated; 0 before. */
  get features(): bigint {
    return this.#features;
  }

  /** True when all bits of `mask` were negotiated. */
  has(mask: bigint): boolean {
    return (this.#features & mask) === mask;
  }

  /**
   * Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK, in this order. On any failure FAILED is set, as the standard asks.
   * @returns the features in force
   * @throws UnsupportedError (what is required is not offered), DeviceError (the device refuses FEATURES_OK, or is gone), TimeoutError (reset), UsageError, ClosedError
   */
  negotiate(wishes: FeatureWishes = {}): bigint {
    this.reset();
    return this.#orFail(() => {
      this.#addStatus(STATUS.acknowledge);
      this.#addStatus(STATUS.driver);
      this.#state = "driver";
      const accepted = chooseFeatures(this.transport, this.transport.readDeviceFeatures(), wishes);
      this.transport.writeDriverFeatures(accepted);
      const status = this.#addStatus(STATUS.featuresOk);
      if ((status & STATUS.featuresOk) === 0) {
        throw this.#error(
          "device_status",
          `the device refuses FEATURES_OK; status is ${describeStatus(status)}`,
        );
      }
      this.#features = accepted;
      this.#state = "negotiated";
      return accepted;
    });
  }

  /**
   * Sets a queue up, between `negotiate` and `driverOk`. The device owns it: a reset closes it.
   * @throws as `createVirtqueue`; UsageError in another state
   */
  createQueue(index: number, options: Omit<VirtqueueOptions, "gate"> = {}): Virtqueue {
    this.#require("negotiated", "createQueue");
    if (this.#queues.has(index)) {
      throw new UsageError(`${this.transport.name}: queue ${index} is set up already`);
    }
    const queue = this.#orFail(() => createVirtqueue(this.transport, index, { ...options, gate: this }));
    this.#queues.set(index, queue);
    return queue;
  }

  /** DRIVER_OK: the device may now use the queues. @throws DeviceError, UsageError */
  driverOk(): void {
    this.#require("negotiated", "driverOk");
    this.#orFail(() => {
      const status = this.#addStatus(STATUS.driverOk);
      if ((status & STATUS.deviceNeedsReset) !== 0) {
        throw this.#error("device_status", `the device went into ${describeStatus(status)} at DRIVER_OK`);
      }
      this.#state = "live";
    });
  }

  /** True when the device asks for a reset (DEVICE_NEEDS_RESET), or is gone. */
  get needsReset(): boolean {
    this.#open();
    return (this.transport.readStatus() & STATUS.deviceNeedsReset) !== 0;
  }

  /** Reads the status. @throws DeviceError when the device has DEVICE_NEEDS_RESET set, has lost DRIVER_OK, or is gone; UsageError unless live. */
  checkAlive(): void {
    this.#require("live", "checkAlive");
    const status = this.transport.readStatus();
    this.#checkPresent(status);
    if ((status & STATUS.deviceNeedsReset) !== 0 || (status & STATUS.driverOk) === 0) {
      throw this.#error("device_status", `the device stopped; status is ${describeStatus(status)}`);
    }
  }

  /** Tells the device that its driver gave up. Only `reset` and `close` help afterwards. */
  fail(): void {
    this.#open();
    this.#state = "failed";
    this.transport.writeStatus(this.transport.readStatus() | STATUS.failed);
  }

  /**
   * Resets the device and closes all its queues: their ids are void, their memory is unmapped. `negotiate` starts over.
   * @throws TimeoutError when the reset never ends; the queues are closed then, too (the IOMMU keeps the device off their memory)
   */
  reset(): void {
    this.#open();
    this.#state = "failed";
    this.#features = 0n;
    try {
      this.#resetFailed = true;
      if (this.#resetTimeoutMs === undefined) this.transport.reset();
      else this.transport.reset(this.#resetTimeoutMs);
      this.#resetFailed = false;
      this.#state = "idle";
    } finally {
      this.#closeQueues();
    }
  }

  /** One register of the config space; see `VirtioTransport.readConfig`. */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    this.#open();
    return this.transport.readConfig(offset, width);
  }

  /** Writes one register of the config space. @throws UsageError before FEATURES_OK (1.1), or as `VirtioTransport.writeConfig` */
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#open();
    if (this.#state !== "negotiated" && this.#state !== "live") {
      throw new UsageError(`${this.transport.name}: config written before FEATURES_OK (1.1)`);
    }
    this.transport.writeConfig(offset, width, value);
  }

  /**
   * Runs `read`, and again while the config generation moves under it, so that fields read together belong together.
   * @throws DeviceError when the generation never settles
   */
  readConsistent<T>(read: () => T): T {
    this.#open();
    for (let tries = 0; tries < GENERATION_TRIES; tries++) {
      const before = this.transport.configGeneration();
      const value = read();
      if (this.transport.configGeneration() === before) return value;
    }
    throw this.#error("config_generation", `config_generation never settled in ${GENERATION_TRIES} reads`);
  }

  /**
   * Resets the device, best effort, and closes its queues: as `reset`, but never throws, and does not wait for a device whose reset
   * failed before.
   * @returns why the reset failed; undefined when it did not
   */
  stop(): unknown {
    if (this.#state === "closed") return undefined;
    try {
      if (this.transport.closed) return undefined;
      if (this.#resetFailed) this.transport.reset(0);
      else this.reset();
      return undefined;
    } catch (error) {
      // A device that does not even reset, or a peer that is gone: its memory is taken away all the same.
      return error;
    } finally {
      this.#closeQueues();
    }
  }

  /** As `stop`, for good. The transport stays open. */
  close(): void {
    this.stop();
    this.#state = "closed";
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #closeQueues(): void {
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    for (const queue of queues) queue.close();
  }

  /** Sets bits and never clears one, as 1.1 has it. @returns what reads back */
  #addStatus(bits: number): number {
    const before = this.transport.readStatus();
    this.#checkPresent(before);
    this.transport.writeStatus(before | bits);
    const after = this.transport.readStatus();
    this.#checkPresent(after);
    return after;
  }

  #checkPresent(status: number): void {
    if (status !== GONE) return;
    throw this.#error("device_status", "all ones: the function is gone, or its memory decoding is off");
  }

  #orFail<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      try {
        this.fail();
      } catch {
        // The first error says more.
      }
      throw error;
    }
  }

  #error(field: string, message: string): DeviceError {
    return new DeviceError(message, { function: this.transport.name, field }, { hint: "reset the device" });
  }

  #open(): void {
    if (this.#state === "closed" || this.transport.closed) {
      throw new ClosedError(`virtio device ${this.transport.name}`);
    }
  }

  #require(state: DeviceState, call: string): void {
    this.#open();
    if (this.#state !== state) {
      throw new UsageError(
        `${this.transport.name}: ${call} in state "${this.#state}", it needs "${state}" (1.1)`,
      );
    }
  }
}
