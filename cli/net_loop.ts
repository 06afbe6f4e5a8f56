/**
 * `ringside net loop`
 *
 * @module
 */
import { exchangeByInterrupt, exchangePolled } from "../drivers/net/virtio/exchange.ts";
import type { NetDevice } from "../drivers/net/api/net_device.ts";
import { type FrameStream, RecordedFrames, TestFrames } from "../drivers/net/virtio/test_frames.ts";
import { CaptureReader } from "../lib/capture/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { openNets } from "./driving.ts";
import { interruption } from "./interruption.ts";
import { countText, print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { progress } from "./progress.ts";
import { isManaged } from "./reaching.ts";

const DEFAULT_COUNT = 10_000;

/** Sends from one function to another and checks every byte; `--interrupts none` polls, everything else sleeps for each frame. */
export async function netLoop(host: Host, options: Of<"net loop">): Promise<void> {
  const recorded = options.capture === undefined ? undefined : readFrames(options.capture);
  const count = options.count ?? recorded?.count ?? DEFAULT_COUNT;
  const { function: sender, receiver } = options;
  const same = (one: string, other: string) => host.describe(one).address === host.describe(other).address;
  // Behind a vhost-user socket there is one device, whose other end may send back what it gets.
  const oneDevice = host.openVhostUser !== undefined;
  // Managed devices are two, each made for this.
  if (!oneDevice && !isManaged(sender) && !isManaged(receiver) && same(sender, receiver)) {
    throw new UsageError(`${receiver} cannot receive what it sends itself`, {
      hint: "name two functions of one switch, such as two VFs of a PF",
    });
  }
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const names = oneDevice && same(sender, receiver) ? [sender] : [sender, receiver];
  const [from, to = from] = await openNets(host, options, stack, names) as [NetDevice, NetDevice?];
  // Recorded frames carry addresses of their own.
  if (recorded !== undefined) await to.setPromiscuous(true);
  const bytes = options.frameBytes;
  const frames: FrameStream = recorded ?? new TestFrames(to.mac, from.mac, bytes, bytes);
  const polled = options.interrupts === "none";
  const exchange = polled ? exchangePolled : exchangeByInterrupt;
  const result = await (async () => {
    using bar = await progress("looping", count, "frames", options.json);
    return await exchange(from, to, frames, count, {
      signal: stop.signal,
      onProgress: (done) => bar.update(done),
    });
  })();
  if (options.json) {
    return printJson({
      from: from.name,
      to: to.name,
      ...result,
      interruptKind: to.interruptKind,
      interrupts: to.statistics().interrupts,
    });
  }
  const how = polled ? "polled" : `each awaited by ${to.interruptKind}`;
  const what = `${countText(result.frames, "frame")}, ${countText(result.bytes, "byte")}, every byte as sent`;
  const way = `${from.name} -> ${to.name}`;
  print(`${way}: ${what}; ${result.framesPerSecond} frames/s, ${how}`);
}

function readFrames(path: string): RecordedFrames {
  using reader = CaptureReader.open(path);
  const frames = [...reader].filter((frame) => frame.bytes.length === frame.originalLength).map((one) =>
    one.bytes
  );
  if (frames.length === 0) throw new UsageError(`${path} holds no whole frame to send`);
  return new RecordedFrames(frames);
}
