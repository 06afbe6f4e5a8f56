/**
 * Packed beside split: nanoseconds a descriptor, with and without event index and indirect tables, and the heap bytes that it costs.
 *
 * @module
 */
import { DeviceError } from "../lib/errors/mod.ts";
import { type BenchRun, rate } from "./bench_run.ts";
import { compare, type Figure, rounds, type Section, single, type Statistic } from "./report.ts";
import { RING_SIZE, RingPair } from "./ring_pair.ts";

const BURSTS = [1, 8, 32, 128];
const MILLION = 1_000_000;
/** For the heap figures. */
const HEAP_BURST = 32;
const KINDS = [
  { name: "plain", eventIndex: false, indirect: false },
  { name: "event index", eventIndex: true, indirect: false },
  { name: "indirect", eventIndex: false, indirect: true },
  { name: "event index, indirect", eventIndex: true, indirect: true },
] as const;

/** Measures both layouts in turns, so that both see the same machine. */
export async function benchRingsMatrix(run: BenchRun): Promise<Section[]> {
  const count = run.pick(1 << 18, 1 << 15);
  const chains = run.pick(MILLION, 200_000);
  const figures: Figure[] = [];
  const heap: Figure[] = [];
  const objects = await perMillion(run, chains, () => {
    for (let i = 0; i < chains; i++) sink = { id: i, length: 64 };
  });
  if (sink === undefined) throw new DeviceError("nothing was allocated");
  for (const { name, ...use } of KINDS) {
    using split = new RingPair({ layout: "split", inOrder: false, ...use });
    using packed = new RingPair({ layout: "packed", inOrder: false, ...use });
    for (const burst of BURSTS) {
      const times: { split: number[]; packed: number[] } = { split: [], packed: [] };
      split.turn(count, burst);
      packed.turn(count, burst);
      for (let round = 0; round < run.pick(7, 3); round++) {
        times.split.push(nanoseconds(count, () => split.turn(count, burst)));
        times.packed.push(nanoseconds(count, () => packed.turn(count, burst)));
        await run.turn();
      }
      const value = rounds("nanoseconds", times.packed);
      figures.push({
        name: `packed, ${name}, burst ${burst}`,
        value,
        beside: [compare(value, "split", rounds("nanoseconds", times.split))],
      });
    }
    for (const [layout, pair] of [["split", split], ["packed", packed]] as const) {
      pair.turn(chains, HEAP_BURST);
      const value = await perMillion(run, chains, () => pair.turn(chains, HEAP_BURST));
      heap.push({
        name: `${layout}, ${name}`,
        value,
        beside: [compare(value, "a small object a chain", objects)],
      });
    }
  }
  return [{
    title: `Nanoseconds a descriptor, both sides together (${RING_SIZE} descriptors)`,
    figures,
    notes: [
      "a descriptor's whole way: added, published, read by the device, returned, taken by the driver; in turns, in one thread",
      "indirect: a descriptor is a table of two parts",
    ],
  }, {
    title: "Heap bytes allocated for a million chains, both sides together",
    figures: heap,
    notes: [
      `measured over ${chains} chains in bursts of ${HEAP_BURST}, after as many to warm up; no collection in between`,
      "a few hundred bytes to a few KiB are what reading the figure costs: 0.003 bytes a chain and less",
    ],
  }];
}

/** Kept outside, so that the compiler cannot remove what is stored. */
let sink: { id: number; length: number } | undefined;

function nanoseconds(count: number, work: () => void): number {
  return 1e9 / rate(count, work);
}

async function perMillion(run: BenchRun, count: number, work: () => void): Promise<Statistic> {
  await run.turn();
  const { gc } = globalThis as { gc?: () => void };
  gc?.();
  const before = Deno.memoryUsage().heapUsed;
  work();
  return single("bytes", Math.round((Deno.memoryUsage().heapUsed - before) * MILLION / count));
}
