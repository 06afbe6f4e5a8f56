/**
 * A VF with a legacy interface, written for the tests from the standard's tables: a register model behind `LegacyRegisterAccess`, as strict as a device
 * has to be (N-3.14), and the PCI functions that go with it.
 *
 * @module
 */
import type { EventFd } from "../../../../ffi/mod.ts";
import type { RegionInfo } from "../../../../lib/vfio/device.ts";
import type {
  LegacyNotifyArea,
  LegacyRegisterAccess,
  LegacyWidth,
} from "../../../../lib/virtio/admin/legacy_access.ts";
import type { IrqRequest } from "../../../../lib/vfio/device.ts";
import { FakeFunction } from "../fake_function.ts";
import { ModelRing } from "../queue/model_ring.ts";

/** A PCI function whose BARs tell of writes. */
export class LegacyFunction extends FakeFunction {
  override readonly name: string;
  /** Called at each write into a BAR. */
  onBarWrite: (bar: number, offset: number, value: number, width: number) => void = () => {};
  /** `bar 2: w2@10=1`. */
  readonly barWrites: string[] = [];
  /** What `doorbellFd` was asked for, and what it gives. */
  readonly doorbellCalls: (number | undefined)[][] = [];
  doorbells = new Map<string, { fd: EventFd; value?: number }>();
  /** MSI-X vectors that are on. */
  vectors: readonly (EventFd | null)[] = [];
  barFlags = 3;

  constructor(name: string, deviceId: number, barBytes: readonly number[]) {
    super([], deviceId);
    this.name = name;
    this.barBytes.splice(0, 6, ...barBytes);
  }
  override regionInfo(index: number): RegionInfo {
    const info = super.regionInfo(index);
    return index < 6 ? { ...info, flags: this.barFlags } : info;
  }
  override writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    if (index === 7) return super.writeRegion(index, offset, from);
    let value = 0;
    for (let i = from.length - 1; i >= 0; i--) value = value * 256 + from[i]!;
    this.barWrites.push(`bar ${index}: w${from.length}@${offset.toString(16)}=${value.toString(16)}`);
    this.onBarWrite(index, offset, value, from.length);
  }
  override doorbellFd(...asked: (number | undefined)[]): { fd: EventFd; value?: number } | undefined {
    this.doorbellCalls.push(asked);
    const [index, offset, width, value] = asked;
    return this.doorbells.get(`${index}:${offset}:${width}:${value}`);
  }
  override setIrqs(request: IrqRequest): void {
    super.setIrqs(request);
    if (request.index !== 2) return;
    if (request.action === "trigger") this.vectors = request.eventFds;
    if (request.action === "disable") this.vectors = [];
  }
}

/** What the device is. */
export interface LegacyModelOptions {
  readonly deviceId?: number;
  readonly features?: number;
  readonly queueSizes?: readonly number[];
  readonly config?: Uint8Array;
  /** Offset and width of each field of the config. */
  readonly configFields?: readonly (readonly [offset: number, width: number])[];
  readonly areas?: readonly LegacyNotifyArea[];
  readonly vectors?: number;
}

// virtio 1.4 §4.1.4.10: offset, width, name; the last two while MSI-X is enabled.
const REGISTERS = [
  [0, 4, "device_features"],
  [4, 4, "driver_features"],
  [8, 4, "pfn"],
  [12, 2, "queue_size"],
  [14, 2, "queue_select"],
  [16, 2, "notify"],
  [18, 1, "status"],
  [19, 1, "isr"],
  [20, 2, "config_vector"],
  [22, 2, "queue_vector"],
] as const;

