/**
 * Both sides of one ring in this process, over plain memory.
 *
 * @module
 */
import { Burst } from "../lib/emulation/virtio/queue/burst.ts";
import { Chain } from "../lib/emulation/virtio/queue/chain.ts";
import type { DeviceQueue } from "../lib/emulation/virtio/queue/device_queue.ts";
import { PackedDeviceQueue } from "../lib/emulation/virtio/queue/packed.ts";
import { SplitDeviceQueue } from "../lib/emulation/virtio/queue/split.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { type DmaMapper, DmaSpace } from "../lib/memory/mod.ts";
import { DmaRegion, DmaTable } from "../lib/sockets/dma_table.ts";
import { PackedQueue } from "../lib/virtio/queue/packed.ts";
import { packedLayout, splitLayout } from "../lib/virtio/queue/layout.ts";
import { SplitQueue } from "../lib/virtio/queue/split.ts";
import { usedBurst } from "../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../lib/virtio/queue/virtqueue.ts";

/** Descriptors of the rings that are measured. */
export const RING_SIZE = 256;
const BUFFER_BYTES = 64;
/** Of each part of a chain that has several. */
const PART_BYTES = 16;
/** Most parts of a chain in a table. */
const TABLE_PARTS = 2;

/** What is negotiated for a ring. */
export interface RingMix {
  readonly layout: "split" | "packed";
  readonly inOrder: boolean;
  readonly eventIndex: boolean;
  /** INDIRECT_DESC: chains of two parts go into a table. */
  readonly indirect: boolean;
  /** NOTIFICATION_DATA; the device then asks for a notification before each burst, and judges it. */
  readonly notificationData: boolean;
}

/** How a ring is used. */
export interface RingVariant extends RingMix {
  /** Parts of each chain; a slot is a chain of one that the ring knows already. */
  readonly parts: "slot" | 1 | 2 | 3;
}

/** No feature at all, chains of one part. */
export const PLAIN: Omit<RingVariant, "layout"> = {
  inOrder: false,
  eventIndex: false,
  indirect: false,
  notificationData: false,
  parts: 1,
};

/** See the module. */
export class RingPair implements Disposable {
  readonly #variant: RingVariant;
  readonly #queue: Virtqueue;
  readonly #device: DeviceQueue;
  readonly #space: DmaSpace;
  readonly #bufferLo: number;
  readonly #bufferHi: number;
  /** The buffer, as each chain of a burst. */
  readonly #parts;
  readonly #slots = Uint16Array.from({ length: RING_SIZE }, (_, slot) => slot);
  /** What the doorbell was rung with last. */
  readonly #notified = { offset: 0, wrap: 0 };
  readonly #chain = new Chain(RING_SIZE);
  readonly #popped = new Burst(RING_SIZE);
  readonly #used: UsedBurst = usedBurst(RING_SIZE);

