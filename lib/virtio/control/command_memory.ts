/**
 * DMA memory for commands: a fixed place for each that may be in flight, and memory of its own for one that is larger.
 *
 * @module
 */
import type { DmaSpace } from "../../memory/mod.ts";
import { BufferPool } from "../queue/buffer_pool.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import type { Command } from "./command.ts";

const CACHE_LINE_BYTES = 64;

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

/** Memory for the commands of one queue. What the device has not returned stays where it is. */
export class CommandMemory implements Disposable {
  readonly #queue: Virtqueue;
  readonly #dma: DmaSpace;
  readonly #room: CommandRoom;
  readonly #places: BufferPool;
  readonly #spares: BufferPool[] = [];
  readonly #large = new Set<BufferPool>();

  /** Room for `count` commands at a time. @throws ExhaustedError, SyscallError */
  constructor(queue: Virtqueue, dma: DmaSpace, count: number, room: CommandRoom) {
    this.#queue = queue;
    this.#dma = dma;
    this.#room = room;
    const { label, readableBytes, writableBytes } = room;
    this.#places = new BufferPool(queue, dma, { label, count, slotBytes: readableBytes + writableBytes });
  }

  /** How many commands still find a place, whatever their size. */
  get free(): number {
    return this.#places.free;
  }

  /** Gives a command its place; there must be a free one. @throws ExhaustedError, SyscallError (a large command) */
  take(command: Command): void {
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

  /** Takes the place back of a command that the device has returned. */
  give(command: Command): void {
    const pool = command.pool!;
    command.pool = null;
    this.#places.give(command.place);
    if (pool === this.#places) return;
    if (this.#spares.length < this.#room.spares) this.#spares.push(pool);
    else this.#drop(pool);
  }

  /** Takes all memory away from the device, which must have been reset. May be called again. */
  close(): void {
    this.#places.close();
    for (const pool of [...this.#large]) this.#drop(pool);
    this.#spares.length = 0;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #own(slotBytes: number): BufferPool {
    const at = this.#spares.findIndex((spare) => spare.slotBytes >= slotBytes);
    if (at >= 0) return this.#spares.splice(at, 1)[0]!;
    const label = `${this.#room.label}, a large one`;
    const pool = new BufferPool(this.#queue, this.#dma, { label, count: 1, slotBytes });
    this.#large.add(pool);
    return pool;
  }

  #drop(pool: BufferPool): void {
    this.#large.delete(pool);
    pool.close();
  }
}
