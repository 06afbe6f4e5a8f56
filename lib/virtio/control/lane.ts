/**
 * One virtqueue of commands: commands in, answers out. There is a fixed place in memory for each that may be in flight, and memory of its own for one
 * that is larger. What the device has not returned stays where it is.
 *
 * @module
 */
import { ExhaustedError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { BufferPool } from "../queue/buffer_pool.ts";
import { usedBurst } from "../queue/used_burst.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import type { Command } from "./command.ts";

/** Parts of a chain as a rule: one to read, one to write. */
export const COMMAND_PARTS = 2;
const CACHE_LINE_BYTES = 64;
/** Parts up to this size go through arrays that are kept, byte by byte: a view of each would be an object, and a copy two. */
const SMALL_BYTES = 64;

/** Room of a fixed place. */
export interface CommandRoom {
  /** For messages: `administration commands`. */
  readonly label: string;
  /** Device-readable bytes; a multiple of 64. */
  readonly readableBytes: number;
  /** Device-writable bytes. */
  readonly writableBytes: number;
  /** Memory of large commands that is kept for the next one. */
  readonly spares: number;
}

/** See the module's text. */
export class CommandLane<C extends Command> implements Disposable {
  /** Its virtqueue. */
  readonly queue: Virtqueue;
  readonly #dma: DmaSpace;
  readonly #room: CommandRoom;
  readonly #places: BufferPool;
  readonly #spares: BufferPool[] = [];
  readonly #large = new Set<BufferPool>();
  readonly #held: (C | undefined)[];
  readonly #used = usedBurst(32);
  /** By length. */
  readonly #readable: Uint8Array<ArrayBuffer>[] = [];
  readonly #writable: Uint8Array<ArrayBuffer>[] = [];
  #unpublished = false;
  #outstanding = 0;

  /** @param depth commands in flight at most @throws ExhaustedError, SyscallError */
  constructor(queue: Virtqueue, dma: DmaSpace, depth: number, room: CommandRoom) {
    this.queue = queue;
    this.#dma = dma;
    this.#room = room;
    // Nobody waits yet: `Waiter` asks for interrupts before it sleeps.
    queue.suppressInterrupts();
    this.#held = new Array<C | undefined>(queue.size);
    const count = Math.max(1, Math.min(depth, Math.floor(queue.freeDescriptors / COMMAND_PARTS)));
    const { label, readableBytes, writableBytes } = room;
    this.#places = new BufferPool(queue, dma, { label, count, slotBytes: readableBytes + writableBytes });
  }

  /** Commands that the device has, given up or not. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Commands that the device has. */
  held(): C[] {
    return this.#held.filter((one) => one !== undefined);
  }

  /** Commands that can be sent now, whatever their size. */
  get room(): number {
    return this.#places.free;
  }

  /**
   * Adds a command; not visible before `notify`. There must be room.
   * @throws ExhaustedError, SyscallError, UsageError (a ring too small for a chain), what `encode` throws; nothing is changed then
   */
  add(command: C): void {
    const { readableBytes, writableBytes, readableCuts, writableCuts } = command;
    this.#place(command);
    const { pool, slot, writableAt } = command;
    let begun = false;
    try {
      // Before the chain is begun: what a caller's own codec throws must not leave one that is never committed.
      const bytes = pool!.views[slot]!;
      if (readableBytes <= SMALL_BYTES && writableBytes <= SMALL_BYTES) {
        const readable = kept(this.#readable, readableBytes);
        const writable = kept(this.#writable, writableBytes);
        command.encode(readable, writable);
        for (let at = 0; at < readableBytes; at++) bytes[at] = readable[at]!;
        for (let at = 0; at < writableBytes; at++) bytes[writableAt + at] = writable[at]!;
      } else {
        command.encode(
          bytes.subarray(0, readableBytes),
          bytes.subarray(writableAt, writableAt + writableBytes),
        );
      }
      begun = this.queue.begin(readableCuts.length / 2 + 1, writableCuts.length / 2 + 1);
    } finally {
      if (!begun) this.#takeBack(command);
    }
    if (!begun) {
      throw new ExhaustedError(`queue ${this.queue.index} has no descriptors left for a command`, {
        hint: "others use the queue, too; reset the device",
      });
    }
    addParts(pool!, slot, 0, readableBytes, readableCuts);
    addParts(pool!, slot, writableAt, writableBytes, writableCuts);
    this.#held[this.queue.commit()] = command;
    command.queue = this.queue.index;
    this.#outstanding++;
    this.#unpublished = true;
  }

  /** Makes added commands visible, and notifies. */
  notify(): void {
    if (!this.#unpublished) return;
    this.#unpublished = false;
    this.queue.flush();
  }

  /**
   * Takes what the device has returned. `taken` gets a copy of the device-writable part, for as long as it is called, and how much of it was written.
   * @throws DeviceError when the device broke the ring
   */
  take(taken: (command: C, bytes: Uint8Array<ArrayBuffer>, usedBytes: number) => void): void {
    for (let count; (count = this.queue.takeUsed(this.#used)) > 0;) {
      for (let at = 0; at < count; at++) {
        const id = this.#used.ids[at]!;
        const command = this.#held[id]!;
        this.#held[id] = undefined;
        this.#outstanding--;
        const bytes = this.#answerOf(command);
        this.#takeBack(command);
        taken(command, bytes, this.#used.lengths[at]!);
      }
    }
  }

  #answerOf({ pool, slot, writableAt, writableBytes }: C): Uint8Array<ArrayBuffer> {
    const bytes = pool!.views[slot]!;
    if (writableBytes > SMALL_BYTES) return bytes.slice(writableAt, writableAt + writableBytes);
    const answer = kept(this.#writable, writableBytes);
    for (let at = 0; at < writableBytes; at++) answer[at] = bytes[writableAt + at]!;
    return answer;
  }

  /** Takes all memory away. The queue is its device's, which must have been reset. May be called again. */
  [Symbol.dispose](): void {
    this.#places[Symbol.dispose]();
    for (const pool of this.#large) pool[Symbol.dispose]();
    this.#spares.length = 0;
  }

  /** @throws ExhaustedError, SyscallError (a large command) */
  #place(command: C): void {
    const { readableBytes, writableBytes } = command;
    const room = this.#room;
    const fits = readableBytes <= room.readableBytes && writableBytes <= room.writableBytes;
    // The device writes into cache lines of its own.
    command.writableAt = fits
      ? room.readableBytes
      : Math.ceil(readableBytes / CACHE_LINE_BYTES) * CACHE_LINE_BYTES;
    command.pool = fits ? this.#places : this.#own(command.writableAt + writableBytes);
    command.place = this.#places.take();
    command.slot = fits ? command.place : 0;
  }

  #own(slotBytes: number): BufferPool {
    const at = this.#spares.findIndex((spare) => spare.slotBytes >= slotBytes);
    if (at >= 0) return this.#spares.splice(at, 1)[0]!;
    const label = `${this.#room.label}, a large one`;
    const pool = new BufferPool(this.queue, this.#dma, { label, count: 1, slotBytes });
    this.#large.add(pool);
    return pool;
  }

  #takeBack(command: C): void {
    const pool = command.pool!;
    command.pool = null;
    this.#places.give(command.place);
    if (pool === this.#places) return;
    if (this.#spares.length < this.#room.spares) {
      this.#spares.push(pool);
      return;
    }
    this.#large.delete(pool);
    pool[Symbol.dispose]();
  }
}

/** The array of that length; what it holds is of no interest. */
function kept(arrays: Uint8Array<ArrayBuffer>[], length: number): Uint8Array<ArrayBuffer> {
  return arrays[length] ??= new Uint8Array(length);
}

function addParts(
  pool: BufferPool,
  slot: number,
  at: number,
  lengthBytes: number,
  cuts: readonly number[],
): void {
  let from = 0;
  for (let cut = 0; cut < cuts.length; cut += 2) {
    pool.addPart(slot, at + from, cuts[cut]! - from);
    from = cuts[cut + 1]!;
  }
  pool.addPart(slot, at + from, lengthBytes - from);
}
