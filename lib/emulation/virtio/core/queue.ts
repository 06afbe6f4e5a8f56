/**
 * One queue of a virtio device: its registers as plain state, the rules of what a driver writes into them, and its ring while it is enabled
 * (virtio 1.2 §4.1.4.3; reference 2.2, and 6.2 for the state of profile `queue-state`).
 *
 * @module
 */
import { FEATURE } from "../../../virtio/spec/features.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import {
  type QueueState,
  queueStateToWords,
  type QueueStateWords,
} from "../../../virtio/spec/queue_state.ts";
import { QUEUE_SIZE_MAX } from "../../../virtio/spec/ring.ts";
import { STATUS } from "../../../virtio/spec/status.ts";
import type { DmaTable } from "../../../sockets/dma_table.ts";
import type { DeviceQueue, DeviceQueueSetup, QueueDevice } from "../queue/device_queue.ts";
import { honestQueue, queueSetup, type QueueSetupProblem, type RingPlace } from "../queue/setup.ts";
import type { CoreOptions } from "./options.ts";
import type { DeviceState } from "./state.ts";

/** Slot 0, wrap counter 1 (reference 6.1). */
const FRESH_PACKED = 0x8000;

/** The most descriptors up to `size` that a split ring can have. */
export function splitSize(size: number): number {
  return size === 0 ? 0 : 2 ** Math.floor(Math.log2(size));
}

/** Descriptor area (0), driver area (1), device area (2). */
export type Area = 0 | 1 | 2;

/** See the module. What it says of a wrong write names the register of `virtio_pci_common_cfg`. */
export class CoreQueue implements QueueDevice, RingPlace {
  /** Its number. */
  readonly index: number;
  /** It is an administration queue. */
  readonly ofAdmin: boolean;
  /** Largest size in any layout that is offered; 0: the queue does not exist. */
  readonly maxSize: number;
  /** What `queue_size` reads until it is written: `maxSize`, or for split rings the largest power of two up to that. */
  maximum: number;
  /** `queue_size`. */
  size: number;
  /** `queue_msix_vector`. */
  vector: number = NO_VECTOR;
  /** `queue_enable`. */
  enabled = false;
  /** It was enabled, and reset or disabled, since the device was reset: then it may be enabled after DRIVER_OK. */
  wasReset = false;
  /** It was disabled by `disable`, and its driver may go on with it. */
  paused = false;
  /** Low and high half of each area's IOVA. */
  readonly addresses: Uint32Array<ArrayBuffer> = new Uint32Array(6);
  /** What it is while it is enabled. */
  ring: DeviceQueue | undefined;
  readonly #device: DeviceState;
  readonly #options: CoreOptions;
  /** `queue_avail_state` and `queue_used_state` as written or saved (profile `queue-state`), or where it was disabled; −1: neither. */
  #availableState = -1;
  #usedState = -1;

  /** With the values that a device reset gives. */
  constructor(device: DeviceState, options: CoreOptions, index: number, maxSize: number) {
    this.#device = device;
    this.#options = options;
    this.index = index;
    this.ofAdmin = index >= device.model.queueSizes.length;
    // Without RING_PACKED there is one layout only.
    this.maxSize = (device.offered & FEATURE.RING_PACKED) === 0n ? splitSize(maxSize) : maxSize;
    this.maximum = this.maxSize;
    this.size = this.maxSize;
  }

  /** IOVA of the descriptor area. */
  get descriptorArea(): bigint {
    return this.#address(0);
  }
  /** IOVA of the driver area. */
  get driverArea(): bigint {
    return this.#address(1);
  }
  /** IOVA of the device area. */
  get deviceArea(): bigint {
    return this.#address(2);
  }

  /**
   * What the driver notifies it with under NOTIF_CONFIG_DATA: different for every queue, and never its number, where a driver that overlooks it
   * would go unnoticed. 0 when that is not offered.
   */
  get notifyData(): number {
    const { offered, profile } = this.#device;
    const named = profile !== "mmio-msi-v2" && (offered & FEATURE.NOTIF_CONFIG_DATA) !== 0n;
    return named ? (0x1dea + 0x41 * this.index) & 0xffff : 0;
  }

