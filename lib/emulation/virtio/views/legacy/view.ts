/**
 * The legacy registers of a virtio function, as the administration commands of its owner reach them (virtio 1.4 §4.1.4.10; reference 2.3, N-3.14).
 *
 * @module
 */
import {
  LEGACY_CFG,
  LEGACY_CFG_BYTES,
  LEGACY_RING_ALIGN,
  type LegacyRegisterName,
} from "../../../../virtio/spec/legacy.ts";
import { NO_VECTOR } from "../../../../virtio/spec/pci.ts";
import type { MemberLegacy, NotifyArea } from "../../admin/handler.ts";
import type { VirtioCore } from "../../core/core.ts";
import { LEGACY_BLOCK, LegacyDriver, type LegacyOptions } from "../../core/legacy_driver.ts";
import { insideConfigField } from "../../core/config_fields.ts";
import { type CoreQueue, splitSize } from "../../core/queue.ts";
import { byByte, type PlacedRegister } from "../by_byte.ts";
import type { PciInterrupts } from "../pci/interrupts.ts";

const PAGE = BigInt(LEGACY_RING_ALIGN);
const REGISTERS = byByte<LegacyRegisterName>(LEGACY_CFG);

/** See the module. */
export class LegacyView implements MemberLegacy {
  /** Where its driver may notify, in the function's own BARs. */
  readonly notifyAreas: readonly NotifyArea[];
  /** The driver that it is a view for. */
  readonly driver: LegacyDriver;
  readonly #core: VirtioCore;
  readonly #interrupts: PciInterrupts;
  #queueSelect = 0;
  #lastNotified = 0;

  /** The block of a function after reset. @throws UsageError for a device type that has no legacy interface */
  constructor(core: VirtioCore, interrupts: PciInterrupts, notifyArea: NotifyArea, options: LegacyOptions) {
    this.#core = core;
    this.#interrupts = interrupts;
    this.driver = new LegacyDriver(core, options);
    this.notifyAreas = [notifyArea];
  }

  /** The device was reset, by whatever means. */
  cleared(): void {
    this.#queueSelect = 0;
    this.#lastNotified = 0;
  }

  // ---- MemberLegacy ----

  /** True when [offset, +length) is one register, or lies inside one. */
  isCommonField(offset: number, length: number): boolean {
    return this.#registerAt(offset, length) !== undefined;
  }

  /** True when [offset, +length) is one field of the device-specific configuration, or lies inside one. */
  isDeviceField(offset: number, length: number): boolean {
    return insideConfigField(this.driver.type, this.#core.model.configSizeBytes, offset, length);
  }

  /** Reads a register, or part of one. What is no register reads as ones. */
  readCommon(offset: number, into: Uint8Array): void {
    const found = this.#registerAt(offset, into.length);
    if (found === undefined) {
      into.fill(0xff);
      return;
    }
    const value = this.#get(found.name);
    for (let i = 0; i < into.length; i++) into[i] = value >>> (8 * (offset - found.offset + i));
  }

  /** Writes a register; of a part of one the rest stays as it reads. */
  writeCommon(offset: number, from: Uint8Array): void {
    const found = this.#registerAt(offset, from.length);
    if (found === undefined) {
      this.#core.report(LEGACY_BLOCK, `write of ${from.length} bytes at ${offset}, which is no register`);
      return;
    }
    const { name } = found;
    if (found.access === "R") {
      this.#core.report(LEGACY_BLOCK, `${name} is read-only`);
      return;
    }
    let value = from.length === found.width ? 0 : this.#get(name);
    for (let i = 0; i < from.length; i++) {
      const shift = 8 * (offset - found.offset + i);
      value = (value & ~(0xff << shift) | from[i]! << shift) >>> 0;
    }
    this.#set(name, value);
  }

  /** Reads device-specific configuration. */
  readDevice(offset: number, into: Uint8Array): void {
    this.#core.readConfig(offset, into);
  }

  /** Writes device-specific configuration, which is allowed before anything else is (§3.1.2). */
  writeDevice(offset: number, from: Uint8Array): void {
    if (!this.isDeviceField(offset, from.length)) {
      this.#core.report(
        LEGACY_BLOCK,
        `write of ${from.length} bytes at ${offset} of the configuration, no field`,
      );
    } else if (this.#claim("device configuration")) this.#core.model.writeConfig?.(offset, from);
  }

  /** A notification by any of the addresses for it, or by `queue_notify`. */
  notified(index: number): void {
    this.driver.notify(index);
  }

  // ---- inside ----

  #registerAt(offset: number, length: number): PlacedRegister<LegacyRegisterName> | undefined {
    const end = this.#core.view.usesVectors ? LEGACY_CFG_BYTES.msix : LEGACY_CFG_BYTES.plain;
    const found = length < 1 || offset + length > end ? undefined : REGISTERS[offset];
    return found !== undefined && offset + length <= found.offset + found.width ? found : undefined;
  }

  #get(name: LegacyRegisterName): number {
    const core = this.#core;
    const queue = this.driver.queues[this.#queueSelect];
    switch (name) {
      case "device_features":
        return Number(this.driver.offered);
      case "driver_features":
        return Number(core.driverFeatures & 0xffff_ffffn);
      case "queue_pfn":
        return queue === undefined ? 0 : Number(this.driver.ring(queue) / PAGE);
      case "queue_size":
        // A legacy driver cannot choose a size, and its rings are split ones.
        return splitSize(queue?.maxSize ?? 0);
      case "queue_select":
        return this.#queueSelect;
      case "queue_notify":
        return this.#lastNotified;
      case "device_status":
        return core.status;
      case "isr_status":
        return this.#interrupts.takeIsr();
      case "config_msix_vector":
        return core.configVector;
      case "queue_msix_vector":
        return queue?.vector ?? NO_VECTOR;
    }
  }

  #set(name: LegacyRegisterName, value: number): void {
    const core = this.#core;
    if (name === "queue_select") {
      this.#queueSelect = value;
    } else if (name === "queue_notify") {
      this.#lastNotified = value;
      this.driver.notify(value);
    } else if (name === "device_status" && value === 0) {
      core.writeStatus(0);
    } else if (this.#claim(name)) {
      if (name === "driver_features") this.driver.acceptFeatures(value);
      else if (name === "device_status") core.writeStatus(value);
      else if (name === "config_msix_vector") core.configVector = core.vector(value);
      else {
        const queue = this.#selected(name);
        if (name === "queue_pfn" && queue !== undefined) this.driver.setRing(queue, BigInt(value) * PAGE);
        else queue?.setVector(value);
      }
    }
  }

  /** The first to write has the device; what was selected before stays. */
  #claim(what: string): boolean {
    const select = this.#queueSelect;
    const claimed = this.driver.claim(what);
    this.#queueSelect = select;
    return claimed;
  }

  /** The queue of `queue_select`, for a write to one of its registers. Administration queues are not there. */
  #selected(name: string): CoreQueue | undefined {
    return this.#core.existing(this.#queueSelect, name, LEGACY_BLOCK);
  }
}
