/**
 * `ringside bench net`
 *
 * @module
 */
import { EchoLoad, TransmitLoad } from "../../drivers/net/virtio/load.ts";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import type { Host } from "../../lib/host/mod.ts";
import { DEVICE_ID } from "../../lib/virtio/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import { interruption } from "../interruption.ts";
import { bytesText, countText } from "../output.ts";
import type { Of } from "../parser.ts";
import { isManaged, reachAll } from "../reaching.ts";
import { measure } from "./measure.ts";
import { kindText, tell } from "./report.ts";
import { withTarget } from "./target.ts";

const OWN = [
  { address: "0000:01:00.0", kind: "virtio-net", driver: "vfio-pci", queuePairs: 4 },
  { address: "0000:02:00.0", kind: "virtio-net", driver: "vfio-pci", queuePairs: 4 },
];

type Options = Of<"bench net">;

/** Frames in bursts. @returns the exit status: that of the signal which ended it early, if one did */
export async function benchNet(host: Host, options: Options): Promise<number> {
  using stop = interruption();
  const { signal } = stop;
  const named = [options.function, options.receiver].filter((name) => name !== undefined);
  const ready = () => OWN.map(({ address }) => address);
  const target = { host: options.host, named, type: DEVICE_ID.net, topology: OWN, ready, signal };
  await withTarget(host, target, async (host, names) => {
    check(host, options, names);
    await bench(host, { ...options, function: names[0]! }, names, signal);
  });
  return stop.exitStatus;
}

function check(host: Host, { to }: Options, [sender, receiver]: readonly string[]): void {
  if (receiver === undefined) return;
  if (to !== undefined) throw new UsageError("--to is for one FUNCTION: with two, each sends to the other");
  const managed = [sender!, receiver].some(isManaged);
  if (managed || host.describe(sender!).address !== host.describe(receiver).address) return;
  throw new UsageError(`${receiver} cannot receive what it sends itself`, {
    hint: "name two functions of one switch, such as two VFs of a PF",
  });
}

async function bench(
  host: Host,
  options: Options & { readonly function: string },
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const { size: frameBytes, queues, burst: bursts, seconds, interrupts, queueSize, to } = options;
  await using stack = new AsyncDisposableStack();
  const nets: VirtioNet[] = [];
  for (const transport of await reachAll(host, options, stack, names)) {
    const wait = interrupts === "none" ? "poll" : "eventfd";
    nets.push(
      stack.use(await VirtioNet.open(transport, { interrupts, queueSize, queuePairs: queues, wait })),
    );
  }
  const [near, far] = nets as [VirtioNet, VirtioNet | undefined];
  const { interruptKind } = near;
  const how = {
    ways: interruptKind === "none" ? ["polled"] as const : ["polled", "interrupt"] as const,
    each: bursts,
    sizeBytes: frameBytes,
    seconds,
    quiet: options.json,
    signal,
  };
  const points = far === undefined
    ? await measure({
      ...how,
      load: (burst) => new TransmitLoad(near, to ?? near.mac, { burst, frameBytes }),
      counts: ({ received }) => ({ received }),
    })
    : await measure({
      ...how,
      load: (burst) => new EchoLoad(near, far, { burst, frameBytes }),
      counts: ({ lost }) => ({ lost }),
    });
  const [from, other] = nets.map(({ transport }) => transport.name);
  const way = other === undefined ? `${from}: sent` : `${from} -> ${other} and back:`;
  tell({
    title: `${way} frames of ${bytesText(frameBytes)}`,
    note: `two bursts under way on each of ${countText(queues, "queue pair")}; ${
      kindText(interruptKind)
    }; times in µs`,
    each: "burst",
    what: "frames",
    points,
    facts: { function: from, receiver: other ?? null, frameBytes, queues, seconds, interruptKind },
    interrupted: signal.aborted,
  }, options);
}
