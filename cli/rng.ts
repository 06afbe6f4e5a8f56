/**
 * `ringside rng`
 *
 * @module
 */
import { VirtioRng } from "../drivers/rng/virtio_rng.ts";
import { EventLoopTurns } from "../lib/wait/event_loop_turns.ts";
import type { Host } from "../lib/host/mod.ts";
import { interruption } from "./interruption.ts";
import { countText } from "./output.ts";
import type { Of } from "./parser.ts";
import { progress } from "./progress.ts";
import { RawOutput, readerLeft } from "./raw_output.ts";
import { reach } from "./reaching.ts";

const PIECE_BYTES = 4096;

/** Reads random bytes. */
export async function rng(host: Host, options: Of<"rng">): Promise<void> {
  using output = new RawOutput(options, options.bytes, countText(options.bytes, "byte"));
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const { interrupts } = options;
  const entropy = stack.use(VirtioRng.open(await reach(host, options, stack), { interrupts }));
  try {
    using bar = await progress("reading", options.bytes, "bytes", output.quiet);
    const turns = new EventLoopTurns();
    const piece = new Uint8Array(PIECE_BYTES);
    for (let done = 0; done < options.bytes;) {
      const part = piece.subarray(0, Math.min(PIECE_BYTES, options.bytes - done));
      await entropy.fill(part);
      output.write(part);
      done += part.length;
      bar.update(done);
      if (turns.due()) await turns.take(stop.signal);
    }
  } catch (error) {
    if (readerLeft(error, options.output)) return;
    throw error;
  }
  const facts = {
    function: entropy.transport.name,
    bytes: options.bytes,
    interrupts: entropy.interrupts,
    interruptKind: entropy.interruptKind,
  };
  output.tell(facts, countText(options.bytes, "byte"));
}
