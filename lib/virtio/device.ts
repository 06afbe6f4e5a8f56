/**
 * A virtio device through its life: reset, negotiation, queues, DRIVER_OK, failure, reset again (SPEC device initialization; reference 1.1).
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import {
  ClosedError,
  DeviceError,
  RemovalRequestedError,
  UnsupportedError,
  UsageError,
} from "../errors/mod.ts";
import { FEATURE, featureNames } from "./spec/features.ts";
import { describeStatus, STATUS } from "./spec/status.ts";
import { chooseFeatures, type FeatureWishes, hasQueueState } from "./features.ts";
import { createVirtqueue, enableVirtqueue, type VirtqueueOptions } from "./queue/create.ts";
import type { NotifyGate } from "./queue/driver_ring.ts";
import { initialQueueState, type QueueState } from "./spec/queue_state.ts";
import { type QueueRemains, queueRemains } from "./queue/remains.ts";
import type { Virtqueue } from "./queue/virtqueue.ts";
import { requireQueueState } from "./transport/pci_queue_state.ts";
import type { VirtioTransport } from "./transport/transport.ts";

/** Where the initialisation is. `failed` and `idle` need a reset before anything else; `suspended` is left by `resume` or a reset. */
export type DeviceState = "idle" | "driver" | "negotiated" | "live" | "suspended" | "failed" | "closed";

/** How to resume. */
export interface ResumeOptions {
  /** MSI-X vector of configuration changes, which the reset took away; null for none. Left alone when not given. */
  readonly configVector?: number | null;
}

/** How to drive the device. */
export interface VirtioDeviceOptions {
  /** How long a reset may take. Default: the transport's. */
  readonly resetTimeoutMs?: number | undefined;
}

/** Who has negotiated with the device of a transport last. Another one's reset would stop it underneath whoever drives it. */
const DRIVEN_BY = new WeakMap<VirtioTransport, VirtioDevice>();
const GENERATION_TRIES = 100;
/** A function that is gone, or whose memory decoding is off, reads as all ones. */
const GONE = 0xff;

/**
 * Keeps the order that the standard demands of a driver, whatever the transport. The transport stays its owner's: closing the device
 * resets it and frees its queues, and it can be opened again on the same transport.
 */
export class VirtioDevice implements NotifyGate, Disposable {
  static {
    typedErrors(this);
  }

  /** The registers behind it. */
  readonly transport: VirtioTransport;
  readonly #resetTimeoutMs: number | undefined;
  readonly #queues = new Map<number, Virtqueue>();
  /** As given to `createQueue`, for `resume`. */
  readonly #vectors = new Map<number, number | null>();
  /** Queues that were reset alone and may be set up again. */
  readonly #resetQueues = new Set<number>();
  /** See `NotifyGate`. A field, since each look at an empty queue reads it. @internal */
  lost = false;
  #forgetLifeline: (() => void) | null = null;
  #state: DeviceState = "idle";
  #resetFailed = false;
  #features = 0n;
  /** What `readConfig` gave, while `readConsistent` compares readings of the legacy interface. */
  #readings: number[] | null = null;

