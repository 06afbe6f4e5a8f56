/**
 * `ringside rng`
 *
 * @module
 */
import { VirtioRng } from "../drivers/rng/virtio_rng.ts";
import { EventLoopTurns } from "../lib/wait/event_loop_turns.ts";
import { O, OwnedFd, SyscallError, writeAll } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import { interruption } from "./interruption.ts";
import { openOptions, transportOptions } from "./opening.ts";
import { countText, hexText, jsonText, print, progress, remark } from "./output.ts";
import type { Of } from "./parser.ts";

const PIECE_BYTES = 4096;
const LINE_BYTES = 32;
const MOST_JSON_BYTES = 16 << 20;

/** Reads random bytes. */
export async function rng(host: Host, options: Of<"rng">): Promise<void> {
  if (options.json && options.output === undefined && options.bytes > MOST_JSON_BYTES) {
    throw new UsageError(`${options.bytes} bytes as JSON: at most ${MOST_JSON_BYTES}`, {
      hint: "write them to a file: --output FILE",
    });
  }
  // Bytes on standard output leave standard error for what is said about them.
  const say = options.output === "-" ? remark : print;
  using stop = interruption();
  using device = host.open(options.function, openOptions(options));
  using transport = openTransport(device, transportOptions(device, options));
  await using entropy = VirtioRng.open(transport, { interrupts: options.interrupts });
  using file = openOutput(options.output);
  let text = "";
  try {
    using bar = progress("reading", options.bytes, "bytes", options.json || file === undefined);
    const turns = new EventLoopTurns();
    const piece = new Uint8Array(PIECE_BYTES);
    for (let done = 0; done < options.bytes;) {
      const part = piece.subarray(0, Math.min(PIECE_BYTES, options.bytes - done));
      await entropy.fill(part);
      if (file !== undefined) writeAll(file, part);
      else if (options.json) text += hexText(part);
      else printHex(part);
      done += part.length;
      bar.update(done);
      if (turns.due()) await turns.take(stop.signal);
    }
  } catch (error) {
    // Who reads our pipe has seen enough, as with `| head`.
    if (options.output === "-" && error instanceof SyscallError && error.code === "EPIPE") return;
    throw error;
  }
  if (options.json) {
    say(jsonText({
      function: device.name,
      bytes: options.bytes,
      interrupts: entropy.interrupts,
      interruptKind: entropy.interruptKind,
      ...(options.output === undefined ? { hex: text } : { output: options.output }),
    }));
  } else if (file !== undefined) remark(`${countText(options.bytes, "byte")} in ${file.target}`);
}

function openOutput(path: string | undefined): OwnedFd | undefined {
  if (path === undefined) return undefined;
  if (path === "-") return OwnedFd.standard("output");
  return OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
}

function printHex(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += LINE_BYTES) print(hexText(bytes.subarray(at, at + LINE_BYTES)));
}
