/**
 * The client's own record of what it mapped, for servers that reach it by DMA_READ and DMA_WRITE messages.
 *
 * @module
 */
import type { MappedMemory } from "../../../../ffi/mod.ts";
import type { DmaAccess } from "../../../memory/mod.ts";

interface Entry {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly memory: MappedMemory;
  readonly access: DmaAccess;
}

/** Memory by IOVA. */
export class ClientMemory {
  readonly #entries = new Map<bigint, Entry>();

  /** How many ranges are mapped. */
  get count(): number {
    return this.#entries.size;
  }

  /** Records a range that the server was told of. */
  add(iova: bigint, sizeBytes: number, memory: MappedMemory, access: DmaAccess): void {
    this.#entries.set(iova, { iova, sizeBytes, memory, access });
  }

  /** True when exactly this range is recorded. */
  has(iova: bigint, sizeBytes: number): boolean {
    return this.#entries.get(iova)?.sizeBytes === sizeBytes;
  }

  /** Forgets a range. */
  remove(iova: bigint): void {
    this.#entries.delete(iova);
  }

  /**
   * A view of `length` bytes at `iova`, or undefined when they do not lie in one range that the device may access this way.
   */
  view(iova: bigint, length: number, deviceWrites: boolean): Uint8Array<ArrayBuffer> | undefined {
    for (const { iova: start, sizeBytes, memory, access } of this.#entries.values()) {
      if (iova < start || iova + BigInt(length) > start + BigInt(sizeBytes)) continue;
      if (!(deviceWrites ? access.deviceWrites : access.deviceReads) || memory.closed) return undefined;
      return memory.bytes(Number(iova - start), length);
    }
    return undefined;
  }

  /** Forgets every range. */
  clear(): void {
    this.#entries.clear();
  }
}
