/**
 * Equal buffers in DMA memory, each with its views and IOVA made beforehand.
 *
 * @module
 */
import type { DmaAccess, DmaMemory, DmaSpace } from "../lib/memory/mod.ts";

const LINE_BYTES = 64;

/** `count` slots of `slotBytes` each. After `close` every view has length 0. */
export class SlotPool implements Disposable {
  /** Number of slots; they are numbered from 0. */
  readonly count: number;
  /** Bytes of each. */
  readonly slotBytes: number;
  /** The whole slot, by number. */
  readonly views: readonly Uint8Array<ArrayBuffer>[];
  /** From `headroomBytes` to the end of the slot, by number. */
  readonly bodies: readonly Uint8Array<ArrayBuffer>[];
  /** Halves of each slot's IOVA. */
  readonly iovaLo: Uint32Array<ArrayBuffer>;
  readonly iovaHi: Uint32Array<ArrayBuffer>;
  readonly #memory: DmaMemory;

  /** @param headroomBytes where the bodies begin in each slot @throws ExhaustedError, SyscallError */
  constructor(
    dma: DmaSpace,
    count: number,
    slotBytes: number,
    headroomBytes: number,
    label: string,
    access: DmaAccess,
  ) {
    const stride = Math.ceil(slotBytes / LINE_BYTES) * LINE_BYTES;
    const memory = dma.allocate(count * stride, { label, access });
    this.#memory = memory;
    this.count = count;
    this.slotBytes = slotBytes;
    this.iovaLo = new Uint32Array(count);
    this.iovaHi = new Uint32Array(count);
    const views: Uint8Array<ArrayBuffer>[] = [];
    const bodies: Uint8Array<ArrayBuffer>[] = [];
    for (let slot = 0; slot < count; slot++) {
      const offset = slot * stride;
      const iova = memory.iova + BigInt(offset);
      this.iovaLo[slot] = Number(iova & 0xffff_ffffn);
      this.iovaHi[slot] = Number(iova >> 32n);
      views.push(memory.bytes(offset, slotBytes));
      bodies.push(memory.bytes(offset + headroomBytes, slotBytes - headroomBytes));
    }
    this.views = views;
    this.bodies = bodies;
  }

  /** True after `close`, here or of the function. */
  get closed(): boolean {
    return this.#memory.closed;
  }

  /** Unmaps the memory. */
  close(): void {
    this.#memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
