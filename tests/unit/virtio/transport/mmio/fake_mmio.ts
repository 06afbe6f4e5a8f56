/**
 * A register window of virtio-mmio in this process, of any of its four forms: written for the tests from the texts (virtio 1.2 §4.2.2, §4.2.4; the drafts'
 * tables), with no constant of the library. Whatever breaks an access rule fails the test.
 *
 * @module
 */
import { EventFd } from "../../../../../ffi/mod.ts";
import { ClosedError } from "../../../../../lib/errors/mod.ts";
import type { DmaSpace } from "../../../../../lib/memory/mod.ts";
import type { AccessWidth, RegisterSpace } from "../../../../../lib/registers/mod.ts";
import type { VectorKind } from "../../../../../lib/vfio/interrupts.ts";
import type { MmioWindow } from "../../../../../lib/virtio/transport/mmio/window.ts";
import type { SharedMemory } from "../../../../../lib/virtio/transport/transport.ts";
import { FakeIommu } from "../../fake_iommu.ts";

export type Form = "modern" | "legacy" | "v3" | "msi-v2";

/** What the fake is made with; anything else is a field that a test sets. */
export interface FakeMmioOptions {
  readonly form?: Form;
  readonly deviceId?: number;
  readonly features?: bigint;
  /** QueueSizeMax of each. */
  readonly queueSizes?: readonly number[];
  readonly sizeBytes?: number;
  /** Vectors of the device. Default: one for each queue and one more. */
  readonly vectors?: number;
  readonly sharing?: boolean;
  /** Of MsiState. */
  readonly linuxBits?: boolean;
  readonly notify?: { readonly base: number; readonly multiplier: number };
  /** Messages that can be had; undefined: nobody has any. */
  readonly messages?: number | undefined;
}

/** A queue as its registers set it. */
export interface FakeMmioQueue {
  max: number;
  size: number;
  ready: number;
  /** Descriptor, driver and device area. */
  areas: [bigint, bigint, bigint];
  align: number;
  pfn: number;
  /** Reads of QueueReset that still give 1. */
  resetting: number;
  /** sharing: the vector that it is mapped on. */
  vector: number;
}

interface Vector {
  address: bigint;
  data: number;
  configured: boolean;
  masked: boolean;
  pending: boolean;
}

const READ_ONLY = [0x000, 0x004, 0x008, 0x00c, 0x010, 0x034, 0x060];
const WRITE_ONLY = [0x014, 0x020, 0x024, 0x030, 0x038, 0x064];

/** The line's eventfd, once it is on. */
class FakeLine {
  kind: VectorKind | null = null;
  eventFd: EventFd | null = null;
  count = 1;
  rearmed = 0;
  available(kind: VectorKind): number {
    return kind === "intx" ? this.count : 0;
  }
  enable(kind: VectorKind, count = 1, given?: readonly EventFd[]): readonly EventFd[] {
    if (kind !== "intx" || count !== 1 || this.kind !== null) throw new Error(`enable ${kind} ${count}`);
    this.kind = kind;
    this.eventFd = given?.[0] ?? new EventFd();
    return [this.eventFd];
  }
  disable(): void {
    this.eventFd?.close();
    this.eventFd = null;
    this.kind = null;
  }
  rearm(): void {
    this.rearmed++;
  }
}

/** See the module's text. */
export class FakeMmio implements MmioWindow, RegisterSpace {
  readonly name = "a003e00.virtio_mmio";
  readonly iommu = new FakeIommu();
  readonly form: Form;
  readonly sizeBytes: number;
  readonly interrupts = new FakeLine();
  /** `w4@70=1`: each access but those of the config space, which are `r2@config+4=…`. */
  readonly log: string[] = [];
  /** What was written to doorbells: `4@50=1`. */
  readonly rung: string[] = [];
  readonly doorbellValues: (number | undefined)[] = [];
  closed = false;

  deviceId: number;
  magic = 0x7472_6976;
  version: number;
  features: bigint;
  driverFeatures = 0n;
  status = 0;
  /** Reads of Status that still give the old value after a reset was asked for. */
  slowReset = 0;
  interruptStatus = 0;
  generation = 0;
  config = Uint8Array.from({ length: 256 }, (_, i) => i);
  queues: FakeMmioQueue[];
  guestPageSize = 0;
  notify: { base: number; multiplier: number };
  sharing: boolean;
  linuxBits: boolean;
  msiEnabled = false;
  maxQueues: number;
  vectors: Vector[];
  /** ENABLE has no effect. */
  refusesMsi = false;
  configVector = 0xffff_ffff;
  regions = new Map<number, { length: bigint; base: bigint }>();
  /** What breaks a rule does nothing: for drivers that are lied to. */
  lenient = false;
  /** The last word on what a read gives. */
  lie: (offset: number, width: number, value: number) => number = (_offset, _width, value) => value;
  /** Called after each access. */
  after: (entry: string) => void = () => {};
  readonly messages: MmioWindow["messages"];
  /** Data of each message that was given out, and its eventfd. */
  readonly allotted = new Map<number, EventFd>();
  /** Messages that nobody was given. */
  readonly stray: [bigint, number][] = [];
  #deviceHalf = 0;
  #driverHalf = 0;
  #queue = 0;
  #shm = 0;
  #vecSel = 0;
  #staged = { address: 0n, data: 0 };
  #resetting = 0;

