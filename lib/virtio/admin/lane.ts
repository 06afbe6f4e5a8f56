/**
 * One administration virtqueue: commands in, answers out.
 *
 * @module
 */
import { ExhaustedError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { usedBurst } from "../queue/used_burst.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import { CommandMemory } from "./command_memory.ts";
import { encodeAdminCommand, prepareAdminReply } from "./frame.ts";
import type { Pending } from "./pending.ts";

/** Parts of a chain: one to read, one to write. */
export const COMMAND_PARTS = 2;

/** See the module's text. */
export class AdminLane implements Disposable {
  /** Its virtqueue. */
  readonly queue: Virtqueue;
  readonly #memory: CommandMemory;
  readonly #held: (Pending | undefined)[];
  readonly #used = usedBurst(32);
  #unpublished = false;
  #outstanding = 0;

  /** @param depth commands in flight at most @throws ExhaustedError, SyscallError */
  constructor(queue: Virtqueue, dma: DmaSpace, depth: number) {
    this.queue = queue;
    // An interrupt is for somebody who sleeps: `Waiter` asks for it.
    queue.suppressInterrupts();
    this.#held = new Array<Pending | undefined>(queue.size);
    const depthHere = Math.max(1, Math.min(depth, Math.floor(queue.freeDescriptors / COMMAND_PARTS)));
    this.#memory = new CommandMemory(dma, depthHere, `queue ${queue.index} administration commands`);
  }

  /** Virtqueue number. */
  get index(): number {
    return this.queue.index;
  }

  /** Commands that the device has, given up or not. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Commands that can be sent now. */
  get room(): number {
    return this.#memory.free;
  }

  /**
   * Adds a command; not visible before `kick`. There must be room.
   * @throws ExhaustedError, SyscallError, UsageError (a ring too small for a chain); nothing is changed then
   */
  add(pending: Pending): void {
    const place = this.#memory.take(pending.size);
    let begun = false;
    try {
      begun = this.queue.begin(1, 1);
    } finally {
      if (!begun) this.#memory.give(place);
    }
    if (!begun) {
      throw new ExhaustedError(`queue ${this.index} has no descriptors left for a command`, {
        hint: "others use the queue, too; reset the device",
      });
    }
    encodeAdminCommand(pending.command!, place.readable);
    prepareAdminReply(place.writable);
    this.#segment(place.readableIova, place.readable.length);
    this.#segment(place.writableIova, place.writable.length);
    this.#held[this.queue.commit()] = pending;
    pending.place = place;
    pending.lane = this;
    this.#outstanding++;
    this.#unpublished = true;
  }

  /** Makes added commands visible, and notifies. */
  kick(): void {
    if (!this.#unpublished) return;
    this.#unpublished = false;
    this.queue.kick();
  }

  /**
   * Takes what the device has returned. `taken` gets a copy of the device-writable part, and how much of it was written.
   * @throws DeviceError when the device broke the ring
   */
  take(taken: (pending: Pending, bytes: Uint8Array<ArrayBuffer>, usedBytes: number) => void): void {
    for (let count; (count = this.queue.takeUsed(this.#used)) > 0;) {
      for (let at = 0; at < count; at++) {
        const id = this.#used.ids[at]!;
        const pending = this.#held[id]!;
        const place = pending.place!;
        this.#held[id] = undefined;
        this.#outstanding--;
        pending.place = null;
        const bytes = place.writable.slice();
        this.#memory.give(place);
        taken(pending, bytes, this.#used.lengths[at]!);
      }
    }
  }

  /** Takes the memory away. The queue is its device's, which must have been reset. */
  close(): void {
    this.#memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #segment(iova: bigint, lengthBytes: number): void {
    this.queue.segment(Number(iova & 0xffff_ffffn), Number(iova >> 32n), lengthBytes);
  }
}
