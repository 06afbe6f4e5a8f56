/**
 * The state of a function as device parts, and what it is to be stopped (virtio 1.4 §2.12.1.5, §2.13; reference 3.6).
 *
 * The parts carry no place in any ring. A stopped device has returned all chains that it had read, so its place is in the rings' memory, which
 * stays the driver's: of a split ring it is the used index; of a packed ring the device leaves it in the event suppression structure that it
 * owns (see `PackedDeviceQueue.leave`).
 *
 * @module
 */
import { DEV_PART, DEV_PART_OPTIONAL } from "../../../virtio/constants/admin.ts";
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
} from "../../../virtio/constants/device_part_values.ts";
import {
  DEV_PART_OF_TYPE,
  type DevicePart,
  partBytes,
  partLabel,
  partOrderProblem,
  partProblem,
} from "../../../virtio/constants/device_parts.ts";
import { FEATURE } from "../../../virtio/constants/features.ts";
import { NO_VECTOR } from "../../../virtio/constants/pci.ts";
import { describeStatus, STATUS } from "../../../virtio/constants/status.ts";
import type { DeviceModel } from "../../device_model.ts";
import type { MemberParts } from "../admin/handler.ts";
import { type CommonRegisters, QueueRegisters } from "../views/pci/common.ts";
import { notificationIdentifier } from "../views/pci/layout.ts";
import { queueSetup } from "./queue_setup.ts";

/** What the parts need of the function. */
export interface PartsHost {
  /** The device behind. */
  readonly model: DeviceModel;
  /** All features that it offers. */
  readonly offered: bigint;
  /** Its registers. */
  readonly registers: CommonRegisters;
  /** MSI-X vectors that the function has. */
  readonly vectors: number;
  /** A client is there, and with it memory for queues. */
  attached(): boolean;
  /** The device runs, and may touch memory: never true while it is stopped. */
  running(): boolean;
  /** A driver uses the legacy interface. */
  legacy(): boolean;
  /** `config_generation`. */
  readGeneration(): number;
  /** Sets `config_generation`. */
  setGeneration(generation: number): void;
  /** What is wrong with a set of accepted features; undefined when nothing is. */
  featureProblem(accepted: bigint): string | undefined;
  /** Every queue returns what it has, and leaves its place where another function finds it. */
  leaveQueues(): void;
  /** There is no ring of this queue any more. */
  resetQueue(index: number): void;
  /** Makes the ring of a queue as its registers say. It goes on where it was left when `goOn`; else it is new. @returns false when it cannot be */
  remakeQueue(index: number, goOn: boolean): boolean;
  /** There may be work. */
  wake(): void;
  /** Config space may be another: the driver must look. */
  configChanged(): void;
}