/** See the module's text. Every access is logged: `r status`, `w pfn 5`, `r config 8+4`. */
export class LegacyModel implements LegacyRegisterAccess, Disposable {
  readonly name = "0000:0a:00.1 by way of 0000:0a:00.0";
  readonly log: string[] = [];
  readonly vf: LegacyFunction;
  readonly pf: LegacyFunction;
  readonly config: Uint8Array;
  readonly configFields: readonly (readonly [number, number])[];
  readonly queueSizes: number[];
  readonly rings = new Map<number, ModelRing>();
  features: number;
  driverFeatures = 0;
  status = 0;
  isr = 0;
  select = 0;
  pfn = new Map<number, number>();
  configVector = 0xffff;
  queueVectors = new Map<number, number>();
  vectorLimit = 8;
  areas: readonly LegacyNotifyArea[];
  /** NOTIFY_INFO commands. */
  asked = 0;
  /** Reads of the status that still show the old one after a reset was asked for. */
  resetReads = 0;
  /** What the PFN register keeps of what is written. */
  keepPfn: (pfn: number) => number = (pfn) => pfn;
  /** Called before each read of the config. */
  onConfigRead: () => void = () => {};
  onNotify: (queue: number) => void = () => {};
  onReset: () => void = () => {};
  /** Set: every command fails with it. */
  failure: Error | null = null;
  #pendingReset = 0;

  constructor(options: LegacyModelOptions = {}) {
    this.vf = new LegacyFunction("0000:0a:00.1", 0x1040 + (options.deviceId ?? 1), [0, 0, 0x1000, 0, 0, 0]);
    this.pf = new LegacyFunction("0000:0a:00.0", 0x1041, [0, 0, 0x2000, 0, 0x100, 0]);
    this.vf.msixCount = options.vectors ?? 4;
    this.vf.pin = 0;
    this.features = options.features ?? 0;
    this.queueSizes = [...options.queueSizes ?? [8, 8]];
    this.config = options.config ?? new Uint8Array(12);
    this.configFields = options.configFields ??
      Array.from({ length: this.config.length }, (_, at) => [at, 1] as const);
    this.areas = options.areas ?? [];
    const byBar = (whose: string) => (bar: number, offset: number, queue: number, width: number) => {
      const known = this.areas.some((one) => one.whose === whose && one.bar === bar && one.offset === offset);
      if (!known || width !== 2) throw new Error(`${whose} BAR ${bar}: ${width} bytes at ${offset}`);
      this.notify(queue);
    };
    this.vf.onBarWrite = byBar("member");
    this.pf.onBarWrite = byBar("owner");
  }

  get msix(): boolean {
    return this.vf.vectors.length > 0;
  }

