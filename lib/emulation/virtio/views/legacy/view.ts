/**
 * The legacy registers of a virtio function, as the administration commands of its owner reach them (virtio 1.4 §4.1.4.10; reference 2.3, N-3.14).
 *
 * They are a second view of the state that `CommonRegisters` holds. A driver uses one of the two: the one that writes first after a reset has
 * the device, and what comes through the other is reported and has no effect, except for a reset, which resets both.
 *
 * @module
 */
import { FEATURE, featureNames } from "../../../../virtio/constants/features.ts";
import {
  LEGACY_CFG,
  LEGACY_CFG_BYTES,
  LEGACY_RING_ALIGN,
  type LegacyRegisterName,
  legacyRingLayout,
} from "../../../../virtio/constants/legacy.ts";
import type { RegisterDeclaration } from "../../../../registers/declaration.ts";
import { NO_VECTOR } from "../../../../virtio/constants/pci.ts";
import { describeStatus, STATUS } from "../../../../virtio/constants/status.ts";
import { UsageError } from "../../../../errors/mod.ts";
import type { DeviceModel } from "../../../device_model.ts";
import type { MemberLegacy } from "../../admin/handler.ts";
import { type CommonRegisters, type QueueRegisters, splitSize } from "../pci/common.ts";
import type { PciFrontOptions } from "../../core/options.ts";
import { hasLegacyInterface, insideConfigField } from "./fields.ts";
import { stepStatus } from "../../core/status.ts";

/** Rule of everything about the register block. */
const BLOCK = "2.3";
/** Either interface at a time. */
const ONE_INTERFACE = "virtio 1.2 §2.2.3";
/** Devices are set up without FEATURES_OK. */
const SETUP = "virtio 1.2 §3.1.2";
const LOW_BITS = 0xffff_ffffn;
const REGISTERS = Object.entries(LEGACY_CFG) as [LegacyRegisterName, RegisterDeclaration][];

/** How the legacy interface of a function differs from the default. */
export interface LegacyOptions {
  /**
   * Offer ANY_LAYOUT, as the standard demands of a transitional device. Default true. A driver that does not accept it must put headers into
   * descriptors of their own.
   */
  readonly anyLayout?: boolean;
}

/** What the registers need of the function. */
export interface LegacyHost {
  /** The device. */
  readonly model: DeviceModel;
  /** The state, which both interfaces share. */
  readonly registers: CommonRegisters;
  /** MSI-X vectors that the function has. */
  readonly vectors: number;
  /** All features that it offers, less those that are switched off. */
  readonly offered: bigint;
  /** Where a 16-bit write of a queue's index notifies. */
  readonly notifyArea: { readonly bar: number; readonly offset: number };
  /** MSI-X is in use. */
  msixEnabled(): boolean;
  /** The ISR byte, which is cleared. */
  takeIsr(): number;
  /** Device reset; it ends in `LegacyRegisters.cleared`. */
  reset(): void;
  /** Makes the ring that the registers of the queue describe. @returns false when it cannot be, which is reported */
  enableQueue(index: number, registers: QueueRegisters, features: bigint): boolean;
  /** Lets go of the ring. */
  resetQueue(index: number): void;
  /** The driver uses the device from now on. */
  start(): void;
  /** Tells the model of a notification. */
  notify(index: number): void;
  /** The function has work, though its own user did nothing. */
  wake(): void;
  /** True while the device may touch memory. */
  running(): boolean;
  /** A wrong access that does no more harm than to be ignored. */
  report(rule: string, message: string, queue?: number): void;
  /** Something after which the device cannot go on. */
  violation(rule: string, message: string, queue?: number): void;
}

/** See the module. */
export class LegacyRegisters implements MemberLegacy {
  /** Where its driver may notify, in the function's own BARs. */
  readonly notifyAreas: readonly { readonly bar: number; readonly offset: number }[];
  /** Features 0–31 that are offered. */
  readonly offered: bigint;
  readonly #host: LegacyHost;
  /** Registers of each queue that drivers use. */
  readonly #queues: readonly QueueRegisters[];
  readonly #pfns: Uint32Array;
  #active = false;
  #started = false;
  #queueSelect = 0;
  #lastNotified = 0;

