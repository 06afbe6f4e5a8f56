/**
 * In the guest: several queue pairs of the one network function with MQ, by kernel VFIO. Each pair pings the host's end of the link from an address of
 * its own. Started by `net_mq_test.ts` with one JSON list of `MqTask` as its argument; says a line of JSON for each.
 */
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { NotFoundError, TimeoutError } from "../../../lib/errors/mod.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";
import type { RingOptions } from "../../../lib/virtio/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { functions, ID, type KernelPath } from "../guest_host.ts";
import { echoExchange, icmpOf } from "./icmp_peer.ts";

/** How to drive the function. */
export interface MqTask {
  readonly path: KernelPath;
  readonly rings: RingOptions;
  /** Queue pairs to set up. */
  readonly pairs: number;
  /** Echo requests of each pair. */
  readonly echoes: number;
}

/** What was found. */
export interface MqReport {
  readonly features: readonly string[];
  readonly maxQueuePairs: number;
  /** By sending pair: answers that came to each receiving pair. */
  readonly all: readonly (readonly number[])[];
  /** The same, with two pairs in use of those that are set up. */
  readonly two: readonly (readonly number[])[];
  readonly interrupts: number;
}

/** Written before each report. */
export const REPORT = "queue pairs: ";
/** The host's end of the link. */
export const HOST = { address: "192.0.2.1", mac: "02:00:00:00:00:fe" } as const;

/** Address that a pair pings from. */
export function addressOf(pair: number): string {
  return `192.0.2.${10 + pair}`;
}

const PATIENCE_MS = 10_000;

/** Pings from the first `pairs` pairs, one after the other; the first answer to each address teaches the host's kernel its queue. */
async function ping(net: VirtioNet, pairs: number, echoes: number): Promise<number[][]> {
  const arrived = Array.from({ length: pairs }, () => net.rx.map(() => 0));
  const macs = { from: net.mac, to: Uint8Array.from(HOST.mac.split(":"), (byte) => parseInt(byte, 16)) };
  const burst = new FrameBurst(16);
  for (let pair = 0; pair < pairs; pair++) {
    const ends = { from: addressOf(pair), to: HOST.address };
    for (let number = 0; number <= echoes; number++) {
      const payload = Uint8Array.from({ length: 1 + number * 97 % 1400 }, (_, i) => i * 7 + number + pair);
      const { frame, answer } = echoExchange(macs, ends, 100 * pair + number, payload);
      const tx = net.tx[pair]!;
      const slot = tx.reserve();
      tx.frame(slot).set(frame);
      tx.send(slot, frame.length);
      let arrival = net.waitReceive(PATIENCE_MS);
      tx.flush();
      for (let found = -1; found < 0;) {
        if (!await arrival) throw new TimeoutError(`echo ${number} of pair ${pair} was not answered`);
        net.rx.forEach((rx, at) => {
          while (rx.receiveBurst(burst) > 0) {
            for (let one = 0; one < burst.frames; one++) {
              const bytes = new Uint8Array(burst.frameBytes(one));
              rx.copyFrame(burst, one, bytes);
              const icmp = icmpOf(bytes);
              if (icmp?.length === answer.length && icmp.every((byte, i) => byte === answer[i])) found = at;
            }
            rx.recycle(burst);
          }
        });
        if (found >= 0) {
          if (number > 0) arrived[pair]![found]!++;
        } else arrival = net.waitReceive(PATIENCE_MS);
      }
    }
  }
  return arrived;
}

async function run(host: LinuxHost, address: string, task: MqTask): Promise<MqReport> {
  using device = host.open(address, { path: task.path });
  using transport = PciModernTransport.open(device);
  await using net = await VirtioNet.open(transport, {
    wait: "eventfd",
    queuePairs: task.pairs,
    ...task.rings,
  });
  const all = await ping(net, task.pairs, task.echoes);
  await net.setQueuePairs(2);
  const two = await ping(net, 2, task.echoes);
  const { interrupts } = net.statistics();
  return { features: net.featureNames, maxQueuePairs: net.maxQueuePairs, all, two, interrupts };
}

if (import.meta.main) {
  const tasks = JSON.parse(Deno.args[0]!) as MqTask[];
  using host = new LinuxHost();
  const [address] = functions(ID.net);
  if (address === undefined) throw new NotFoundError("no network function in this guest");
  host.bind(address);
  for (const task of tasks) console.log(REPORT + JSON.stringify(await run(host, address, task)));
}
