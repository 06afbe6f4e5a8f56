/**
 * `virtio_pci_common_cfg` as a view of a device: 64 bytes of registers (virtio 1.2 §4.1.4.3; reference 2.2), and the four bytes of queue state
 * that profile `queue-state` adds (reference 6.2).
 *
 * @module
 */
import {
  COMMON_CFG,
  COMMON_CFG_BYTES,
  type CommonRegisterName,
  NO_VECTOR,
  QUEUE_STATE_CFG,
  type QueueStateRegisterName,
} from "../../../../virtio/spec/pci.ts";
import type { VirtioCore } from "../../core/core.ts";
import type { Selectors } from "../../core/view.ts";
import { byByte } from "../by_byte.ts";

/** A register that there is. */
export type CommonName = CommonRegisterName | QueueStateRegisterName;

const REGISTERS = byByte<CommonName>({ ...COMMON_CFG, ...QUEUE_STATE_CFG });
const AREA = { queue_desc: 0, queue_driver: 1, queue_device: 2 } as const;

/** The register block. */
export class PciCommon {
  /** Bytes of the structure. */
  readonly sizeBytes: number;
  /** Registers that say which of many others are meant. */
  readonly selectors: Selectors = { device_feature_select: 0, driver_feature_select: 0, queue_select: 0 };
  /** The device. */
  protected readonly core: VirtioCore;

  /** As after a reset. */
  constructor(core: VirtioCore) {
    this.core = core;
    this.sizeBytes = core.profile === "queue-state" ? COMMON_CFG_BYTES.queueState : COMMON_CFG_BYTES.all;
  }

  /** The device was reset. */
  cleared(): void {
    this.selectors.device_feature_select = 0;
    this.selectors.driver_feature_select = 0;
    this.selectors.queue_select = 0;
  }

  /** A read of `into.length` bytes at `offset`, inside the structure. One of a wrong width gets the right bytes, and is reported. */
  read(offset: number, into: Uint8Array): void {
    if (this.#isAccess("read", offset, into.length)) {
      const value = this.#getAt(offset);
      for (let i = 0; i < into.length; i++) into[i] = value >>> (8 * i);
    } else {
      for (let i = 0; i < into.length; i++) into[i] = this.#getAt(offset + i) >>> 8 * within(offset + i);
    }
  }

  /** A write of `from` at `offset`, inside the structure. One of a wrong width is reported and ignored. */
  write(offset: number, from: Uint8Array): void {
    if (!this.#isAccess("write", offset, from.length)) return;
    let value = 0;
    for (let i = 0; i < from.length; i++) value += from[i]! * 2 ** (8 * i);
    const { name, offset: start } = REGISTERS[offset]!;
    this.set(name, offset > start, value);
  }

  /** Whether an access is one of a register's width at its start; of a register of 8 bytes, of one of its halves. A wrong one is reported. */
  #isAccess(what: string, offset: number, width: number): boolean {
    const { name, width: whole } = REGISTERS[offset]!;
    const needs = Math.min(whole, 4);
    if (width === needs && within(offset) === 0) return true;
    this.core.report(
      "2.2",
      `common configuration: ${what} of ${width} bytes at offset ${offset}, ${name} has ${needs}`,
    );
    return false;
  }

  /** What the register reads, or the half of one, that this byte belongs to. */
  #getAt(byte: number): number {
    const { name, offset } = REGISTERS[byte]!;
    return this.get(name, byte - offset >= 4);
  }

  /** What a register, or half of one, reads. */
  protected get(name: CommonName, high: boolean): number {
    const { core, selectors } = this;
    const queue = core.queues[selectors.queue_select];
    switch (name) {
      case "device_feature":
        return word(core.offered, selectors.device_feature_select);
      case "driver_feature":
        return word(core.driverFeatures, selectors.driver_feature_select);
      case "device_status":
        return core.status;
      case "queue_size":
        return queue?.size ?? 0;
      case "queue_msix_vector":
        return queue?.vector ?? NO_VECTOR;
      case "queue_enable":
        return queue?.enabled ? 1 : 0;
      case "queue_notify_off":
        return queue?.index ?? 0;
      case "queue_desc":
      case "queue_driver":
      case "queue_device":
        return queue?.addresses[2 * AREA[name] + (high ? 1 : 0)] ?? 0;
      case "queue_notif_config_data":
        return queue?.notifyData ?? 0;
      case "queue_avail_state":
        return queue?.readState().available ?? 0;
      case "queue_used_state":
        return queue?.readState().used ?? 0;
      // A queue reset ends before the write returns.
      case "queue_reset":
        return 0;
      default:
        return core.field(name);
    }
  }

  /** Writes a register, or half of one. */
  protected set(name: CommonName, high: boolean, value: number): void {
    const { core, selectors } = this;
    switch (name) {
      case "device_feature_select":
      case "driver_feature_select":
      case "queue_select":
        selectors[name] = value;
        return;
      case "driver_feature":
        return core.acceptFeatures(selectors.driver_feature_select, value);
      case "config_msix_vector":
        core.configVector = core.vector(value);
        return;
      case "device_status":
        return core.writeStatus(value);
      case "queue_size":
        return this.#queue(name)?.setSize(value);
      case "queue_msix_vector":
        return this.#queue(name)?.setVector(value);
      case "queue_enable":
        return this.#queue(name)?.enable(value);
      case "queue_reset":
        return this.#queue(name)?.reset(value);
      case "queue_avail_state":
      case "queue_used_state":
        return this.#queue(name)?.setState(name, value);
      case "queue_desc":
      case "queue_driver":
      case "queue_device":
        return this.#queue(name)?.setAddress(AREA[name], high, value);
      default:
        core.report("2.2", `${name} is read-only, ${value} was written`);
    }
  }

  #queue(register: string): ReturnType<VirtioCore["existing"]> {
    return this.core.existing(this.selectors.queue_select, register);
  }
}

/** 32 bits of a feature set; 0 beyond the second word. */
function word(features: bigint, select: number): number {
  return select > 1 ? 0 : Number(features >> BigInt(32 * select) & 0xffff_ffffn);
}

/** Place of a byte within its register, or its half of one. */
function within(byte: number): number {
  return (byte - REGISTERS[byte]!.offset) % 4;
}