  /**
   * The block of a function after reset. @throws UsageError for a device type that has no legacy interface
   */
  constructor(host: LegacyHost, options: LegacyOptions = {}) {
    const { deviceId, queueSizes } = host.model;
    if (!hasLegacyInterface(deviceId)) {
      throw new UsageError(`virtio device type ${deviceId} has no legacy interface`, {
        hint: "network, block, console and entropy devices have one",
      });
    }
    this.#host = host;
    this.#queues = host.registers.queues.slice(0, queueSizes.length);
    this.#pfns = new Uint32Array(queueSizes.length);
    this.notifyAreas = [host.notifyArea];
    this.offered = host.offered & LOW_BITS | (options.anyLayout ?? true ? FEATURE.ANY_LAYOUT : 0n);
  }

  /** A driver uses the device through these registers. */
  get active(): boolean {
    return this.#active;
  }

  /**
   * The device was used, or DRIVER_OK was set: features are final and buffers are looked at. Legacy drivers use a device before DRIVER_OK
   * (§3.1.2).
   */
  get started(): boolean {
    return this.#started;
  }

  /** Features in force; 0 before `started`. */
  get negotiatedFeatures(): bigint {
    return this.#started ? this.#host.registers.driverFeatures : 0n;
  }

  /** The function was reset, by whatever means. */
  cleared(): void {
    this.#active = false;
    this.#started = false;
    this.#queueSelect = 0;
    this.#lastNotified = 0;
    this.#pfns.fill(0);
  }

