/**
 * Ring operations: the driver's queue and the emulated device's side of it in one process.
 *
 * One operation is a chain's whole way: added, published, popped by the device, pushed back, taken by the driver.
 *
 * @module
 */
import { type BenchRun, rate } from "./bench_run.ts";
import { PlainRing } from "./plain_ring.ts";
import { compare, type Figure, rounds, type Section } from "./report.ts";
import { RING_SIZE, RingPair, type RingVariant } from "./ring_pair.ts";

const BURSTS = [1, 8, 32, 128];
const PLAIN = { eventIndex: false, indirect: false, inOrder: false };
const KINDS: readonly { readonly name: string; readonly use: Omit<RingVariant, "layout"> }[] = [
  { name: "", use: PLAIN },
  { name: ", event index", use: { ...PLAIN, eventIndex: true } },
  { name: ", in order", use: { ...PLAIN, inOrder: true } },
  { name: ", indirect (2 parts)", use: { ...PLAIN, indirect: true } },
];
const VARIANTS = (["split", "packed"] as const).flatMap((layout) =>
  KINDS.map(({ name, use }) => ({ name: `${layout}${name}`, layout, ...use }))
);

/** Measures rings of every kind. */
export async function benchRing(run: BenchRun): Promise<Section[]> {
  const count = run.pick(1 << 20, 1 << 16);
  const figures: Figure[] = [];
  using plain = new PlainRing();
  for (const variant of VARIANTS) {
    using pair = new RingPair(variant);
    for (const burst of BURSTS) {
      pair.turn(count, burst);
      plain.turn(count, burst);
      const ring: number[] = [], least: number[] = [];
      for (let round = 0; round < run.pick(7, 3); round++) {
        ring.push(rate(count, () => pair.turn(count, burst)));
        least.push(rate(count, () => plain.turn(count, burst)));
        await run.turn();
      }
      const value = rounds("per second", ring);
      const nanoseconds = 1e9 / (value.kind === "rounds" ? value.median : NaN);
      figures.push({
        name: `${variant.name}, burst ${burst}`,
        value,
        beside: [compare(value, "plain ring", rounds("per second", least))],
        note: `${nanoseconds.toFixed(0)} ns each`,
      });
    }
  }
  return [{
    title: `Ring operations, driver and device in one process (${RING_SIZE} descriptors)`,
    figures,
    notes: [
      "plain ring: one producer, one consumer, 16 bytes there and 8 bytes back for each descriptor, as a virtqueue moves; nothing is checked",
    ],
  }];
}