  readCommon(offset: number, width: LegacyWidth): number {
    const [start, , name] = this.#register(offset, width);
    const whole = width === REGISTERS.find(([at]) => at === start)![1];
    this.log.push(whole ? `r ${name}` : `r ${name} ${offset - start}+${width}`);
    return slice(this.#get(name), offset - start, width);
  }
  writeCommon(offset: number, width: LegacyWidth, value: number): void {
    const [start, size, name] = this.#register(offset, width);
    this.log.push(
      width === size ? `w ${name} ${value}` : `w ${name} ${offset - start}+${width} ${value}`,
    );
    this.#set(name, merge(width === size ? 0 : this.#get(name), offset - start, width, value));
  }
  readDevice(offset: number, width: LegacyWidth): number {
    this.#field(offset, width);
    this.log.push(`r config ${offset}+${width}`);
    this.onConfigRead();
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.config[offset + i]!;
    return value;
  }
  writeDevice(offset: number, width: LegacyWidth, value: number): void {
    this.#field(offset, width);
    this.log.push(`w config ${offset}+${width} ${value}`);
    for (let i = 0; i < width; i++) this.config[offset + i] = value >>> (8 * i);
  }
  notifyAreas(): readonly LegacyNotifyArea[] {
    if (this.failure !== null) throw this.failure;
    this.asked++;
    return this.areas;
  }

  /** A notification, by whatever way. */
  notify(queue: number): void {
    if ((this.status & 4) === 0) throw new Error("notified before DRIVER_OK");
    this.onNotify(queue);
  }

  ring(queue: number): ModelRing {
    const ring = this.rings.get(queue);
    if (ring === undefined) throw new Error(`queue ${queue} is not set up`);
    return ring;
  }

  /** Raises the vector of a queue, or of the config space for null. */
  interrupt(queue: number | null): void {
    this.isr |= queue === null ? 2 : 1;
    const vector = queue === null ? this.configVector : this.queueVectors.get(queue) ?? 0xffff;
    if (vector !== 0xffff) this.vf.vectors[vector]?.signal();
  }

  #register(offset: number, width: number): typeof REGISTERS[number] {
    if (this.failure !== null) throw this.failure;
    const found = REGISTERS.find(([at, size]) => offset >= at && offset + width <= at + size);
    if (found === undefined || (found[0] >= 20 && !this.msix)) {
      throw new Error(`N-3.14: ${width} bytes at ${offset} of the common part are no single field`);
    }
    return found;
  }
  #field(offset: number, width: number): void {
    if (this.failure !== null) throw this.failure;
    if (this.configFields.some(([at, size]) => offset >= at && offset + width <= at + size)) return;
    throw new Error(`N-3.14: ${width} bytes at ${offset} of the device-specific part are no single field`);
  }
  #get(name: typeof REGISTERS[number][2]): number {
    switch (name) {
      case "device_features":
        return this.features;
      case "driver_features":
        return this.driverFeatures;
      case "pfn":
        return this.pfn.get(this.select) ?? 0;
      case "queue_size":
        return this.queueSizes[this.select] ?? 0;
      case "queue_select":
        return this.select;
      case "notify":
        return 0;
      case "status":
        if (this.#pendingReset > 0 && --this.#pendingReset === 0) this.#reset();
        return this.status;
      case "isr": {
        const isr = this.isr;
        this.isr = 0;
        return isr;
      }
      case "config_vector":
        return this.configVector;
      case "queue_vector":
        return this.queueVectors.get(this.select) ?? 0xffff;
    }
  }
  #set(name: typeof REGISTERS[number][2], value: number): void {
    switch (name) {
      case "driver_features":
        return void (this.driverFeatures = value);
      case "pfn":
        return this.#setPfn(this.keepPfn(value));
      case "queue_select":
        return void (this.select = value);
      case "notify":
        return this.notify(value);
      case "status":
        if (value !== 0) return void (this.status = value);
        if (this.resetReads === 0) return this.#reset();
        return void (this.#pendingReset = this.resetReads);
      case "config_vector":
        return void (this.configVector = value < this.vectorLimit ? value : 0xffff);
      case "queue_vector":
        return void this.queueVectors.set(this.select, value < this.vectorLimit ? value : 0xffff);
      default:
        throw new Error(`a write to ${name}, which is read-only`);
    }
  }
  /** §2.7.2: descriptor table, available ring, padding to 4096, used ring. */
  #setPfn(pfn: number): void {
    const queue = this.select;
    this.pfn.set(queue, pfn);
    this.rings.delete(queue);
    const size = this.queueSizes[queue] ?? 0;
    if (pfn === 0 || size === 0) return;
    const start = BigInt(pfn) * 4096n;
    const available = start + BigInt(16 * size);
    const end = Number(available - start) + 2 * (3 + size);
    this.rings.set(
      queue,
      new ModelRing(this.vf.iommu, {
        size,
        descriptorArea: start,
        driverArea: available,
        deviceArea: start + BigInt((end + 4095) & ~4095),
      }),
    );
  }
  #reset(): void {
    this.status = this.isr = this.driverFeatures = 0;
    this.configVector = 0xffff;
    this.queueVectors.clear();
    this.pfn.clear();
    this.rings.clear();
    this.onReset();
  }

  [Symbol.dispose](): void {
    this.vf.close();
    this.pf.close();
  }
}

function slice(value: number, at: number, width: number): number {
  return Math.floor(value / 256 ** at) % 256 ** width;
}

function merge(old: number, at: number, width: number, value: number): number {
  const upper = Math.floor(old / 256 ** (at + width)) * 256 ** (at + width);
  return upper + value * 256 ** at + old % 256 ** at;
}
