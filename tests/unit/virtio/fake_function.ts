/**
 * A PCI function with the registers of a modern virtio device, in plain bytes: written for the tests, from the standard's tables.
 *
 * @module
 */
import { type EventFd, MappedMemory } from "../../../ffi/mod.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import type { DmaSpace } from "../../../lib/memory/mod.ts";
import type { IrqInfo, IrqRequest, RegionArea, RegionInfo, VfioDevice } from "../../../lib/vfio/device.ts";
import { FakeIommu } from "./fake_iommu.ts";

/** One `virtio_pci_cap`. */
export interface FakeCapability {
  readonly type: number;
  readonly bar?: number;
  readonly id?: number;
  readonly offset: number;
  readonly length: number;
  /** Default: what the type needs. */
  readonly capLength?: number;
  readonly multiplier?: number;
}

/** Where the fake has its structures, unless a test says otherwise. */
export const USUAL: readonly FakeCapability[] = [
  { type: 1, bar: 4, offset: 0x0000, length: 64 },
  { type: 3, bar: 4, offset: 0x1001, length: 1 },
  { type: 4, bar: 4, offset: 0x2000, length: 32 },
  { type: 2, bar: 4, offset: 0x3000, length: 0x1000, multiplier: 4 },
];

/** Where an Express function has the capability that says so. */
const EXPRESS_AT = 0xc0;

/** The usual capabilities with one of them changed. */
export function changed(type: number, change: Partial<FakeCapability>): FakeCapability[] {
  return USUAL.map((one) => one.type === type ? { ...one, ...change } : one);
}

interface FakeQueue {
  max: number;
  size: number;
  vector: number;
  enable: number;
  notifyOff: number;
  desc: bigint;
  driver: bigint;
  device: bigint;
  notifyData: number;
  reset: number;
  availState: number;
  usedState: number;
}

/** See the module's text. */
export class FakeFunction implements VfioDevice {
  readonly name: string = "0000:0a:00.0";
  readonly path = "vfio-user";
  readonly info = { flags: 3, numRegions: 9, numIrqs: 5 };
  readonly iommu = new FakeIommu();
  config: Uint8Array<ArrayBuffer> = new Uint8Array(256);
  readonly barBytes = [0, 0, 0x1000, 0, 0x4000, 0];
  /** `w2@22=1 (bar 4)` and the like, for BAR accesses. */
  readonly log: string[] = [];
  readonly irqs: IrqRequest[] = [];
  closed = false;

  features = 0n;
  driverFeatures = 0n;
  status = 0;
  /** Reads of device_status that still show the old value after a reset was asked for. */
  resetReads = 0;
  #resetPending = 0;
  generation = 0;
  configVector = 0xffff;
  isr = 0;
  vectorLimit = 8;
  deviceConfig = Uint8Array.from({ length: 32 }, (_, i) => i);
  queues: FakeQueue[] = [0, 1, 2].map((index) => ({
    max: 64 << index,
    size: 64 << index,
    vector: 0xffff,
    enable: 0,
    notifyOff: index,
    desc: 0n,
    driver: 0n,
    device: 0n,
    notifyData: 0x100 + index,
    reset: 0,
    availState: 0x8000,
    usedState: 0x8000,
  }));
  /** `num_queues`: administration queues not counted. */
  numQueues = 3;
  msixCount = 4;
  pin = 1;
  /** Eventfd, maskable, automasked: as the kernel's. */
  intxFlags = 7;
  /** Lies about what was written. */
  keep: { size?: number; enable?: number } = {};
  #deviceFeatureSelect = 0;
  #driverFeatureSelect = 0;
  #queueSelect = 0;

