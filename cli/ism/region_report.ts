/**
 * A region of this function as text and as plain data.
 *
 * @module
 */
import type { IsmInfo, IsmRegion } from "../../drivers/ism/virtio_ism.ts";
import { bytesText, countText } from "../output.ts";
import { tokenText } from "./token.ts";

/** What `--json` shows of a region. */
export function regionReport(region: IsmRegion, info: IsmInfo): Record<string, unknown> {
  return {
    token: tokenText(region.token),
    bytes: region.sizeBytes,
    rights: rightNames(region),
    mapped: region.mapped,
    chunkBytes: info.chunkSizeBytes,
    chunks: chunkRanges(region, info),
  };
}

/** `1 MiB to read and write; 16 chunks of 64 KiB: 0–15; mapped` */
export function regionText(region: IsmRegion, info: IsmInfo): string {
  const places = chunkRanges(region, info).map(({ first, count }) =>
    count === 1 ? `${first}` : `${first}–${first + count - 1}`
  );
  const chunks = `${countText(region.chunks.length, "chunk")} of ${bytesText(info.chunkSizeBytes)}`;
  return `${bytesText(region.sizeBytes)} to ${rightNames(region).join(" and ")}; ${chunks}: ${
    places.join(", ")
  }; ${region.mapped ? "mapped" : "reached by messages"}`;
}

/** How it was attached: some of `read` and `write`. */
function rightNames({ rights }: IsmRegion): string[] {
  return (["read", "write"] as const).filter((name) => rights[name]);
}

/** Chunks that follow each other: the first one's number, and how many. */
function chunkRanges(region: IsmRegion, { chunkSizeBytes }: IsmInfo): { first: number; count: number }[] {
  return region.segments.map(({ areaOffset, sizeBytes }) => ({
    first: areaOffset / chunkSizeBytes,
    count: Math.ceil(sizeBytes / chunkSizeBytes),
  }));
}
