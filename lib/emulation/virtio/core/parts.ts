/**
 * The state of a function as device parts, and what it is to be stopped (virtio 1.4 §2.12.1.5, §2.13; reference 3.6).
 *
 * The parts carry no place in any ring. A stopped device has returned all chains that it had read, so its place is in the rings' memory, which
 * stays the driver's: of a split ring it is the used index; of a packed ring the device leaves it in the event suppression structure that it
 * owns (see `PackedDeviceQueue.leave`).
 *
 * @module
 */
import { DEV_PART, DEV_PART_OPTIONAL } from "../../../virtio/spec/admin.ts";
import {
  commonCfgPart,
  featuresPart,
  readCommonCfgPart,
  readFeaturesPart,
  readStatusPart,
  readVqCfgPart,
  readVqNotifyCfgPart,
  statusPart,
  type VqCfgPart,
  vqCfgPart,
  vqNotifyCfgPart,
} from "../../../virtio/spec/device_part_values.ts";
import {
  DEV_PART_OF_TYPE,
  type DevicePart,
  partBytes,
  partLabel,
  partOrderProblem,
  partProblem,
} from "../../../virtio/spec/device_parts.ts";
import { FEATURE } from "../../../virtio/spec/features.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import { describeStatus, STATUS } from "../../../virtio/spec/status.ts";
import type { MemberParts } from "../admin/handler.ts";
import { queueSetup } from "../queue/setup.ts";
import type { CoreQueue } from "./queue.ts";
import type { DeviceState } from "./state.ts";
import { STATUS_KNOWN } from "./status.ts";

const FIELDS = [
  "device_feature_select",
  "driver_feature_select",
  "config_msix_vector",
  "num_queues",
  "config_generation",
  "queue_select",
] as const;
const ADMIN_FIELDS = ["admin_queue_index", "admin_queue_num"] as const;

/** Parts on which the meaning of the device type's own depends. */
const FUNDAMENTAL: ReadonlySet<number> = new Set([DEV_PART.DRV_FEATURES, DEV_PART.DEVICE_STATUS]);

/** Stop, resume, get and set of one function. */
export class DeviceParts implements MemberParts {
  readonly #device: DeviceState;
  readonly #queues: readonly CoreQueue[];
  /** Types that were set since it was stopped. */
  readonly #set = new Set<number>();
  /** DRIVER_OK was set, and the model does not know. */
  #start = false;

  /** Parts of a function that is not stopped. */
  constructor(device: DeviceState, queues: readonly CoreQueue[]) {
    this.#device = device;
    this.#queues = queues;
  }

  /** The owner stopped the function: it touches no memory and sends nothing. */
  get stopped(): boolean {
    return this.#device.stoppedByOwner;
  }