  constructor(capabilities: readonly FakeCapability[] = USUAL, deviceId = 0x1044) {
    const view = new DataView(this.config.buffer);
    view.setUint16(0x00, 0x1af4, true);
    view.setUint16(0x02, deviceId, true);
    view.setUint16(0x06, 0x0010, true);
    view.setUint8(0x08, 1);
    view.setUint16(0x2c, 0x1af4, true);
    view.setUint16(0x2e, 4, true);
    view.setUint8(0x34, capabilities.length === 0 ? 0 : 0x40);
    let at = 0x40;
    capabilities.forEach((one, i) => {
      const length = one.capLength ?? (one.type === 2 ? 20 : one.type === 8 ? 24 : 16);
      const next = i + 1 < capabilities.length ? at + Math.ceil(length / 4) * 4 : 0;
      view.setUint8(at, 0x09);
      view.setUint8(at + 1, next);
      view.setUint8(at + 2, length);
      view.setUint8(at + 3, one.type);
      view.setUint8(at + 4, one.bar ?? 4);
      view.setUint8(at + 5, one.id ?? 0);
      view.setUint32(at + 8, one.offset, true);
      view.setUint32(at + 12, one.length, true);
      if (one.type === 2 && length >= 20) view.setUint32(at + 16, one.multiplier ?? 0, true);
      at = next;
    });
  }

  /** An Express function: extended configuration space with an SR-IOV capability. @param capabilities its register of that name */
  addSriov(capabilities: number): void {
    const config = new Uint8Array(4096);
    config.set(this.config);
    this.config = config;
    const view = new DataView(config.buffer);
    view.setUint8(EXPRESS_AT, 0x10);
    view.setUint8(EXPRESS_AT + 1, view.getUint8(0x34));
    view.setUint8(0x34, EXPRESS_AT);
    view.setUint32(0x100, 0x0001_0010, true);
    view.setUint32(0x104, capabilities, true);
  }

