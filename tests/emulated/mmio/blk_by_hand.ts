/**
 * A block device driven queue by queue: one request at a time on each, of which each is notified, and interrupts where that is wanted.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { DmaMemory } from "../../../lib/memory/mod.ts";
import { BLK_FEATURE, FEATURE, usedBurst, VirtioDevice, type Virtqueue } from "../../../lib/virtio/mod.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";

const PATIENCE_MS = 10_000;
const SECTOR = 512;
/** Header, data, status. */
const STATUS_AT = 16 + SECTOR;
const SLOT = 1024;
const UNANSWERED = 0xff;

/** See the module. */
export class BlkByHand implements Disposable {
  /** Empty before `start`. */
  readonly queues: Virtqueue[] = [];
  readonly #virtio: VirtioDevice;
  readonly #memory: DmaMemory;
  readonly #bytes: Uint8Array;
  readonly #burst = usedBurst(4);

  /** Negotiates. @param transport stays the caller's @param most queues that there will be @param refused besides EVENT_IDX, with which not each request is notified */
  constructor(transport: VirtioTransport, most: number, refused = 0n) {
    this.#memory = transport.dma.allocate(most * SLOT);
    this.#bytes = new Uint8Array(this.#memory.memory.buffer, 0, most * SLOT);
    this.#virtio = new VirtioDevice(transport);
    this.#virtio.negotiate({ wanted: BLK_FEATURE.MQ, refused: FEATURE.EVENT_IDX | refused });
  }

  /** Sets so many queues up, and goes. @param vector of each queue */
  start(queues: number, vector?: (queue: number) => number): void {
    for (let index = 0; index < queues; index++) {
      const options = { size: 8, ...(vector === undefined ? {} : { vector: vector(index) }) };
      this.queues.push(this.#virtio.createQueue(index, options));
    }
    this.#virtio.driverOk();
  }

  /** Features in force. */
  get features(): bigint {
    return this.#virtio.features;
  }

  /** Asks for sector 0. @returns whether the device wanted to be notified: it does when it sleeps */
  request(queue: Virtqueue): boolean {
    const { iovaLo, iovaHi } = this.#memory;
    const at = queue.index * SLOT;
    // Zeros: VIRTIO_BLK_T_IN of sector 0.
    this.#bytes.fill(0, at, at + 16);
    this.#bytes[at + STATUS_AT] = UNANSWERED;
    assert(queue.begin(1, 2));
    queue.segment(iovaLo + at, iovaHi, 16);
    queue.segment(iovaLo + at + 16, iovaHi, SECTOR);
    queue.segment(iovaLo + at + STATUS_AT, iovaHi, 1);
    queue.commit();
    return queue.flush();
  }

  /** Waits for the answer. */
  async answer(queue: Virtqueue): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    for (let tries = 1; !queue.hasUsed(); tries++) {
      assert(performance.now() < end, `queue ${queue.index} is not served`);
      if (tries % 4096 === 0) await new Promise((resolve) => setTimeout(resolve));
    }
    assertEquals(queue.takeUsed(this.#burst), 1);
    assertEquals([this.#burst.lengths[0], this.#bytes[queue.index * SLOT + STATUS_AT]], [SECTOR + 1, 0]);
  }

  /** Requests of which one found the device asleep, which nothing but the doorbell could wake. */
  async wake(queue: Virtqueue): Promise<void> {
    for (let tries = 0; tries < 200; tries++) {
      const notified = this.request(queue);
      await this.answer(queue);
      if (notified) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error(`the device of queue ${queue.index} never slept`);
  }

  [Symbol.dispose](): void {
    this.#virtio.close();
    this.#memory[Symbol.dispose]();
  }
}
