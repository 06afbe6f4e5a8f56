/**
 * Output: tables, JSON, progress. Results go to standard output, everything else to standard error.
 *
 * @module
 */
import Table from "cli-table3";
// @ts-types="@types/cli-progress"
import { Presets, SingleBar } from "cli-progress";
import { RingsideError } from "../lib/errors/mod.ts";

/** The reader of standard output has gone (`| head -1`): no failure, but nothing is left to be said. */
export class OutputClosedError extends RingsideError {
  override name = "OutputClosedError";
}

const encoder = new TextEncoder();

/** Prints a line on standard output. @throws OutputClosedError, RingsideError (a full disk, for one) */
export function print(line = ""): void {
  let rest = encoder.encode(`${line}\n`);
  try {
    while (rest.length > 0) rest = rest.subarray(Deno.stdout.writeSync(rest));
  } catch (cause) {
    if (cause instanceof Deno.errors.BrokenPipe) throw new OutputClosedError("standard output is closed");
    throw new RingsideError(`standard output: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** Prints a line on standard error: progress and remarks, which scripts do not read. */
export function remark(line: string): void {
  console.error(line);
}

/** JSON with bigints as numbers where they fit, else as strings. `indent` 0: on one line. */
export function jsonText(value: unknown, indent = 2): string {
  return JSON.stringify(value, (_, one) => (typeof one === "bigint" ? plain(one) : one), indent);
}

/** `jsonText` on standard output. */
export function printJson(value: unknown): void {
  print(jsonText(value));
}

function plain(value: bigint): number | string {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}

/** Width of the terminal that standard output is, in columns; undefined for a file or a pipe. */
export function terminalColumns(): number | undefined {
  if (!Deno.stdout.isTerminal()) return undefined;
  try {
    return Deno.consoleSize().columns;
  } catch {
    return undefined;
  }
}

const GAP = 2;
const NARROWEST = 8;

/**
 * A borderless table, columns two spaces apart, as system tools print them. Where it is wider than the terminal, the columns `shrink` are
 * cut, the widest first; in a file or a pipe everything is there.
 */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  shrink: readonly number[] = [],
  columns: number | undefined = terminalColumns(),
): void {
  const none = { top: "", "top-mid": "", "top-left": "", "top-right": "", bottom: "", "bottom-mid": "" };
  const rest = { "bottom-left": "", "bottom-right": "", left: "", "left-mid": "", mid: "", "mid-mid": "" };
  const table = new Table({
    head: [...head],
    colWidths: columnWidths([head, ...rows], shrink, columns),
    chars: { ...none, ...rest, right: "", "right-mid": "", middle: " ".repeat(GAP) },
    style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
  });
  for (const row of rows) table.push([...row]);
  for (const line of table.toString().split("\n")) print(line.trimEnd());
}

/** Width of each column that fits a terminal of `columns`, as far as those of `shrink` can give way. */
export function columnWidths(
  rows: readonly (readonly string[])[],
  shrink: readonly number[],
  columns: number | undefined,
): number[] {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => (row[at] ?? "").length)));
  const total = () => widths.reduce((sum, one) => sum + one + GAP, -GAP);
  while (columns !== undefined && total() > columns) {
    const widest = shrink.reduce((best, at) => (widths[at]! > widths[best]! ? at : best), shrink[0] ?? -1);
    if (widest < 0 || widths[widest]! <= NARROWEST) break;
    widths[widest]!--;
  }
  return widths;
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

/** `1 frame`, `2 frames`. */
export function countText(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** Fixed-width hexadecimal without prefix, as PCI ids are written. */
export function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

/** Bytes in hexadecimal, without spaces. */
export function hexText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => hex(byte, 2)).join("");
}
