/**
 * The state of a virtio device, less its queues: what its queues, its parts and its drivers' interfaces share.
 *
 * @module
 */
import { DRAFT_FEATURE, FEATURE, featureNames, type Profile } from "../../../virtio/spec/features.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import { STATUS } from "../../../virtio/spec/status.ts";
import type { DmaTable } from "../../../sockets/dma_table.ts";
import type { DeviceModel } from "../../device_model.ts";
import type { AdminEngine } from "../admin/engine.ts";
import { type CoreOptions, offeredFeatures } from "./options.ts";
import type { Selectors, VirtioView } from "./view.ts";

/** A driver gone wild shall not fill the machine's memory with reports. */
const REPORTS_MAX = 256;
/** Features that the driver must accept when they are offered: without them the device could not work behind an IOMMU. */
const INDISPENSABLE = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;
/** After a violation, or when its driver gave up, a device stays as it is until it is reset. */
export const DEAD: number = STATUS.deviceNeedsReset | STATUS.failed;

/** Registers of the common configuration that belong to no queue, and that device parts hold one by one. */
export type CommonField =
  | keyof Selectors
  | "config_msix_vector"
  | "num_queues"
  | "config_generation"
  | "admin_queue_index"
  | "admin_queue_num";

/** See the module. */
export class DeviceState {
  /** Carries it. */
  readonly view: VirtioView;
  /** What it does. */
  readonly model: DeviceModel;
  /** What bits 39 and 40 mean. */
  readonly profile: Profile;
  /** All features that it offers. */
  readonly offered: bigint;
  /** What answers its administration queues, which are its last ones; null when it has none. */
  readonly admin: AdminEngine | null;
  /** Interrupt vectors that a driver can name: one a queue, one for the configuration, and the model's own. */
  readonly vectorCount: number;
  /** `device_status`. */
  status = 0;
  /** What the driver accepted so far. */
  driverFeatures = 0n;
  /** Interrupt vector of configuration changes. */
  configVector: number = NO_VECTOR;
  /** `config_generation`. */
  generation = 0;
  /** A driver uses the legacy interface; see `LegacyDriver`. */
  legacy = false;
  /** A legacy driver has used the device: features are final and buffers are looked at. It may have been before DRIVER_OK (§3.1.2). */
  started = false;
  /** The owner of the function stopped it: it touches no memory and sends nothing; see `DeviceParts`. */
  stoppedByOwner = false;
  /** A change of config space that the driver is told of when the function is resumed. */
  configHeld = false;
  /** The driver has read config space since the generation changed last: the next change must be seen. */
  #configRead = false;
  #reports = 0;

  /** As after a reset. @throws UsageError when VERSION_1 shall not be offered */
  constructor(view: VirtioView, model: DeviceModel, options: CoreOptions) {
    this.view = view;
    this.model = model;
    this.profile = options.profile ?? "spec";
    this.offered = offeredFeatures(model.features, options);
    this.admin = (this.offered & FEATURE.ADMIN_VQ) === 0n ? null : options.admin ?? null;
    const queues = model.queueSizes.length + (this.admin?.queueSizes.length ?? 0);
    this.vectorCount = queues + 1 + (model.extraVectors ?? 0);
  }

  /** What the function is called. */
  get name(): string {
    return this.view.name;
  }

  /** Section of the reference that has the registers which its driver writes. */
  get registerRule(): string {
    return this.view.registerRule ?? "2.2";
  }

  /** The driver's memory; null without a driver. */
  get dma(): DmaTable | null {
    return this.view.dma;
  }

  /** RING_PACKED was accepted. */
  get packed(): boolean {
    return (this.driverFeatures & FEATURE.RING_PACKED) !== 0n;
  }

  /** QUEUE_STATE was negotiated. */
  get keepsState(): boolean {
    return this.profile === "queue-state" && (this.status & STATUS.featuresOk) !== 0 &&
      (this.driverFeatures & DRAFT_FEATURE.QUEUE_STATE) !== 0n;
  }