  /** Whether a write to the modern structures must be ignored; it is reported then. A reset must not be asked about. */
  refusesModern(what: string): boolean {
    if (!this.#active) return false;
    this.#host.report(ONE_INTERFACE, `${what} was written while a driver uses the legacy interface`);
    return true;
  }

  // ---- MemberLegacy ----

  /** True when [offset, +length) is one register, or lies inside one. */
  isCommonField(offset: number, length: number): boolean {
    return this.#registerAt(offset, length) !== undefined;
  }

  /** True when [offset, +length) is one field of the device-specific configuration, or lies inside one. */
  isDeviceField(offset: number, length: number): boolean {
    const { deviceId, configSizeBytes } = this.#host.model;
    return insideConfigField(deviceId, configSizeBytes, offset, length);
  }

  /** Reads a register, or part of one. What is no register reads as ones. */
  readCommon(offset: number, into: Uint8Array): void {
    const found = this.#registerAt(offset, into.length);
    if (found === undefined) {
      into.fill(0xff);
      return;
    }
    const [name, register] = found;
    const value = this.#get(name);
    for (let i = 0; i < into.length; i++) into[i] = value >>> (8 * (offset - register.offset + i));
  }

  /** Writes a register; of a part of one the rest stays as it reads. */
  writeCommon(offset: number, from: Uint8Array): void {
    const found = this.#registerAt(offset, from.length);
    if (found === undefined) {
      this.#host.report(BLOCK, `write of ${from.length} bytes at ${offset}, which is no register`);
      return;
    }
    const [name, register] = found;
    if (register.access === "R") {
      this.#host.report(BLOCK, `${name} is read-only`);
      return;
    }
    let value = from.length === register.width ? 0 : this.#get(name);
    for (let i = 0; i < from.length; i++) {
      const shift = 8 * (offset - register.offset + i);
      value = (value & ~(0xff << shift) | from[i]! << shift) >>> 0;
    }
    this.#set(name, value);
  }

  /** Reads device-specific configuration. */
  readDevice(offset: number, into: Uint8Array): void {
    this.#host.model.readConfig(offset, into);
  }

  /** Writes device-specific configuration, which is allowed before anything else is (§3.1.2). */
  writeDevice(offset: number, from: Uint8Array): void {
    if (!this.isDeviceField(offset, from.length)) {
      this.#host.report(BLOCK, `write of ${from.length} bytes at ${offset} of the configuration, no field`);
    } else if (this.#claim("device configuration")) this.#host.model.writeConfig(offset, from);
  }

  /** A notification by any of the addresses for it, or by `queue_notify`. */
  notified(index: number): void {
    if (!this.#active) {
      this.#host.report(ONE_INTERFACE, `notification of queue ${index}, no driver uses the legacy interface`);
    } else if (this.#queues[index]?.enabled !== true) {
      this.#host.report(BLOCK, `queue ${index} was notified, it has no ring`);
    } else this.#use(index);
  }

  /** An eventfd that stands for a notification was rung. It may have been before a reset, so a wrong one is none. */
  rang(index: number): void {
    if (this.#active && this.#queues[index]?.enabled === true) this.#use(index);
  }

  // ---- inside ----

  #use(index: number): void {
    this.#start();
    this.#host.wake();
    if (this.#host.running()) this.#host.notify(index);
  }

  #registerAt(offset: number, length: number): [LegacyRegisterName, RegisterDeclaration] | undefined {
    const end = this.#host.msixEnabled() ? LEGACY_CFG_BYTES.msix : LEGACY_CFG_BYTES.plain;
    if (length < 1 || offset + length > end) return undefined;
    return REGISTERS.find(([, one]) => offset >= one.offset && offset + length <= one.offset + one.width);
  }

  #get(name: LegacyRegisterName): number {
    const { registers } = this.#host;
    const queue = this.#queues[this.#queueSelect];
    switch (name) {
      case "device_features":
        return Number(this.offered);
      case "driver_features":
        return Number(registers.driverFeatures & LOW_BITS);
      case "queue_pfn":
        return this.#pfns[this.#queueSelect] ?? 0;
      case "queue_size":
        // A legacy driver cannot choose a size, and its rings are split ones.
        return splitSize(queue?.maxSize ?? 0);
      case "queue_select":
        return this.#queueSelect;
      case "queue_notify":
        return this.#lastNotified;
      case "device_status":
        return registers.status;
      case "isr_status":
        return this.#host.takeIsr();
      case "config_msix_vector":
        return registers.configVector;
      case "queue_msix_vector":
        return queue?.vector ?? NO_VECTOR;
    }
  }

  #set(name: LegacyRegisterName, value: number): void {
    const { registers, vectors } = this.#host;
    if (name === "queue_select") {
      this.#queueSelect = value;
      return;
    }
    if (name === "queue_notify") {
      this.#lastNotified = value;
      this.notified(value);
      return;
    }
    if (name === "device_status" && value === 0) {
      this.#host.reset();
      return;
    }
    if (!this.#claim(name)) return;
    switch (name) {
      case "driver_features":
        this.#setFeatures(BigInt(value));
        return;
      case "queue_pfn":
        this.#setPfn(value);
        return;
      case "device_status":
        this.#setStatus(value);
        return;
      case "config_msix_vector":
        registers.configVector = value < vectors ? value : NO_VECTOR;
        return;
      case "queue_msix_vector": {
        const queue = this.#selected(name);
        if (queue !== undefined) queue.vector = value < vectors ? value : NO_VECTOR;
        return;
      }
      default:
    }
  }

  /** The first to write has the device. @returns false when a driver uses the modern interface */
  #claim(what: string): boolean {
    if (this.#active) return true;
    const { registers } = this.#host;
    if (registers.status !== 0) {
      this.#host.report(
        ONE_INTERFACE,
        `${what} was written through the legacy interface while a driver uses the modern one: status ${
          describeStatus(registers.status)
        }`,
      );
      return false;
    }
    // What somebody may have left: modern registers before the status, states of queues, device parts of a driver that never came.
    const select = this.#queueSelect;
    this.#host.reset();
    registers.clearStates();
    this.#queueSelect = select;
    this.#active = true;
    return true;
  }

