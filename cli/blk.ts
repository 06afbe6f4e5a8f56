/**
 * `ringside blk`
 *
 * @module
 */
import { type RangeLimits, VirtioBlk } from "../drivers/blk/virtio_blk.ts";
import { O, OwnedFd, read, regularFileBytes } from "../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { interruption } from "./interruption.ts";
import { bytesText, countText, print, printJson, remark } from "./output.ts";
import type { Invocation, Of } from "./parser.ts";
import { progress } from "./progress.ts";
import { RawOutput, readerLeft } from "./raw_output.ts";
import { reach } from "./reaching.ts";

const SECTOR_BYTES = 512;
const PIECE_SECTORS = 4096;

/** What all `blk` commands have in common. */
type Blk = Extract<Invocation, { command: `blk ${string}` }>;

async function withBlk(
  host: Host,
  options: Blk,
  use: (blk: VirtioBlk, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const { interrupts, queueSize } = options;
  const blk = stack.use(await VirtioBlk.open(await reach(host, options, stack), { interrupts, queueSize }));
  await use(blk, stop.signal);
}

/** Shows what a block device says of itself. */
export function blkInfo(host: Host, options: Of<"blk info">): Promise<void> {
  return withBlk(host, options, async (blk) => {
    const { config } = blk;
    const info = {
      function: blk.transport.name,
      id: await blk.id(),
      sectors: blk.capacitySectors,
      bytes: blk.capacitySectors * SECTOR_BYTES,
      readOnly: blk.readOnly,
      writeback: blk.writeback,
      blockBytes: config.blockBytes,
      queues: config.queues,
      segmentBytes: limit(config.sizeMax),
      segments: limit(config.segMax),
      topology: config.topology ?? null,
      geometry: config.geometry ?? null,
      discard: config.discard ?? null,
      writeZeroes: config.writeZeroes ?? null,
      features: blk.featureNames,
    };
    if (options.json) return printJson(info);
    print(`${info.function}  ${info.id === "" ? "no id" : `id ${info.id}`}`);
    const sectors = countText(info.sectors, "sector");
    print(`  ${bytesText(info.bytes)}: ${sectors} of ${SECTOR_BYTES} bytes, blocks of ${info.blockBytes}`);
    const cache = info.writeback ? "with a write cache" : "without a write cache";
    print(info.readOnly ? "  read-only" : `  read and write, ${cache}`);
    print(`  ${countText(info.queues, "request queue")}`);
    const any = "any number of";
    print(`  data: ${info.segments ?? any} segments of ${info.segmentBytes ?? any} bytes a request`);
    print(`  discard: ${rangeText(config.discard)}`);
    print(`  write zeroes: ${rangeText(config.writeZeroes)}`);
    print(`  ${info.features.join(" ")}`);
  });
}

/** Prints a block device's id. */
export function blkId(host: Host, options: Of<"blk id">): Promise<void> {
  return withBlk(host, options, async (blk) => {
    const id = await blk.id();
    if (options.json) printJson({ function: blk.transport.name, id });
    else print(id);
  });
}

/** Reads sectors: in hexadecimal, or raw into a file. */
export function blkRead(host: Host, options: Of<"blk read">): Promise<void> {
  const { sector, count } = options;
  const shown = new RawOutput(options, count * SECTOR_BYTES, countText(count, "sector"));
  return withBlk(host, options, async (blk, signal) => {
    using output = shown;
    using bar = await progress("reading", count * SECTOR_BYTES, "bytes", output.quiet);
    try {
      for (let done = 0; done < count; done += PIECE_SECTORS) {
        signal.throwIfAborted();
        const bytes = await blk.read(sector + done, Math.min(PIECE_SECTORS, count - done));
        output.write(bytes, (sector + done) * SECTOR_BYTES);
        bar.update(done * SECTOR_BYTES);
      }
    } catch (error) {
      if (readerLeft(error, options.output)) return;
      throw error;
    }
    output.tell({ function: blk.transport.name, sector, sectors: count }, countText(count, "sector"));
  });
}

/** Writes a file's bytes to sectors, and flushes. What can be known of the file before the first byte is written is looked at before. */
export function blkWrite(host: Host, options: Of<"blk write">): Promise<void> {
  return withBlk(host, options, async (blk, signal) => {
    using file = options.file === "-" ? OwnedFd.standard("input") : OwnedFd.open(options.file, O.RDONLY);
    const first = options.sector;
    checkFits(blk, first, file);
    let sector = first;
    const total = regularFileBytes(file);
    using bar = await progress("writing", total, "bytes", options.json);
    try {
      for (;;) {
        signal.throwIfAborted();
        const bytes = readPiece(file, PIECE_SECTORS * SECTOR_BYTES);
        if (bytes.length === 0) break;
        if (bytes.length % SECTOR_BYTES !== 0) throw notWhole(file.target);
        if (options.dryRun) checkRange(blk, sector, bytes.length / SECTOR_BYTES);
        else await blk.write(sector, bytes);
        sector += bytes.length / SECTOR_BYTES;
        bar.update((sector - first) * SECTOR_BYTES);
      }
      if (!options.dryRun) await blk.flush();
    } catch (error) {
      const range = `${countText(sector - first, "sector")} from ${first} on`;
      if (sector > first && !options.dryRun) {
        remark(`${range} are written; what comes after them is as it was, or partly written`);
      }
      throw error;
    }
    done(options, blk, first, sector - first, "written");
  });
}

/** @throws UsageError for a file that ends within a sector, or beyond the device; how long a pipe is nobody knows */
function checkFits(blk: VirtioBlk, first: number, file: OwnedFd): void {
  const bytes = regularFileBytes(file);
  if (bytes === undefined) return;
  if (bytes % SECTOR_BYTES !== 0) throw notWhole(file.target);
  const sectors = bytes / SECTOR_BYTES, room = Math.max(0, blk.capacitySectors - first);
  if (sectors <= room) return;
  throw new UsageError(
    `${file.target} has ${
      countText(sectors, "sector")
    }, and from ${first} on there are ${room}; nothing was written`,
  );
}

/** What a dry run can know of a request. @throws UsageError, UnsupportedError */
function checkRange(blk: VirtioBlk, first: number, count: number, what?: "discard" | "writeZeroes"): void {
  const { name } = blk.transport;
  if (blk.readOnly) throw new UsageError(`${name} is read-only`);
  if (what !== undefined && blk.config[what] === undefined) {
    throw new UnsupportedError(`${name} has no ${what === "discard" ? "DISCARD" : "WRITE_ZEROES"}`);
  }
  if (first + count <= blk.capacitySectors) return;
  throw new UsageError(
    `${name} has ${countText(blk.capacitySectors, "sector")}: ${first} and ${count} more are beyond its end`,
  );
}

function notWhole(name: string): UsageError {
  return new UsageError(`${name} does not end with a whole sector of ${SECTOR_BYTES} bytes`);
}

/** Empties the device's write cache. */
export function blkFlush(host: Host, options: Of<"blk flush">): Promise<void> {
  return withBlk(host, options, async (blk) => {
    await blk.flush();
    if (options.json) printJson({ function: blk.transport.name, flushed: true });
    else remark("flushed");
  });
}

/** Gives sectors back. */
export function blkDiscard(host: Host, options: Of<"blk discard">): Promise<void> {
  return withBlk(host, options, async (blk) => {
    if (options.dryRun) checkRange(blk, options.sector, options.count, "discard");
    else await blk.discard(options.sector, options.count);
    done(options, blk, options.sector, options.count, "discarded");
  });
}

/** Makes sectors read as zero. */
export function blkZero(host: Host, options: Of<"blk zero">): Promise<void> {
  return withBlk(host, options, async (blk) => {
    if (options.dryRun) checkRange(blk, options.sector, options.count, "writeZeroes");
    else {
      await blk.writeZeroes(options.sector, options.count, { unmap: options.unmap });
      await blk.flush();
    }
    done(options, blk, options.sector, options.count, "zeroed");
  });
}

function done(options: Blk, blk: VirtioBlk, sector: number, sectors: number, what: string): void {
  if (options.json) printJson({ function: blk.transport.name, sector, sectors });
  else remark(`${countText(sectors, "sector")} ${what}`);
}

function rangeText(range: RangeLimits | undefined): string {
  return range === undefined ? "no" : `${range.segments} segments of ${range.sectors} sectors`;
}

/** A limit that is none is null, since JSON has no Infinity. */
function limit(value: number): number | null {
  return value === Infinity ? null : value;
}

/** Up to `most` bytes; fewer only at the end, since a pipe gives what it has. */
function readPiece(file: OwnedFd, most: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(most);
  let filled = 0;
  while (filled < most) {
    const count = read(file, bytes.subarray(filled));
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}
