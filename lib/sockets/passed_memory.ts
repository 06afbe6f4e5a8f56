/**
 * Memory that a peer passes as a file, for a device to use.
 *
 * @module
 */
import { isSealedAgainstShrinking, MappedMemory, type OwnedFd } from "../../ffi/mod.ts";
import { DmaRegion, type DmaTable } from "./dma_table.ts";
import { CopiedFile, type FarMemory, type FarRange } from "./far_memory.ts";
import { checkPassedFile } from "./passed_fd.ts";

/**
 * What a server does with a client's file that is not sealed against shrinking (F_SEAL_SHRINK), and so could be cut under a mapping, which
 * would end the server's process: `copy` it (only the kernel touches it; slower), `map` it all the same, or `refuse` it.
 */
export type UnsealedFiles = "copy" | "map" | "refuse";

/** How it is taken. */
export interface PassedMemoryOptions {
  /** What becomes of a file that its owner can shrink. */
  readonly unsealed: UnsealedFiles;
  /** Keep a descriptor of the file. */
  readonly keepFile?: boolean;
  /** For messages: whose. */
  readonly what: string;
}

/**
 * The range, behind which the file lies from `offset` on: mapped, or copied piece by piece.
 *
 * @param file stays the caller's
 * @throws ProtocolError (the file is too small, or not sealed), SyscallError
 */
export function passedMemory(
  range: FarRange,
  file: OwnedFd,
  offset: bigint,
  { unsealed, keepFile, what }: PassedMemoryOptions,
): DmaRegion | FarMemory {
  const { iova, sizeBytes } = range;
  checkPassedFile(file, offset, sizeBytes, unsealed === "refuse", what);
  const memory = MappedMemory.map(file, sizeBytes, { offset });
  if (unsealed === "copy" && !isSealedAgainstShrinking(file)) return new CopiedFile(range, memory);
  using opened = new DisposableStack();
  opened.use(memory);
  // A mapping needs its file no longer.
  const backing = keepFile ? { fd: opened.use(file.duplicate()), offset: Number(offset) } : undefined;
  const region = new DmaRegion(iova, memory, range, backing);
  opened.move();
  return region;
}

/** Adds it to a table, which owns it from now on. @throws UsageError when it overlaps another range; then it is let go */
export function addPassed(table: DmaTable, memory: DmaRegion | FarMemory): void {
  try {
    if (memory instanceof DmaRegion) table.add(memory);
    else table.addFar(memory);
  } catch (error) {
    memory.close();
    throw error;
  }
}
