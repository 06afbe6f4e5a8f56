/**
 * Ring operations: the driver's queue and the emulated device's side of it in one process.
 *
 * One operation is a chain's whole way: added, published, popped by the device, pushed back, taken by the driver.
 *
 * @module
 */
import { type BenchRun, processorNanoseconds } from "./bench_run.ts";
import { PlainRing } from "./plain_ring.ts";
import { beside } from "./in_turn.ts";
import type { Figure, Section } from "./report.ts";
import { PLAIN, RING_SIZE, type RingMix, RingPair, type RingVariant } from "./ring_pair.ts";
import { RingYardstick } from "./ring_yardstick.ts";

const BURSTS = [1, 8, 32, 128];
/** Of the mixes: one chain at a time, and as drivers do that have enough to do. */
const MIX_BURSTS = [1, 32];
const C_NAME = "the same in C";

const KINDS: readonly { readonly name: string; readonly use: Omit<RingVariant, "layout"> }[] = [
  { name: "", use: PLAIN },
  { name: ", slots", use: { ...PLAIN, parts: "slot" } },
  { name: ", 2 parts in a table", use: { ...PLAIN, indirect: true, parts: 2 } },
  { name: ", 3 parts", use: { ...PLAIN, parts: 3 } },
  { name: ", 3 parts, in order", use: { ...PLAIN, inOrder: true, parts: 3 } },
];
const LAYOUTS = ["split", "packed"] as const;
const VARIANTS = LAYOUTS.flatMap((layout) =>
  KINDS.map(({ name, use }) => ({ name: `${layout}${name}`, variant: { ...use, layout } }))
);

const FEATURES = [
  ["eventIndex", "event index"],
  ["inOrder", "in order"],
  ["indirect", "indirect"],
  ["notificationData", "notification data"],
] as const;

/** Every mix of features, in both layouts. */
const MIXES = LAYOUTS.flatMap((layout) =>
  Array.from({ length: 1 << FEATURES.length }, (_, bits) => {
    const chosen = FEATURES.filter((_, bit) => (bits >> bit & 1) === 1);
    const mix: RingMix = { ...PLAIN, layout, ...Object.fromEntries(chosen.map(([key]) => [key, true])) };
    return { name: [layout, ...chosen.map(([, name]) => name)].join(", "), mix };
  })
);

/** Measures rings of every kind. */
export async function benchRing(run: BenchRun): Promise<Section[]> {
  using plain = new PlainRing();
  await using stack = new AsyncDisposableStack();
  const compiled = await RingYardstick.compile(stack);
  const inC = typeof compiled === "string" ? undefined : compiled;
  await useAll(run);

  const measure = async (
    name: string,
    variant: RingVariant,
    bursts: readonly number[],
    beyond: (burst: number) => Record<string, () => number>,
  ): Promise<Figure[]> => {
    using pair = new RingPair(variant);
    inC?.reset(variant);
    const count = run.pick(1 << 18, 1 << 16);
    const figures: Figure[] = [];
    for (const burst of bursts) {
      const works = {
        ring: () => processorNanoseconds(count, () => pair.turn(count, burst)),
        ...(inC === undefined
          ? {}
          : { [C_NAME]: () => processorNanoseconds(count, () => inC.turn(variant, count, burst)) }),
        ...beyond(burst),
      };
      figures.push(
        await beside(run, `${name}, burst ${burst}`, "nanoseconds", works, { count: run.pick(9, 3) }),
      );
    }
    return figures;
  };

  const kinds: Figure[] = [];
  for (const { name, variant } of VARIANTS) {
    const count = run.pick(1 << 18, 1 << 16);
    const beyond = (burst: number) => ({
      "plain ring": () => processorNanoseconds(count, () => plain.turn(count, burst)),
    });
    const fitting = BURSTS.filter((burst) => burst * descriptorsOf(variant) <= RING_SIZE);
    kinds.push(...await measure(name, variant, fitting, beyond));
  }
  const mixes: Figure[] = [];
  for (const { name, mix } of MIXES) {
    mixes.push(...await measure(name, { ...mix, parts: 1 }, MIX_BURSTS, () => ({})));
  }
  const before =
    "before: every mix of features, in both layouts and with all kinds of chains, in this process";
  const how = typeof compiled === "string"
    ? `no comparison with C: ${compiled}`
    : `${C_NAME}: both sides, with the same book-keeping and checks of what the other side wrote, -O2`;
  return [{
    title:
      `Nanoseconds of processor time a chain, driver and device in one process (${RING_SIZE} descriptors)`,
    figures: kinds,
    chart: "bursts",
    notes: [
      before,
      how,
      "plain ring: one producer, one consumer, 16 bytes there and 8 bytes back for each descriptor, as a virtqueue moves; nothing is checked",
    ],
  }, {
    title: "Nanoseconds of processor time a chain of one part, by what was negotiated",
    figures: mixes,
    notes: [
      before,
      how,
      "notification data: the device asks for a notification before each burst, and judges the position that comes with it",
      ...(inC === undefined ? [] : MIX_BURSTS.map((burst) => most(mixes, burst))),
    ],
  }];
}

/** A process that has used one kind alone is faster than it will be: its calls have met one kind of queue. */
async function useAll(run: BenchRun): Promise<void> {
  for (const { mix } of MIXES) {
    for (const parts of ["slot", 1, 2, 3] as const) {
      using pair = new RingPair({ ...mix, parts });
      for (const burst of [1, 8, 32]) pair.turn(run.pick(1 << 14, 1 << 12), burst);
    }
    await run.turn();
  }
}

/** Descriptors that a chain takes. */
function descriptorsOf({ parts, indirect }: RingVariant): number {
  return parts === "slot" || (parts === 2 && indirect) ? 1 : parts;
}

/** What stands worst beside C. */
function most(figures: readonly Figure[], burst: number): string {
  const ratios = figures.filter(({ name }) => name.endsWith(`, burst ${burst}`)).map(({ name, beside }) =>
    [beside.find((one) => one.name === C_NAME)!.ratio, name] as const
  ).sort(([a], [b]) => a - b);
  const [least] = ratios[0]!, [middle] = ratios[ratios.length >> 1]!, [worst, name] = ratios.at(-1)!;
  return `burst ${burst}: ${least.toFixed(2)} to ${worst.toFixed(2)} x C, median ${
    middle.toFixed(2)
  }; most: ${name}`;
}