  /** Features from FEATURES_OK on, on the legacy interface from first use; 0 before. */
  get negotiatedFeatures(): bigint {
    const final = this.legacy ? this.started : (this.status & STATUS.featuresOk) !== 0;
    return final ? this.driverFeatures : 0n;
  }

  /** A driver uses the device, whatever became of it since. */
  get running(): boolean {
    return (this.status & STATUS.driverOk) !== 0 || this.started;
  }

  /** The device may touch memory. */
  get live(): boolean {
    return this.running && !this.stoppedByOwner && (this.status & DEAD) === 0 && this.view.mayTouchMemory;
  }

  /** What a register reads. */
  field(name: CommonField): number {
    switch (name) {
      case "config_msix_vector":
        return this.configVector;
      case "num_queues":
        return this.model.queueSizes.length;
      case "admin_queue_index":
        return this.admin === null ? 0 : this.model.queueSizes.length;
      case "admin_queue_num":
        return this.admin?.queueSizes.length ?? 0;
      case "config_generation":
        return this.generation;
      default:
        return this.view.selectors[name];
    }
  }

  /** Notes what does no more harm than to be ignored. @param of what it is about, where that is not this device */
  report(rule: string, message: string, queue?: number, of?: string): void {
    if (this.#reports >= REPORTS_MAX) return;
    this.#reports++;
    const last = this.#reports === REPORTS_MAX ? " (no further reports until the client is gone)" : "";
    this.view.report({
      function: of ?? this.name,
      queue,
      rule,
      message: message + last,
    });
  }

  /** Notes, sets DEVICE_NEEDS_RESET, stops. */
  violation(rule: string, message: string, queue?: number): void {
    this.report(rule, message, queue);
    this.fail();
  }

  /** DEVICE_NEEDS_RESET is set. */
  get needsReset(): boolean {
    return (this.status & STATUS.deviceNeedsReset) !== 0;
  }

  /** Sets DEVICE_NEEDS_RESET, and stops until it is reset. */
  fail(): void {
    if (this.needsReset) return;
    this.status |= STATUS.deviceNeedsReset;
    if (this.running) this.#interruptConfig();
  }

  /** A driver is there: reports count from 0. */
  attached(): void {
    this.#reports = 0;
  }

  /** There may be work. */
  wake(): void {
    this.view.wake();
  }

  /** A vector as its register shows it: the device refuses one that it does not have. */
  vector(value: number): number {
    return value < this.vectorCount ? value : NO_VECTOR;
  }

  /** The driver has seen the configuration of this generation. */
  configSeen(): void {
    this.#configRead = true;
  }

  /** Bumps the generation, raises the config interrupt. */
  configChanged(): void {
    if (this.#configRead) {
      this.generation = (this.generation + 1) & 0xff;
      this.#configRead = false;
    }
    if (this.running) this.#interruptConfig();
  }

  /** Reports features of `accepted` that were not offered. @param offered by the interface that the driver uses */
  reportAlien(accepted: bigint, offered: bigint): void {
    const alien = accepted & ~offered;
    if (alien !== 0n) this.report("1.1", `the driver accepted what was not offered: ${this.#names(alien)}`);
  }

  /** Why FEATURES_OK is refused; undefined when it is not. */
  featureProblem(accepted: bigint): string | undefined {
    const alien = accepted & ~this.offered;
    if (alien !== 0n) return `not offered: ${this.#names(alien)}`;
    const missing = this.offered & INDISPENSABLE & ~accepted;
    if (missing !== 0n) return `must be accepted: ${this.#names(missing)}`;
    return this.model.checkFeatures?.(accepted);
  }

  #names(features: bigint): string {
    return featureNames(features, this.model.deviceId, this.profile).join(", ");
  }

  #interruptConfig(): void {
    if (this.stoppedByOwner) this.configHeld = true;
    else this.view.interruptConfig(this.configVector);
  }
}
