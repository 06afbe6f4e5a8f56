/**
 * `virtio_pci_common_cfg` as a device keeps it: 64 bytes of registers, each with its width, its access and its rules
 * (virtio 1.2 §4.1.4.3; reference 2.2), and the four bytes of queue state that profile `queue-state` adds (reference 6.2).
 *
 * @module
 */
import { DRAFT_FEATURE, FEATURE, featureNames } from "../../../../virtio/constants/features.ts";
import {
  COMMON_CFG,
  COMMON_CFG_BYTES,
  type CommonRegisterName,
  NO_VECTOR,
  QUEUE_STATE_CFG,
  type QueueStateRegisterName,
} from "../../../../virtio/constants/pci.ts";
import type { RegisterDeclaration } from "../../../../registers/declaration.ts";
import type { QueueStateWords } from "../../../../virtio/constants/queue_state.ts";
import { STATUS } from "../../../../virtio/constants/status.ts";
import { QUEUE_SIZE_MAX } from "../../../../virtio/constants/ring.ts";

/** The most descriptors up to `size` that a split ring can have. */
export function splitSize(size: number): number {
  return size === 0 ? 0 : 2 ** Math.floor(Math.log2(size));
}

/** Registers of one queue. */
export class QueueRegisters {
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
  /** It was enabled and reset by `queue_reset` since the device was reset: then it may be enabled after DRIVER_OK. */
  wasReset = false;
  /** Low and high halves of `queue_desc`, `queue_driver` and `queue_device`, in that order. */
  readonly addresses: Uint32Array<ArrayBuffer> = new Uint32Array(6);
  /** `queue_avail_state` as written or saved (profile `queue-state`); −1: neither. */
  availableState: number = -1;
  /** `queue_used_state`, likewise. */
  usedState: number = -1;

  /** With the values that a device reset gives. */
  constructor(maxSize: number) {
    this.maxSize = maxSize;
    this.maximum = maxSize;
    this.size = maxSize;
  }

  /** FEATURES_OK: the layout is known, and with it which sizes there are. */
  chooseLayout(packed: boolean): void {
    this.maximum = packed ? this.maxSize : splitSize(this.maxSize);
    if (this.size > this.maximum) this.size = this.maximum;
  }

  /** 0: `queue_desc`, 1: `queue_driver`, 2: `queue_device`. */
  address(area: 0 | 1 | 2): bigint {
    return BigInt(this.addresses[2 * area]!) | BigInt(this.addresses[2 * area + 1]!) << 32n;
  }

  /** To the values after a queue reset. */
  clear(): void {
    this.size = this.maximum;
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
  /** Bit 40 is QUEUE_STATE, and its registers exist: profile `queue-state`. */
  readonly queueState: boolean;
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
  /** What `queue_notif_config_data` reads. */
  notificationIdentifier(index: number): number;
  /** State of an enabled queue; undefined for another. */
  stateOf(index: number): QueueStateWords | undefined;
  /** `queue_enable` was set: size and addresses are in the registers. @returns false when it is refused */
  enableQueue(index: number, registers: QueueRegisters): boolean;
  /** `queue_reset` was written: stop using the queue. It is reset when this returns. */
  resetQueue(index: number): void;
}

/** Which register, and which of its halves, an aligned access hits. */
interface Access {
  readonly name: CommonRegisterName | QueueStateRegisterName;
  readonly width: 1 | 2 | 4;
  readonly high: boolean;
}

type Register = readonly [Access["name"], RegisterDeclaration];
const REGISTERS = Object.entries(COMMON_CFG) as Register[];
const STATE_REGISTERS = Object.entries(QUEUE_STATE_CFG) as Register[];

function accesses(registers: readonly Register[]): ReadonlyMap<number, Access> {
  return new Map(
    registers.flatMap(([name, { offset, width }]): [number, Access][] =>
      width === 8
        ? [[offset, { name, width: 4, high: false }], [offset + 4, { name, width: 4, high: true }]]
        : [[offset, { name, width, high: false }]]
    ),
  );
}

const ACCESSES = accesses(REGISTERS);
const ACCESSES_WITH_STATE = accesses([...REGISTERS, ...STATE_REGISTERS]);

/** Slot 0, wrap counter 1 (reference 6.1). */
const FRESH_PACKED = 0x8000;
const AREA = { queue_desc: 0, queue_driver: 1, queue_device: 2 } as const;

/** The register block. */
export class CommonRegisters {
  readonly #owner: CommonRegistersOwner;
  readonly #accesses: ReadonlyMap<number, Access>;
  /** Bytes of the structure. */
  readonly sizeBytes: number;
  /** Administration queues; they are the last. */
  readonly adminCount: number;
  /** Registers of each queue. */
  readonly queues: readonly QueueRegisters[];
  /** `device_status`. */
  status = 0;
  /** What the driver wrote into `driver_feature`. */
  driverFeatures = 0n;
  /** `config_msix_vector`. */
  configVector: number = NO_VECTOR;
  /** Registers that say which of many others are meant. */
  readonly selectors: { device_feature_select: number; driver_feature_select: number; queue_select: number } =
    {
      device_feature_select: 0,
      driver_feature_select: 0,
      queue_select: 0,
    };

