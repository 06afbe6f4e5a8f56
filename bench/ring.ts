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
import { RingYardstick } from "./ring_yardstick.ts";

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

/** Every mix of features, in both layouts. */
const MIXES: readonly RingVariant[] = (["split", "packed"] as const).flatMap((layout) =>
  [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => ({
    layout,
    eventIndex: (bits & 1) !== 0,
    indirect: (bits & 2) !== 0,
    inOrder: (bits & 4) !== 0,
  }))
);

/** Measures rings of every kind. */
export async function benchRing(run: BenchRun): Promise<Section[]> {
  const count = run.pick(1 << 20, 1 << 16);
  const figures: Figure[] = [];
  using plain = new PlainRing();
  await using stack = new AsyncDisposableStack();
  const compiled = await RingYardstick.compile(stack);
  // A process that has used one kind alone is faster than it will be: its calls have met one kind of queue.
  for (const mix of MIXES) {
    using pair = new RingPair(mix);
    for (const burst of BURSTS) pair.turn(1 << 14, burst);
    await run.turn();
  }
  for (const variant of VARIANTS) {
    using pair = new RingPair(variant);
    const inC = typeof compiled !== "string" && compiled.has(variant) ? compiled : undefined;
    inC?.reset(variant);
    for (const burst of BURSTS) {
      const works = {
        ring: () => rate(count, () => pair.turn(count, burst)),
        ...(inC === undefined
          ? {}
          : { "the same in C": () => rate(count, () => inC.turn(variant, count, burst)) }),
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
    chart: "bursts",
    notes: [
      "before: every mix of event index, indirect and in order, in both layouts, in this process",
      typeof compiled === "string"
        ? `no comparison with C: ${compiled}`
        : "the same in C: both sides, with the same book-keeping and checks, -O2",
      "plain ring: one producer, one consumer, 16 bytes there and 8 bytes back for each descriptor, as a virtqueue moves; nothing is checked",
    ],
  }];
}
