/**
 * `virtio_pci_common_cfg` as a device keeps it: 64 bytes of registers, each with its width, its access and its rules
 * (virtio 1.2 §4.1.4.3; reference 2.2).
 *
 * @module
 */
import { FEATURE, featureNames } from "../../virtio/constants/features.ts";
import {
  COMMON_CFG,
  COMMON_CFG_BYTES,
  type CommonRegister,
  type CommonRegisterName,
  NO_VECTOR,
} from "../../virtio/constants/pci.ts";
import { STATUS } from "../../virtio/constants/status.ts";
import { QUEUE_SIZE_MAX } from "../../virtio/constants/ring.ts";

/** Registers of one queue. */
export class QueueRegisters {
  /** Largest size, which `queue_size` reads after reset; 0: the queue does not exist. */
  readonly maxSize: number;
  /** `queue_size`. */
  size: number;
  /** `queue_msix_vector`. */
  vector: number = NO_VECTOR;
  /** `queue_enable`. */
  enabled = false;
  /** It was reset by `queue_reset` since the device was: then it may be enabled after DRIVER_OK. */
  wasReset = false;
  /** Low and high halves of `queue_desc`, `queue_driver` and `queue_device`, in that order. */
  readonly addresses: Uint32Array<ArrayBuffer> = new Uint32Array(6);

  /** With the values that a device reset gives. */
  constructor(maxSize: number) {
    this.maxSize = maxSize;
    this.size = maxSize;
  }

  /** 0: `queue_desc`, 1: `queue_driver`, 2: `queue_device`. */
  address(area: 0 | 1 | 2): bigint {
    return BigInt(this.addresses[2 * area]!) | BigInt(this.addresses[2 * area + 1]!) << 32n;
  }

  /** To the values after reset, but for the size that a queue reset keeps. */
  clear(): void {
    this.size = this.maxSize;
    this.vector = NO_VECTOR;
    this.enabled = false;
    this.addresses.fill(0);
  }
}

/** What the registers need of the device behind them. */
export interface CommonRegistersOwner {
  /** Offered features. */
  readonly offered: bigint;
  /** Virtio device id, for names of features. */
  readonly deviceId: number;
  /** MSI-X vectors that the function has. */
  readonly vectors: number;
  /** A wrong access that does no more harm than to be ignored. */
  report(rule: string, message: string, queue?: number): void;
  /** A wrong access after which the device cannot go on. */
  violation(rule: string, message: string, queue?: number): void;
  /** `device_status` was written. */
  statusWritten(value: number): void;
  /** `config_generation` is read. */
  readGeneration(): number;
  /** `queue_enable` was set: size and addresses are in the registers. @returns false when it is refused */
  enableQueue(index: number, registers: QueueRegisters): boolean;
  /** `queue_reset` was written: stop using the queue. It is reset when this returns. */
  resetQueue(index: number): void;
}

/** Which register, and which of its halves, an aligned access hits. */
interface Access {
  readonly name: CommonRegisterName;
  readonly width: 1 | 2 | 4;
  readonly high: boolean;
}

const ACCESSES: ReadonlyMap<number, Access> = new Map(
  (Object.entries(COMMON_CFG) as [CommonRegisterName, CommonRegister][]).flatMap(
    ([name, { offset, width }]): [number, Access][] =>
      width === 8
        ? [[offset, { name, width: 4, high: false }], [offset + 4, { name, width: 4, high: true }]]
        : [[offset, { name, width, high: false }]],
  ),
);

const AREA = { queue_desc: 0, queue_driver: 1, queue_device: 2 } as const;

/** The register block. */
export class CommonRegisters {
  readonly #owner: CommonRegistersOwner;
  /** Registers of each queue. */
  readonly queues: readonly QueueRegisters[];
  /** `device_status`. */
  status = 0;
  /** What the driver wrote into `driver_feature`. */
  driverFeatures = 0n;
  /** `config_msix_vector`. */
  configVector: number = NO_VECTOR;
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;

  /** As after a reset. @param queueSizes largest size of each queue */
  constructor(owner: CommonRegistersOwner, queueSizes: readonly number[]) {
    this.#owner = owner;
    this.queues = queueSizes.map((size) => new QueueRegisters(size));
  }

