/**
 * The device's side of a packed ring, written for the tests from the standard's text alone: slow, plain, and suspicious.
 *
 * @module
 */
import type { QueueAddresses } from "../../../../lib/virtio/transport/transport.ts";
import type { FakeIommu } from "../fake_iommu.ts";
import type { Part } from "./model_ring.ts";

/** A chain that the device was given. */
export interface PackedChain {
  readonly id: number;
  readonly parts: readonly Part[];
  /** It came through an indirect table. */
  readonly table: boolean;
  /** Ring descriptors. */
  readonly count: number;
}

/** Slot and wrap counter. */
export interface Place {
  slot: number;
  wrap: 0 | 1;
}

/** Moves a place on by `count` descriptors of a ring of `size`. */
export function ahead(place: Place, count: number, size: number): Place {
  const slot = place.slot + count;
  return slot < size ? { slot, wrap: place.wrap } : { slot: slot - size, wrap: place.wrap === 1 ? 0 : 1 };
}

const AVAIL = 1 << 7;
const USED = 1 << 15;

/** Reads and writes the ring by byte offset. */
export class ModelPackedRing {
  readonly iommu: FakeIommu;
  readonly addresses: QueueAddresses;
  readonly size: number;
  readonly ring: DataView;
  readonly driver: DataView;
  readonly device: DataView;
  /** Next descriptor to read, next one to write. */
  next: Place = { slot: 0, wrap: 1 };
  usedNext: Place = { slot: 0, wrap: 1 };

  constructor(iommu: FakeIommu, addresses: QueueAddresses) {
    this.iommu = iommu;
    this.addresses = addresses;
    this.size = addresses.size;
    if (addresses.descriptorArea % 16n !== 0n) throw new Error("1.4: descriptor ring not aligned to 16");
    if (addresses.driverArea % 4n !== 0n || addresses.deviceArea % 4n !== 0n) {
      throw new Error("1.4: event suppression not aligned to 4");
    }
    this.ring = iommu.at(addresses.descriptorArea, 16 * this.size, true);
    this.driver = iommu.at(addresses.driverArea, 4, false);
    this.device = iommu.at(addresses.deviceArea, 4, true);
  }

  /** Goes on where the state says. */
  start(state: { availableSlot: number; availableWrap: 0 | 1; usedSlot: number; usedWrap: 0 | 1 }): void {
    this.next = { slot: state.availableSlot, wrap: state.availableWrap };
    this.usedNext = { slot: state.usedSlot, wrap: state.usedWrap };
  }

  /** What the registers of profile queue-state would say now. */
  get state(): {
    layout: "packed";
    availableSlot: number;
    availableWrap: 0 | 1;
    usedSlot: number;
    usedWrap: 0 | 1;
  } {
    return {
      layout: "packed",
      availableSlot: this.next.slot,
      availableWrap: this.next.wrap,
      usedSlot: this.usedNext.slot,
      usedWrap: this.usedNext.wrap,
    };
  }

  /** Raw fields of a slot. */
  descriptor(slot: number): { addr: bigint; len: number; id: number; flags: number } {
    const at = 16 * slot;
    return {
      addr: this.ring.getBigUint64(at, true),
      len: this.ring.getUint32(at + 8, true),
      id: this.ring.getUint16(at + 12, true),
      flags: this.ring.getUint16(at + 14, true),
    };
  }

