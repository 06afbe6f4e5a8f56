/**
 * Both sides of one ring in this process, over plain memory.
 *
 * @module
 */
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

/** How a ring is used. */
export interface RingVariant {
  readonly layout: "split" | "packed";
  readonly inOrder: boolean;
  readonly eventIndex: boolean;
  /** Chains of two parts in an indirect table, instead of one part in one descriptor. */
  readonly indirect: boolean;
}

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
  readonly #chain = new Chain(RING_SIZE);
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
    const segments = indirect ? 2 : 0;
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
    const parts = { function: "bench", index: 0, memory, doorbell: { ring: () => {} }, eventIndex, inOrder };
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
    this.#queue.suppressInterrupts();
    this.#device.suppress();
  }

  /** Moves at least `count` chains around, `burst` at a time. @throws DeviceError when one is lost */
  turn(count: number, burst: number): void {
    for (let done = 0; done < count; done += burst) {
      if (this.#variant.indirect) this.#addTables(burst);
      else this.#addSingles(burst);
      this.#queue.publish();
      this.#serve(burst);
      if (this.#queue.takeUsed(this.#used) !== burst) throw new DeviceError("a chain did not come back");
    }
  }

  #addSingles(burst: number): void {
    const { lo, hi, lengths } = this.#parts;
    this.#queue.addSingles(lo, hi, lengths, burst, false, this.#used.ids);
  }

  #addTables(burst: number): void {
    const queue = this.#queue;
    for (let i = 0; i < burst; i++) {
      queue.begin(1, 1);
      queue.segment(this.#bufferLo, this.#bufferHi, BUFFER_BYTES / 2);
      queue.segment(this.#bufferLo, this.#bufferHi, BUFFER_BYTES / 2);
      queue.commit();
    }
  }

  #serve(burst: number): void {
    const device = this.#device;
    for (let i = 0; i < burst; i++) {
      const id = device.pop(this.#chain);
      if (id < 0) throw new DeviceError("the device saw fewer chains than were published");
      device.pushUsed(id, 0);
    }
    device.publish();
  }

  /** Frees the memory. */
  [Symbol.dispose](): void {
    this.#space.close();
  }
}