  /** Every register as after a reset. */
  reset(): void {
    this.status = 0;
    this.driverFeatures = 0n;
    this.configVector = NO_VECTOR;
    this.#deviceFeatureSelect = 0;
    this.#driverFeatureSelect = 0;
    this.#queueSelect = 0;
    for (const queue of this.queues) {
      queue.clear();
      queue.wasReset = false;
    }
  }

  /** A read of `into.length` bytes at `offset`. One of a wrong width gets the right bytes, and is reported. */
  read(offset: number, into: Uint8Array): void {
    const access = ACCESSES.get(offset);
    if (access !== undefined && access.width === into.length) {
      const value = this.#get(access);
      for (let i = 0; i < into.length; i++) into[i] = value >>> (8 * i);
      return;
    }
    this.#wrongWidth("read", offset, into.length);
    for (let i = 0; i < into.length; i++) into[i] = this.#byte(offset + i);
  }

  /** A write of `from` at `offset`. One of a wrong width is reported and ignored. */
  write(offset: number, from: Uint8Array): void {
    const access = ACCESSES.get(offset);
    if (access === undefined || access.width !== from.length) {
      this.#wrongWidth("write", offset, from.length);
      return;
    }
    let value = 0;
    for (let i = 0; i < from.length; i++) value += from[i]! * 2 ** (8 * i);
    this.#set(access, value);
  }

