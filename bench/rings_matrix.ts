/**
 * Packed beside split: nanoseconds a descriptor, with and without event index and indirect tables, and the heap bytes that it costs.
 *
 * @module
 */
import { type BenchRun, rate } from "./bench_run.ts";
import { bytesPerMillion, HEAP_ROUNDS, objectBytes } from "./heap.ts";
import { beside } from "./in_turn.ts";
import { compare, type Figure, type Section, single } from "./report.ts";
import { PLAIN, RING_SIZE, RingPair } from "./ring_pair.ts";

const BURSTS = [1, 8, 32, 128];
const MILLION = 1_000_000;
/** For the heap figures. */
const HEAP_BURST = 32;
const KINDS = [
  { name: "plain", use: PLAIN },
  { name: "event index", use: { ...PLAIN, eventIndex: true } },
  { name: "indirect", use: { ...PLAIN, indirect: true, parts: 2 } },
  { name: "event index, indirect", use: { ...PLAIN, eventIndex: true, indirect: true, parts: 2 } },
] as const;

/** Measures both layouts in turns, so that both see the same machine. */
export async function benchRingsMatrix(run: BenchRun): Promise<Section[]> {
  const count = run.pick(1 << 18, 1 << 15);
  const chains = run.pick(MILLION, 200_000);
  const figures: Figure[] = [];
  const heap: Figure[] = [];
  const objects = single("bytes", Math.round(await objectBytes(run, chains) * MILLION / chains));
  for (const { name, use } of KINDS) {
    using split = new RingPair({ ...use, layout: "split" });
    using packed = new RingPair({ ...use, layout: "packed" });
    for (const burst of BURSTS) {
      const works = {
        packed: () => 1e9 / rate(count, () => packed.turn(count, burst)),
        split: () => 1e9 / rate(count, () => split.turn(count, burst)),
      };
      const how = { count: run.pick(7, 3) };
      figures.push(await beside(run, `packed, ${name}, burst ${burst}`, "nanoseconds", works, how));
    }
    for (const [layout, pair] of [["split", split], ["packed", packed]] as const) {
      pair.turn(chains, HEAP_BURST);
      const value = await bytesPerMillion(run, chains, () => pair.turn(chains, HEAP_BURST));
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
    chart: "bursts",
    notes: [
      "a descriptor's whole way: added, published, read by the device, returned, taken by the driver; in turns, in one thread",
      "indirect: a descriptor is a table of two parts",
    ],
  }, {
    title: "Heap bytes allocated for a million chains, both sides together",
    figures: heap,
    notes: [
      `measured over ${chains} chains in bursts of ${HEAP_BURST}, ${HEAP_ROUNDS} times, after as many to warm up; no collection in between`,
      "a few hundred bytes to a few KiB are what reading the figure costs: 0.003 bytes a chain and less",
    ],
  }];
}
