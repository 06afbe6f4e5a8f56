/**
 * DMA_MAP and DMA_UNMAP as a server carries them out.
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import type { DmaTable } from "../../dma_table.ts";
import { type DmaMessages, type FarRange, MessageMemory } from "../../far_memory.ts";
import { addPassed, passedMemory, type UnsealedFiles } from "../../passed_memory.ts";
import { DMA_MAP_FLAG, DMA_UNMAP_FLAG, dmaMap, dmaUnmap } from "../protocol.ts";
import { decodeRequest, invalid, RequestRefused } from "./refusal.ts";
import type { ServedDevice } from "./served_device.ts";

/** Limits on what a client may map. */
export interface DmaLimits {
  /** Mappings at a time. */
  readonly maxDmaMaps: number;
  /** Ranges, and places in files, are whole pages of so many bytes: those of this processor, since files are mapped. */
  readonly pageBytes: number;
  /** What becomes of a file that its owner can shrink. */
  readonly unsealed: UnsealedFiles;
}

/** Whose memory is mapped, and how. */
export interface DmaMapContext {
  /** Limits of the server. */
  readonly limits: DmaLimits;
  /** For messages: the client. */
  readonly what: string;
  /** Mappings of the client, in all of its address spaces. */
  readonly mappings: number;
  /** Keep a descriptor of each file. */
  readonly keepFiles: boolean;
  /** How memory without a file is reached; null where it cannot be. */
  readonly messages: DmaMessages | null;
}

const KNOWN_FLAGS = DMA_MAP_FLAG.read | DMA_MAP_FLAG.write | DMA_MAP_FLAG.mmap | DMA_MAP_FLAG.fileIo;

/**
 * Maps a range. A file that cannot shrink is mapped, also when the client suggests file I/O; others go by `DmaLimits.unsealed`. Memory
 * without a file is reached by messages.
 *
 * @param payload of the DMA_MAP message.
 * @param fds stay the caller's.
 * @throws RequestRefused, ProtocolError (the file is too small), SyscallError
 */
export function mapDma(
  table: DmaTable,
  payload: Uint8Array,
  fds: readonly OwnedFd[],
  { limits, what, mappings, keepFiles, messages }: DmaMapContext,
): void {
  const refuse = (text: string): RequestRefused => invalid("DMA_MAP", text);
  const { flags, offset, address, size } = decodeRequest(dmaMap, payload, "DMA_MAP");
  if (payload.byteLength !== dmaMap.sizeBytes) throw refuse(`${payload.byteLength} bytes`);
  if ((flags & ~KNOWN_FLAGS) !== 0 || (flags & (DMA_MAP_FLAG.read | DMA_MAP_FLAG.write)) === 0) {
    throw refuse(`flags 0x${flags.toString(16)}`);
  }
  if (fds.length > 1) throw refuse(`${fds.length} descriptors`);
  const page = BigInt(limits.pageBytes);
  if (size === 0n || address % page !== 0n || size % page !== 0n || offset % page !== 0n) {
    throw refuse(`IOVA 0x${address.toString(16)}, size ${size}, offset ${offset} are not whole pages`);
  }
  if (address + size > 1n << 64n) throw refuse(`IOVA 0x${address.toString(16)} + ${size} passes 2^64`);
  if (mappings >= limits.maxDmaMaps) {
    throw new RequestRefused("ENOSPC", `DMA_MAP: ${mappings} mappings are the limit`);
  }
  try {
    table.checkFree(address, size);
  } catch (error) {
    throw new RequestRefused("EEXIST", `DMA_MAP: ${(error as Error).message}`);
  }
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`size ${size}`);
  const sizeBytes = Number(size);
  const range: FarRange = {
    iova: address,
    sizeBytes,
    deviceReads: (flags & DMA_MAP_FLAG.read) !== 0,
    deviceWrites: (flags & DMA_MAP_FLAG.write) !== 0,
  };
  const [file] = fds;
  if (file === undefined) {
    if ((flags & (DMA_MAP_FLAG.mmap | DMA_MAP_FLAG.fileIo)) !== 0) {
      throw refuse("a file is announced, none came");
    }
    if (messages === null) {
      throw new RequestRefused(
        "ENOTSUP",
        "DMA_MAP: no message reaches memory without a file in this address space",
      );
    }
    table.addFar(new MessageMemory(range, messages));
    return;
  }
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw refuse(`offset ${offset}`);
  addPassed(
    table,
    passedMemory(range, file, offset, { unsealed: limits.unsealed, keepFile: keepFiles, what }),
  );
}

/**
 * Unmaps one range, or all. The device is told first; the memory goes even when it objects.
 *
 * @param device null where the table's `generation` alone tells it
 * @param payload of the DMA_UNMAP message; the reply repeats it.
 * @param others are emptied with it when all is unmapped
 * @throws RequestRefused, and what the device throws
 */
export function unmapDma(
  table: DmaTable,
  device: ServedDevice | null,
  payload: Uint8Array,
  others: readonly DmaTable[] = [],
): void {
  const refuse = (code: string, text: string) => new RequestRefused(code, `DMA_UNMAP: ${text}`);
  const { flags, address, size } = decodeRequest(dmaUnmap, payload, "DMA_UNMAP");
  if (flags === DMA_UNMAP_FLAG.getDirtyBitmap) throw refuse("ENOTSUP", "dirty pages are not tracked");
  if (flags !== 0 && flags !== DMA_UNMAP_FLAG.all) throw refuse("EINVAL", `flags 0x${flags.toString(16)}`);
  if (payload.byteLength !== dmaUnmap.sizeBytes) throw refuse("EINVAL", `${payload.byteLength} bytes`);
  if (flags === DMA_UNMAP_FLAG.all) {
    if (address !== 0n || size !== 0n) throw refuse("EINVAL", "all, but address and size are not 0");
    for (const other of others) other.clear();
    return unmapAll(table, device);
  }
  if (!table.has(address, size)) {
    throw refuse("ENOENT", `no mapping at 0x${address.toString(16)} of ${size} bytes`);
  }
  try {
    device?.dmaWillUnmap(address, Number(size));
  } finally {
    table.remove(address, size);
  }
}

/** Every range is announced, whatever the device says of one; the first objection is thrown when all are gone. */
function unmapAll(table: DmaTable, device: ServedDevice | null): void {
  let objection: unknown;
  for (const region of table.ranges) {
    try {
      device?.dmaWillUnmap(region.iova, region.sizeBytes);
    } catch (error) {
      objection ??= error;
    }
  }
  table.clear();
  if (objection !== undefined) throw objection;
}
