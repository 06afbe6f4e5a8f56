/**
 * What is written to a disk: made from a seed alone, so that who writes in the guest and who looks at the image file outside it need to share
 * nothing else.
 */
import { Random } from "../random.ts";

const SECTOR_BYTES = 512;
/** A disk is cut into extents; writes of one round are to different ones, since the device may do them in any order. */
const EXTENT_SECTORS = 32;

/** One write request. */
export interface DiskWrite {
  readonly sector: number;
  readonly sectors: number;
  /** Seed of its bytes. */
  readonly seed: number;
}

/** Which part of a disk, in sectors; both are multiples of 32. */
export interface DiskPart {
  readonly first: number;
  readonly sectors: number;
}

/** Random writes of 1 to 32 sectors, no two of which touch the same sector. @param count at most one for each 32 sectors */
export function separateWrites(seed: number, part: DiskPart, count: number): DiskWrite[] {
  const random = new Random(seed);
  const below = (limit: number): number => random.below(limit);
  const extents = Array.from({ length: part.sectors / EXTENT_SECTORS }, (_, extent) => extent);
  return Array.from({ length: count }, (): DiskWrite => {
    const [extent = 0] = extents.splice(below(extents.length), 1);
    const sectors = 1 + below(EXTENT_SECTORS);
    const into = below(EXTENT_SECTORS - sectors + 1);
    return {
      sector: part.first + extent * EXTENT_SECTORS + into,
      sectors,
      seed: random.below(0x1_0000_0000),
    };
  });
}

/** Random writes that may overlap: later ones win, so each must be over before the next. */
export function overlappingWrites(seed: number, part: DiskPart, count: number): DiskWrite[] {
  return Array.from({ length: count }, (_, index) => separateWrites(seed + index, part, 1)[0]!);
}

/** Fills the bytes of a write. */
export function fillWrite(write: DiskWrite, into: Uint8Array): void {
  into.set(new Random(write.seed).bytes(write.sectors * SECTOR_BYTES));
}

/** Does to a copy of the disk what the device is to do. */
export function applyWrites(disk: Uint8Array, writes: readonly DiskWrite[]): void {
  for (const write of writes) {
    const from = write.sector * SECTOR_BYTES;
    fillWrite(write, disk.subarray(from, from + write.sectors * SECTOR_BYTES));
  }
}

/** SHA-256 in hexadecimal. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