  /** Takes a device whose state is unknown; nothing is written before `negotiate` or `reset`. */
  constructor(transport: VirtioTransport, options: VirtioDeviceOptions = {}) {
    requireType(options, "object", "new VirtioDevice: options");
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

  /**
   * Throws when nothing comes of the device any more: its process is gone, or it is wanted back; nothing happens where nobody tells. One system call.
   * @throws PeerGoneError, RemovalRequestedError, DeviceError, ClosedError
   */
  checkServed(): void {
    this.transport.lifeline?.check();
  }

  /** What was negotiated; 0 before. Kept while suspended. */
  get features(): bigint {
    return this.#features;
  }

  /** True when all bits of `mask` were negotiated. */
  has(mask: bigint): boolean {
    return (this.#features & mask) === mask;
  }

  /** That all bits of `mask` were negotiated. @throws UnsupportedError naming those that were not */
  checkNegotiated(mask: bigint): void {
    if (this.has(mask)) return;
    const { name, deviceId, profile } = this.transport;
    const missing = featureNames(mask & ~this.#features, deviceId, profile).join(", ");
    throw new UnsupportedError(`${name}: ${missing} was not negotiated`);
  }

  /**
   * Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK, in this order; without FEATURES_OK on the legacy interface (SPEC "Legacy Interface: Device
   * Initialization"). On any failure FAILED is set, as the standard asks.
   * @returns the features in force
   * @throws UnsupportedError (what is required is not offered), DeviceError (the device refuses FEATURES_OK, or is gone), TimeoutError (reset), UsageError
   * (another `VirtioDevice` drives it, which is not disturbed), RemovalRequestedError, ClosedError
   */
  negotiate(wishes: FeatureWishes = {}): bigint {
    this.reset();
    const { lifeline } = this.transport;
    if (lifeline?.ended) throw lifeline.reason();
    DRIVEN_BY.set(this.transport, this);
    this.#listen();
    return this.#orFail(() => {
      this.#addStatus(STATUS.acknowledge);
      this.#addStatus(STATUS.driver);
      this.#state = "driver";
      this.#accept(chooseFeatures(this.transport, this.transport.readDeviceFeatures(), wishes));
      return this.#features;
    });
  }

  /** Queues hear of the end of the lifeline: of the process, when they are found empty; of what is wanted back or broken at once. */
  #listen(): void {
    this.#forgetLifeline?.();
    this.lost = false;
    const { lifeline } = this.transport;
    this.#forgetLifeline = lifeline?.onEnd(() => {
      this.lost = true;
      const reason = lifeline.reason();
      if (!(reason instanceof RemovalRequestedError || reason instanceof DeviceError)) return;
      for (const queue of this.#queues.values()) queue.abandon?.(reason);
    }) ?? null;
  }

  /** Writes the features, sets FEATURES_OK and reads it back. A legacy device has no such bit: it takes what it is given. */
  #accept(features: bigint): void {
    this.transport.writeDriverFeatures(features);
    if (!this.transport.legacy) {
      const status = this.#addStatus(STATUS.featuresOk);
      if ((status & STATUS.featuresOk) === 0) {
        throw this.#error(
          "device_status",
          `the device refuses FEATURES_OK; status is ${describeStatus(status)}`,
        );
      }
    }
    this.#features = features;
    this.#state = "negotiated";
  }

  /**
   * Sets a queue up, between `negotiate` and `driverOk`, or again after `resetQueue`, then with any options (1.5), and with the vector of before when
   * none is given. The device owns it: a reset closes it.
   * @throws as `createVirtqueue`; UsageError in another state
   */
  createQueue(index: number, options: Omit<VirtqueueOptions, "gate"> = {}): Virtqueue {
    if (!(this.#state === "live" && this.#resetQueues.has(index))) this.#require("negotiated", "createQueue");
    this.#requireOpen();
    if (this.#queues.has(index)) {
      throw new UsageError(`${this.transport.name}: queue ${index} is set up already`);
    }
    // The reset of a queue takes its vector away (1.5).
    const vector = options.vector === undefined ? this.#vectors.get(index) : options.vector;
    const driven = { ...options, vector, gate: this };
    const queue = this.#orFail(() => createVirtqueue(this.transport, index, driven));
    this.#queues.set(index, queue);
    this.#resetQueues.delete(index);
    if (vector !== undefined) this.#vectors.set(index, vector);
    return queue;
  }

  /**
   * Resets one queue of a running device (RING_RESET) and closes it; `createQueue` sets it up again. A queue that the device broke is
   * brought back the same way. The others go on.
   * @returns what the device had returned but nobody taken, and what it still had: for `Virtqueue.reoffer` of the new queue
   * @throws UnsupportedError (RING_RESET not negotiated), TimeoutError or DeviceError (the queue does not reset: reset the device), UsageError
   */
  resetQueue(index: number, timeoutMs?: number): QueueRemains {
    this.#require("live", "resetQueue");
    const queue = this.#queues.get(index);
    if (queue === undefined) throw new UsageError(`${this.transport.name}: queue ${index} is not set up`);
    if (this.transport.resetQueue === undefined) {
      throw new UnsupportedError(
        `${this.transport.name}, queue ${index}: this interface cannot reset one queue`,
        {
          hint: "reset the device",
        },
      );
    }
    this.transport.resetQueue(index, timeoutMs);
    const remains = queueRemains(queue);
    this.#queues.delete(index);
    this.#resetQueues.add(index);
    queue.close();
    return remains;
  }

  /**
   * Stops a running device by a reset, and keeps its queues with all that is in flight. Returns of before the reset can still be taken; take them
   * all. Then either `Virtqueue.save` each queue and go on with another device, or `resume` this one.
   * @returns the state of each queue as the device reports it (QUEUE_STATE, N-6.2; transport virtqueue), for `Virtqueue.save`; else empty
   * @throws TimeoutError (reset), DeviceError (a state that cannot be); the queues are closed then. UsageError unless live
   */
  suspend(): Map<number, QueueState> {
    this.#require("live", "suspend");
    const states = new Map<number, QueueState>();
    const features = this.#features;
    const { transport } = this;
    const read = () => {
      if (!hasQueueState(transport, features)) return;
      const access = requireQueueState(transport);
      for (const [index, { layout, size }] of this.#queues) {
        states.set(index, access.read(index, layout, size));
      }
    };
    this.#state = "failed";
    try {
      // States outlive a reset, or the disabling of their queues.
      if (transport.disableQueue !== undefined) {
        for (const index of this.#queues.keys()) transport.disableQueue(index);
        read();
        this.#resetTransport();
      } else {
        this.#resetTransport();
        read();
      }
      this.#state = "suspended";
      return states;
    } catch (error) {
      this.#features = 0n;
      this.#closeQueues();
      throw error;
    }
  }

  /**
   * Starts a suspended device again: the features of before, each queue where it stood (with QUEUE_STATE) or at the beginning, with everything in
   * flight offered again in its old order and under its old ids, DRIVER_OK, and a notification for each queue that is not empty.
   * Interrupts are asked for as on a new queue. Everything that was written into the config space must be written again by the driver.
   * @throws UsageError (not suspended, returns not taken), UnsupportedError (a feature is no longer offered), and as `negotiate`
   */
  resume(options: ResumeOptions = {}): void {
    this.#require("suspended", "resume");
    const { transport } = this;
    for (const queue of this.#queues.values()) {
      if (!queue.hasUsed()) continue;
      throw new UsageError(`${transport.name}, queue ${queue.index}: returns of before were not taken`, {
        hint: "call takeUsed until it gives 0, then resume",
      });
    }
    const features = this.#features;
    this.#orFail(() => {
      this.#addStatus(STATUS.acknowledge);
      this.#addStatus(STATUS.driver);
      this.#state = "driver";
      const missing = features & ~transport.readDeviceFeatures();
      if (missing !== 0n) {
        const names = featureNames(missing, transport.deviceId, transport.profile).join(", ");
        throw new UnsupportedError(`${transport.name} no longer offers ${names}`);
      }
      this.#accept(features);
      if (options.configVector !== undefined) transport.setConfigVector(options.configVector);
      const goOn = hasQueueState(transport, features);
      for (const queue of this.#queues.values()) {
        const state = queue.restart(goOn ? queue.position : initialQueueState(queue.layout));
        enableVirtqueue(transport, queue, state, this.#vectors.get(queue.index));
      }
    });
    this.driverOk();
    for (const queue of this.#queues.values()) if (queue.inFlight > 0) queue.notify();
  }

  /** DRIVER_OK: the device may now use the queues. @throws DeviceError, UsageError */
  driverOk(): void {
    this.#require("negotiated", "driverOk");
    this.#orFail(() => {
      this.#writeOtherStates();
      const status = this.#addStatus(STATUS.driverOk);
      if ((status & STATUS.deviceNeedsReset) !== 0) {
        throw this.#error("device_status", `the device went into ${describeStatus(status)} at DRIVER_OK`);
      }
      this.#state = "live";
    });
  }

  /** True when the device asks for a reset (DEVICE_NEEDS_RESET), or is gone. */
  get needsReset(): boolean {
    this.#requireOpen();
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
    this.#requireOpen();
    this.#state = "failed";
    this.transport.writeStatus(this.transport.readStatus() | STATUS.failed);
  }

  /**
   * Resets the device and closes all its queues: their ids are void, their memory is unmapped. `negotiate` starts over.
   * @throws UsageError as `negotiate`, TimeoutError when the reset never ends; the queues are closed then, too (the IOMMU keeps the device off their memory)
   */
  reset(): void {
    this.#requireOpen();
    if (this.#drivenByAnother) {
      throw new UsageError(`${this.transport.name} is driven already, by this transport`, {
        hint: "close that driver first",
      });
    }
    this.#state = "failed";
    this.#features = 0n;
    try {
      this.#resetTransport();
      this.#state = "idle";
    } finally {
      this.#closeQueues();
    }
  }

  #resetTransport(): void {
    this.#resetFailed = true;
    if (this.#resetTimeoutMs === undefined) this.transport.reset();
    else this.transport.reset(this.#resetTimeoutMs);
    this.#resetFailed = false;
  }

  /** One register of the config space; see `VirtioTransport.readConfig`. */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    this.#requireOpen();
    const value = this.transport.readConfig(offset, width);
    this.#readings?.push(value);
    return value;
  }

  /**
   * Writes one register of the config space.
   * @throws UsageError before FEATURES_OK (1.1), which a legacy device does not ask for, or as `VirtioTransport.writeConfig`
   */
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#requireOpen();
    if (!this.transport.legacy && this.#state !== "negotiated" && this.#state !== "live") {
      throw new UsageError(`${this.transport.name}: config written before FEATURES_OK (1.1)`);
    }
    this.transport.writeConfig(offset, width, value);
  }

  /**
   * Runs `read`, and again while the config generation moves under it, so that fields read together belong together. The legacy interface has no
   * generation: there `read` runs until two runs in a row have read the same (SPEC "Legacy Interface: Device Configuration Space").
   * @param read reads by `readConfig` of this object @throws DeviceError when it never settles
   */
  readConsistent<T>(read: () => T): T {
    this.#requireOpen();
    if (this.transport.legacy) return this.#readUntilAlike(read);
    for (let tries = 0; tries < GENERATION_TRIES; tries++) {
      const before = this.transport.configGeneration();
      const value = read();
      if (this.transport.configGeneration() === before) return value;
    }
    throw this.#error("config_generation", `it never settled in ${GENERATION_TRIES} reads`);
  }

  #readUntilAlike<T>(read: () => T): T {
    let before: number[] | null = null;
    try {
      for (let tries = 0; tries < GENERATION_TRIES; tries++) {
        const readings: number[] = this.#readings = [];
        const value = read();
        if (before?.length === readings.length && readings.every((one, at) => one === before![at])) {
          return value;
        }
        before = readings;
      }
    } finally {
      this.#readings = null;
    }
    throw this.#error("config", `no two readings in a row were alike in ${GENERATION_TRIES}`);
  }

  /**
   * Resets the device, best effort, and closes its queues: as `reset`, but never throws, and does not wait for a device whose reset
   * failed before.
   * @returns why the reset failed; undefined when it did not
   */
  stop(): unknown {
    if (this.#state === "closed") return undefined;
    try {
      if (this.transport.closed || this.#drivenByAnother) return undefined;
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

  /** N-6.1: every queue has its state written, also those that the driver does not use, administration queues among them. */
  #writeOtherStates(): void {
    if (this.transport.profile !== "queue-state" || !hasQueueState(this.transport, this.#features)) return;
    const layout = this.has(FEATURE.RING_PACKED) ? "packed" : "split";
    const { queueCount } = this.transport;
    const none = { first: 0, count: 0 };
    const admin = this.has(FEATURE.ADMIN_VQ) ? this.transport.adminQueues ?? none : none;
    const access = requireQueueState(this.transport);
    for (let at = 0; at < queueCount + admin.count; at++) {
      const index = at < queueCount ? at : admin.first + at - queueCount;
      if (this.#queues.has(index)) continue;
      const size = this.transport.queueMaxSize(index);
      if (size > 0) access.write(index, initialQueueState(layout), size);
    }
  }

  get #drivenByAnother(): boolean {
    const other = DRIVEN_BY.get(this.transport);
    return other !== undefined && other !== this && ["driver", "negotiated", "live"].includes(other.#state);
  }

  #closeQueues(): void {
    this.#forgetLifeline?.();
    this.#forgetLifeline = null;
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    this.#vectors.clear();
    this.#resetQueues.clear();
    for (const queue of queues) {
      try {
        queue.close();
      } catch {
        // The peer is gone and knows nothing of the memory any more. The others are still to be let go of.
      }
    }
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
    const off = this.transport.allOnesReason ?? "its memory decoding is off";
    throw this.#error("device_status", `all ones: the function is gone, or ${off}`);
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

  #error(register: string, message: string): DeviceError {
    const field = this.transport.registerName?.(register) ?? register;
    return new DeviceError(message, { function: this.transport.name, field }, { hint: "reset the device" });
  }

  #requireOpen(): void {
    if (this.#state === "closed" || this.transport.closed) {
      throw new ClosedError(`virtio device ${this.transport.name}`);
    }
  }

  #require(state: DeviceState, call: string): void {
    this.#requireOpen();
    if (this.#state !== state) {
      throw new UsageError(
        `${this.transport.name}: ${call} in state "${this.#state}", it needs "${state}" (1.1)`,
      );
    }
  }
}
