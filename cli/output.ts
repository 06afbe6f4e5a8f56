/**
 * Output: tables, JSON, progress. Results go to standard output, everything else to standard error.
 *
 * @module
 */
import Table from "cli-table3";
// @ts-types="@types/cli-progress"
import { Presets, SingleBar } from "cli-progress";

/** Prints a line on standard output. */
export function print(line = ""): void {
  console.log(line);
}

/** Prints a line on standard error: progress and remarks, which scripts do not read. */
export function remark(line: string): void {
  console.error(line);
}

/** JSON with bigints as numbers where they fit, else as strings. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, (_, one) => (typeof one === "bigint" ? plain(one) : one), 2));
}

function plain(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

/** A borderless table, columns two spaces apart, as system tools print them. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const none = { top: "", "top-mid": "", "top-left": "", "top-right": "", bottom: "", "bottom-mid": "" };
  const rest = { "bottom-left": "", "bottom-right": "", left: "", "left-mid": "", mid: "", "mid-mid": "" };
  const table = new Table({
    head: [...head],
    chars: { ...none, ...rest, right: "", "right-mid": "", middle: "  " },
    style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
  });
  for (const row of rows) table.push([...row]);
  for (const line of table.toString().split("\n")) print(line.trimEnd());
}

/** Progress of long work. */
export interface Progress extends Disposable {
  update(done: number): void;
}

/** A bar on a terminal; nothing where standard error is not one, or with `--json`. */
export function progress(label: string, total: number, unit: string, quiet: boolean): Progress {
  if (quiet || !Deno.stderr.isTerminal()) {
    return { update: () => {}, [Symbol.dispose]: () => {} };
  }
  const format = `${label} [{bar}] {percentage}% {value}/{total} ${unit} {duration_formatted}`;
  const bar = new SingleBar({ format, clearOnComplete: true, hideCursor: true }, Presets.legacy);
  bar.start(total, 0);
  return { update: (done) => bar.update(done), [Symbol.dispose]: () => bar.stop() };
}

/** `1.5 MiB`, exact when it is whole. */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit]}`;
}

/** A number with thin groups of three: `100 000`. */
export function countText(count: number): string {
  return count.toString().replace(/\B(?=(\d{3})+$)/g, " ");
}
