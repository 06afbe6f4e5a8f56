/**
 * Bytes from standard input into a channel, and out of a channel to standard output.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import type { IsmChannel } from "../../drivers/ism/ism_channel.ts";
import { OwnedFd, read, waitReady } from "../../ffi/mod.ts";
import { EventLoopTurns } from "../../lib/wait/event_loop_turns.ts";
import { PeerGoneError, UsageError } from "../../lib/errors/mod.ts";
import type { Progress } from "../progress.ts";
import { PatientOutput } from "./patient_output.ts";

/** What a pump is given. */
export interface PumpOptions {
  readonly channel: IsmChannel;
  readonly meter: Progress;
  /** Ends it, with the signal's reason. */
  readonly signal: AbortSignal;
  readonly sha256: boolean;
}

/** What has passed. */
export interface Passed {
  readonly bytes: number;
  /** In hexadecimal; undefined when it was not asked for. */
  readonly sha256: string | undefined;
}

const PIECE_BYTES = 256 << 10;
/** This thread sleeps so long at most before the event loop has a turn. */
const BLOCK_MS = 5;
/** How often a side that waits looks whether the other one is still there, and whether there was a signal that did not end the wait. */
const LOOK_MS = 100;

/** Sends all of standard input. Returns when the other side has written all of it, and says so by closing. */
export async function sendInput({ channel, meter, signal, sha256 }: PumpOptions): Promise<Passed> {
  using input = OwnedFd.standard("input");
  const count = new Count(sha256);
  const buffer = new Uint8Array(PIECE_BYTES);
  const turns = new EventLoopTurns();
  for (;;) {
    if (turns.due()) await turns.take(signal);
    if (!waitReady(input, "readable", LOOK_MS)) {
      await turns.take(signal);
      stillReads(channel, count.bytes);
      continue;
    }
    const got = read(input, buffer);
    if (got === 0) break;
    count.add(buffer, got);
    for (let at = 0; at < got;) {
      const taken = channel.write(buffer, at, got);
      at += taken;
      if (taken === 0) await room(channel, count.bytes, turns, signal);
    }
    meter.update(count.bytes);
  }
  channel.closeWrite();
  await channel.drained();
  // What the other side has read it may fail to write: it closes when it has.
  while (!hasEnded(channel)) await channel.waitReadable();
  return count.result();
}

/** Writes what comes to standard output, until the other side says that it was all. */
export async function receiveOutput({ channel, meter, signal, sha256 }: PumpOptions): Promise<Passed> {
  using output = new PatientOutput();
  const count = new Count(sha256);
  const buffer = new Uint8Array(PIECE_BYTES);
  const turns = new EventLoopTurns();
  for (;;) {
    if (turns.due()) await turns.take(signal);
    const got = channel.read(buffer);
    if (got === 0) {
      if (channel.ended) break;
      if (!channel.waitReadableBlocking(BLOCK_MS)) await channel.waitReadable();
      continue;
    }
    count.add(buffer, got);
    for (let at = 0; at < got;) {
      const taken = output.write(at === 0 && got === buffer.length ? buffer : buffer.subarray(at, got));
      at += taken;
      if (taken === 0 && (!output.wait(LOOK_MS) || turns.due())) await turns.take(signal);
    }
    meter.update(count.bytes);
  }
  return count.result();
}

async function room(
  channel: IsmChannel,
  bytes: number,
  turns: EventLoopTurns,
  signal: AbortSignal,
): Promise<void> {
  if (channel.waitWritableBlocking(BLOCK_MS)) {
    if (turns.due()) await turns.take(signal);
    return;
  }
  while (!await channel.waitWritable(LOOK_MS)) stillReads(channel, bytes);
}

/** Nothing is to come from there while this side sends. @returns whether it has said that nothing will */
function hasEnded(channel: IsmChannel): boolean {
  if (channel.read(new Uint8Array(1)) > 0) {
    throw new UsageError("both sides send", { hint: "one of the two takes --receive" });
  }
  return channel.ended;
}

function stillReads(channel: IsmChannel, bytes: number): void {
  if (!hasEnded(channel)) return;
  throw new PeerGoneError(`the other side has stopped reading, after ${bytes} bytes at most`);
}

class Count {
  bytes = 0;
  readonly #hash: Hash | undefined;

  constructor(sha256: boolean) {
    this.#hash = sha256 ? createHash("sha256") : undefined;
  }

  add(buffer: Uint8Array, count: number): void {
    this.bytes += count;
    this.#hash?.update(count === buffer.length ? buffer : buffer.subarray(0, count));
  }

  result(): Passed {
    return { bytes: this.bytes, sha256: this.#hash?.digest("hex") };
  }
}
