/**
 * `ringside blk`
 *
 * @module
 */
import { VirtioBlk, type VirtioBlkOptions } from "../drivers/blk/virtio_blk.ts";
import { O, OwnedFd, read, SyscallError, writeAll } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import { interruption } from "./interruption.ts";
import { openOptions, transportOptions } from "./opening.ts";
import { bytesText, countText, hexText, jsonText, print, printJson, progress, remark } from "./output.ts";
import type { Invocation, Of } from "./parser.ts";

const SECTOR_BYTES = 512;
const PIECE_SECTORS = 4096;
const LINE_BYTES = 32;
const MOST_JSON_SECTORS = 32768;

/** What all `blk` commands have in common. */
type Blk = Extract<Invocation, { command: `blk ${string}` }>;

async function withBlk(
  host: Host,
  options: Blk,
  use: (blk: VirtioBlk, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  using stop = interruption();
  using device = host.open(options.function, openOptions(options));
  using transport = openTransport(device, transportOptions(device, options));
  const driving: VirtioBlkOptions = {
    interrupts: options.interrupts,
    queueSize: options.queueSize,
  };
  await using blk = await VirtioBlk.open(transport, driving);
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
    print(
      `  ${bytesText(info.bytes)}: ${
        countText(info.sectors, "sector")
      } of ${SECTOR_BYTES} bytes, blocks of ${info.blockBytes}`,
    );
    print(
      `  ${
        info.readOnly ? "read-only" : `read and write, ${info.writeback ? "with" : "without"} a write cache`
      }`,
    );
    print(`  ${countText(info.queues, "request queue")}`);
    print(
      `  data: ${info.segments ?? "any number of"} segments of ${
        info.segmentBytes ?? "any number of"
      } bytes a request`,
    );
    for (
      const [name, range] of [["discard", config.discard], ["write zeroes", config.writeZeroes]] as const
    ) {
      print(
        `  ${name}: ${range === undefined ? "no" : `${range.segments} segments of ${range.sectors} sectors`}`,
      );
    }
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
  if (options.json && options.output === undefined && options.count > MOST_JSON_SECTORS) {
    throw new UsageError(`${options.count} sectors as JSON: at most ${MOST_JSON_SECTORS}`, {
      hint: "write them to a file: --output FILE",
    });
  }
  return withBlk(host, options, async (blk, signal) => {
    using file = openOutput(options.output);
    using bar = progress("reading", options.count, "sectors", options.json || file === undefined);
    let text = "";
    try {
      for (let done = 0; done < options.count; done += PIECE_SECTORS) {
        signal.throwIfAborted();
        const bytes = await blk.read(options.sector + done, Math.min(PIECE_SECTORS, options.count - done));
        if (file !== undefined) writeAll(file, bytes);
        else if (options.json) text += hexText(bytes);
        else printHex(bytes, (options.sector + done) * SECTOR_BYTES);
        bar.update(done);
      }
    } catch (error) {
      // Who reads our pipe has seen enough, as with `| head`.
      if (options.output === "-" && error instanceof SyscallError && error.code === "EPIPE") return;
      throw error;
    }
    if (options.json) {
      const result = {
        function: blk.transport.name,
        sector: options.sector,
        sectors: options.count,
        ...(options.output === undefined ? { hex: text } : { output: options.output }),
      };
      if (options.output === "-") remark(jsonText(result));
      else printJson(result);
    } else if (file !== undefined) remark(`${countText(options.count, "sector")} in ${file.target}`);
  });
}

/** Writes a file's bytes to sectors, and flushes. */
export function blkWrite(host: Host, options: Of<"blk write">): Promise<void> {
  return withBlk(host, options, async (blk, signal) => {
    using file = options.file === "-" ? OwnedFd.standard("input") : OwnedFd.open(options.file, O.RDONLY);
    let sector = options.sector;
    for (;;) {
      signal.throwIfAborted();
      const bytes = readPiece(file, PIECE_SECTORS * SECTOR_BYTES);
      if (bytes.length === 0) break;
      if (bytes.length % SECTOR_BYTES !== 0) {
        throw new UsageError(`${file.target} does not end with a whole sector of ${SECTOR_BYTES} bytes`, {
          hint: `what came before is written: ${countText(sector - options.sector, "sector")}`,
        });
      }
      await blk.write(sector, bytes);
      sector += bytes.length / SECTOR_BYTES;
    }
    await blk.flush();
    done(options, blk, options.sector, sector - options.sector, "written");
  });
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
    await blk.discard(options.sector, options.count);
    done(options, blk, options.sector, options.count, "discarded");
  });
}

/** Makes sectors read as zero. */
export function blkZero(host: Host, options: Of<"blk zero">): Promise<void> {
  return withBlk(host, options, async (blk) => {
    await blk.writeZeroes(options.sector, options.count, { unmap: options.unmap });
    await blk.flush();
    done(options, blk, options.sector, options.count, "zeroed");
  });
}

function done(options: Blk, blk: VirtioBlk, sector: number, sectors: number, what: string): void {
  if (options.json) printJson({ function: blk.transport.name, sector, sectors });
  else remark(`${countText(sectors, "sector")} ${what}`);
}

/** A limit that is none is null, since JSON has no Infinity. */
function limit(value: number): number | null {
  return value === Infinity ? null : value;
}

function openOutput(path: string | undefined): OwnedFd | undefined {
  if (path === undefined) return undefined;
  if (path === "-") return OwnedFd.standard("output");
  return OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
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

function printHex(bytes: Uint8Array, offset: number): void {
  for (let at = 0; at < bytes.length; at += LINE_BYTES) {
    const address = (offset + at).toString(16).padStart(10, "0");
    print(`${address}  ${hexText(bytes.subarray(at, at + LINE_BYTES))}`);
  }
}
