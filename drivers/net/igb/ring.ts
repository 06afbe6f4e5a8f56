/**
 * A ring of advanced descriptors and the buffers that they name; the same for the PF's queues and the VFs'.
 *
 * @module
 */
import { UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import type { DmaMemory, DmaSpace } from "../../../lib/memory/dma.ts";
import { DESCRIPTOR_BYTES, DESCRIPTOR_WORDS } from "./descriptors.ts";

/** Interrupts of one queue. */
export interface QueueInterrupt {
  /** Lets the next one through. */
  enable(): void;
  /** Holds it back. */
  suppress(): void;
}

/** What a ring is made of. */
export interface RingOptions {
  /** The function, for messages. */
  readonly name: string;
  /** The queue's number. */
  readonly index: number;
  /** For messages and accounting: `receive`. */
  readonly label: string;
  /** Descriptors: a multiple of 8. */
  readonly size: number;
  /** Bytes of each buffer. */
  readonly slotBytes: number;
  /** Whether the device writes the buffers, or reads them. */
  readonly deviceWrites: boolean;
  /** Writes the tail register. */
  readonly tail: (descriptor: number) => void;
  /** Null: the queue is polled. */
  readonly interrupt: QueueInterrupt | null;
}

const LEAST = 8, MOST = 4096;

/** Descriptors in DMA memory. One fewer buffer than descriptors: a ring whose tail has reached its head is empty. */
export class DescriptorRing implements Disposable {
  /** The function, for messages. */
  readonly name: string;
  /** The queue's number. */
  readonly index: number;
  /** Descriptors. */
  readonly size: number;
  /** Buffers. */
  readonly slotCount: number;
  /** Bytes of each. */
  readonly slotBytes: number;
  /** All descriptors. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** By buffer: the whole of it. */
  readonly views: readonly Uint8Array<ArrayBuffer>[];
  /** By buffer: the halves of its IOVA. */
  readonly iovaLo: Uint32Array<ArrayBuffer>;
  readonly iovaHi: Uint32Array<ArrayBuffer>;
  /** By descriptor: the buffer that it names. */
  readonly slotOf: Uint16Array<ArrayBuffer>;
  /** First descriptor that the device may still have. */
  head = 0;
  /** First one that is free. */
  tail = 0;
  readonly #descriptors: DmaMemory;
  readonly #buffers: DmaMemory;
  readonly #writeTail: (descriptor: number) => void;
  readonly #interrupt: QueueInterrupt | null;
  /** What was asked for last, so that it is not said twice. */
  #interrupts = false;

  /** Allocates; tells the device nothing. @throws UsageError, ExhaustedError, SyscallError */
  constructor(dma: Pick<DmaSpace, "allocate">, options: RingOptions) {
    const { name, index, label, size, slotBytes, deviceWrites } = options;
    if (!Number.isInteger(size) || size < LEAST || size > MOST || size % 8 !== 0) {
      throw new UsageError(`${name}: a queue of ${shown(size)} descriptors`, {
        hint: `a multiple of 8, from ${LEAST} to ${MOST}`,
      });
    }
    this.name = name;
    this.index = index;
    this.size = size;
    this.slotBytes = slotBytes;
    const count = this.slotCount = size - 1;
    this.#writeTail = options.tail;
    this.#interrupt = options.interrupt;
    using opened = new DisposableStack();
    this.#descriptors = opened.use(
      dma.allocate(size * DESCRIPTOR_BYTES, { label: `queue ${index} ${label} ring` }),
    );
    const access = { deviceReads: !deviceWrites, deviceWrites };
    this.#buffers = opened.use(
      dma.allocate(count * slotBytes, { label: `queue ${index} ${label} buffers`, access }),
    );
    this.words = new Uint32Array(this.#descriptors.buffer, 0, size * DESCRIPTOR_WORDS);
    this.views = Array.from(
      { length: count },
      (_, slot) => this.#buffers.bytes(slot * slotBytes, slotBytes),
    );
    const iovas = this.views.map((_, slot) => this.#buffers.iova + BigInt(slot * slotBytes));
    this.iovaLo = Uint32Array.from(iovas, (iova) => Number(iova & 0xffff_ffffn));
    this.iovaHi = Uint32Array.from(iovas, (iova) => Number(iova >> 32n));
    this.slotOf = new Uint16Array(size);
    opened.move();
  }

  /** Low half of the descriptors' IOVA. */
  get iovaLow(): number {
    return this.#descriptors.iovaLo;
  }

  /** High half. */
  get iovaHigh(): number {
    return this.#descriptors.iovaHi;
  }

  /** Bytes of the descriptors. */
  get lengthBytes(): number {
    return this.size * DESCRIPTOR_BYTES;
  }

  /** The memory is gone. */
  get closed(): boolean {
    return this.#descriptors.closed;
  }

  /** The descriptor behind this one. */
  next(descriptor: number): number {
    return descriptor + 1 === this.size ? 0 : descriptor + 1;
  }

  /** Shows the device all descriptors up to the tail. The store to the last word is the release of what was written before it. */
  publish(): void {
    const last = (this.tail === 0 ? this.size : this.tail) * DESCRIPTOR_WORDS - 1;
    Atomics.store(this.words, last, this.words[last]!);
    this.#writeTail(this.tail);
  }

  /** No interrupts, please. */
  suppressInterrupts(): void {
    if (!this.#interrupts) return;
    this.#interrupts = false;
    this.#interrupt?.suppress();
  }

  /** An interrupt at the next event. */
  enableInterrupts(): void {
    if (this.#interrupts) return;
    this.#interrupts = true;
    this.#interrupt?.enable();
  }

  /** Takes the memory away from the device. */
  [Symbol.dispose](): void {
    try {
      this.#descriptors.close();
    } finally {
      this.#buffers.close();
    }
  }
}
