/**
 * The driver's side of packed rings, in the plainest form that can be: what the standard says, byte by byte.
 *
 * @module
 */
import type { DeviceQueueSetup } from "../../../../lib/emulation/virtio/queue/device_queue.ts";
import type { FakeClient, Part } from "./fake_client.ts";

/** What a driver takes out of the ring. */
export interface Used {
  readonly id: number;
  readonly length: number;
  readonly write: boolean;
}

/** One ring. Chains become available in `publish`, head flags last. */
export class FakePackedRing {
  readonly client: FakeClient;
  readonly size: number;
  readonly desc: number;
  readonly driver: number;
  readonly device: number;
  next = 0;
  wrap = 1;
  usedNext = 0;
  usedWrap = 1;
  /** Descriptors of each chain in flight, in the order in which they were added. */
  readonly inFlight = new Map<number, number>();
  #nextId = 0;
  #heads: { slot: number; flags: number }[] = [];

  constructor(client: FakeClient, size: number) {
    this.client = client;
    this.size = size;
    this.desc = client.allocate(16 * size);
    this.driver = client.allocate(4, 4);
    this.device = client.allocate(4, 4);
  }

  setup(index = 0, features: Partial<DeviceQueueSetup> = {}): DeviceQueueSetup {
    return {
      layout: "packed",
      index,
      size: this.size,
      descriptorArea: this.client.at(this.desc),
      driverArea: this.client.at(this.driver),
      deviceArea: this.client.at(this.device),
      indirect: true,
      eventIndex: false,
      ...features,
    };
  }

  get freeSlots(): number {
    return this.size - [...this.inFlight.values()].reduce((sum, one) => sum + one, 0);
  }

  writeDesc(slot: number, iova: bigint, length: number, id: number, flags: number, table = this.desc): void {
    const { view } = this.client;
    view.setBigUint64(table + 16 * slot, iova, true);
    view.setUint32(table + 16 * slot + 8, length, true);
    view.setUint16(table + 16 * slot + 12, id, true);
    view.setUint16(table + 16 * slot + 14, flags, true);
  }

  flags(slot: number): number {
    return this.client.view.getUint16(this.desc + 16 * slot + 14, true);
  }

  setFlags(slot: number, flags: number): void {
    this.client.view.setUint16(this.desc + 16 * slot + 14, flags, true);
  }

  /** AVAIL and USED of what the driver makes available now. */
  get availBits(): number {
    return this.wrap === 1 ? 0x80 : 0x8000;
  }

  /** Adds descriptors as they are, flags without AVAIL and USED. Ids of all but the last are junk, as the device must not look at them. */
  addRaw(list: readonly { iova: bigint; length: number; flags: number }[], id = this.freeId()): number {
    list.forEach(({ iova, length, flags }, i) => {
      const slot = this.next;
      const all = flags | this.availBits;
      this.writeDesc(
        slot,
        iova,
        length,
        i === list.length - 1 ? id : 0xdead,
        i === 0 ? this.flags(slot) : all,
      );
      if (i === 0) this.#heads.push({ slot, flags: all });
      if (++this.next === this.size) {
        this.next = 0;
        this.wrap ^= 1;
      }
    });
    this.inFlight.set(id, list.length);
    return id;
  }

  freeId(): number {
    while (this.inFlight.has(this.#nextId)) this.#nextId = (this.#nextId + 1) % this.size;
    const id = this.#nextId;
    this.#nextId = (this.#nextId + 1) % this.size;
    return id;
  }

  /** Chains parts. @returns the id */
  add(parts: readonly Part[], id = this.freeId()): number {
    return this.addRaw(
      parts.map((part, i) => ({
        iova: part.iova,
        length: part.length,
        flags: (i === parts.length - 1 ? 0 : 1) | (part.write ? 2 : 0),
      })),
      id,
    );
  }

  /** The same through an indirect table. */
  addIndirect(parts: readonly Part[], id = this.freeId(), entryFlags = 0): number {
    const table = this.client.allocate(16 * parts.length);
    parts.forEach((part, i) =>
      this.writeDesc(i, part.iova, part.length, 0xbeef, entryFlags | (part.write ? 2 : 0), table)
    );
    return this.addRaw([{ iova: this.client.at(table), length: 16 * parts.length, flags: 4 }], id);
  }

  publish(): void {
    for (const { slot, flags } of this.#heads.splice(0).reverse()) this.setFlags(slot, flags);
  }

  /** Writes the driver's event suppression. */
  setEvent(flags: number, offset = 0, wrap = 0): void {
    this.client.view.setUint16(this.driver, offset | wrap << 15, true);
    this.client.view.setUint16(this.driver + 2, flags, true);
  }

  /** What the device asks for. */
  get deviceEvent(): { flags: number; offset: number; wrap: number } {
    const place = this.client.view.getUint16(this.device, true);
    return {
      flags: this.client.view.getUint16(this.device + 2, true),
      offset: place & 0x7fff,
      wrap: place >> 15,
    };
  }

  /** Takes what the device returned since the last call. @param batches one used descriptor may stand for all chains up to it */
  takeUsed(batches = false): Used[] {
    const out: Used[] = [];
    const { view } = this.client;
    for (;;) {
      const flags = this.flags(this.usedNext);
      const used = this.usedWrap === 1 ? 0x8080 : 0;
      if ((flags & 0x8080) !== used || this.inFlight.size === 0) return out;
      const at = this.desc + 16 * this.usedNext;
      const id = view.getUint16(at + 12, true);
      if (!this.inFlight.has(id)) throw new Error(`the device returned ${id}, which it did not have`);
      out.push({ id, length: view.getUint32(at + 8, true), write: (flags & 2) !== 0 });
      let slots = 0;
      for (const [other, count] of this.inFlight) {
        if (!batches && other !== id) continue;
        slots += count;
        this.inFlight.delete(other);
        if (other === id) break;
      }
      this.usedNext += slots;
      if (this.usedNext >= this.size) {
        this.usedNext -= this.size;
        this.usedWrap ^= 1;
      }
    }
  }
}