  /** Makes the ring; the "IOMMU" is a table over the same mapping. */
  constructor(variant: RingVariant) {
    this.#variant = variant;
    const dma = new DmaTable();
    const mapper: DmaMapper = {
      name: "bench",
      iovaRanges: [{ start: 0n, last: 0xffff_ffffn }],
      pageSizes: 0x1000n,
      needsFile: false,
      mapDma(memory, _file, iova) {
        dma.add(new DmaRegion(iova, memory, { deviceReads: true, deviceWrites: true }));
      },
      unmapDma() {
        dma.clear();
      },
    };
    this.#space = new DmaSpace(mapper);
    const { eventIndex, indirect, inOrder } = variant;
    const segments = indirect ? TABLE_PARTS : 0;
    const layout = variant.layout === "packed"
      ? packedLayout(RING_SIZE, segments)
      : splitLayout(RING_SIZE, segments);
    const memory = this.#space.allocate(layout.totalBytes + BUFFER_BYTES, { label: "ring", huge: "never" });
    const buffer = memory.iova + BigInt(layout.totalBytes);
    const bufferLo = this.#bufferLo = Number(buffer & 0xffff_ffffn);
    const bufferHi = this.#bufferHi = Number(buffer >> 32n);
    this.#parts = {
      lo: new Uint32Array(RING_SIZE).fill(bufferLo),
      hi: new Uint32Array(RING_SIZE).fill(bufferHi),
      lengths: new Uint32Array(RING_SIZE).fill(BUFFER_BYTES),
    };
    const notified = this.#notified;
    const doorbell = {
      ring(offset: number, wrap: number) {
        notified.offset = offset;
        notified.wrap = wrap;
      },
    };
    const parts = { function: "bench", index: 0, memory, doorbell, eventIndex, inOrder };
    const setup = {
      index: 0,
      layout: variant.layout,
      size: RING_SIZE,
      descriptorArea: memory.iova + BigInt(layout.descriptorOffset),
      driverArea: memory.iova + BigInt(layout.driverOffset),
      deviceArea: memory.iova + BigInt(layout.deviceOffset),
      indirect,
      eventIndex,
      inOrder,
    };
    const device = {
      dma,
      violation: (rule: string, message: string) => {
        throw new DeviceError(`${message} (${rule})`, { queue: 0 });
      },
      interrupt: () => {},
    };
    if (variant.layout === "packed") {
      this.#queue = new PackedQueue({ ...parts, layout });
      this.#device = new PackedDeviceQueue(setup, device);
    } else {
      this.#queue = new SplitQueue({ ...parts, layout });
      this.#device = new SplitDeviceQueue(setup, device);
    }
    if (variant.parts === "slot") {
      const { lo: iovaLo, hi: iovaHi } = this.#parts;
      this.#queue.bindSlots({ iovaLo, iovaHi, lengthBytes: BUFFER_BYTES, deviceWrites: false });
    }
    this.#queue.suppressInterrupts();
    this.#device.suppress();
  }

  /** Moves at least `count` chains around, `burst` at a time. @throws DeviceError when one is lost */
  turn(count: number, burst: number): void {
    const { notificationData, parts } = this.#variant;
    const queue = this.#queue;
    for (let done = 0; done < count; done += burst) {
      if (notificationData) this.#device.arm();
      if (parts === "slot") queue.addSlots(this.#slots, null, burst);
      else if (parts === 1) this.#addSingles(burst);
      else this.#addChains(burst, parts);
      // Without asking for it a device with an event index is notified once in 65,536 chains.
      const notified = queue.flush();
      if (notificationData) this.#judgeNotification(notified);
      if (parts === "slot" || parts === 1) this.#serveBurst(burst);
      else this.#serveChains(burst);
      this.#device.publish();
      if (queue.takeUsed(this.#used) !== burst) throw new DeviceError("a chain did not come back");
    }
  }

  #addSingles(burst: number): void {
    const { lo, hi, lengths } = this.#parts;
    this.#queue.addSingles(lo, hi, lengths, burst, false, this.#used.ids);
  }

  /** The device reads the first part of each, and writes the others. */
  #addChains(burst: number, parts: number): void {
    const queue = this.#queue;
    for (let i = 0; i < burst; i++) {
      queue.begin(1, parts - 1);
      for (let part = 0; part < parts; part++) queue.segment(this.#bufferLo, this.#bufferHi, PART_BYTES);
      queue.commit();
    }
  }

  #judgeNotification(notified: boolean): void {
    if (!notified) throw new DeviceError("the device asked for a notification, and got none");
    const { offset, wrap } = this.#notified;
    const problem = this.#device.checkNotification(offset, wrap);
    if (problem !== undefined) throw new DeviceError(problem);
  }

  #serveBurst(burst: number): void {
    const device = this.#device, popped = this.#popped;
    if (device.popBurst(popped, burst, false) !== burst) lost();
    device.pushBurst(popped, burst);
  }

  #serveChains(burst: number): void {
    const device = this.#device;
    for (let i = 0; i < burst; i++) {
      const id = device.pop(this.#chain);
      if (id < 0) lost();
      device.pushUsed(id, 0);
    }
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#space.close();
  }
}

function lost(): never {
  throw new DeviceError("the device saw fewer chains than were published");
}
