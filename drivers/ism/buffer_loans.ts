/**
 * Memory that the driver supplies for regions when the device does not (without DEV_MEM; N-5.6, N-5.10, N-5.11).
 *
 * @module
 */
import type { DmaMemory, DmaSpace } from "../../lib/memory/mod.ts";
import type { IsmRegion } from "./region.ts";

/**
 * Buffers by IOVA. That of an allocation is the device's until BUFFER_FREE, that of an attachment until DETACH. After a command that was not answered
 * the device may still use what it was lent: then nothing is taken back until it is reset, but by BUFFER_FREE.
 */
export class BufferLoans implements Disposable {
  readonly #dma: DmaSpace;
  readonly #stuck: () => boolean;
  readonly #lent = new Map<bigint, { readonly memory: DmaMemory; region: IsmRegion | null }>();

  /** Lends nothing yet. @param stuck a command was not answered */
  constructor(dma: DmaSpace, stuck: () => boolean) {
    this.#dma = dma;
    this.#stuck = stuck;
  }

  /** Bytes that are lent. */
  get bytes(): number {
    let sum = 0;
    for (const { memory } of this.#lent.values()) sum += memory.sizeBytes;
    return sum;
  }

  /** Zeroed memory for a region. Small pages: its parts are mapped one chunk at a time. @throws ExhaustedError, SyscallError */
  lend(sizeBytes: number): DmaMemory {
    const memory = this.#dma.allocate(sizeBytes, { label: "ISM region", huge: "never" });
    this.#lent.set(memory.iova, { memory, region: null });
    return memory;
  }

  /** The command failed. */
  takeBack(memory: DmaMemory): void {
    if (!this.#stuck()) this.#free(memory.iova);
  }

  /** Notes whose it is. @returns false when BUFFER_FREE came before the region was known */
  assign(memory: DmaMemory, region: IsmRegion): boolean {
    const loan = this.#lent.get(memory.iova);
    if (loan !== undefined) loan.region = region;
    return loan !== undefined;
  }

  /** N-5.11: the buffer of an attachment is free after the detach. That of an allocation goes with BUFFER_FREE. */
  detached(region: IsmRegion): void {
    if (region.allocated || this.#stuck()) return;
    for (const [iova, loan] of this.#lent) if (loan.region === region) this.#free(iova);
  }

  /** BUFFER_FREE came. @returns what is wrong with it; or the region that was attached with it, and ends */
  freed(iova: bigint): string | IsmRegion | null {
    const loan = this.#lent.get(iova);
    if (loan === undefined) return `BUFFER_FREE of 0x${iova.toString(16)}, which was not lent`;
    const { region } = loan;
    if (region?.allocated && !region.closed) {
      return `BUFFER_FREE of 0x${iova.toString(16)}, whose region is still attached`;
    }
    this.#free(iova);
    return region;
  }

  /** Frees all: the device was reset. */
  [Symbol.dispose](): void {
    for (const iova of [...this.#lent.keys()]) this.#free(iova);
  }

  #free(iova: bigint): void {
    const loan = this.#lent.get(iova);
    this.#lent.delete(iova);
    loan?.memory.close();
  }
}
