/**
 * `ringside net receive`
 *
 * @module
 */
import { FrameBurst } from "../drivers/net/api/frame_burst.ts";
import type { NetDevice } from "../drivers/net/api/net_device.ts";
import { EventLoopTurns } from "../lib/wait/event_loop_turns.ts";
import { CaptureWriter } from "../lib/capture/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { openNet } from "./driving.ts";
import { interruption } from "./interruption.ts";
import { countText, jsonText, print, rateText, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { progress } from "./progress.ts";
import { readerLeft } from "./raw_output.ts";

/** How long a wait may last before Ctrl-C is looked at. */
const SLICE_MS = 100;
const BURST = 64;

/** Writes received frames to a capture file, until enough came, the time is over, or Ctrl-C. */
export async function netReceive(host: Host, options: Of<"net receive">): Promise<void> {
  // Frames on standard output leave standard error for what is said about them.
  const say = options.capture === "-" ? remark : print;
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const net = await openNet(host, options, stack);
  if (options.promiscuous) await net.setPromiscuous(true);
  const writer = stack.use(new CaptureWriter(options.capture));
  const start = performance.now();
  const counted = { bytes: 0 };
  try {
    await receive(net, writer, options, stop.signal, counted);
    writer.close();
  } catch (error) {
    // What was received is not lost with what went wrong afterwards.
    if (writer.frames === 0) writer.discard();
    if (!readerLeft(error, options.capture)) throw error;
  }
  const seconds = (performance.now() - start) / 1000;
  if (options.json) {
    say(jsonText({
      function: net.name,
      received: writer.frames,
      bytes: counted.bytes,
      capture: options.capture,
      format: writer.format,
      seconds,
      framesPerSecond: Math.round(writer.frames / seconds),
      statistics: net.statistics(),
    }));
    return;
  }
  const what = `${countText(writer.frames, "frame")}, ${countText(counted.bytes, "byte")}`;
  say(
    `${net.name}: ${what} in ${writer.path} after ${seconds.toFixed(2)} s${rateText(writer.frames, seconds)}`,
  );
}

async function receive(
  net: NetDevice,
  writer: CaptureWriter,
  options: Of<"net receive">,
  signal: AbortSignal,
  counted: { bytes: number },
): Promise<void> {
  using bar = await progress("receiving", options.count, "frames", options.json);
  const rx = net.rx[0]!;
  const burst = new FrameBurst(BURST);
  const frame = new Uint8Array(65536);
  const deadline = options.seconds === undefined ? Infinity : performance.now() + options.seconds * 1000;
  const limit = options.count ?? Infinity;
  const turns = new EventLoopTurns();
  while (writer.frames < limit && !signal.aborted && performance.now() < deadline) {
    // Frames that come without pause would keep signals from being seen.
    if (turns.due()) await turns.take();
    if (!(await net.waitReceive(Math.min(SLICE_MS, Math.max(1, deadline - performance.now()))))) {
      writer.flush();
      bar.update(writer.frames);
      continue;
    }
    rx.receiveBurst(burst);
    for (let i = 0; i < burst.frames && writer.frames < limit; i++) {
      const length = rx.copyFrame(burst, i, frame);
      writer.write(frame.subarray(0, length));
      counted.bytes += length;
    }
    rx.recycle(burst);
    if (options.capture === "-") writer.flush();
    bar.update(writer.frames);
  }
}