  constructor(options: FakeMmioOptions = {}) {
    const { form = "modern", queueSizes = [64, 128, 256] } = options;
    this.form = form;
    this.deviceId = options.deviceId ?? 4;
    this.version = { "modern": 2, "legacy": 1, "v3": 3, "msi-v2": 2 }[form];
    this.features = options.features ?? (form === "legacy" ? 0n : 1n << 32n);
    this.sizeBytes = options.sizeBytes ?? 0x200;
    this.sharing = options.sharing ?? false;
    this.linuxBits = options.linuxBits ?? false;
    this.notify = { base: 0x50, multiplier: 0, ...options.notify };
    this.maxQueues = queueSizes.length;
    this.queues = queueSizes.map((max) => ({
      max,
      size: 0,
      ready: 0,
      areas: [0n, 0n, 0n],
      align: 0,
      pfn: 0,
      resetting: 0,
      vector: 0xffff_ffff,
    }));
    this.vectors = Array.from({ length: options.vectors ?? queueSizes.length + 1 }, fresh);
    this.messages = options.messages === undefined ? undefined : this.#makeMessages(options.messages);
  }

  get dma(): DmaSpace {
    return this.iommu.space;
  }

  get space(): RegisterSpace {
    return this;
  }

  /** Accesses since the last call, without reads unless `reads` has their offset. */
  taken(...reads: number[]): string[] {
    const shown = reads.map((offset) => `@${offset.toString(16)}=`);
    return this.log.splice(0).filter((entry) =>
      entry.startsWith("w") || shown.some((one) => entry.includes(one))
    );
  }

  doorbell(offset: number, width: 2 | 4, options: { readonly value?: number } = {}) {
    this.#open();
    if (offset % width !== 0 || offset + width > this.sizeBytes) {
      throw new Error(`doorbell ${width}@${offset}`);
    }
    this.doorbellValues.push(options.value);
    return {
      write: (value: number) => void this.rung.push(`${width}@${offset.toString(16)}=${value.toString(16)}`),
    };
  }

  sharedMemory(address: bigint, sizeBytes: number, id: number): SharedMemory | undefined {
    const start = address - 0xa00_3e00n;
    if (start < 0n || start + BigInt(sizeBytes) > BigInt(this.sizeBytes)) return undefined;
    const none = () => {
      throw new Error(`region ${id}`);
    };
    return { sizeBytes, map: none, read: none, write: none, doorbell: none };
  }

  close(): void {
    this.closed = true;
  }

  read(offset: number, width: AccessWidth): number {
    this.#open();
    const entry = offset >= 0x100 ? `config+${(offset - 0x100).toString(16)}` : offset.toString(16);
    const value = this.lie(offset, width, this.#leniently(() => this.#read(offset, width))) >>> 0;
    this.#note(`r${width}@${entry}=${value.toString(16)}`);
    return value;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    this.#open();
    const entry = offset >= 0x100 ? `config+${(offset - 0x100).toString(16)}` : offset.toString(16);
    this.#leniently(() => this.#write(offset, width, value));
    this.#note(`w${width}@${entry}=${value.toString(16)}`);
  }

  /** An event of the device: a message of its vector, or the line. */
  raise(source: number | "config"): void {
    if (!this.msiEnabled) {
      this.interruptStatus |= source === "config" ? 2 : 1;
      this.interrupts.eventFd?.signal();
      return;
    }
    const mapped = source === "config" ? this.configVector : this.queues[source]!.vector;
    const place = this.form === "msi-v2" && this.sharing ? mapped : source === "config" ? 0 : source + 1;
    const vector = this.vectors[place];
    if (vector === undefined || !vector.configured) return void this.stray.push([-1n, place]);
    if (vector.masked) vector.pending = true;
    else this.#send(vector);
  }

  #send({ address, data }: Vector): void {
    const eventFd = this.allotted.get(data);
    if (address !== 0xfee0_0000n || eventFd === undefined) this.stray.push([address, data]);
    else eventFd.signal();
  }