  #available({ slot, wrap }: Place): boolean {
    const flags = this.ring.getUint16(16 * slot + 14, true);
    return ((flags & AVAIL) !== 0) === (wrap === 1) && ((flags & USED) !== 0) === (wrap === 0);
  }

  /** True when the next descriptor is available. */
  get hasAvailable(): boolean {
    return this.#available(this.next);
  }

  /** Takes the next chain; every rule of 1.4 that the driver could break fails the test. */
  pop(): PackedChain | undefined {
    if (!this.#available(this.next)) return undefined;
    const parts: Part[] = [];
    let place = this.next;
    let table = false;
    let count = 0;
    let bytes = 0;
    const put = (iova: bigint, length: number, write: boolean) => {
      if (!write && parts.at(-1)?.write) throw new Error("1.4: device-readable after device-writable");
      bytes += length;
      if (bytes > 2 ** 32) throw new Error("more than 2^32 bytes");
      parts.push({ iova, length, write });
    };
    for (;;) {
      // All of a list is available once its head is.
      if (!this.#available(place)) throw new Error(`1.4: slot ${place.slot} of a list is not available`);
      if (++count > this.size) throw new Error("1.4: a list longer than the queue");
      const { addr, len, id, flags } = this.descriptor(place.slot);
      if ((flags & ~(AVAIL | USED | 7)) !== 0) throw new Error(`1.4: flags 0x${flags.toString(16)}`);
      place = ahead(place, 1, this.size);
      if ((flags & 4) !== 0) {
        if (count > 1 || (flags & 1) !== 0) throw new Error("1.4: INDIRECT in a list");
        if (len === 0 || len % 16 !== 0) throw new Error(`1.4: a table of ${len} bytes`);
        const entries = this.iommu.at(addr, len, false);
        for (let at = 0; at < len; at += 16) {
          const entryFlags = entries.getUint16(at + 14, true);
          if ((entryFlags & ~2) !== 0) throw new Error(`1.4: flags ${entryFlags} inside a table`);
          put(entries.getBigUint64(at, true), entries.getUint32(at + 8, true), entryFlags === 2);
        }
        table = true;
      } else {
        put(addr, len, (flags & 2) !== 0);
      }
      if ((flags & 1) === 0) {
        this.next = place;
        if (id >= this.size) throw new Error(`1.4: buffer id ${id} in a ring of ${this.size}`);
        return { id, parts, table, count };
      }
    }
  }

  /** Writes a used descriptor for the chain of `id`, which with all before it in a batch takes `count` descriptors. */
  push(id: number, length: number, count: number, write = length > 0): void {
    this.lie(this.usedNext, id, length, write);
    this.usedNext = ahead(this.usedNext, count, this.size);
  }

  /** Marks a slot used, without moving on. */
  lie({ slot, wrap }: Place, id: number, length: number, write = true): void {
    const at = 16 * slot;
    this.ring.setUint32(at + 8, length, true);
    this.ring.setUint16(at + 12, id, true);
    this.ring.setUint16(at + 14, (wrap === 1 ? AVAIL | USED : 0) | (write ? 2 : 0), true);
  }

  /** The driver's event suppression, raw. */
  get driverEvent(): { desc: number; flags: number } {
    return { desc: this.driver.getUint16(0, true), flags: this.driver.getUint16(2, true) };
  }

  /** The device's event suppression, raw. */
  setDeviceEvent(desc: number, flags: number): void {
    this.device.setUint16(0, desc, true);
    this.device.setUint16(2, flags, true);
  }

  /** Asks to be notified when this very descriptor becomes available (EVENT_IDX). */
  askAt({ slot, wrap }: Place): void {
    this.setDeviceEvent(slot | (wrap << 15), 2);
  }

  /** The used interrupt rule of 1.4: `from` is where the first of the descriptors just used was written, `count` how many slots they cover. */
  interrupts(from: Place, count: number): boolean {
    const { desc, flags } = this.driverEvent;
    if ((flags & ~3) !== 0) throw new Error("1.4: reserved bits of the event flags");
    if (flags === 3) throw new Error("1.4: reserved event flags");
    if (flags !== 2) return flags === 0;
    if ((desc & 0x7fff) >= this.size) throw new Error(`1.4: event offset ${desc & 0x7fff}`);
    let place = from;
    for (let i = 0; i < count; i++, place = ahead(place, 1, this.size)) {
      if (place.slot === (desc & 0x7fff) && place.wrap === desc >> 15) return true;
    }
    return false;
  }
}
