/**
 * Ring operations: the driver's queue and the emulated device's side of it in one process.
 *
 * One operation is a chain's whole way: added, published, popped by the device, pushed back, taken by the driver.
 *
 * @module
 */
import { type BenchRun, rate } from "./bench_run.ts";
import { PlainRing } from "./plain_ring.ts";
import { beside, withNanoseconds } from "./in_turn.ts";
import type { Figure, Section } from "./report.ts";
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
      const works = {
        ring: () => rate(count, () => pair.turn(count, burst)),
        "plain ring": () => rate(count, () => plain.turn(count, burst)),
      };
      const name = `${variant.name}, burst ${burst}`;
      const how = { count: run.pick(7, 3) };
      figures.push(withNanoseconds(await beside(run, name, "per second", works, how)));
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
