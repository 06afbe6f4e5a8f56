/**
 * A region of this function as text and as plain data.
 *
 * @module
 */
import type { IsmInfo, IsmRegion } from "../../drivers/ism/virtio_ism.ts";
import { bytesText, countText } from "../output.ts";
import { tokenText } from "./token.ts";

/** Chunks that follow each other: the first one's number, and how many. */
export interface ChunkRange {
  readonly first: number;
  readonly count: number;
}

/** What `--json` shows of a region. */
export interface RegionReport {
  readonly token: string;
  readonly bytes: number;
  /** How it was attached: some of `read` and `write`. */
  readonly rights: readonly string[];
  readonly mapped: boolean;
  readonly chunkBytes: number;
  readonly chunks: readonly ChunkRange[];
}

/** A region as plain data. */
export function regionReport(region: IsmRegion, info: IsmInfo): RegionReport {
  return {
    token: tokenText(region.token),
    bytes: region.sizeBytes,
    rights: [...(region.rights.read ? ["read"] : []), ...(region.rights.write ? ["write"] : [])],
    mapped: region.mapped,
    chunkBytes: info.chunkSizeBytes,
    chunks: chunkRanges(region.chunks, info.chunkSizeBytes),
  };
}

/** `1 MiB to read,write; 16 chunks of 64 KiB: 0–15; mapped` */
export function regionText(region: IsmRegion, info: IsmInfo): string {
  const { rights, mapped, chunks } = regionReport(region, info);
  const places = chunks.map(({ first, count }) => count === 1 ? `${first}` : `${first}–${first + count - 1}`);
  const count = countText(region.chunks.length, "chunk");
  return `${bytesText(region.sizeBytes)} to ${rights.join(" and ")}; ${count} of ${
    bytesText(info.chunkSizeBytes)
  }: ${places.join(", ")}; ${mapped ? "mapped" : "reached by messages"}`;
}

function chunkRanges(offsets: readonly number[], chunkBytes: number): ChunkRange[] {
  const ranges: { first: number; count: number }[] = [];
  for (const offset of offsets) {
    const chunk = offset / chunkBytes;
    const last = ranges.at(-1);
    if (last !== undefined && last.first + last.count === chunk) last.count++;
    else ranges.push({ first: chunk, count: 1 });
  }
  return ranges;
}
