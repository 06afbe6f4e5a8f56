/**
 * `ringside rng`
 *
 * @module
 */
import { VirtioRng } from "../drivers/virtio_rng.ts";
import { replaceFile } from "../ffi/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { PciModernTransport } from "../lib/virtio/mod.ts";
import { openOptions } from "./opening.ts";
import { print, printJson, progress, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { hex } from "./list.ts";

const PIECE_BYTES = 4096;

/** Reads random bytes. */
export async function rng(host: Host, options: Of<"rng">): Promise<void> {
  using device = host.open(options.function, openOptions(options));
  using transport = PciModernTransport.open(device);
  await using entropy = VirtioRng.open(transport, { interrupts: options.interrupts });
  const bytes = new Uint8Array(options.bytes);
  {
    using bar = progress("reading", options.bytes, "bytes", options.json);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      await entropy.fill(bytes.subarray(at, at + PIECE_BYTES));
      bar.update(Math.min(at + PIECE_BYTES, bytes.length));
    }
  }
  if (options.output !== undefined) replaceFile(options.output, bytes, 0o600);
  const text = [...options.output === undefined ? bytes : []].map((byte) => hex(byte, 2)).join("");
  if (options.json) {
    printJson({
      function: device.name,
      bytes: options.bytes,
      interrupts: entropy.interrupts,
      kind: entropy.interruptKind,
      ...(options.output === undefined ? { hex: text } : { output: options.output }),
    });
    return;
  }
  if (options.output === undefined) {
    for (let at = 0; at < text.length; at += 64) print(text.slice(at, at + 64));
  } else remark(`${options.bytes} bytes in ${options.output}`);
}
