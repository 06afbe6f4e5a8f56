/**
 * What a benchmark says: each figure with its spread, beside another that was measured in the same run, and the ratio of the two.
 *
 * @module
 */

/** What a number counts. */
export type Unit =
  | "per second"
  | "bytes per second"
  | "nanoseconds"
  | "microseconds"
  | "milliseconds"
  | "bytes"
  | "percent"
  | "commands";

/** A measured value: the median of several rounds, quantiles of many samples, or a plain number. */
export type Statistic =
  | {
    readonly kind: "rounds";
    readonly unit: Unit;
    readonly median: number;
    readonly min: number;
    readonly max: number;
    readonly rounds: number;
  }
  | {
    readonly kind: "samples";
    readonly unit: Unit;
    readonly p50: number;
    readonly p99: number;
    readonly max: number;
    readonly samples: number;
  }
  | { readonly kind: "value"; readonly unit: Unit; readonly value: number };

/** What was measured beside a figure in the same run, and how many times as large the figure is. */
export interface Comparison {
  readonly name: string;
  readonly value: Statistic;
  readonly ratio: number;
}

/** One figure of a section. */
export interface Figure {
  readonly name: string;
  readonly value: Statistic;
  readonly beside: readonly Comparison[];
  readonly note?: string;
}

/** A titled table of figures. */
export interface Section {
  readonly title: string;
  readonly figures: readonly Figure[];
  /** How to read it. */
  readonly notes: readonly string[];
  /** How it is drawn where not as ratios or quantiles: a line over bursts (`…, burst N`), or shares of a whole. */
  readonly chart?: "bursts" | "shares";
}

/** The median of rounds, with the lowest and the highest. */
export function rounds(unit: Unit, values: readonly number[]): Statistic {
  const sorted = ascending(values);
  return {
    kind: "rounds",
    unit,
    median: quantile(sorted, 0.5),
    min: sorted[0] ?? NaN,
    max: sorted.at(-1) ?? NaN,
    rounds: sorted.length,
  };
}

/** Quantiles of samples. */
export function samples(unit: Unit, values: readonly number[]): Statistic {
  const sorted = ascending(values);
  return {
    kind: "samples",
    unit,
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    max: sorted.at(-1) ?? NaN,
    samples: sorted.length,
  };
}

/** A plain number. */
export function single(unit: Unit, value: number): Statistic {
  return { kind: "value", unit, value };
}

/** The number that stands for a statistic in a ratio. */
export function centre(statistic: Statistic): number {
  if (statistic.kind === "rounds") return statistic.median;
  return statistic.kind === "samples" ? statistic.p50 : statistic.value;
}

/** A comparison, with the ratio of the two centres. */
export function compare(value: Statistic, name: string, other: Statistic): Comparison {
  return { name, value: other, ratio: centre(value) / centre(other) };
}

/** A section as text. */
export function sectionText(section: Section): string {
  const rows = section.figures.flatMap(figureRows);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) => {
    const cells = row.map((cell, column) =>
      column === 2 ? cell.padStart(widths[2]!) : cell.padEnd(widths[column] ?? 0)
    );
    return `  ${cells.join("  ")}`.trimEnd();
  });
  return [section.title, ...lines, ...section.notes.map((note) => `  (${note})`)].join("\n");
}

/** A row for each comparison; the figure itself stands in the first. */
function figureRows(figure: Figure): string[][] {
  const first = [figure.name, statisticText(figure.value)];
  return figure.beside.map(({ name, value, ratio }, i) => [
    ...(i === 0 ? first : ["", ""]),
    `${ratioText(ratio)} x`,
    `${name}: ${statisticText(value)}`,
    i === 0 ? figure.note ?? "" : "",
  ]);
}

/** A statistic with its spread. */
export function statisticText(statistic: Statistic): string {
  const { unit } = statistic;
  if (statistic.kind === "value") return quantity(unit, statistic.value);
  if (statistic.kind === "rounds") {
    const { median, min, max } = statistic;
    return `${quantity(unit, median)} [${quantity(unit, min)} - ${quantity(unit, max)}]`;
  }
  const { p50, p99, max } = statistic;
  return `p50 ${quantity(unit, p50)} / p99 ${quantity(unit, p99)} / max ${quantity(unit, max)}`;
}

/** From which number on a quantity is written in which unit, the largest first; what is below all is written in the last. */
const SCALES: Readonly<Record<Unit, readonly (readonly [from: number, suffix: string])[]>> = {
  "per second": [[1e6, "M/s"], [1e3, "k/s"], [1, "/s"]],
  "bytes per second": [[1e9, "GB/s"], [1e6, "MB/s"], [1e3, "kB/s"]],
  "bytes": [[1 << 20, "MiB"], [1024, "KiB"], [1, "B"]],
  "nanoseconds": [[1, "ns"]],
  "microseconds": [[1, "us"]],
  "milliseconds": [[1, "ms"]],
  "percent": [[1, "%"]],
  "commands": [[1, "commands"]],
};

/** A number with its unit. */
export function quantity(unit: Unit, value: number): string {
  const scales = SCALES[unit];
  const [from, suffix] = scales.find(([least]) => Math.abs(value) >= least) ?? scales.at(-1)!;
  const whole = suffix === "B" || suffix === "%";
  return `${whole ? value.toFixed(0) : significant(value / from)} ${suffix}`;
}

/** Three digits that matter. */
function significant(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** How many times as large, with three digits that matter. */
export function ratioText(ratio: number): string {
  if (!Number.isFinite(ratio)) return "-";
  return ratio >= 0.01 ? significant(ratio) : ratio.toFixed(4);
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? NaN;
}
