/**
 * Measuring in turn, so that what else the machine does meets all alike.
 *
 * @module
 */
import type { BenchRun } from "./bench_run.ts";
import { compare, type Figure, rounds, type Unit } from "./report.ts";

/** What is measured: the name of each, and what does a round of it and gives its figure. */
export type Works = Readonly<Record<string, () => number | Promise<number>>>;

/** How often: rounds that count, and rounds before that are for the compiler. */
export interface Rounds {
  readonly count: number;
  /** Default 1. */
  readonly warmUps?: number;
}

/** Figures of each, round by round. */
export async function inTurn<W extends Works>(
  run: BenchRun,
  works: W,
  { count, warmUps = 1 }: Rounds,
): Promise<Record<keyof W, number[]>> {
  const measured = Object.fromEntries(Object.keys(works).map((name) => [name, [] as number[]]));
  const order = Object.entries(works);
  for (let round = -warmUps; round < count; round++) {
    // Who comes first in a round finds another process asleep, or caches cold: each does in turn.
    order.push(order.shift()!);
    for (const [name, work] of order) {
      const result = work();
      const figure = typeof result === "number" ? result : await result;
      if (round >= 0) measured[name]!.push(figure);
      await run.turn();
    }
  }
  return measured as Record<keyof W, number[]>;
}

/** The first of several, beside the others. */
export async function beside(
  run: BenchRun,
  name: string,
  unit: Unit,
  works: Works,
  how: Rounds,
): Promise<Figure> {
  const [mine, ...others] = Object.entries(await inTurn(run, works, how));
  const value = rounds(unit, mine![1]);
  return {
    name,
    value,
    beside: others.map(([other, values]) => compare(value, other, rounds(unit, values))),
  };
}

/** A figure per second, with what each takes as its note. */
export function withNanoseconds(figure: Figure): Figure {
  const { value } = figure;
  const nanoseconds = 1e9 / (value.kind === "rounds" ? value.median : NaN);
  return { ...figure, note: `${nanoseconds.toFixed(0)} ns each` };
}
