/**
 * `ringside bench blk`
 *
 * @module
 */
import { BlockLoad } from "../../drivers/blk/load.ts";
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { DEVICE_ID } from "../../lib/virtio/mod.ts";
import { interruption } from "../interruption.ts";
import { bytesText, countText } from "../output.ts";
import type { Of } from "../parser.ts";
import { reach } from "../reaching.ts";
import { measure } from "./measure.ts";
import { kindText, tell } from "./report.ts";
import { withTarget } from "./target.ts";

const OWN = {
  address: "0000:03:00.0",
  kind: "virtio-blk",
  sizeBytes: 256 << 20,
  queues: 4,
  driver: "vfio-pci",
};

/** Random requests at several depths. @returns the exit status: that of the signal which ended it early, if one did */
export async function benchBlk(host: Host, options: Of<"bench blk">): Promise<number> {
  using stop = interruption();
  const { signal } = stop;
  const named = options.function === undefined ? [] : [options.function];
  const type = DEVICE_ID.block;
  const target = { host: options.host, named, type, topology: [OWN], ready: () => [OWN.address], signal };
  await withTarget(host, target, async (host, [name], own) => {
    if (options.write && !options.force && !own) {
      throw new UsageError(`--write writes all over ${name}`, {
        hint: "add --force if nothing that is on it is needed",
      });
    }
    await bench(host, { ...options, function: name! }, signal);
  });
  return stop.exitStatus;
}

async function bench(
  host: Host,
  options: Of<"bench blk"> & { readonly function: string },
  signal: AbortSignal,
): Promise<void> {
  const { size: sizeBytes, queues, depth, seconds, write, interrupts, queueSize } = options;
  await using stack = new AsyncDisposableStack();
  const blk = stack.use(
    await VirtioBlk.open(await reach(host, options, stack), {
      interrupts,
      queueSize,
      queues,
      depth: Math.max(...depth),
      requestBytes: sizeBytes,
      wait: interrupts === "none" ? "poll" : "eventfd",
    }),
  );
  const { interruptKind } = blk;
  const points = await measure({
    ways: interruptKind === "none" ? ["polled"] : ["polled", "interrupt"],
    each: depth,
    sizeBytes,
    seconds,
    quiet: options.json,
    signal,
    load: (depth) => new BlockLoad(blk, { depth, sizeBytes, write }),
  });
  if (write) await blk.flush();
  const operation = write ? "write" : "read";
  const { name } = blk.transport;
  tell({
    title: `${name}: random ${operation}s of ${bytesText(sizeBytes)}`,
    note: `depth: requests in flight on each of ${countText(queues, "queue")}; ${
      kindText(interruptKind)
    }; times in µs`,
    each: "depth",
    what: "requests",
    points,
    facts: { function: name, operation, sizeBytes, queues, seconds, interruptKind },
    interrupted: signal.aborted,
  }, options);
}