  /** As after a reset. @param queueSizes largest size of each queue @param adminCount how many of the last are administration queues */
  constructor(owner: CommonRegistersOwner, queueSizes: readonly number[], adminCount = 0) {
    this.#owner = owner;
    this.adminCount = adminCount;
    this.#accesses = owner.queueState ? ACCESSES_WITH_STATE : ACCESSES;
    this.sizeBytes = owner.queueState ? COMMON_CFG_BYTES.queueState : COMMON_CFG_BYTES.all;
    // Without RING_PACKED there is one layout only.
    const packed = (owner.offered & FEATURE.RING_PACKED) !== 0n;
    this.queues = queueSizes.map((size) => new QueueRegisters(packed ? size : splitSize(size)));
  }

  /** RING_PACKED was accepted. */
  get packed(): boolean {
    return (this.driverFeatures & FEATURE.RING_PACKED) !== 0n;
  }

  /** QUEUE_STATE was negotiated. */
  get keepsState(): boolean {
    return this.#owner.queueState && (this.status & STATUS.featuresOk) !== 0 &&
      (this.driverFeatures & DRAFT_FEATURE.QUEUE_STATE) !== 0n;
  }

  /**
   * Every register as after a reset.
   * @param keepStates with QUEUE_STATE the states of the queues outlive a device reset (N-6.3), but not one of the PCI function
   */
  reset(keepStates: boolean): void {
    if (!keepStates) this.clearStates();
    else if (this.keepsState) {
      this.queues.forEach((queue, index) => {
        const { available, used } = this.#stateWords(index, queue);
        queue.availableState = available;
        queue.usedState = used;
      });
    }
    this.status = 0;
    this.driverFeatures = 0n;
    this.configVector = NO_VECTOR;
    this.selectors.device_feature_select = 0;
    this.selectors.driver_feature_select = 0;
    this.selectors.queue_select = 0;
    for (const queue of this.queues) {
      queue.maximum = queue.maxSize;
      queue.clear();
      queue.wasReset = false;
    }
  }

  /** N-6.3: ACKNOWLEDGE was set. */
  clearStates(): void {
    for (const queue of this.queues) queue.availableState = queue.usedState = -1;
  }

  /** What was written for a queue, for its start; undefined when nothing was. */
  writtenState(index: number): QueueStateWords | undefined {
    const queue = this.queues[index]!;
    if (!this.keepsState || (queue.availableState < 0 && queue.usedState < 0)) return undefined;
    return this.#stateWords(index, queue);
  }