  /** The queue of `queue_select`, for a write to one of its registers. */
  #selected(name: string): QueueRegisters | undefined {
    const queue = this.#queues[this.#queueSelect];
    if (queue !== undefined && queue.maxSize > 0) return queue;
    this.#host.report(BLOCK, `${name} was written for a queue that does not exist`, this.#queueSelect);
    return undefined;
  }

  #setFeatures(value: bigint): void {
    const { registers, model } = this.#host;
    if (this.#started) {
      this.#host.report(SETUP, "driver_features was written after the device had been used");
      return;
    }
    const alien = value & ~this.offered;
    if (alien !== 0n) {
      const names = featureNames(alien, model.deviceId).join(", ");
      this.#host.report("1.1", `the driver accepted what was not offered: ${names}`);
    }
    registers.driverFeatures = value & this.offered;
    // A driver may set up rings first; none was looked at yet.
    this.#queues.forEach((queue, index) => {
      if (queue.enabled) this.#enable(index, queue);
    });
  }

  #setPfn(value: number): void {
    const queue = this.#selected("queue_pfn");
    if (queue === undefined) return;
    const index = this.#queueSelect;
    if (value === 0) {
      this.#host.resetQueue(index);
      queue.enabled = false;
      queue.addresses.fill(0);
      this.#pfns[index] = 0;
      return;
    }
    if (queue.enabled && this.#started) {
      this.#host.report(BLOCK, "queue_pfn was written while the queue is in use", index);
      return;
    }
    queue.size = splitSize(queue.maxSize);
    const { availableOffset, usedOffset } = legacyRingLayout(queue.size);
    const start = BigInt(value) * BigInt(LEGACY_RING_ALIGN);
    [0, availableOffset, usedOffset].forEach((offset, area) => {
      const address = start + BigInt(offset);
      queue.addresses[2 * area] = Number(address & LOW_BITS);
      queue.addresses[2 * area + 1] = Number(address >> 32n);
    });
    this.#pfns[index] = value;
    this.#enable(index, queue);
  }

  #enable(index: number, queue: QueueRegisters): void {
    queue.enabled = this.#host.enableQueue(index, queue, this.#host.registers.driverFeatures);
    if (!queue.enabled) this.#pfns[index] = 0;
  }

  #setStatus(value: number): void {
    const { registers } = this.#host;
    const before = registers.status;
    const step = stepStatus(before, value, true);
    for (const problem of step.problems) this.#host.report("1.1", problem);
    registers.status = step.status;
    if ((step.status & ~before & STATUS.driverOk) === 0) return;
    if ((step.status & (STATUS.deviceNeedsReset | STATUS.failed)) === 0) this.#start();
    else this.#host.report("1.1", `DRIVER_OK in status ${describeStatus(before)}`);
  }

  /** First use: the features are final. There was no FEATURES_OK to refuse a set that cannot be. */
  #start(): void {
    const { registers, model } = this.#host;
    // After a violation, or when its driver gave up, the device stays as it is until it is reset.
    if (this.#started || (registers.status & (STATUS.deviceNeedsReset | STATUS.failed)) !== 0) return;
    this.#started = true;
    const problem = model.checkFeatures?.(registers.driverFeatures);
    this.#host.wake();
    if (problem === undefined) this.#host.start();
    else this.#host.violation(SETUP, `features that cannot be: ${problem}`);
  }
}

/** The legacy registers of a function, if it is to have some. @throws UsageError when it cannot */
export function legacyRegisters(
  host: LegacyHost,
  { legacy, admin, featuresOff }: Pick<PciFrontOptions, "legacy" | "admin" | "featuresOff">,
): LegacyRegisters | undefined {
  if (legacy === undefined || legacy === false) return undefined;
  if (admin !== undefined) throw new UsageError("an owner of a group has no legacy registers as a member");
  const anyLayout = ((featuresOff ?? 0n) & FEATURE.ANY_LAYOUT) === 0n;
  return new LegacyRegisters(host, legacy === true ? { anyLayout } : { anyLayout, ...legacy });
}
