/**
 * This library's driver in the race of block drivers: a process of its own, whose argument is a `BlkFront` as JSON, and which prints a `BlkResult`.
 *
 * @module
 */
import { measure } from "../../cli/bench/measure.ts";
import { BlockLoad } from "../../drivers/blk/load.ts";
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import { openHost } from "../../lib/host/mod.ts";
import { openTransport } from "../../lib/virtio/mod.ts";

/** What it drives, and how. */
export interface BlkFront {
  readonly socket: string;
  /** Requests in flight. */
  readonly depth: number;
  /** It looks for answers all the time, or sleeps until an interrupt. */
  readonly way: "polled" | "blocking";
  readonly milliseconds: number;
}

/** What it found. */
export interface BlkResult {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
}

/** Bytes of a request. */
export const REQUEST_BYTES = 4096;

async function drive({ socket, depth, way, milliseconds }: BlkFront): Promise<BlkResult> {
  using host = openHost(`vhost-user:${socket},type=blk`);
  using device = host.openVhostUser!("blk");
  using transport = openTransport(device);
  const how = way === "polled" ? { interrupts: "none", wait: "poll" } as const : { wait: "eventfd" } as const;
  await using blk = await VirtioBlk.open(transport, { ...how, depth, requestBytes: REQUEST_BYTES });
  // The first is for the compiler, which comes late where others use the processor, too.
  const [, point] = await measure({
    ways: [way === "polled" ? "polled" : "interrupt"],
    each: [depth, depth],
    sizeBytes: REQUEST_BYTES,
    seconds: milliseconds / 1000,
    quiet: true,
    signal: new AbortController().signal,
    load: (depth) => new BlockLoad(blk, { depth, sizeBytes: REQUEST_BYTES }),
  });
  const { count, milliseconds: took, microseconds: { p50, p99 } } = point!;
  return { requests: count, seconds: took / 1000, p50Ns: p50 * 1000, p99Ns: p99 * 1000 };
}

if (import.meta.main) console.log(JSON.stringify(await drive(JSON.parse(Deno.args[0]!) as BlkFront)));
