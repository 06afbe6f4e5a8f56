/**
 * The list of chunks that the device gives for a region: checked before anything is mapped or touched.
 *
 * @module
 */
import type { DeviceError } from "../../lib/errors/mod.ts";
import { ISM_CHUNKS_REPLY } from "../../lib/virtio/spec/ism.ts";
import type { IsmInfo } from "./config.ts";
import { ismLie } from "./error.ts";

/** In front of the list. */
export const REPLY_HEADER_BYTES: number = ISM_CHUNKS_REPLY.sizeBytes;
const OFFSET_BYTES = 8;

/** Chunks that follow each other in the region and in the area: one mapping. */
export interface ChunkRun {
  /** First byte in the area of regions. */
  readonly areaOffset: number;
  /** Bytes, whole chunks. */
  readonly sizeBytes: number;
}

/** Bytes of a reply with so many chunks. */
export function replyBytes(chunks: number): number {
  return REPLY_HEADER_BYTES + OFFSET_BYTES * chunks;
}

/** Chunks that a region of so many bytes takes; a small one takes one (N-5.4). */
export function chunksOf(sizeBytes: number, info: IsmInfo): number {
  return Math.max(1, Math.ceil(sizeBytes / info.chunkSizeBytes));
}

/** Which chunks of the area the driver's regions have. */
export class ChunkMap {
  readonly #name: string;
  readonly #info: IsmInfo;
  readonly #taken = new Set<number>();

  /** @param name function, for messages */
  constructor(name: string, info: IsmInfo) {
    this.#name = name;
    this.#info = info;
  }

  /**
   * `num` of a reply. To be called before memory is set aside for so many.
   * @throws DeviceError when the area has not so many chunks
   */
  checkCount(num: bigint): number {
    if (num >= 1n && num <= BigInt(this.#info.maxChunks)) return Number(num);
    throw this.#lie("num", `${num} chunks, in an area of ${this.#info.maxChunks}`);
  }

  /**
   * Checks a list of `num` chunks for a region of `sizeBytes`, and takes them.
   * @returns their offsets in the area, in the order of the region
   * @throws DeviceError: `num` does not fit the size or the reply, an offset outside the area or not a chunk's, a chunk that is in use. Nothing is taken then.
   */
  take(reply: Uint8Array, num: number, sizeBytes: number): number[] {
    const { chunkSizeBytes } = this.#info;
    const expected = chunksOf(sizeBytes, this.#info);
    if (num !== expected) {
      throw this.#lie(
        "num",
        `${num} chunks for ${sizeBytes} bytes, which ${expected} of ${chunkSizeBytes} hold`,
      );
    }
    if (reply.length < replyBytes(num)) {
      throw this.#lie("used.len", `a reply of ${reply.length} bytes with ${num} chunks`);
    }
    const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
    const chunks = new Set<number>();
    for (let i = 0; i < num; i++) {
      chunks.add(this.#check(i, view.getBigUint64(REPLY_HEADER_BYTES + OFFSET_BYTES * i, true), chunks));
    }
    for (const chunk of chunks) this.#taken.add(chunk);
    return Array.from(chunks, (chunk) => chunk * chunkSizeBytes);
  }

  /** Gives the chunks of a region back. */
  release(offsets: readonly number[]): void {
    for (const offset of offsets) this.#taken.delete(offset / this.#info.chunkSizeBytes);
  }

  #check(at: number, offset: bigint, chunks: ReadonlySet<number>): number {
    const size = BigInt(this.#info.chunkSizeBytes);
    const where = `chunks[${at}]`;
    if (offset % size !== 0n) throw this.#lie(where, `offset 0x${offset.toString(16)} is not a chunk's`);
    if (offset / size >= BigInt(this.#info.maxChunks)) {
      throw this.#lie(
        where,
        `offset 0x${offset.toString(16)} is outside the area of ${this.#info.regionsAreaBytes} bytes`,
      );
    }
    const chunk = Number(offset / size);
    if (chunks.has(chunk)) throw this.#lie(where, `offset 0x${offset.toString(16)} is in the list twice`);
    if (this.#taken.has(chunk)) {
      throw this.#lie(where, `offset 0x${offset.toString(16)} belongs to another region of this driver`);
    }
    return chunk;
  }

  #lie(field: string, message: string): DeviceError {
    return ismLie(this.#name, field, message);
  }
}

/** Joins chunks that follow each other. */
export function chunkRuns(offsets: readonly number[], chunkSizeBytes: number): ChunkRun[] {
  const runs: { areaOffset: number; sizeBytes: number }[] = [];
  for (const offset of offsets) {
    const last = runs.at(-1);
    if (last !== undefined && last.areaOffset + last.sizeBytes === offset) last.sizeBytes += chunkSizeBytes;
    else runs.push({ areaOffset: offset, sizeBytes: chunkSizeBytes });
  }
  return runs;
}
