/**
 * DMA memory for commands: a fixed place for each that may be in flight, and memory of its own for one that is larger.
 *
 * @module
 */
import type { DmaMemory, DmaSpace } from "../../memory/mod.ts";
import type { AdminFrameSize } from "./frame.ts";

const PART_BYTES = 256;
const PLACE_BYTES = 2 * PART_BYTES;
const CACHE_LINE_BYTES = 64;
/** Memory of large commands that is kept for the next one. */
const SPARES = 2;

/** Where one command lies, until the device has returned it. */
export interface CommandPlace {
  /** Device-readable part. */
  readonly readable: Uint8Array<ArrayBuffer>;
  /** IOVA of it. */
  readonly readableIova: bigint;
  /** Device-writable part. */
  readonly writable: Uint8Array<ArrayBuffer>;
  /** IOVA of it. */
  readonly writableIova: bigint;
  /** Number of the fixed place; a command with memory of its own holds one, too. */
  readonly fixed: number;
  /** Memory of its own, for a large command. */
  readonly own: DmaMemory | undefined;
}

/** Memory for the commands of one administration queue. */
export class CommandMemory implements Disposable {
  readonly #dma: DmaSpace;
  readonly #label: string;
  readonly #places: DmaMemory;
  readonly #free: number[] = [];
  readonly #spares: DmaMemory[] = [];
  readonly #large = new Set<DmaMemory>();

  /** Room for `count` commands at a time. @param label for messages @throws ExhaustedError, SyscallError */
  constructor(dma: DmaSpace, count: number, label: string) {
    this.#dma = dma;
    this.#label = label;
    this.#places = dma.allocate(count * PLACE_BYTES, { label });
    for (let place = count - 1; place >= 0; place--) this.#free.push(place);
  }

  /** How many commands still find a place, whatever their size. */
  get free(): number {
    return this.#free.length;
  }

  /** A place for a command; there must be a free one. @throws ExhaustedError, SyscallError (a large command) */
  take({ readable, writable }: AdminFrameSize): CommandPlace {
    if (readable <= PART_BYTES && writable <= PART_BYTES) {
      const fixed = this.#free.pop()!;
      return this.#cut(this.#places, fixed, fixed * PLACE_BYTES, readable, PART_BYTES, writable, undefined);
    }
    // The device writes into cache lines of its own.
    const writableAt = Math.ceil(readable / CACHE_LINE_BYTES) * CACHE_LINE_BYTES;
    const own = this.#memory(writableAt + writable);
    return this.#cut(own, this.#free.pop()!, 0, readable, writableAt, writable, own);
  }

  /** Takes a place back that the device has returned. */
  give({ fixed, own }: CommandPlace): void {
    this.#free.push(fixed);
    if (own === undefined) return;
    if (this.#spares.length < SPARES) this.#spares.push(own);
    else this.#drop(own);
  }

  /** Takes all memory away from the device, which must have been reset. May be called again. */
  close(): void {
    this.#places.close();
    for (const memory of [...this.#large]) this.#drop(memory);
    this.#spares.length = 0;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #cut(
    memory: DmaMemory,
    fixed: number,
    at: number,
    readable: number,
    writableAt: number,
    writable: number,
    own: DmaMemory | undefined,
  ): CommandPlace {
    return {
      readable: memory.bytes(at, readable),
      readableIova: memory.iova + BigInt(at),
      writable: memory.bytes(at + writableAt, writable),
      writableIova: memory.iova + BigInt(at + writableAt),
      fixed,
      own,
    };
  }

  #memory(sizeBytes: number): DmaMemory {
    const at = this.#spares.findIndex((spare) => spare.sizeBytes >= sizeBytes);
    if (at >= 0) return this.#spares.splice(at, 1)[0]!;
    const memory = this.#dma.allocate(sizeBytes, { label: `${this.#label}, a large one` });
    this.#large.add(memory);
    return memory;
  }

  #drop(memory: DmaMemory): void {
    this.#large.delete(memory);
    memory.close();
  }
}
