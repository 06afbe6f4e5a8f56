/**
 * `ringside net receive`
 *
 * @module
 */
import { FrameBurst } from "../drivers/virtio_net.ts";
import { CaptureWriter } from "../lib/capture/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { interruption, openNet } from "./driving.ts";
import { print, printJson, progress } from "./output.ts";
import type { Of } from "./parser.ts";

/** How long a wait may last before Ctrl-C is looked at. */
const SLICE_MS = 100;

/** Writes received frames to a capture file, until enough came, the time is over, or Ctrl-C. */
export async function netReceive(host: Host, options: Of<"net receive">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const net = await openNet(host, options.function, options, stack);
  if (options.promiscuous) await net.setPromiscuous(true);
  const writer = stack.use(new CaptureWriter(options.capture));
  using stop = interruption();
  using bar = progress(
    "receiving",
    options.count ?? 0,
    "frames",
    options.json || options.count === undefined,
  );
  const rx = net.rx[0]!;
  const burst = new FrameBurst(64);
  const frame = new Uint8Array(65536);
  const start = performance.now();
  const deadline = options.seconds === undefined ? Infinity : start + options.seconds * 1000;
  const limit = options.count ?? Infinity;
  while (writer.frames < limit && !stop.raised && performance.now() < deadline) {
    if (!(await net.waitReceive(Math.min(SLICE_MS, Math.max(1, deadline - performance.now()))))) continue;
    rx.receiveBurst(burst);
    for (let i = 0; i < burst.frames && writer.frames < limit; i++) {
      const length = rx.copyFrame(burst, i, frame);
      writer.write(frame.subarray(0, length));
    }
    rx.recycle(burst);
    bar.update(writer.frames);
  }
  writer.close();
  const seconds = (performance.now() - start) / 1000;
  if (options.json) {
    printJson({
      function: net.transport.name,
      received: writer.frames,
      capture: options.capture,
      format: writer.format,
      seconds,
      statistics: net.statistics(),
    });
    return;
  }
  print(`${net.transport.name}: ${writer.frames} frames in ${options.capture} after ${seconds.toFixed(2)} s`);
}
