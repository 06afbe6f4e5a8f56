/**
 * A served function for tests: registers in plain memory, a mappable region, doorbells, interrupts, and a small DMA engine.
 *
 * @module
 */
import { createMemfd, EventFd, MappedMemory, type OwnedFd, sleepBlocking } from "../../../../ffi/mod.ts";
import { DEVICE_FLAG, IRQ_FLAG, type IrqInfo, REGION_FLAG } from "../../../../lib/vfio/device.ts";
import {
  DmaFault,
  type DmaRegion,
  type ServedDevice,
  type ServedDoorbell,
  type ServedIrqRequest,
  type ServedMigration,
  type ServedRegion,
} from "../../../../lib/sockets/vfio_user/mod.ts";
import { DmaTable } from "../../../../lib/sockets/dma_table.ts";

export const BAR0_BYTES = 0x4000;
export const BAR2_BYTES = 0x10000;
export const BAR2_AREAS = [{ offset: 0x1000, sizeBytes: 0x2000 }, { offset: 0x8000, sizeBytes: 0x1000 }];

/** Registers of BAR 0 that do something; the rest is memory. */
export const REGISTER = {
  /** Raises this MSI-X vector. */
  fire: 0x00,
  /** 8 bytes: where to write by DMA. */
  iova: 0x10,
  length: 0x18,
  /** Fills the range with the low byte. */
  fill: 0x1c,
  /** Stops answering for so many milliseconds. */
  hang: 0x20,
  /** Throws something that is no error of this library. */
  bug: 0x24,
  /** Reads how often the doorbell rang since the last read. */
  rings: 0x28,
  /** Sums the bytes of the DMA range, for reading. */
  sum: 0x2c,
  /** Where a doorbell is. */
  doorbell: 0x3000,
} as const;

const { read, write } = REGION_FLAG;
const VECTORS = [1, 0, 8, 0, 1];
const IRQ_FLAGS = [
  IRQ_FLAG.eventfd | IRQ_FLAG.maskable | IRQ_FLAG.automasked,
  IRQ_FLAG.eventfd,
  IRQ_FLAG.eventfd | IRQ_FLAG.noResize,
  IRQ_FLAG.eventfd,
  IRQ_FLAG.eventfd,
];

export class FakeDevice implements ServedDevice, Disposable {
  readonly name = "0000:00:01.0";
  readonly info = { flags: DEVICE_FLAG.pci | DEVICE_FLAG.reset, numRegions: 9, numIrqs: 5 };
  readonly bar0 = new Uint8Array(BAR0_BYTES);
  readonly config = new Uint8Array(256);
  readonly file: OwnedFd = createMemfd("fake BAR 2", BAR2_BYTES);
  readonly bar2: MappedMemory = MappedMemory.map(this.file, BAR2_BYTES);
  readonly doorbell = new EventFd();
  readonly matched = new EventFd();
  /** What was called, in order. */
  readonly log: string[] = [];
  /** Set to leave the log alone. */
  quiet = false;
  dma: DmaTable | null = null;
  /** Set before a client comes. */
  migration?: ServedMigration;
  /** How often the doorbell rang since the last read of its register. */
  rings = 0;
  /** When set, thrown by `dmaWillUnmap`. */
  objection: Error | null = null;
  readonly #view = new DataView(this.bar0.buffer);
  readonly #vectors = new Map<string, EventFd>();
  readonly #regions: ServedRegion[];

