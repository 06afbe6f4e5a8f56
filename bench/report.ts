/**
 * How benchmarks print: a figure, what it was measured beside in the same run, and the ratio.
 *
 * @module
 */

/** One line of a report. */
export interface Figure {
  readonly name: string;
  readonly value: string;
  /** What it is compared with, and that one's figure. */
  readonly beside?: string;
  readonly ratio?: number;
}

/** Prints a section. */
export function report(title: string, figures: readonly Figure[]): void {
  console.log(`\n${title}`);
  const name = Math.max(...figures.map((one) => one.name.length));
  const value = Math.max(...figures.map((one) => one.value.length));
  for (const one of figures) {
    const ratio = one.ratio === undefined ? "" : `  x ${one.ratio.toFixed(one.ratio < 0.1 ? 4 : 2)} of`;
    const beside = one.beside === undefined ? "" : `${ratio} ${one.beside}`;
    console.log(`  ${one.name.padEnd(name)}  ${one.value.padStart(value)}${beside}`);
  }
}

/** Median of some figures. */
export function median(values: readonly number[]): number {
  return quantile([...values].sort((a, b) => a - b), 0.5);
}

/** Quantile of figures that are sorted. */
export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? NaN;
}

/** `12.3 M/s` */
export function perSecond(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(2)} M/s`;
  return count >= 1e3 ? `${(count / 1e3).toFixed(1)} k/s` : `${count.toFixed(0)} /s`;
}

/** `p50 12.1 / p99 80.0 / max 911.0 µs`, from milliseconds. */
export function latencyText(milliseconds: readonly number[]): string {
  const sorted = [...milliseconds].sort((a, b) => a - b);
  const text = (value: number) => (value * 1000).toFixed(1);
  return `p50 ${text(quantile(sorted, 0.5))} / p99 ${text(quantile(sorted, 0.99))} / max ${
    text(sorted[sorted.length - 1]!)
  } us`;
}