/** `device_status` as registers have it. */
const STATUS_KNOWN = STATUS.acknowledge | STATUS.driver | STATUS.driverOk | STATUS.featuresOk |
  STATUS.deviceNeedsReset | STATUS.failed;
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
  readonly #host: PartsHost;
  #stopped = false;
  /** Types that were set since it was stopped. */
  readonly #set = new Set<number>();
  /** DRIVER_OK was set, and the model does not know. */
  #start = false;
  /** A change of config space that the driver has not been told of. */
  #configHeld = false;

  /** Parts of a function that is not stopped. */
  constructor(host: PartsHost) {
    this.#host = host;
  }

  /** The owner stopped the function: it touches no memory and sends nothing. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Stops or resumes; idempotent. */
  setStopped(stopped: boolean): void {
    if (stopped === this.#stopped) return;
    const host = this.#host;
    if (stopped) {
      if (host.running()) host.leaveQueues();
      this.#stopped = true;
      host.model.parts?.stopChanged?.();
      return;
    }
    const restored = this.#set.size > 0;
    const held = this.#configHeld;
    this.#forget();
    if (restored) this.#remakeQueues();
    host.model.parts?.stopChanged?.();
    host.wake();
    // What a driver read of the config space of the function that the parts come from need not be what this one has.
    if (restored || held) host.configChanged();
  }

  /** Rings of the queues that are enabled, and of no other. */
  #remakeQueues(): void {
    const { registers } = this.#host;
    const goOn = (registers.status & STATUS.driverOk) !== 0;
    registers.queues.forEach((queue, index) => {
      this.#host.resetQueue(index);
      if (queue.enabled) queue.enabled = this.#host.remakeQueue(index, goOn);
    });
  }

  /** The driver must be told of its config space when the function is resumed. @returns false when it is not stopped */
  holdConfigInterrupt(): boolean {
    if (this.#stopped) this.#configHeld = true;
    return this.#stopped;
  }

  /**
   * The function was reset: nothing of what was set is left. A driver's device reset leaves it stopped, since whether it may run is for its
   * owner to say; a reset of the PCI function, or the end of its client, leaves nothing.
   */
  cleared(function_: boolean): void {
    const { stopped } = this;
    this.#forget();
    this.#stopped = stopped && !function_;
  }

  #forget(): void {
    this.#stopped = false;
    this.#set.clear();
    this.#configHeld = false;
    this.#start = false;
  }

  // ---- get ----

  /** All parts, in the standard's order. */
  get(): readonly DevicePart[] {
    return [...this.#common(), ...this.#host.model.parts?.get?.() ?? []];
  }

  /** Parts of all devices always take the same; those of the type grow with what its driver sets. */
  get mostBytes(): number {
    return this.#common().reduce(
      (sum, part) => sum + partBytes(part),
      this.#host.model.parts?.mostBytes ?? 0,
    );
  }

  #common(): DevicePart[] {
    const { offered, registers } = this.#host;
    const queues = registers.queues.map((queue, index) => ({ queue, index }))
      .filter(({ queue }) => queue.maxSize > 0);
    const fields = registers.adminCount === 0 ? FIELDS : [...FIELDS, ...ADMIN_FIELDS];
    return [
      featuresPart(DEV_PART.DEV_FEATURES, offered),
      featuresPart(DEV_PART.DRV_FEATURES, registers.driverFeatures),
      ...fields.map((name) => commonCfgPart(name, this.#field(name))),
      statusPart(registers.status),
      ...queues.map(({ queue, index }) => vqCfgPart(queueRegisters(queue, index))),
      ...queues.map(({ index }) => vqNotifyCfgPart(this.#doorbell(index))),
    ];
  }

  #field(name: typeof FIELDS[number] | typeof ADMIN_FIELDS[number]): number {
    const { registers } = this.#host;
    const { queues, adminCount, configVector } = registers;
    switch (name) {
      case "config_msix_vector":
        return configVector;
      case "num_queues":
      case "admin_queue_index":
        return queues.length - adminCount;
      case "admin_queue_num":
        return adminCount;
      case "config_generation":
        return this.#host.readGeneration();
      default:
        return registers.selectors[name];
    }
  }

  #doorbell(queue: number): { queue: number; notifyOff: number; notifyData: number } {
    const named = (this.#host.offered & FEATURE.NOTIF_CONFIG_DATA) !== 0n;
    return { queue, notifyOff: queue, notifyData: named ? notificationIdentifier(queue) : 0 };
  }

  // ---- set ----

  /** Why these parts cannot be taken now; undefined when they can. Nothing changes. */
  problemOf(parts: readonly DevicePart[]): string | undefined {
    if (!this.#stopped) return "the device is not stopped";
    if (this.#host.legacy()) return "a driver uses the legacy interface, which parts do not describe";
    const { deviceId } = this.#host.model;
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
    const { registers, model } = this.#host;
    switch (part.type) {
      case DEV_PART.DEV_FEATURES:
        return;
      case DEV_PART.DRV_FEATURES:
        registers.driverFeatures = after.features;
        for (const queue of registers.queues) queue.chooseLayout(registers.packed);
        return;
      case DEV_PART.PCI_COMMON_CFG:
        this.#setField(part);
        return;
      case DEV_PART.DEVICE_STATUS:
        registers.status = after.status;
        return;
      case DEV_PART.VQ_CFG:
        this.#setQueue(part);
        return;
      case DEV_PART.VQ_NOTIFY_CFG:
        return;
      default:
        model.parts?.set?.(part);
    }
  }

  /** Before anything of the device type is set: what that means depends on features. */
  #startModel(): void {
    if (!this.#start) return;
    this.#start = false;
    const { model } = this.#host;
    model.start();
    model.parts?.restored?.();
  }

  /** Features and status when the parts are set. */
  #after(parts: readonly DevicePart[]): After {
    const { registers } = this.#host;
    let after: After = { features: registers.driverFeatures, status: registers.status };
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
    const { offered } = this.#host;
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
        const alien = readFeaturesPart(part) & ~this.#host.offered;
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
        const { parts } = this.#host.model;
        if (parts?.problem === undefined) return "this device has no such part";
        return parts.problem(part, after.features);
      }
    }
  }

  /** What is wrong with all of it together. */
  #wholeProblem({ features, status }: After): string | undefined {
    const { parts } = this.#host.model;
    if ((status & STATUS.featuresOk) !== 0) {
      const problem = this.#host.featureProblem(features);
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
        const { adminCount } = this.#host.registers;
        const own = register !== "num_queues" && adminCount === 0 ? 0 : this.#field(register);
        return number === own ? undefined : `${register} is ${number}, this device's is ${own}`;
      }
      default:
        return `${register} is not exchanged as a field by itself`;
    }
  }

  #vectorProblem(vector: number): string | undefined {
    const { vectors } = this.#host;
    if (vector === NO_VECTOR || vector < vectors) return undefined;
    return `there is no vector ${vector}, the function has ${vectors}`;
  }

  #queueProblem(part: DevicePart, after: After): string | undefined {
    const { registers } = this.#host;
    const { value, selector } = part;
    const index = Number(selector);
    const queue = registers.queues[index];
    if (queue === undefined || queue.maxSize === 0) return "there is no such queue";
    if (value[4]! > 1 || value[5] !== 0) return `enabled is ${value[4]! | value[5]! << 8}, neither 0 nor 1`;
    const cfg = readVqCfgPart(part);
    const vector = cfg.vector === null ? undefined : this.#vectorProblem(cfg.vector);
    if (vector !== undefined) return vector;
    if (cfg.size > queue.maxSize) return `size ${cfg.size} is above the maximum of ${queue.maxSize}`;
    if (!cfg.enabled) return undefined;
    if ((after.status & STATUS.featuresOk) === 0) return "it is enabled before FEATURES_OK";
    const admin = index >= registers.queues.length - registers.adminCount;
    if (admin && (after.features & FEATURE.ADMIN_VQ) === 0n) return "it is enabled without ADMIN_VQ";
    if (!this.#host.attached()) return "it is enabled, and no driver has opened the function";
    const registersAfter = new QueueRegisters(queue.maxSize);
    setRegisters(registersAfter, cfg);
    const setup = queueSetup(index, registersAfter, after.features, undefined, false);
    return "rule" in setup ? setup.problem : undefined;
  }

  #doorbellProblem(part: DevicePart): string | undefined {
    const queue = this.#host.registers.queues[Number(part.selector)];
    if (queue === undefined || queue.maxSize === 0) return "there is no such queue";
    const given = readVqNotifyCfgPart(part);
    const own = this.#doorbell(given.queue);
    // A driver looked its doorbells up long ago.
    if (given.notifyOff === own.notifyOff && given.notifyData === own.notifyData) return undefined;
    return `queue_notify_off ${given.notifyOff} and data ${given.notifyData}, this device has ${own.notifyOff} and ${own.notifyData}`;
  }

  #setField(part: DevicePart): void {
    const { registers } = this.#host;
    const { register, value } = readCommonCfgPart(part);
    const number = Number(value);
    if (register === "config_msix_vector") registers.configVector = number;
    else if (register === "config_generation") this.#host.setGeneration(number);
    else if (
      register === "device_feature_select" || register === "driver_feature_select" ||
      register === "queue_select"
    ) registers.selectors[register] = number;
  }

  #setQueue(part: DevicePart): void {
    const { registers } = this.#host;
    const cfg = readVqCfgPart(part);
    const queue = registers.queues[cfg.queue]!;
    setRegisters(queue, cfg);
    // Whether a queue that is not enabled was reset the parts do not say; a driver that cannot reset queues will not enable it again.
    queue.wasReset = !cfg.enabled && (registers.driverFeatures & FEATURE.RING_RESET) !== 0n;
  }
}

/** What will be in force. */
interface After {
  readonly features: bigint;
  readonly status: number;
}

function queueRegisters(queue: QueueRegisters, index: number): VqCfgPart {
  return {
    queue: index,
    size: queue.size,
    vector: queue.vector === NO_VECTOR ? null : queue.vector,
    enabled: queue.enabled,
    descriptorArea: queue.address(0),
    driverArea: queue.address(1),
    deviceArea: queue.address(2),
  };
}

function setRegisters(queue: QueueRegisters, cfg: VqCfgPart): void {
  queue.size = cfg.size;
  queue.vector = cfg.vector ?? NO_VECTOR;
  queue.enabled = cfg.enabled;
  [cfg.descriptorArea, cfg.driverArea, cfg.deviceArea].forEach((area, i) => {
    queue.addresses[2 * i] = Number(area & 0xffff_ffffn);
    queue.addresses[2 * i + 1] = Number(area >> 32n);
  });
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