  /** N-6.1: queues, enabled or not, whose state the driver has not set. */
  queuesWithoutState(): number[] {
    const missing: number[] = [];
    const withAdmin = (this.driverFeatures & FEATURE.ADMIN_VQ) !== 0n;
    this.queues.forEach(({ maxSize, availableState, usedState }, index) => {
      if (maxSize === 0 || (this.#isAdmin(index) && !withAdmin)) return;
      if (availableState < 0 || (this.packed && usedState < 0)) missing.push(index);
    });
    return missing;
  }

  /** The state that a queue has now, or that was written or saved, or that a fresh ring has. */
  #stateWords(index: number, queue: QueueRegisters): QueueStateWords {
    const fresh = this.packed ? FRESH_PACKED : 0;
    return this.#owner.stateOf(index) ?? {
      available: queue.availableState < 0 ? fresh : queue.availableState,
      used: queue.usedState < 0 ? fresh : queue.usedState,
    };
  }

  /** A read of `into.length` bytes at `offset`. One of a wrong width gets the right bytes, and is reported. */
  read(offset: number, into: Uint8Array): void {
    const access = this.#accesses.get(offset);
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
    const access = this.#accesses.get(offset);
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
    const needs = field === undefined ? "" : `, ${field.name} has ${field.width}`;
    this.#owner.report("2.2", `common configuration: ${what} of ${width} bytes at offset ${offset}${needs}`);
  }

  /** The access whose field `offset` lies in; of a field of 8 bytes that of its low half. */
  #fieldAt(offset: number): Access | undefined {
    for (let start = offset; start >= 0 && start > offset - 8; start--) {
      const access = this.#accesses.get(start);
      if (access !== undefined) return access;
    }
    return undefined;
  }

  #byte(offset: number): number {
    for (let start = offset; start >= 0 && start > offset - 4; start--) {
      const access = this.#accesses.get(start);
      if (access === undefined) continue;
      if (offset < start + access.width) return (this.#get(access) >>> (8 * (offset - start))) & 0xff;
      break;
    }
    return offset < this.sizeBytes ? 0 : 0xff;
  }

