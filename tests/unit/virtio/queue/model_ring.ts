/**
 * The device's side of a split ring, written for the tests from the standard's text alone: slow, plain, and suspicious.
 *
 * @module
 */
import type { QueueAddresses } from "../../../../lib/virtio/transport/transport.ts";
import type { FakeIommu } from "../fake_iommu.ts";

/** One element of a chain as the device sees it. */
export interface Part {
  readonly iova: bigint;
  readonly length: number;
  readonly write: boolean;
}

/** A chain that the device was given. */
export interface Chain {
  readonly head: number;
  readonly parts: readonly Part[];
  /** It came through an indirect table. */
  readonly table: boolean;
}

/** Reads and writes the ring by byte offset. */
export class ModelRing {
  readonly iommu: FakeIommu;
  readonly addresses: QueueAddresses;
  readonly size: number;
  readonly #descriptors: DataView;
  readonly #available: DataView;
  readonly #used: DataView;
  /** Free-running: the next available entry to take, the next used entry to fill. */
  next = 0;
  usedNext = 0;

  constructor(iommu: FakeIommu, addresses: QueueAddresses) {
    this.iommu = iommu;
    this.addresses = addresses;
    const { size } = addresses;
    this.size = size;
    this.#descriptors = iommu.at(addresses.descriptorArea, 16 * size, false);
    this.#available = iommu.at(addresses.driverArea, 6 + 2 * size, false);
    this.#used = iommu.at(addresses.deviceArea, 6 + 8 * size, true);
  }

  /** Goes on where the state says; the used index is the ring's. */
  start(availableIndex: number): void {
    this.next = availableIndex;
    this.usedNext = this.#used.getUint16(2, true);
  }

  get availableFlags(): number {
    return this.#available.getUint16(0, true);
  }
  get availableIndex(): number {
    return this.#available.getUint16(2, true);
  }
  availableEntry(slot: number): number {
    return this.#available.getUint16(4 + 2 * slot, true);
  }
  get usedEvent(): number {
    return this.#available.getUint16(4 + 2 * this.size, true);
  }
  set usedFlags(flags: number) {
    this.#used.setUint16(0, flags, true);
  }
  set usedIndex(index: number) {
    this.#used.setUint16(2, index, true);
  }
  set availableEvent(event: number) {
    this.#used.setUint16(4 + 8 * this.size, event, true);
  }
  /** Raw bytes of one descriptor. */
  descriptor(at: number): { addr: bigint; len: number; flags: number; next: number } {
    return ModelRing.#read(this.#descriptors, at);
  }

  static #read(table: DataView, at: number): { addr: bigint; len: number; flags: number; next: number } {
    return {
      addr: table.getBigUint64(16 * at, true),
      len: table.getUint32(16 * at + 8, true),
      flags: table.getUint16(16 * at + 12, true),
      next: table.getUint16(16 * at + 14, true),
    };
  }

  /** What the registers of profile queue-state would say now. */
  get state(): { layout: "split"; availableIndex: number } {
    return { layout: "split", availableIndex: this.next };
  }

  /** The used interrupt rule of 1.3, for `count` elements that were just made visible. */
  interrupts(count: number, eventIndex: boolean): boolean {
    if (!eventIndex) return (this.availableFlags & 1) === 0;
    for (let i = 1; i <= count; i++) if (((this.usedNext - i) & 0xffff) === this.usedEvent) return true;
    return false;
  }

  /** Takes the next chain; every rule of 1.3 that the driver could break fails the test. */
  pop(): Chain | undefined {
    const waiting = (this.availableIndex - this.next) & 0xffff;
    if (waiting > this.size) throw new Error(`1.3: ${waiting} chains available in a ring of ${this.size}`);
    if (waiting === 0) return undefined;
    const head = this.availableEntry(this.next % this.size);
    this.next = (this.next + 1) & 0xffff;
    if (head >= this.size) throw new Error(`1.3: head ${head} in a ring of ${this.size}`);
    const first = this.descriptor(head);
    if ((first.flags & 4) === 0) {
      return { head, parts: this.#walk(this.#descriptors, head, this.size), table: false };
    }
    if ((first.flags & 1) !== 0) throw new Error("1.3: INDIRECT together with NEXT");
    if (first.len === 0 || first.len % 16 !== 0) {
      throw new Error(`1.3: an indirect table of ${first.len} bytes`);
    }
    const count = first.len / 16;
    const parts = this.#walk(this.iommu.at(first.addr, first.len, false), 0, count);
    if (parts.length !== count) throw new Error(`1.3: ${parts.length} of ${count} table entries are linked`);
    return { head, parts, table: true };
  }

  #walk(table: DataView, first: number, limit: number): Part[] {
    const parts: Part[] = [];
    let bytes = 0;
    for (let at = first;;) {
      if (at >= limit) throw new Error(`1.3: next ${at} in a table of ${limit}`);
      if (parts.length >= this.size) throw new Error("1.3: the chain is longer than the queue");
      const { addr, len, flags, next } = ModelRing.#read(table, at);
      if ((flags & ~3) !== 0) throw new Error(`1.3: descriptor flags ${flags}`);
      const write = (flags & 2) !== 0;
      if (!write && parts.at(-1)?.write) throw new Error("1.3: device-readable after device-writable");
      parts.push({ iova: addr, length: len, write });
      bytes += len;
      if (bytes > 2 ** 32) throw new Error("1.3: more than 2^32 bytes");
      if ((flags & 1) === 0) return parts;
      at = next;
    }
  }

  /** Returns a chain (not yet visible). */
  fill(head: number, length: number): void {
    const at = 4 + 8 * (this.usedNext % this.size);
    this.#used.setUint32(at, head, true);
    this.#used.setUint32(at + 4, length, true);
    this.usedNext = (this.usedNext + 1) & 0xffff;
  }

  /** IN_ORDER: one element for a batch of `count`, the last of which is `head`. */
  fillBatch(head: number, length: number, count: number): void {
    this.fill(head, length);
    this.usedNext = (this.usedNext + count - 1) & 0xffff;
  }

  /** Returns a chain, visibly. */
  push(head: number, length: number): void {
    this.fill(head, length);
    this.usedIndex = this.usedNext;
  }
}