  #makeMessages(count: number): MmioWindow["messages"] {
    const { allotted } = this;
    return {
      get available() {
        return count - allotted.size;
      },
      allot: (eventFd = new EventFd()) => {
        let data = 0x20;
        while (allotted.has(data)) data++;
        allotted.set(data, eventFd);
        return {
          eventFd,
          address: 0xfee0_0000n,
          data,
          [Symbol.dispose]() {
            allotted.delete(data);
            eventFd.close();
          },
        };
      },
    };
  }

  #read(offset: number, width: number): number {
    if (offset >= 0x100) {
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.config[offset - 0x100 + i] ?? 0);
      return value;
    }
    const { form } = this;
    const modern = form !== "legacy";
    const queue = this.queues[this.#queue];
    if (form === "v3" && offset === 0xc0) {
      this.#require(width === 2, `read of ${width} bytes at MsiStatus`);
      return this.maxQueues | Number(this.msiEnabled) << 15;
    }
    this.#require(width === 4 && offset % 4 === 0, `read of ${width} bytes at 0x${offset.toString(16)}`);
    this.#require(!WRITE_ONLY.includes(offset), `read at write-only 0x${offset.toString(16)}`);
    if (form === "msi-v2" && offset === 0xc0) return this.vectors.length;
    if (form === "msi-v2" && offset === 0xc4) {
      const [enabled, sharing] = this.linuxBits ? [31, 30] : [0, 1];
      return (Number(this.msiEnabled) << enabled | Number(this.sharing) << sharing) >>> 0;
    }
    switch (offset) {
      case 0x000:
        return this.magic;
      case 0x004:
        return this.version;
      case 0x008:
        return this.deviceId;
      case 0x00c:
        return 0x554d_4551;
      case 0x010:
        return Number(this.features >> BigInt(32 * this.#deviceHalf) & 0xffff_ffffn);
      case 0x034:
        return queue?.max ?? 0;
      case 0x060:
        this.#require(!this.msiEnabled, "N-7.2: InterruptStatus read while MSI is on");
        return this.interruptStatus;
      case 0x070:
        if (this.#resetting > 0 && --this.#resetting === 0) this.#reset();
        return this.status;
    }
    if (modern) {
      const region = this.regions.get(this.#shm) ?? { length: 2n ** 64n - 1n, base: 2n ** 64n - 1n };
      switch (offset) {
        case 0x044:
          return queue?.ready ?? 0;
        case 0x0b0:
          return Number(region.length & 0xffff_ffffn);
        case 0x0b4:
          return Number(region.length >> 32n);
        case 0x0b8:
          return Number(region.base & 0xffff_ffffn);
        case 0x0bc:
          return Number(region.base >> 32n);
        case 0x0c0: {
          this.#require(form === "modern", "read at 0xc0");
          const left = queue?.resetting ?? 0;
          if (queue !== undefined && left > 0) queue.resetting--;
          return left > 0 ? 1 : 0;
        }
        case 0x0fc:
          return this.generation;
        case 0x050:
          this.#require(form !== "modern", "read at QueueNotify");
          return (this.notify.base | this.notify.multiplier << 16) >>> 0;
      }
    } else if (offset === 0x040) return queue?.pfn ?? 0;
    throw new Error(`${form}: a read at 0x${offset.toString(16)}: no such register`);
  }

  #write(offset: number, width: number, value: number): void {
    if (offset >= 0x100) {
      for (let i = 0; i < width; i++) this.config[offset - 0x100 + i] = value >>> (8 * i) & 0xff;
      return;
    }
    const { form } = this;
    if (form === "v3" && (offset === 0xc0 || offset === 0xc2)) {
      this.#require(width === 2, `write of ${width} bytes at 0x${offset.toString(16)}`);
      if (offset === 0xc0) this.#enableMsi((value & 0x8000) !== 0);
      else this.#commandV3(value >> 12, value & 0xfff);
      return;
    }
    this.#require(width === 4 && offset % 4 === 0, `write of ${width} bytes at 0x${offset.toString(16)}`);
    this.#require(!READ_ONLY.includes(offset), `write at read-only 0x${offset.toString(16)}`);
    const queue = this.queues[this.#queue];
    switch (offset) {
      case 0x014:
        return void (this.#deviceHalf = value);
      case 0x024:
        return void (this.#driverHalf = value);
      case 0x020:
        return void (this.driverFeatures = half(this.driverFeatures, this.#driverHalf === 1, value));
      case 0x030:
        return void (this.#queue = value);
      case 0x038:
        return void (queue!.size = value);
      case 0x064:
        this.#require(!this.msiEnabled, "N-7.2: InterruptACK written while MSI is on");
        return void (this.interruptStatus &= ~value);
      case 0x070:
        if (value !== 0) return void (this.status = value);
        if (this.slowReset === 0) return this.#reset();
        return void (this.#resetting = this.slowReset);
    }
    if (form === "legacy") {
      switch (offset) {
        case 0x028:
          return void (this.guestPageSize = value);
        case 0x03c:
          return void (queue!.align = value);
        case 0x040:
          this.#require(this.guestPageSize !== 0, "QueuePFN before GuestPageSize");
          return void (queue!.pfn = value);
      }
      throw new Error(`legacy: a write at 0x${offset.toString(16)}: no such register`);
    }
    switch (offset) {
      case 0x044:
        return void (queue!.ready = value);
      case 0x080:
      case 0x084:
      case 0x090:
      case 0x094:
      case 0x0a0:
      case 0x0a4: {
        const area = (offset - 0x80) >> 4;
        queue!.areas[area] = half(queue!.areas[area]!, offset % 8 === 4, value);
        return;
      }
      case 0x0ac:
        return void (this.#shm = value);
      case 0x0c0:
        this.#require(form === "modern" && value === 1, `${value} written at 0xc0`);
        queue!.ready = 0;
        return void (queue!.resetting = 3);
    }
    const staged = form === "v3" ? [0xc4, 0xc8, 0xcc] : form === "msi-v2" ? [0xd4, 0xd8, 0xdc] : [];
    if (staged.includes(offset)) {
      if (offset === staged[2]) this.#staged.data = value;
      else this.#staged.address = half(this.#staged.address, offset === staged[1], value);
    } else if (form === "msi-v2" && offset === 0xd0) this.#vecSel = value;
    else if (form === "msi-v2" && offset === 0xc8) this.#commandV2(value);
    else throw new Error(`${form}: a write at 0x${offset.toString(16)}: no such register`);
  }

  #commandV3(op: number, argument: number): void {
    if (op === 1) this.#latch(argument);
    else if (op === 2 && argument <= 1) this.#enableMsi(argument === 1);
    else throw new Error(`MsiCmd ${op}, ${argument}`);
  }

  #commandV2(command: number): void {
    const vector = this.vectors[this.#vecSel];
    this.#require(
      command <= 2 || command >= 6 || vector !== undefined,
      `command ${command} on ${this.#vecSel}`,
    );
    switch (command) {
      case 1:
      case 2:
        return this.#enableMsi(command === 1);
      case 3:
        return this.#latch(this.#vecSel);
      case 4:
        return void (vector!.masked = true);
      case 5:
        vector!.masked = false;
        if (vector!.pending) this.#send(vector!);
        return void (vector!.pending = false);
      case 6:
      case 7:
        this.#require(this.sharing, "N-7.9: MAP_* without sharing");
        if (command === 6) this.configVector = this.#vecSel;
        else this.queues[this.#queue]!.vector = this.#vecSel;
        return;
    }
    throw new Error(`MsiCmd ${command}`);
  }

  #latch(place: number): void {
    const vector = this.vectors[place];
    this.#require(vector !== undefined, `vector ${place} of ${this.vectors.length}`);
    Object.assign(vector!, this.#staged, { configured: true });
  }

  #enableMsi(on: boolean): void {
    this.msiEnabled = on && !this.refusesMsi;
  }

  #reset(): void {
    this.status = 0;
    this.interruptStatus = 0;
    this.msiEnabled = false;
    this.configVector = 0xffff_ffff;
    this.driverFeatures = 0n;
    this.vectors = this.vectors.map(fresh);
    for (const queue of this.queues) {
      Object.assign(queue, { size: 0, ready: 0, align: 0, pfn: 0, resetting: 0, vector: 0xffff_ffff });
    }
  }

  #leniently<T>(act: () => T): T | 0 {
    if (!this.lenient) return act();
    try {
      return act();
    } catch {
      return 0;
    }
  }

  #note(entry: string): void {
    if (this.lenient) return;
    this.log.push(entry);
    this.after(entry);
  }

  #require(condition: boolean, what: string): void {
    if (!condition) throw new Error(`${this.form}: ${what}`);
  }

  #open(): void {
    if (this.closed) throw new ClosedError(this.name);
  }

  [Symbol.dispose](): void {
    this.interrupts.disable();
    this.iommu.space.close();
  }
}

function fresh(): Vector {
  return { address: 0n, data: 0, configured: false, masked: false, pending: false };
}

function half(old: bigint, upper: boolean, value: number): bigint {
  return upper ? (old & 0xffff_ffffn) | BigInt(value) << 32n : (old & ~0xffff_ffffn) | BigInt(value);
}