  #get({ name, high }: Access): number {
    const queue = this.queues[this.selectors.queue_select];
    switch (name) {
      case "device_feature_select":
        return this.selectors.device_feature_select;
      case "device_feature":
        return word(this.#owner.offered, this.selectors.device_feature_select);
      case "driver_feature_select":
        return this.selectors.driver_feature_select;
      case "driver_feature":
        return word(this.driverFeatures, this.selectors.driver_feature_select);
      case "config_msix_vector":
        return this.configVector;
      case "num_queues":
        return this.queues.length - this.adminCount;
      case "device_status":
        return this.status;
      case "config_generation":
        return this.#owner.readGeneration();
      case "queue_select":
        return this.selectors.queue_select;
      case "queue_size":
        return queue?.size ?? 0;
      case "queue_msix_vector":
        return queue?.vector ?? NO_VECTOR;
      case "queue_enable":
        return queue?.enabled ? 1 : 0;
      case "queue_notify_off":
        return queue === undefined ? 0 : this.selectors.queue_select;
      case "queue_desc":
      case "queue_driver":
      case "queue_device":
        return queue?.addresses[2 * AREA[name] + (high ? 1 : 0)] ?? 0;
      case "queue_notif_config_data":
        return queue === undefined || (this.#owner.offered & FEATURE.NOTIF_CONFIG_DATA) === 0n
          ? 0
          : this.#owner.notificationIdentifier(this.selectors.queue_select);
      case "queue_avail_state":
        return this.#readState(queue).available;
      case "queue_used_state":
        return this.#readState(queue).used;
      case "admin_queue_index":
        return this.adminCount === 0 ? 0 : this.queues.length - this.adminCount;
      case "admin_queue_num":
        return this.adminCount;
      // A queue reset ends before the write returns.
      case "queue_reset":
        return 0;
    }
  }

  #readState(queue: QueueRegisters | undefined): QueueStateWords {
    if (queue === undefined) return { available: 0, used: 0 };
    if (this.keepsState && (this.status & STATUS.driverOk) !== 0) {
      this.#owner.report(
        "N-6.2",
        "the state was read from a device that had not been reset",
        this.selectors.queue_select,
      );
    }
    return this.#stateWords(this.selectors.queue_select, queue);
  }

  #set({ name, high }: Access, value: number): void {
    switch (name) {
      case "device_feature_select":
        this.selectors.device_feature_select = value;
        return;
      case "driver_feature_select":
        this.selectors.driver_feature_select = value;
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
        this.selectors.queue_select = value;
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
    const select = this.selectors.driver_feature_select;
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
      const profile = this.#owner.queueState ? "queue-state" : "spec";
      const names = featureNames(alien, this.#owner.deviceId, profile).join(", ");
      this.#owner.report("1.1", `the driver accepted what was not offered: ${names}`);
    }
  }

  #setQueue(
    name:
      | "queue_size"
      | "queue_msix_vector"
      | "queue_enable"
      | "queue_reset"
      | QueueStateRegisterName
      | keyof typeof AREA,
    high: boolean,
    value: number,
  ): void {
    const index = this.selectors.queue_select;
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
        if (value === 0 || value > QUEUE_SIZE_MAX || (!this.packed && (value & (value - 1)) !== 0)) {
          const what = this.packed ? `from 1 to ${QUEUE_SIZE_MAX}` : "a power of two";
          this.#owner.report("2.2", `queue_size ${value} is not ${what}`, index);
        } else if (value > queue.maximum) {
          this.#owner.report("2.2", `queue_size ${value} is above the maximum of ${queue.maximum}`, index);
        } else queue.size = value;
        return;
      case "queue_avail_state":
      case "queue_used_state":
        this.#writeState(name, index, queue, value);
        return;
      default:
        if (this.#changeable(name, index, queue)) queue.addresses[2 * AREA[name] + (high ? 1 : 0)] = value;
    }
  }

  #writeState(name: QueueStateRegisterName, index: number, queue: QueueRegisters, value: number): void {
    const { packed } = this;
    if (!this.keepsState) {
      this.#owner.report("N-6.1", `${name} was written before QUEUE_STATE was negotiated`, index);
    } else if ((this.status & STATUS.driverOk) !== 0) {
      this.#owner.report("N-6.1", `${name} was written after DRIVER_OK`, index);
    } else if (queue.enabled) {
      this.#owner.report("A-6.5", `${name} was written after the queue was enabled`, index);
    } else if (packed && (value & 0x7fff) >= queue.size) {
      this.#owner.violation("A-6.6", `${name}: slot ${value & 0x7fff} in a queue of ${queue.size}`, index);
    } else if (name === "queue_avail_state") queue.availableState = value;
    // Of a split ring it means nothing: the used index is in the ring.
    else queue.usedState = packed ? value : 0;
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
    } else if (this.#isAdmin(index) && (this.driverFeatures & FEATURE.ADMIN_VQ) === 0n) {
      this.#owner.report("2.2", "an administration queue was enabled, ADMIN_VQ was not negotiated", index);
    } else if ((status & STATUS.driverOk) !== 0 && !queue.wasReset) {
      this.#owner.violation("1.1", "the queue was enabled after DRIVER_OK, and had not been reset", index);
    } else queue.enabled = this.#owner.enableQueue(index, queue);
  }

  #isAdmin(index: number): boolean {
    return index >= this.queues.length - this.adminCount;
  }

  #resetQueue(index: number, queue: QueueRegisters, value: number): void {
    const negotiated = !this.#owner.queueState && (this.status & STATUS.featuresOk) !== 0 &&
      (this.driverFeatures & FEATURE.RING_RESET) !== 0n;
    if (!negotiated) {
      this.#owner.report("1.5", "queue_reset was written, RING_RESET is not negotiated", index);
    } else if (value !== 1) {
      this.#owner.report("1.5", `${value} was written to queue_reset: only 1 is allowed`, index);
    } else {
      this.#owner.resetQueue(index);
      queue.wasReset ||= queue.enabled;
      queue.clear();
    }
  }
}

/** 32 bits of a feature set; 0 beyond the second word. */
function word(features: bigint, select: number): number {
  return select > 1 ? 0 : Number(features >> BigInt(32 * select) & 0xffff_ffffn);
}
