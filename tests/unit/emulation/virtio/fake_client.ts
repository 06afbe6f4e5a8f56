/**
 * A client with memory, and the driver's side of split rings, in the plainest form that can be: the independent half of these tests.
 *
 * @module
 */
import { createMemfd, MappedMemory, type OwnedFd } from "../../../../ffi/mod.ts";
import { DmaRegion, DmaTable } from "../../../../lib/sockets/dma_table.ts";
import type { DeviceQueueSetup, QueueDevice } from "../../../../lib/emulation/virtio/queue/device_queue.ts";

/** IOVA of the first byte: above 4 GiB, so that both halves of addresses matter. */
export const BASE = 0x1_2345_0000n;

/** One buffer of a chain. */
export interface Part {
  readonly iova: bigint;
  readonly length: number;
  readonly write?: boolean;
}

/** Client memory: one mapping for everything, and what else a test adds. */
export class FakeClient implements Disposable {
  readonly dma = new DmaTable();
  readonly memory: MappedMemory;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  #top = 0;

  constructor(sizeBytes = 1 << 20, iova = BASE, file?: OwnedFd) {
    this.memory = file === undefined ? zeroes(sizeBytes) : MappedMemory.map(file, sizeBytes);
    this.dma.add(new DmaRegion(iova, this.memory, { deviceReads: true, deviceWrites: true }));
    this.view = new DataView(this.memory.buffer);
    this.bytes = new Uint8Array(this.memory.buffer);
    this.iova = iova;
  }

  readonly iova: bigint;

  /** Reserves memory. @returns byte offset in `bytes` */
  allocate(sizeBytes: number, alignment = 16): number {
    const at = Math.ceil(this.#top / alignment) * alignment;
    if (at + sizeBytes > this.bytes.length) throw new RangeError("the fake client's memory is used up");
    this.#top = at + sizeBytes;
    return at;
  }

  /** IOVA of a byte offset. */
  at(offset: number): bigint {
    return this.iova + BigInt(offset);
  }

  /** Adds a mapping of its own. */
  map(iova: bigint, sizeBytes: number, access = { deviceReads: true, deviceWrites: true }): DmaRegion {
    const region = new DmaRegion(iova, zeroes(sizeBytes), access);
    this.dma.add(region);
    return region;
  }

  [Symbol.dispose](): void {
    this.dma.clear();
  }
}

/** Pages that come when they are touched: most never are, and to have them all takes longer than most tests. */
function zeroes(sizeBytes: number): MappedMemory {
  using file = createMemfd("a fake client's memory", sizeBytes);
  return MappedMemory.map(file, sizeBytes);
}

/** The driver's side of one ring: what the standard says, byte by byte. */
export class FakeRing {
  readonly client: FakeClient;
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  /** Next free descriptor, round and round: tests use few enough. */
  free = 0;
  availIdx = 0;
  usedSeen = 0;

  /** With `pages` the parts lie as the legacy interface has them: one area, the used ring on a page of its own. */
  constructor(client: FakeClient, size: number, pages = false) {
    this.client = client;
    this.size = size;
    if (pages) {
      const page = 4096;
      const used = Math.ceil((16 * size + 6 + 2 * size) / page) * page;
      this.desc = client.allocate(used + Math.ceil((6 + 8 * size) / page) * page, page);
      this.avail = this.desc + 16 * size;
      this.used = this.desc + used;
      return;
    }
    this.desc = client.allocate(16 * size);
    this.avail = client.allocate(6 + 2 * size);
    this.used = client.allocate(6 + 8 * size);
  }

  /** What a driver would write into the registers. */
  setup(index = 0, features: { indirect?: boolean; eventIndex?: boolean } = {}): DeviceQueueSetup {
    return {
      index,
      size: this.size,
      descriptorArea: this.client.at(this.desc),
      driverArea: this.client.at(this.avail),
      deviceArea: this.client.at(this.used),
      indirect: features.indirect ?? true,
      eventIndex: features.eventIndex ?? false,
    };
  }

  /** Writes one descriptor, in the ring's table or at another place. */
  writeDesc(
    index: number,
    iova: bigint,
    length: number,
    flags: number,
    next: number,
    table = this.desc,
  ): void {
    const { view } = this.client;
    view.setBigUint64(table + 16 * index, iova, true);
    view.setUint32(table + 16 * index + 8, length, true);
    view.setUint16(table + 16 * index + 12, flags, true);
    view.setUint16(table + 16 * index + 14, next, true);
  }

  /** Chains parts and makes them available, not yet published. @returns the head */
  add(parts: readonly Part[]): number {
    const head = this.free;
    parts.forEach((part, i) => {
      const last = i === parts.length - 1;
      const flags = (last ? 0 : 1) | (part.write ? 2 : 0);
      this.writeDesc((head + i) % this.size, part.iova, part.length, flags, (head + i + 1) % this.size);
    });
    this.free = (head + parts.length) % this.size;
    this.offer(head);
    return head;
  }

  /** The same through an indirect table. */
  addIndirect(parts: readonly Part[]): number {
    const table = this.client.allocate(16 * parts.length);
    parts.forEach((part, i) => {
      const last = i === parts.length - 1;
      this.writeDesc(i, part.iova, part.length, (last ? 0 : 1) | (part.write ? 2 : 0), i + 1, table);
    });
    const head = this.free;
    this.writeDesc(head, this.client.at(table), 16 * parts.length, 4, 0);
    this.free = (head + 1) % this.size;
    this.offer(head);
    return head;
  }

  /** Puts a head into the available ring. */
  offer(head: number): void {
    this.client.view.setUint16(this.avail + 4 + 2 * (this.availIdx % this.size), head, true);
    this.availIdx = (this.availIdx + 1) & 0xffff;
  }

  publish(): void {
    this.setIdx(this.availIdx);
  }

  setIdx(idx: number): void {
    this.client.view.setUint16(this.avail + 2, idx, true);
  }

  setAvailFlags(flags: number): void {
    this.client.view.setUint16(this.avail, flags, true);
  }

  setUsedEvent(event: number): void {
    this.client.view.setUint16(this.avail + 4 + 2 * this.size, event, true);
  }

  get usedFlags(): number {
    return this.client.view.getUint16(this.used, true);
  }

  get usedIdx(): number {
    return this.client.view.getUint16(this.used + 2, true);
  }

  get availEvent(): number {
    return this.client.view.getUint16(this.used + 4 + 8 * this.size, true);
  }

  /** Takes what the device returned since the last call. */
  takeUsed(): { id: number; length: number }[] {
    const out: { id: number; length: number }[] = [];
    while (this.usedSeen !== this.usedIdx) {
      const at = this.used + 4 + 8 * (this.usedSeen % this.size);
      out.push({
        id: this.client.view.getUint32(at, true),
        length: this.client.view.getUint32(at + 4, true),
      });
      this.usedSeen = (this.usedSeen + 1) & 0xffff;
    }
    return out;
  }
}

/** The device around a queue: notes what it is told. */
export class FakeOwner implements QueueDevice {
  readonly dma: DmaTable;
  readonly violations: { rule: string; message: string; queue: number }[] = [];
  interrupts = 0;

  constructor(dma: DmaTable) {
    this.dma = dma;
  }

  violation(rule: string, message: string, queue: number): void {
    this.violations.push({ rule, message, queue });
  }

  interrupt(_queue: number): void {
    this.interrupts++;
  }
}