  get dma(): DmaSpace {
    return this.iommu.space;
  }
  get command(): number {
    return this.config[4]!;
  }
  regionInfo(index: number): RegionInfo {
    this.#open();
    const sizeBytes = index === 7 ? this.config.length : this.barBytes[index] ?? 0;
    return { index, flags: 3, sizeBytes, mmapAreas: [], msixMappable: false };
  }
  irqInfo(index: number): IrqInfo {
    this.#open();
    const flags = index === 0 ? this.intxFlags : 1;
    return { index, flags, count: index === 2 ? this.msixCount : index === 0 ? this.pin : 0 };
  }
  /** `admin_queue_index` and `admin_queue_num`. */
  adminQueues = { first: 3, count: 1 };

  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#open();
    if (index === 7) return into.set(this.config.subarray(offset, offset + into.length));
    const value = this.#read(offset, into.length);
    this.log.push(`r${into.length}@${offset.toString(16)}`);
    for (let i = 0; i < into.length; i++) into[i] = (value >>> (8 * i)) & 0xff;
  }
  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#open();
    if (index === 7) return this.config.set(from, offset);
    let value = 0;
    for (let i = from.length - 1; i >= 0; i--) value = value * 256 + from[i]!;
    this.log.push(`w${from.length}@${offset.toString(16)}=${value.toString(16)}`);
    this.#write(offset, from.length, value);
  }
  #read(offset: number, width: number): number {
    const queue = this.queues[this.#queueSelect];
    switch (`${width}@${offset.toString(16)}`) {
      case "4@4":
        return Number((this.features >> BigInt(32 * this.#deviceFeatureSelect)) & 0xffff_ffffn);
      case "2@10":
        return this.configVector;
      case "2@12":
        return this.numQueues;
      case "1@14":
        if (this.#resetPending > 0 && --this.#resetPending === 0) this.#reset();
        return this.status;
      case "1@15":
        return this.generation;
      case "2@18":
        return queue?.size ?? 0;
      case "2@1a":
        return queue?.vector ?? 0xffff;
      case "2@1c":
        return queue?.enable ?? 0;
      case "2@1e":
        return queue?.notifyOff ?? 0;
      case "2@40":
        return queue?.availState ?? 0;
      case "2@42":
        return queue?.usedState ?? 0;
      case "2@38":
        return queue?.notifyData ?? 0;
      case "2@3a": {
        const reset = queue?.reset ?? 0;
        if (queue !== undefined && reset > 0) queue.reset--;
        return reset > 0 ? 1 : 0;
      }
      case "2@3c":
        return this.adminQueues.first;
      case "2@3e":
        return this.adminQueues.count;
      case "1@1001": {
        const isr = this.isr;
        this.isr = 0;
        return isr;
      }
    }
    if (offset >= 0x2000 && offset < 0x2020) {
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + this.deviceConfig[offset - 0x2000 + i]!;
      return value;
    }
    throw new UsageError(`a read of ${width} bytes at 0x${offset.toString(16)}: no such register`);
  }
  #write(offset: number, width: number, value: number): void {
    const queue = this.queues[this.#queueSelect];
    const half = (old: bigint, upper: boolean) =>
      upper ? (old & 0xffff_ffffn) | (BigInt(value) << 32n) : (old & ~0xffff_ffffn) | BigInt(value);
    switch (`${width}@${offset.toString(16)}`) {
      case "4@0":
        return void (this.#deviceFeatureSelect = value);
      case "4@8":
        return void (this.#driverFeatureSelect = value);
      case "4@c":
        return void (this.driverFeatures = half(this.driverFeatures, this.#driverFeatureSelect === 1));
      case "2@10":
        return void (this.configVector = value < this.vectorLimit ? value : 0xffff);
      case "1@14":
        if (value !== 0) return void (this.status = value);
        if (this.resetReads === 0) return this.#reset();
        return void (this.#resetPending = this.resetReads);
      case "2@16":
        return void (this.#queueSelect = value);
    }
    if (offset >= 0x3000 && offset < 0x4000) return;
    if (offset >= 0x2000 && offset < 0x2020) {
      for (let i = 0; i < width; i++) this.deviceConfig[offset - 0x2000 + i] = (value >>> (8 * i)) & 0xff;
      return;
    }
    if (queue === undefined) throw new UsageError(`queue register of queue ${this.#queueSelect}`);
    switch (`${width}@${offset.toString(16)}`) {
      case "2@18":
        return void (queue.size = this.keep.size ?? value);
      case "2@1a":
        return void (queue.vector = value < this.vectorLimit ? value : 0xffff);
      case "2@1c":
        return void (queue.enable = this.keep.enable ?? value);
      case "2@40":
        return void (queue.availState = value);
      case "2@42":
        return void (queue.usedState = value);
      case "2@3a":
        queue.reset = 3;
        queue.vector = 0xffff;
        return void (queue.enable = 0);
      case "4@20":
      case "4@24":
        return void (queue.desc = half(queue.desc, offset === 0x24));
      case "4@28":
      case "4@2c":
        return void (queue.driver = half(queue.driver, offset === 0x2c));
      case "4@30":
      case "4@34":
        return void (queue.device = half(queue.device, offset === 0x34));
    }
    throw new UsageError(`a write of ${width} bytes at 0x${offset.toString(16)}: no such register`);
  }
  #reset(): void {
    this.status = 0;
    this.configVector = 0xffff;
    for (const queue of this.queues) {
      queue.size = queue.max;
      queue.enable = 0;
      queue.vector = 0xffff;
    }
  }
  mapRegion(index: number, area: RegionArea): MappedMemory {
    this.#open();
    this.log.push(`map ${index} ${area.offset.toString(16)}+${area.sizeBytes.toString(16)}`);
    return MappedMemory.anonymous(area.sizeBytes);
  }
  doorbellFd(): { fd: EventFd; value?: number } | undefined {
    return undefined;
  }
  setIrqs(request: IrqRequest): void {
    this.#open();
    const masking = request.action === "mask" || request.action === "unmask";
    if (masking && (this.irqInfo(request.index).flags & 2) === 0) throw new UnsupportedError("masking");
    this.irqs.push(request);
  }
  reset(): void {
    this.#reset();
  }
  probeFeature(): boolean {
    return false;
  }
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.iommu.space.close();
  }
  [Symbol.dispose](): void {
    this.close();
  }
  #open(): void {
    if (this.closed) throw new ClosedError(this.name);
  }
}
