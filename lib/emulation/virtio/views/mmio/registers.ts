/**
 * The register file of a virtio-mmio device: what a register reads, and what a write to it does (virtio 1.2 §4.2.2; reference 7.1). Whether an access
 * may be made at all is the view's to say.
 *
 * @module
 */
import type { RegisterTable } from "../../../../registers/declaration.ts";
import { VIRTIO_VENDOR_ID } from "../../../../pci/virtio_ids.ts";
import {
  MMIO_CFG,
  type MMIO_LEGACY_CFG,
  MMIO_MAGIC,
  type MMIO_MSI_V2_CFG,
  MMIO_NO_SHARED_MEMORY,
  type MMIO_V3_CFG,
  MMIO_VERSION,
  type MmioForm,
} from "../../../../virtio/spec/mmio.ts";
import { ISR } from "../../../../virtio/spec/pci.ts";
import type { VirtioCore } from "../../core/core.ts";
import type { CoreQueue } from "../../core/queue.ts";
import type { Selectors } from "../../core/view.ts";
import type { MmioInterrupts } from "./interrupts.ts";

/** Section of the reference that has them. */
export const MMIO_RULE = "7.1";

/** A register of any form. */
export type MmioRegisterName =
  | keyof typeof MMIO_CFG
  | keyof typeof MMIO_LEGACY_CFG
  | keyof typeof MMIO_V3_CFG
  | keyof typeof MMIO_MSI_V2_CFG;

/** What a register file is made over. */
export interface MmioParts {
  /** The device. */
  readonly core: VirtioCore;
  /** Its interrupts. */
  readonly interrupts: MmioInterrupts;
  /** A shared memory region, and where it begins on the platform; undefined when there is none of that id. */
  sharedMemory(id: number): { readonly address: bigint; readonly sizeBytes: number } | undefined;
}

/** What a view needs of the registers. */
export interface MmioRegisterFile {
  /** Which there are, and where. */
  readonly table: RegisterTable;
  /** They move with the device's parts. */
  readonly selectors: Selectors;
  /** What a register reads, or the high half of one. */
  get(name: MmioRegisterName, high: boolean): number;
  /** Writes a register, or the high half of one. */
  set(name: MmioRegisterName, high: boolean, value: number): void;
  /** The device was reset. */
  cleared(): void;
  /** And so was everything that outlives a reset by its driver. */
  poweredOn(): void;
}

const AREA = { queue_desc: 0, queue_driver: 1, queue_device: 2 } as const;

/** Version 2. */
export class MmioRegisters implements MmioRegisterFile {
  readonly table: RegisterTable;
  readonly selectors: Selectors = { device_feature_select: 0, driver_feature_select: 0, queue_select: 0 };
  /** The device. */
  protected readonly core: VirtioCore;
  /** Its interrupts. */
  protected readonly interrupts: MmioInterrupts;
  readonly #parts: MmioParts;
  readonly #version: number;
  #shmSelect = 0;

  /** As after a reset. */
  constructor(parts: MmioParts, form: MmioForm = "modern", table: RegisterTable = MMIO_CFG) {
    this.table = table;
    this.core = parts.core;
    this.interrupts = parts.interrupts;
    this.#parts = parts;
    this.#version = MMIO_VERSION[form];
  }

  cleared(): void {
    this.selectors.device_feature_select = 0;
    this.selectors.driver_feature_select = 0;
    this.selectors.queue_select = 0;
    this.#shmSelect = 0;
  }

  poweredOn(): void {}

  get(name: MmioRegisterName, high: boolean): number {
    const { core, selectors } = this;
    switch (name) {
      case "magic_value":
        return MMIO_MAGIC;
      case "version":
        return this.#version;
      case "device_id":
        return core.model.deviceId;
      case "vendor_id":
        return VIRTIO_VENDOR_ID;
      case "device_features":
        return word(core.offered, selectors.device_feature_select);
      case "queue_size_max":
        return this.queue?.maximum ?? 0;
      case "queue_ready":
        return this.queue?.enabled ? 1 : 0;
      case "interrupt_status":
        return this.#interruptStatus();
      case "device_status":
        return core.status;
      case "shm_length":
        return half(
          this.#shared === undefined ? MMIO_NO_SHARED_MEMORY : BigInt(this.#shared.sizeBytes),
          high,
        );
      case "shm_base":
        return half(this.#shared?.address ?? MMIO_NO_SHARED_MEMORY, high);
      case "config_generation":
        return core.generation;
      // A queue reset ends before the write returns.
      default:
        return 0;
    }
  }

  set(name: MmioRegisterName, high: boolean, value: number): void {
    const { core, selectors } = this;
    switch (name) {
      case "device_features_select":
        selectors.device_feature_select = value;
        return;
      case "driver_features_select":
        selectors.driver_feature_select = value;
        return;
      case "queue_select":
        selectors.queue_select = value;
        return;
      case "shm_select":
        this.#shmSelect = value;
        return;
      case "driver_features":
        return core.acceptFeatures(selectors.driver_feature_select, value);
      case "interrupt_ack":
        return this.#acknowledge(value);
      case "device_status":
        return core.writeStatus(value);
      case "queue_size":
        return this.existing(name)?.setSize(value);
      case "queue_ready":
        return this.#setReady(value);
      case "queue_reset":
        return this.existing(name)?.reset(value);
      case "queue_desc":
      case "queue_driver":
      case "queue_device":
        return this.existing(name)?.setAddress(AREA[name], high, value);
      default:
    }
  }

  /** The queue of QueueSel. */
  protected get queue(): CoreQueue | undefined {
    return this.core.queues[this.selectors.queue_select];
  }

  /** The same for a write to one of its registers. */
  protected existing(register: MmioRegisterName): CoreQueue | undefined {
    return this.core.existing(this.selectors.queue_select, this.table[register]?.name ?? register);
  }

  /** Nothing else is accepted while the queue is ready: to change it, it is stopped first. */
  #setReady(value: number): void {
    const queue = this.existing("queue_ready");
    if (queue === undefined) return;
    if (value > 1) queue.report(MMIO_RULE, `${value} was written to QueueReady: only 0 and 1 are allowed`);
    else if (value === 0) queue.stop();
    else if (queue.enabled) queue.report(MMIO_RULE, "QueueReady was written 1 while it reads 1");
    else queue.enable(1);
  }

  #interruptStatus(): number {
    if (!this.interrupts.msi?.enabled) return this.interrupts.status;
    this.core.report("N-7.2", "InterruptStatus was read while MSI is enabled");
    return 0;
  }

  #acknowledge(value: number): void {
    if (this.interrupts.msi?.enabled) {
      this.core.report("N-7.2", "InterruptACK was written while MSI is enabled");
      return;
    }
    const unknown = (value & ~(ISR.queue | ISR.config)) >>> 0;
    if (unknown !== 0) {
      this.core.report(MMIO_RULE, `InterruptACK: bits 0x${unknown.toString(16)} have no meaning`);
    }
    this.interrupts.acknowledge(value);
  }

  get #shared() {
    return this.#parts.sharedMemory(this.#shmSelect);
  }
}

/** 32 bits of a feature set; 0 beyond the second word. */
function word(features: bigint, select: number): number {
  return select > 1 ? 0 : half(features, select === 1);
}

function half(value: bigint, high: boolean): number {
  return Number((high ? value >> 32n : value) & 0xffff_ffffn);
}