  constructor() {
    const none = (index: number): ServedRegion => ({
      index,
      flags: 0,
      sizeBytes: 0,
      mmapAreas: [],
      msixMappable: false,
    });
    this.#regions = Array.from({ length: 9 }, (_, index) => none(index));
    this.#regions[0] = { ...none(0), flags: read | write, sizeBytes: BAR0_BYTES };
    this.#regions[2] = {
      ...none(2),
      flags: read | write,
      sizeBytes: BAR2_BYTES,
      mmapAreas: BAR2_AREAS,
      file: this.file,
      fileOffset: 0,
    };
    this.#regions[6] = { ...none(6), flags: read, sizeBytes: 4096 };
    this.#regions[7] = { ...none(7), flags: read | write, sizeBytes: 256 };
    this.config.set([0xf4, 0x1a, 0x41, 0x10]);
  }

  /** Eventfds that a client has given. */
  get eventFdCount(): number {
    return this.#vectors.size;
  }

  region(index: number): ServedRegion {
    return this.#regions[index]!;
  }

  irq(index: number): IrqInfo {
    return { index, flags: IRQ_FLAGS[index]!, count: VECTORS[index]! };
  }

  doorbells(index: number): readonly ServedDoorbell[] {
    if (index !== 0) return [];
    return [
      { offset: REGISTER.doorbell, sizeBytes: 4, fd: this.doorbell },
      { offset: REGISTER.doorbell + 4, sizeBytes: 2, fd: this.matched, value: 7 },
      { offset: REGISTER.doorbell + 8, sizeBytes: 0, fd: this.doorbell },
    ];
  }

  readRegion(index: number, offset: number, into: Uint8Array): void {
    this.#note(`read ${index} ${offset} ${into.byteLength}`);
    if (index === 0 && offset === REGISTER.rings) {
      this.collectRings();
      this.#view.setUint32(offset, this.rings, true);
      this.rings = 0;
    }
    if (index === 0 && offset === REGISTER.sum) this.#view.setUint32(offset, this.#sum(), true);
    into.set(this.#bytes(index).subarray(offset, offset + into.byteLength));
  }

  writeRegion(index: number, offset: number, from: Uint8Array): void {
    this.#note(`write ${index} ${offset} ${[...from.subarray(0, 8)].join(",")}`);
    this.#bytes(index).set(from, offset);
    if (index !== 0) return;
    const value = offset + 4 <= BAR0_BYTES ? this.#view.getUint32(offset, true) : 0;
    if (offset === REGISTER.fire) this.raise(2, value);
    else if (offset === REGISTER.hang) sleepBlocking(Math.min(value, 10_000));
    else if (offset === REGISTER.bug) throw new TypeError("a bug of the device");
    else if (offset === REGISTER.fill) this.#fill(value & 0xff);
  }

  /** Takes the doorbell's count. */
  collectRings(): void {
    this.rings += this.doorbell.take();
  }

  /** Raises an interrupt, if the client listens to it. */
  raise(index: number, vector: number): void {
    this.#vectors.get(`${index} ${vector}`)?.signal();
  }

  #range(deviceWrites: boolean): { region: DmaRegion; offset: number; length: number } {
    const iova = this.#view.getBigUint64(REGISTER.iova, true);
    const length = this.#view.getUint32(REGISTER.length, true);
    return { ...this.dma!.resolve(iova, length, deviceWrites), length };
  }

  #fill(byte: number): void {
    const { region, offset, length } = this.#range(true);
    region.bytes.fill(byte, offset, offset + length);
    if (!region.store(offset, length)) throw new DmaFault("the client does not take it");
  }

  #sum(): number {
    const { region, offset, length } = this.#range(false);
    return region.bytes.subarray(offset, offset + length).reduce((sum, byte) => (sum + byte) >>> 0, 0);
  }

  #bytes(index: number): Uint8Array {
    if (index === 0) return this.bar0;
    if (index === 2) return this.bar2.bytes();
    return index === 7 ? this.config : new Uint8Array(4096);
  }

  setIrqs(index: number, request: ServedIrqRequest): void {
    const { action } = request;
    if (action === "trigger") {
      this.#note(
        `irq ${index} trigger ${request.start} ${request.eventFds.map((fd) => fd === null ? 0 : 1)}`,
      );
      request.eventFds.forEach((fd, i) => this.#put(`${index} ${request.start + i}`, fd));
    } else if (action === "unmask-on") {
      this.#note(`irq ${index} unmask-on ${request.start}`);
      this.#put(`${index} unmask ${request.start}`, request.eventFd);
    } else if (action === "disable") {
      this.#note(`irq ${index} disable`);
      for (const key of [...this.#vectors.keys()]) if (key.startsWith(`${index} `)) this.#put(key, null);
    } else {
      this.#note(`irq ${index} ${action} ${request.start} ${request.count}`);
      if (action !== "fire") return;
      for (let i = 0; i < request.count; i++) this.#vectors.get(`${index} ${request.start + i}`)?.signal();
    }
  }

  #put(key: string, fd: EventFd | null): void {
    this.#vectors.get(key)?.close();
    if (fd === null) this.#vectors.delete(key);
    else this.#vectors.set(key, fd);
  }

  reset(): void {
    this.#note("reset");
    this.bar0.fill(0);
  }

  attached(dma: DmaTable): void {
    this.#note("attached");
    this.dma = dma;
  }

  dmaWillUnmap(iova: bigint, sizeBytes: number): void {
    this.#note(`unmap ${iova.toString(16)} ${sizeBytes}`);
    if (this.objection !== null) throw this.objection;
  }

  detached(): void {
    this.#note("detached");
    this.dma = null;
    for (const key of [...this.#vectors.keys()]) this.#put(key, null);
  }

  #note(text: string): void {
    if (!this.quiet) this.log.push(text);
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#vectors.keys()]) this.#put(key, null);
    this.bar2.close();
    this.file.close();
    this.doorbell.close();
    this.matched.close();
  }
}

/** The same with two address spaces beside its client's memory. */
export class SpacesDevice extends FakeDevice {
  readonly addressSpaces = [new DmaTable(), new DmaTable()] as const;
}