  #address(area: Area): bigint {
    return BigInt(this.addresses[2 * area]!) | BigInt(this.addresses[2 * area + 1]!) << 32n;
  }

  /** Sets the IOVA of an area, without asking. */
  place(area: Area, iova: bigint): void {
    this.addresses[2 * area] = Number(iova & 0xffff_ffffn);
    this.addresses[2 * area + 1] = Number(iova >> 32n);
  }

  // ---- what a driver writes ----

  /** Entries. */
  setSize(value: number): void {
    if (!this.#changeable("queue_size")) return;
    const problem = this.sizeProblem(value);
    if (problem === undefined) this.size = value;
    else this.report(this.#device.registerRule, `queue_size ${value} is ${problem}`);
  }

  /** Why it cannot have so many entries; undefined when it can. */
  sizeProblem(value: number): string | undefined {
    const { packed } = this.#device;
    if (value === 0 || value > QUEUE_SIZE_MAX || (!packed && (value & (value - 1)) !== 0)) {
      return `not ${packed ? `from 1 to ${QUEUE_SIZE_MAX}` : "a power of two"}`;
    }
    return value > this.maximum ? `above the maximum of ${this.maximum}` : undefined;
  }

  /** Half of an area's IOVA. */
  setAddress(area: Area, high: boolean, value: number): void {
    const name = ["queue_desc", "queue_driver", "queue_device"][area]!;
    if (this.#changeable(name)) this.addresses[2 * area + (high ? 1 : 0)] = value;
  }

  /** Vector of used buffer notifications. */
  setVector(value: number): void {
    this.vector = this.#device.vector(value);
  }

  /** A word of its state. */
  setState(name: "queue_avail_state" | "queue_used_state", value: number): void {
    const { packed, keepsState, status } = this.#device;
    if (!keepsState) {
      this.report("N-6.1", `${name} was written before QUEUE_STATE was negotiated`);
    } else if ((status & STATUS.driverOk) !== 0) {
      this.report("N-6.1", `${name} was written after DRIVER_OK`);
    } else if (this.enabled) {
      this.report("A-6.5", `${name} was written after the queue was enabled`);
    } else if (packed && (value & 0x7fff) >= this.size) {
      this.violation("A-6.6", `${name}: slot ${value & 0x7fff} in a queue of ${this.size}`);
    } else if (name === "queue_avail_state") this.#availableState = value;
    // Of a split ring it means nothing: the used index is in the ring.
    else this.#usedState = packed ? value : 0;
  }

  /** Size and addresses are fixed while the queue is enabled. */
  #changeable(name: string): boolean {
    if (this.enabled) {
      this.report(this.#device.registerRule, `${name} was written while the queue is enabled`);
    }
    return !this.enabled;
  }

  /** `queue_enable`: size and addresses are there. */
  enable(value: number): void {
    if (value !== 1) return this.report("1.5", `${value} was written to queue_enable: only 1 is allowed`);
    if (this.enabled) return this.violation(this.#device.registerRule, "the queue was enabled twice");
    const wrong = this.enableProblem();
    if (wrong === undefined) this.makeRing(this.#device.negotiatedFeatures);
    else if (wrong.fatal) this.violation(wrong.rule, wrong.problem);
    else this.report(wrong.rule, wrong.problem);
  }

  /** Why it cannot be enabled now; undefined when it can. `fatal`: a device of which registers ask for it stops. */
  enableProblem(): QueueSetupProblem & { readonly fatal: boolean } | undefined {
    const { status, driverFeatures, negotiatedFeatures } = this.#device;
    const wrong = (fatal: boolean, rule: string, problem: string) => ({ fatal, rule, problem });
    if ((status & STATUS.featuresOk) === 0) {
      return wrong(false, "1.1", "the queue was enabled before FEATURES_OK");
    }
    if (this.ofAdmin && (driverFeatures & FEATURE.ADMIN_VQ) === 0n) {
      return wrong(
        false,
        this.#device.registerRule,
        "an administration queue was enabled, ADMIN_VQ was not negotiated",
      );
    }
    if ((status & STATUS.driverOk) !== 0 && !this.wasReset) {
      return wrong(true, "1.1", "the queue was enabled after DRIVER_OK, and had not been reset");
    }
    const setup = this.#setup(negotiatedFeatures);
    return "rule" in setup ? { fatal: true, ...setup } : undefined;
  }

  /**
   * Stops it where the transport lets a driver do so (A-4.17): it keeps its size, its areas and its place in the ring, and goes on there when it
   * is enabled again.
   */
  disable(): void {
    if (this.ring === undefined) return;
    ({ available: this.#availableState, used: this.#usedState } = this.state());
    this.ring = undefined;
    this.enabled = false;
    this.wasReset = this.paused = true;
  }

  /** Where it goes on when it is enabled, for a transport that says so by other means than `queue_avail_state`. The queue is not enabled. */
  restoreState(state: QueueState): void {
    ({ available: this.#availableState, used: this.#usedState } = queueStateToWords(state));
  }

  /** Stops it for good, where the transport lets a driver do so (MMIO: QueueReady 0): enabled again, it begins a fresh ring. */
  stop(): void {
    this.wasReset ||= this.enabled;
    this.forgetState();
    this.ring = undefined;
    this.enabled = this.paused = false;
  }

  /** `queue_reset`. It is reset when this returns. */
  reset(value: number): void {
    const { profile, negotiatedFeatures } = this.#device;
    if (profile === "queue-state" || (negotiatedFeatures & FEATURE.RING_RESET) === 0n) {
      this.report("1.5", "queue_reset was written, RING_RESET is not negotiated");
    } else if (value !== 1) {
      this.report("1.5", `${value} was written to queue_reset: only 1 is allowed`);
    } else {
      this.stop();
      this.clear();
    }
  }

  // ---- what the device does with it ----

  /** FEATURES_OK: the layout is known, and with it which sizes there are. */
  chooseLayout(): void {
    this.maximum = this.#device.packed ? this.maxSize : splitSize(this.maxSize);
    if (this.size > this.maximum) this.size = this.maximum;
  }

  /**
   * Makes the ring that the registers describe, in place of one that was there; the queue is enabled when it can be made, else the device stops.
   * @param features in force @param left it goes on where a device left it
   */
  makeRing(features: bigint, left = false): void {
    const device = this.#device;
    this.enabled = false;
    device.wake();
    const setup = this.#setup(features);
    if ("rule" in setup) return this.violation(setup.rule, setup.problem);
    this.ring = (this.#options.makeQueue ?? honestQueue)(left ? { ...setup, left } : setup, this);
    this.enabled = true;
    this.paused = false;
  }

  #setup(features: bigint): DeviceQueueSetup | QueueSetupProblem {
    if (this.memory === null) {
      return { rule: "DMA", problem: "a queue was enabled without a client's memory" };
    }
    const state = this.#availableState >= 0 || this.#usedState >= 0 ? this.state() : undefined;
    const { usedBatches = false, quirks = [] } = this.#options;
    return queueSetup(this.index, this, features, state, {
      usedBatches,
      anyHead: quirks.includes("any-head"),
    });
  }

  /** To the values after a queue reset. The ring is not touched any more. */
  clear(): void {
    this.ring = undefined;
    this.size = this.maximum;
    this.vector = NO_VECTOR;
    this.enabled = this.paused = false;
    this.addresses.fill(0);
  }

  /**
   * To the values after a reset.
   * @param keepState with QUEUE_STATE its state outlives a device reset (N-6.3), but not one of the function; without it neither (A-6.9)
   */
  clearAll(keepState: boolean): void {
    if (!keepState || this.#device.profile !== "queue-state") this.forgetState();
    else if (this.#device.keepsState) {
      ({ available: this.#availableState, used: this.#usedState } = this.state());
    }
    this.maximum = this.maxSize;
    this.clear();
    this.wasReset = false;
  }

  // ---- state ----

  /** The state that it has now, or that was written or saved, or that a fresh ring has. */
  state(): QueueStateWords {
    if (this.ring !== undefined) return queueStateToWords(this.ring.state());
    const fresh = this.#device.packed ? FRESH_PACKED : 0;
    return {
      available: this.#availableState < 0 ? fresh : this.#availableState,
      used: this.#usedState < 0 ? fresh : this.#usedState,
    };
  }

  /** The same for a driver, who must not ask a device that was not reset (N-6.2). */
  readState(): QueueStateWords {
    if (this.#device.keepsState && (this.#device.status & STATUS.driverOk) !== 0) {
      this.report("N-6.2", "the state was read from a device that had not been reset");
    }
    return this.state();
  }

  /** N-6.3: ACKNOWLEDGE was set. */
  forgetState(): void {
    this.#availableState = this.#usedState = -1;
  }

  /** N-6.1: the driver has not set its state, enabled or not. */
  get lacksState(): boolean {
    const { driverFeatures, packed } = this.#device;
    if (this.maxSize === 0 || (this.ofAdmin && (driverFeatures & FEATURE.ADMIN_VQ) === 0n)) return false;
    return this.#availableState < 0 || (packed && this.#usedState < 0);
  }

  // ---- QueueDevice ----

  /** The driver's memory: there is some when a ring is made. */
  get dma(): DmaTable {
    return this.memory!;
  }

  /** The memory that it may access; null without a driver. */
  get memory(): DmaTable | null {
    const { view } = this.#device;
    return view.queueMemory === undefined ? view.dma : view.queueMemory(this.index);
  }

  /** A wrong access that does no more harm than to be ignored. */
  report(rule: string, message: string): void {
    this.#device.report(rule, message, this.index);
  }

  /** Something after which the device cannot go on. */
  violation(rule: string, message: string): void {
    this.#device.violation(rule, message, this.index);
  }

  /** Sends its used buffer notification. */
  interrupt(): void {
    this.#device.view.interruptQueue(this.index, this.vector);
  }
}