  /** Stops or resumes; idempotent. */
  setStopped(stopped: boolean): void {
    const device = this.#device;
    if (stopped === device.stoppedByOwner) return;
    if (stopped) {
      // Every queue returns what it has, and leaves its place where another function finds it.
      if (device.live) { for (const { ring } of this.#queues) ring?.leave(); }
      device.stoppedByOwner = true;
      device.model.parts?.stopChanged?.();
      return;
    }
    const restored = this.#set.size > 0;
    const held = device.configHeld;
    this.#forget();
    if (restored) this.#remakeQueues();
    device.model.parts?.stopChanged?.();
    device.wake();
    // What a driver read of the config space of the function that the parts come from need not be what this one has.
    if (restored || held) {
      device.configSeen();
      device.configChanged();
    }
  }

  /** Rings of the queues that are enabled, and of no other: old ones where they were left, when a driver runs. */
  #remakeQueues(): void {
    const goOn = (this.#device.status & STATUS.driverOk) !== 0;
    for (const queue of this.#queues) {
      queue.ring = undefined;
      if (queue.enabled) queue.makeRing(this.#device.negotiatedFeatures, goOn);
    }
  }

  /**
   * The function was reset: nothing of what was set is left. A driver's device reset leaves it stopped, since whether it may run is for its
   * owner to say; a reset of the PCI function, or the end of its client, leaves nothing.
   */
  cleared(function_: boolean): void {
    const { stopped } = this;
    this.#forget();
    this.#device.stoppedByOwner = stopped && !function_;
  }

  #forget(): void {
    this.#set.clear();
    this.#start = false;
    this.#device.stoppedByOwner = false;
    this.#device.configHeld = false;
  }

  // ---- get ----

  /** All parts, in the standard's order. */
  get(): readonly DevicePart[] {
    return [...this.#common(), ...this.#device.model.parts?.get?.() ?? []];
  }

  /** Parts of all devices always take the same; those of the type grow with what its driver sets. */
  get mostBytes(): number {
    return this.#common().reduce(
      (sum, part) => sum + partBytes(part),
      this.#device.model.parts?.mostBytes ?? 0,
    );
  }

  #common(): DevicePart[] {
    const { offered, driverFeatures, status, admin } = this.#device;
    const queues = this.#queues.filter(({ maxSize }) => maxSize > 0);
    const fields = admin === null ? FIELDS : [...FIELDS, ...ADMIN_FIELDS];
    return [
      featuresPart(DEV_PART.DEV_FEATURES, offered),
      featuresPart(DEV_PART.DRV_FEATURES, driverFeatures),
      ...fields.map((name) => commonCfgPart(name, this.#device.field(name))),
      statusPart(status),
      ...queues.map((queue) => vqCfgPart(queueCfg(queue))),
      ...queues.map((queue) => vqNotifyCfgPart(doorbell(queue))),
    ];
  }

  // ---- set ----

  /** Why these parts cannot be taken now; undefined when they can. Nothing changes. */
  problemOf(parts: readonly DevicePart[]): string | undefined {
    if (!this.stopped) return "the device is not stopped";
    if (this.#device.legacy) return "a driver uses the legacy interface, which parts do not describe";
    const { deviceId } = this.#device.model;
    for (const part of parts) {
      const problem = partProblem(part, deviceId) ?? this.#featuresProblem(part);
      if (problem !== undefined) return problem;
    }
    const problem = partOrderProblem(parts, [DEV_PART.DEV_FEATURES, ...this.#set]);
    if (problem !== undefined) return problem;
    const after = this.#after(parts);
    for (const part of parts) {
      if ((part.flags & DEV_PART_OPTIONAL) !== 0) continue;
      const wrong = this.#partProblem(part, after);
      if (wrong !== undefined) return `${partLabel(part)}: ${wrong}`;
    }
    return this.#wholeProblem(after);
  }

  /** Takes parts that `problemOf` has nothing against. Registers show them at once; the device acts on them when it is resumed. */
  set(parts: readonly DevicePart[]): void {
    const after = this.#after(parts);
    for (const part of parts) {
      if (this.#leavesOut(part, after)) continue;
      if (FUNDAMENTAL.has(part.type) && (after.status & STATUS.driverOk) !== 0) this.#start = true;
      this.#set.add(part.type);
      if (part.type >= DEV_PART_OF_TYPE.first) this.#startModel();
      this.#setPart(part, after);
    }
    this.#startModel();
  }

  #setPart(part: DevicePart, after: After): void {
    const device = this.#device;
    switch (part.type) {
      case DEV_PART.DEV_FEATURES:
        return;
      case DEV_PART.DRV_FEATURES:
        device.driverFeatures = after.features;
        for (const queue of this.#queues) queue.chooseLayout();
        return;
      case DEV_PART.PCI_COMMON_CFG:
        this.#setField(part);
        return;
      case DEV_PART.DEVICE_STATUS:
        device.status = after.status;
        return;
      case DEV_PART.VQ_CFG:
        this.#setQueue(part);
        return;
      case DEV_PART.VQ_NOTIFY_CFG:
        return;
      default:
        device.model.parts?.set?.(part);
    }
  }

  /** Before anything of the device type is set: what that means depends on features. */
  #startModel(): void {
    if (!this.#start) return;
    this.#start = false;
    const { model } = this.#device;
    model.start?.();
    model.parts?.restored?.();
  }

  /** Features and status when the parts are set. */
  #after(parts: readonly DevicePart[]): After {
    let after: After = { features: this.#device.driverFeatures, status: this.#device.status };
    for (const part of parts) {
      if (!FUNDAMENTAL.has(part.type) || this.#leavesOut(part, after)) continue;
      after = part.type === DEV_PART.DRV_FEATURES
        ? { ...after, features: readFeaturesPart(part) }
        : { ...after, status: readStatusPart(part) };
    }
    return after;
  }

  /** An optional part that means nothing to this device is left out. */
  #leavesOut(part: DevicePart, after: After): boolean {
    return (part.flags & DEV_PART_OPTIONAL) !== 0 && this.#partProblem(part, after) !== undefined;
  }

  /** What is wrong with a part of features, whether it is optional or not. */
  #featuresProblem(part: DevicePart): string | undefined {
    const { offered } = this.#device;
    if (part.type !== DEV_PART.DEV_FEATURES && part.type !== DEV_PART.DRV_FEATURES) return undefined;
    if (part.value.length !== 8) {
      return `${partLabel(part)} has a value of ${part.value.length} bytes, this device's has 8`;
    }
    const given = readFeaturesPart(part);
    if (part.type === DEV_PART.DRV_FEATURES || given === offered) return undefined;
    return `${partLabel(part)}: 0x${given.toString(16)} were offered, this device offers 0x${
      offered.toString(16)
    }`;
  }

  #partProblem(part: DevicePart, after: After): string | undefined {
    switch (part.type) {
      case DEV_PART.DEV_FEATURES:
        return undefined;
      case DEV_PART.DRV_FEATURES: {
        const alien = readFeaturesPart(part) & ~this.#device.offered;
        return alien === 0n ? undefined : `0x${alien.toString(16)} were not offered`;
      }
      case DEV_PART.PCI_COMMON_CFG:
        return this.#fieldProblem(part);
      case DEV_PART.DEVICE_STATUS:
        return statusProblem(readStatusPart(part));
      case DEV_PART.VQ_CFG:
        return this.#queueProblem(part, after);
      case DEV_PART.VQ_NOTIFY_CFG:
        return this.#doorbellProblem(part);
      default: {
        const { parts } = this.#device.model;
        if (parts?.problem === undefined) return "this device has no such part";
        return parts.problem(part, after.features);
      }
    }
  }

  /** What is wrong with all of it together. */
  #wholeProblem({ features, status }: After): string | undefined {
    const { parts } = this.#device.model;
    if ((status & STATUS.featuresOk) !== 0) {
      const problem = this.#device.featureProblem(features);
      if (problem !== undefined) return `DRV_FEATURES: ${problem}`;
    }
    if ((status & STATUS.driverOk) === 0) return undefined;
    if (parts === undefined) return "parts do not hold all of the state of this type of device";
    return parts.lack?.(features);
  }

  #fieldProblem(part: DevicePart): string | undefined {
    const { register, value } = readCommonCfgPart(part);
    const number = Number(value);
    switch (register) {
      case "device_feature_select":
      case "driver_feature_select":
      case "queue_select":
      case "config_generation":
        return undefined;
      case "config_msix_vector":
        return this.#vectorProblem(number);
      case "num_queues":
      case "admin_queue_index":
      case "admin_queue_num": {
        const own = this.#device.field(register);
        return number === own ? undefined : `${register} is ${number}, this device's is ${own}`;
      }
      default:
        return `${register} is not exchanged as a field by itself`;
    }
  }

  #vectorProblem(vector: number): string | undefined {
    if (vector === NO_VECTOR || this.#device.vector(vector) === vector) return undefined;
    return `there is no vector ${vector}, the function has ${this.#device.vectorCount}`;
  }

  #queueProblem(part: DevicePart, after: After): string | undefined {
    const { value, selector } = part;
    const queue = this.#queues[Number(selector)];
    if (queue === undefined || queue.maxSize === 0) return "there is no such queue";
    if (value[4]! > 1 || value[5] !== 0) return `enabled is ${value[4]! | value[5]! << 8}, neither 0 nor 1`;
    const cfg = readVqCfgPart(part);
    const vector = cfg.vector === null ? undefined : this.#vectorProblem(cfg.vector);
    if (vector !== undefined) return vector;
    if (cfg.size > queue.maxSize) return `size ${cfg.size} is above the maximum of ${queue.maxSize}`;
    if (!cfg.enabled) return undefined;
    if ((after.status & STATUS.featuresOk) === 0) return "it is enabled before FEATURES_OK";
    if (queue.ofAdmin && (after.features & FEATURE.ADMIN_VQ) === 0n) return "it is enabled without ADMIN_VQ";
    if (this.#device.dma === null) return "it is enabled, and no driver has opened the function";
    const setup = queueSetup(queue.index, cfg, after.features, undefined, {});
    return "rule" in setup ? setup.problem : undefined;
  }

  #doorbellProblem(part: DevicePart): string | undefined {
    const queue = this.#queues[Number(part.selector)];
    if (queue === undefined || queue.maxSize === 0) return "there is no such queue";
    const given = readVqNotifyCfgPart(part);
    const own = doorbell(queue);
    // A driver looked its doorbells up long ago.
    if (given.notifyOff === own.notifyOff && given.notifyData === own.notifyData) return undefined;
    return `queue_notify_off ${given.notifyOff} and data ${given.notifyData}, this device has ${own.notifyOff} and ${own.notifyData}`;
  }

  #setField(part: DevicePart): void {
    const device = this.#device;
    const { register, value } = readCommonCfgPart(part);
    const number = Number(value);
    if (register === "config_msix_vector") device.configVector = number;
    else if (register === "config_generation") device.generation = number;
    else if (
      register === "device_feature_select" || register === "driver_feature_select" ||
      register === "queue_select"
    ) device.view.selectors[register] = number;
  }

  #setQueue(part: DevicePart): void {
    const cfg = readVqCfgPart(part);
    const queue = this.#queues[cfg.queue]!;
    queue.size = cfg.size;
    queue.vector = cfg.vector ?? NO_VECTOR;
    queue.enabled = cfg.enabled;
    queue.place(0, cfg.descriptorArea);
    queue.place(1, cfg.driverArea);
    queue.place(2, cfg.deviceArea);
    // Whether a queue that is not enabled was reset the parts do not say; a driver that cannot reset queues will not enable it again.
    queue.wasReset = !cfg.enabled && (this.#device.driverFeatures & FEATURE.RING_RESET) !== 0n;
  }
}

/** What will be in force. */
interface After {
  readonly features: bigint;
  readonly status: number;
}

function queueCfg(queue: CoreQueue): VqCfgPart {
  const { index, size, vector, enabled, descriptorArea, driverArea, deviceArea } = queue;
  return {
    queue: index,
    size,
    vector: vector === NO_VECTOR ? null : vector,
    enabled,
    descriptorArea,
    driverArea,
    deviceArea,
  };
}

function doorbell(
  { index, notifyData }: CoreQueue,
): { queue: number; notifyOff: number; notifyData: number } {
  return { queue: index, notifyOff: index, notifyData };
}

/** Bits of a status that come one after the other; DEVICE_NEEDS_RESET and FAILED may come at any time. */
const STEPS = [STATUS.acknowledge, STATUS.driver, STATUS.featuresOk, STATUS.driverOk] as const;

function statusProblem(status: number): string | undefined {
  const unknown = status & ~STATUS_KNOWN;
  if (unknown !== 0) return `bits 0x${unknown.toString(16)} mean nothing to this device`;
  for (let i = 1; i < STEPS.length; i++) {
    if ((status & STEPS[i]!) !== 0 && (status & STEPS[i - 1]!) === 0) {
      return `${describeStatus(status)} is a status that no driver can reach`;
    }
  }
  return undefined;
}
