/**
 * The event queue: buffers that are posted, filled by the device, read, and posted again.
 *
 * @module
 */
import type { DmaSpace } from "../../lib/memory/mod.ts";
import { BufferPool } from "../../lib/virtio/queue/buffer_pool.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";

/** Interrupts stay asked for: events are few, and whoever sleeps must not depend on who polls. */
export class EventQueue implements Disposable {
  readonly #queue: Virtqueue;
  readonly #slots: BufferPool;
  readonly #used: UsedBurst;
  readonly #interrupts: boolean;

  /** Posts nothing yet. @param interrupts somebody may sleep @throws ExhaustedError, SyscallError */
  constructor(queue: Virtqueue, dma: DmaSpace, bufferBytes: number, interrupts: boolean) {
    this.#queue = queue;
    this.#slots = new BufferPool(queue, dma, {
      label: "events",
      slotBytes: bufferBytes,
      access: { deviceReads: false, deviceWrites: true },
      chains: "writable",
    });
    this.#used = usedBurst(queue.size);
    this.#interrupts = interrupts;
  }

  /** Posts all buffers: once, when the device runs. */
  start(): void {
    if (!this.#interrupts) this.#queue.suppressInterrupts();
    for (let slot = 0; slot < this.#slots.count; slot++) this.#post(slot);
    this.#queue.flush();
  }

  /** Calls `each` for every buffer that came back, then posts it again. @throws DeviceError when the device broke the ring */
  drain(each: (buffer: Uint8Array<ArrayBuffer>, lengthBytes: number) => void): void {
    const queue = this.#queue;
    if (!queue.hasUsed()) return;
    const used = this.#used;
    do {
      for (let count; (count = this.#slots.takeUsed(used)) > 0;) {
        for (let i = 0; i < count; i++) {
          const slot = used.ids[i]!;
          each(this.#slots.views[slot]!, used.lengths[i]!);
          this.#post(slot);
        }
        queue.flush();
      }
    } while (this.#interrupts && queue.enableInterrupts());
  }

  /** Unmaps the buffers. The queue is its device's. */
  [Symbol.dispose](): void {
    this.#slots[Symbol.dispose]();
  }

  #post(slot: number): void {
    this.#slots.add(slot, this.#slots.slotBytes);
  }
}
