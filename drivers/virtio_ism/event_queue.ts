/**
 * The event queue: buffers that are posted, filled by the device, read, and posted again.
 *
 * @module
 */
import type { DmaSpace } from "../../lib/memory/mod.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import { SlotPool } from "../slots.ts";

/** Interrupts stay asked for: events are few, and whoever sleeps must not depend on who polls. */
export class EventQueue implements Disposable {
  readonly #queue: Virtqueue;
  readonly #slots: SlotPool;
  readonly #slotOf: Uint16Array<ArrayBuffer>;
  readonly #returned: Uint16Array<ArrayBuffer>;
  readonly #used: UsedBurst;
  readonly #interrupts: boolean;

  /** Posts nothing yet. @param interrupts somebody may sleep @throws ExhaustedError, SyscallError */
  constructor(queue: Virtqueue, dma: DmaSpace, bufferBytes: number, interrupts: boolean) {
    this.#queue = queue;
    this.#slots = new SlotPool(dma, queue.size, bufferBytes, 0, "events", {
      deviceReads: false,
      deviceWrites: true,
    });
    this.#slotOf = new Uint16Array(queue.size);
    this.#returned = new Uint16Array(queue.size);
    this.#used = usedBurst(queue.size);
    this.#interrupts = interrupts;
  }

  /** Posts all buffers: once, when the device runs. */
  start(): void {
    if (!this.#interrupts) this.#queue.suppressInterrupts();
    for (let slot = 0; slot < this.#slots.count; slot++) this.#post(slot);
    this.#queue.kick();
  }

  /** Calls `each` for every buffer that came back, then posts it again. @throws DeviceError when the device broke the ring */
  drain(each: (buffer: Uint8Array<ArrayBuffer>, lengthBytes: number) => void): void {
    const queue = this.#queue;
    if (!queue.hasUsed()) return;
    do {
      for (let count = queue.takeUsed(this.#used); count > 0; count = queue.takeUsed(this.#used)) {
        // Ids of all that came back are free, and posting takes them again.
        for (let i = 0; i < count; i++) this.#returned[i] = this.#slotOf[this.#used.ids[i]!]!;
        for (let i = 0; i < count; i++) {
          const slot = this.#returned[i]!;
          each(this.#slots.views[slot]!, this.#used.lengths[i]!);
          this.#post(slot);
        }
        queue.kick();
      }
    } while (this.#interrupts && queue.enableInterrupts());
  }

  /** Unmaps the buffers. The queue is its device's. */
  [Symbol.dispose](): void {
    this.#slots.close();
  }

  #post(slot: number): void {
    const { iovaLo, iovaHi, slotBytes } = this.#slots;
    this.#slotOf[this.#queue.addSingle(iovaLo[slot]!, iovaHi[slot]!, slotBytes, true)] = slot;
  }
}
