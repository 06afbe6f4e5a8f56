/** A `VfioDevice` in memory: a memfd behind its mappable region areas, bytes behind the rest, eventfds as a kernel has them. */
import { createMemfd, type EventFd, MappedMemory, type OwnedFd, pageSizeBytes } from "../../../ffi/mod.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import type { DmaSpace } from "../../../lib/memory/mod.ts";
import {
  DEVICE_FLAG,
  IRQ_FLAG,
  type IrqInfo,
  type IrqRequest,
  REGION,
  REGION_FLAG,
  type RegionArea,
  type RegionInfo,
  type VfioDevice,
  type VfioDeviceInfo,
  type VfioPath,
} from "../../../lib/vfio/device.ts";

/** A region of the fake. */
export interface FakeRegion {
  readonly sizeBytes: number;
  readonly flags?: number;
  readonly mmapAreas?: readonly RegionArea[];
}

/** One region access, as the device saw it. */
export interface Access {
  readonly kind: "read" | "write";
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

const READ_WRITE = REGION_FLAG.read | REGION_FLAG.write;
const NO_REGION: RegionInfo = { index: 0, flags: 0, sizeBytes: 0, mmapAreas: [], msixMappable: false };

/** The device. Regions not given do not exist; config space is 4096 zero bytes unless given. */
export class FakeDevice implements VfioDevice {
  readonly name = "0000:0f:00.0";
  path: VfioPath = "vfio-user";
  info: VfioDeviceInfo = { flags: DEVICE_FLAG.reset | DEVICE_FLAG.pci, numRegions: 9, numIrqs: 5 };
  closed = false;
  /** Every region access through the server, in order. */
  readonly accesses: Access[] = [];
  /** Every mapping made. */
  readonly mapped: { index: number; area: RegionArea }[] = [];
  /** Every SET_IRQS, in order. */
  readonly irqRequests: IrqRequest[] = [];
  /** Interrupt counts by index. */
  irqCounts: readonly number[] = [1, 1, 4, 1, 1];
  /** Thrown by the next `setIrqs`. */
  failIrqs: Error | null = null;
  /** What `doorbellFd` offers. */
  offered: { fd: EventFd; value?: number } | undefined;
  readonly #regions: ReadonlyMap<number, FakeRegion>;
  readonly #files = new Map<number, OwnedFd>();
  readonly #memory = new Map<number, MappedMemory>();
  readonly #mappings: MappedMemory[] = [];
  #delivered: readonly (EventFd | null)[] = [];

  constructor(regions: Readonly<Record<number, FakeRegion>>) {
    const all = new Map(Object.entries(regions).map(([index, region]) => [Number(index), region]));
    if (!all.has(REGION.config)) all.set(REGION.config, { sizeBytes: 4096 });
    this.#regions = all;
    for (const [index, region] of all) {
      const whole = Math.ceil(region.sizeBytes / pageSizeBytes) * pageSizeBytes;
      const file = createMemfd(`fake region ${index}`, whole);
      this.#files.set(index, file);
      this.#memory.set(index, MappedMemory.map(file, whole));
    }
  }

  get dma(): DmaSpace {
    throw new UnsupportedError("the fake has no DMA");
  }

  /** The device's own view of a region. */
  bytes(index: number): Uint8Array<ArrayBuffer> {
    return this.#memory.get(index)!.bytes();
  }

  regionInfo(index: number): RegionInfo {
    this.#open();
    const region = this.#regions.get(index);
    if (region === undefined) return { ...NO_REGION, index };
    const { sizeBytes, flags = READ_WRITE, mmapAreas = [] } = region;
    return { index, flags, sizeBytes, mmapAreas, msixMappable: false };
  }

  irqInfo(index: number): IrqInfo {
    this.#open();
    return { index, flags: IRQ_FLAG.eventfd, count: this.irqCounts[index] ?? 0 };
  }

  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#open();
    this.accesses.push({ kind: "read", index, offset, length: into.length });
    into.set(this.#memory.get(index)!.bytes(offset, into.length));
  }

  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#open();
    this.accesses.push({ kind: "write", index, offset, length: from.length });
    this.#memory.get(index)!.bytes(offset, from.length).set(from);
  }

  mapRegion(index: number, area: RegionArea): MappedMemory {
    this.#open();
    const inside = this.#regions.get(index)?.mmapAreas?.some((one) =>
      area.offset >= one.offset && area.offset + area.sizeBytes <= one.offset + one.sizeBytes
    );
    if (!inside) throw new UsageError("not mappable");
    this.mapped.push({ index, area });
    const memory = MappedMemory.map(this.#files.get(index)!, area.sizeBytes, { offset: BigInt(area.offset) });
    this.#mappings.push(memory);
    return memory;
  }

  doorbellFd(): { fd: EventFd; value?: number } | undefined {
    this.#open();
    return this.offered;
  }

  setIrqs(request: IrqRequest): void {
    this.#open();
    this.irqRequests.push(request);
    const failure = this.failIrqs;
    this.failIrqs = null;
    if (failure !== null) throw failure;
    if (request.action === "trigger") this.#delivered = request.eventFds;
    if (request.action === "disable") this.#delivered = [];
    if (request.action === "fire") this.#delivered[request.start]?.signal();
  }

  /** Takes the mappings away, as a device does that stops decoding memory. */
  unmapAll(): void {
    for (const memory of this.#mappings) memory.close();
  }

  reset(): void {
    this.#open();
  }

  probeFeature(): boolean {
    return false;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.unmapAll();
    for (const memory of this.#memory.values()) memory.close();
    for (const file of this.#files.values()) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): void {
    if (this.closed) throw new ClosedError(this.name);
  }
}