  #wrongWidth(what: string, offset: number, width: number): void {
    const field = this.#fieldAt(offset);
    const needs = field === undefined
      ? ""
      : `, ${field} has ${ACCESSES.get(COMMON_CFG[field].offset)!.width}`;
    this.#owner.report("2.2", `common configuration: ${what} of ${width} bytes at offset ${offset}${needs}`);
  }

  #fieldAt(offset: number): CommonRegisterName | undefined {
    for (const [name, register] of Object.entries(COMMON_CFG) as [CommonRegisterName, CommonRegister][]) {
      if (offset >= register.offset && offset < register.offset + register.width) return name;
    }
    return undefined;
  }

  #byte(offset: number): number {
    for (let start = offset; start >= 0 && start > offset - 4; start--) {
      const access = ACCESSES.get(start);
      if (access === undefined) continue;
      if (offset < start + access.width) return (this.#get(access) >>> (8 * (offset - start))) & 0xff;
      break;
    }
    return offset < COMMON_CFG_BYTES.all ? 0 : 0xff;
  }

  #get({ name, high }: Access): number {
    const queue = this.queues[this.#queueSelect];
    switch (name) {
      case "device_feature_select":
        return this.#deviceFeatureSelect;
      case "device_feature":
        return word(this.#owner.offered, this.#deviceFeatureSelect);
      case "driver_feature_select":
        return this.#driverFeatureSelect;
      case "driver_feature":
        return word(this.driverFeatures, this.#driverFeatureSelect);
      case "config_msix_vector":
        return this.configVector;
      case "num_queues":
        return this.queues.length;
      case "device_status":
        return this.status;
      case "config_generation":
        return this.#owner.readGeneration();
      case "queue_select":
        return this.#queueSelect;
      case "queue_size":
        return queue?.size ?? 0;
      case "queue_msix_vector":
        return queue?.vector ?? NO_VECTOR;
      case "queue_enable":
        return queue?.enabled ? 1 : 0;
      case "queue_notify_off":
        return queue === undefined ? 0 : this.#queueSelect;
      case "queue_desc":
      case "queue_driver":
      case "queue_device":
        return queue?.addresses[2 * AREA[name] + (high ? 1 : 0)] ?? 0;
      // A queue reset ends before the write returns, and there are no administration queues.
      case "queue_notif_config_data":
      case "queue_reset":
      case "admin_queue_index":
      case "admin_queue_num":
        return 0;
    }
  }

  #set({ name, high }: Access, value: number): void {
    switch (name) {
      case "device_feature_select":
        this.#deviceFeatureSelect = value;
        return;
      case "driver_feature_select":
        this.#driverFeatureSelect = value;
        return;
      case "driver_feature":
        this.#setDriverFeature(value);
        return;
      case "config_msix_vector":
        this.configVector = value < this.#owner.vectors ? value : NO_VECTOR;
        return;
      case "device_status":
        this.#owner.statusWritten(value);
        return;
      case "queue_select":
        this.#queueSelect = value;
        return;
      case "device_feature":
      case "num_queues":
      case "config_generation":
      case "queue_notify_off":
      case "queue_notif_config_data":
      case "admin_queue_index":
      case "admin_queue_num":
        this.#owner.report("2.2", `${name} is read-only, ${value} was written`);
        return;
      default:
        this.#setQueue(name, high, value);
    }
  }

  #setDriverFeature(value: number): void {
    if ((this.status & STATUS.featuresOk) !== 0) {
      this.#owner.report("1.1", "driver_feature was written after FEATURES_OK");
      return;
    }
    const select = this.#driverFeatureSelect;
    if (select > 1) {
      if (value !== 0) {
        this.#owner.report("1.2", `driver_feature word ${select}: 0x${value.toString(16)} was not offered`);
      }
      return;
    }
    const shift = BigInt(32 * select);
    this.driverFeatures = (this.driverFeatures & ~(0xffff_ffffn << shift)) | BigInt(value) << shift;
    const alien = this.driverFeatures & ~this.#owner.offered;
    if (alien !== 0n) {
      const names = featureNames(alien, this.#owner.deviceId).join(", ");
      this.#owner.report("1.1", `the driver accepted what was not offered: ${names}`);
    }
  }

  #setQueue(
    name: "queue_size" | "queue_msix_vector" | "queue_enable" | "queue_reset" | keyof typeof AREA,
    high: boolean,
    value: number,
  ): void {
    const index = this.#queueSelect;
    const queue = this.queues[index];
    if (queue === undefined || queue.maxSize === 0) {
      this.#owner.report("2.2", `${name} was written for a queue that does not exist`, index);
      return;
    }
    switch (name) {
      case "queue_msix_vector":
        queue.vector = value < this.#owner.vectors ? value : NO_VECTOR;
        return;
      case "queue_enable":
        this.#enable(index, queue, value);
        return;
      case "queue_reset":
        this.#resetQueue(index, queue, value);
        return;
      case "queue_size":
        if (!this.#changeable(name, index, queue)) return;
        if (value === 0 || value > QUEUE_SIZE_MAX || (value & (value - 1)) !== 0) {
          this.#owner.report("2.2", `queue_size ${value} is not a power of two`, index);
        } else if (value > queue.maxSize) {
          this.#owner.report("2.2", `queue_size ${value} is above the maximum of ${queue.maxSize}`, index);
        } else queue.size = value;
        return;
      default:
        if (this.#changeable(name, index, queue)) queue.addresses[2 * AREA[name] + (high ? 1 : 0)] = value;
    }
  }

  /** Size and addresses are fixed while the queue is enabled. */
  #changeable(name: string, index: number, queue: QueueRegisters): boolean {
    if (queue.enabled) this.#owner.report("2.2", `${name} was written while the queue is enabled`, index);
    return !queue.enabled;
  }

  #enable(index: number, queue: QueueRegisters, value: number): void {
    const { status } = this;
    if (value !== 1) {
      this.#owner.report("1.5", `${value} was written to queue_enable: only 1 is allowed`, index);
    } else if (queue.enabled) {
      this.#owner.violation("2.2", "the queue was enabled twice", index);
    } else if ((status & STATUS.featuresOk) === 0) {
      this.#owner.report("1.1", "the queue was enabled before FEATURES_OK", index);
    } else if ((status & STATUS.driverOk) !== 0 && !queue.wasReset) {
      this.#owner.violation("1.1", "the queue was enabled after DRIVER_OK, and had not been reset", index);
    } else queue.enabled = this.#owner.enableQueue(index, queue);
  }

  #resetQueue(index: number, queue: QueueRegisters, value: number): void {
    if ((this.status & STATUS.featuresOk) === 0 || (this.driverFeatures & FEATURE.RING_RESET) === 0n) {
      this.#owner.report("1.5", "queue_reset was written, RING_RESET is not negotiated", index);
    } else if (value !== 1) {
      this.#owner.report("1.5", `${value} was written to queue_reset: only 1 is allowed`, index);
    } else {
      this.#owner.resetQueue(index);
      const { vector } = queue;
      queue.clear();
      // Only a device reset unmaps vectors.
      queue.vector = vector;
      queue.wasReset = true;
    }
  }
}

/** 32 bits of a feature set; 0 beyond the second word. */
function word(features: bigint, select: number): number {
  return select > 1 ? 0 : Number(features >> BigInt(32 * select) & 0xffff_ffffn);
}
