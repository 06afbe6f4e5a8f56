/**
 * Output: tables, JSON. Results go to standard output, everything else to standard error.
 *
 * @module
 */
import { RingsideError } from "../lib/errors/mod.ts";

/** The reader of standard output has gone (`| head -1`): no failure, but nothing is left to be said. */
export class OutputClosedError extends RingsideError {
  override name = "OutputClosedError";
}

/** Where a command prints, when it is not this process's standard output and standard error: text with its line ends. */
export interface Output {
  /** Instead of standard output. */
  readonly out: (text: string) => void;
  /** Instead of standard error. */
  readonly err: (text: string) => void;
}

let handed: () => Output | undefined = () => undefined;

/** Has each print ask `whose` output it belongs to: `printing_to.ts`, which most processes do without. */
export function outputIsHandedBy(whose: () => Output | undefined): void {
  handed = whose;
}

const encoder = new TextEncoder();

/** Prints a line on standard output. @throws OutputClosedError, RingsideError (a full disk, for one) */
export function print(line = ""): void {
  const output = handed();
  if (output !== undefined) return output.out(`${line}\n`);
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
  const output = handed();
  if (output !== undefined) output.err(`${line}\n`);
  else console.error(line);
}

/** Whether standard error is a terminal, where a line may be written over and over. */
export function saysProgress(): boolean {
  return handed() === undefined && Deno.stderr.isTerminal();
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
  if (handed() !== undefined || !Deno.stdout.isTerminal()) return undefined;
  try {
    return Deno.consoleSize().columns;
  } catch {
    return undefined;
  }
}

const GAP = 2;
const NARROWEST = 12;

/** What gives way where a table is wider than the terminal, by column number. */
export interface GivesWay {
  /** Left out, one after the other, before anything is narrower than 12 columns. */
  readonly drop: readonly number[];
  /** Cut, the widest first. */
  readonly shrink: readonly number[];
}

/** A borderless table, columns two spaces apart, as system tools print them. Only on a terminal does anything give way. */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  givesWay: GivesWay,
): void {
  const all = [head, ...rows];
  const fitted = fitColumns(all, givesWay, terminalColumns());
  for (const row of all) {
    const cells = fitted.map(({ column, width }) => cell(row[column] ?? "", width));
    print(cells.join(" ".repeat(GAP)).trimEnd());
  }
}

function cell(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width);
}

/** The columns that stay, and their widths, so that they fit a terminal as far as that can be. */
export function fitColumns(
  rows: readonly (readonly string[])[],
  { drop, shrink }: GivesWay,
  terminal: number = Infinity,
): { readonly column: number; readonly width: number }[] {
  let fitted = (rows[0] ?? []).map((_, column) => ({
    column,
    width: Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  }));
  const total = (least: boolean) =>
    fitted.reduce((sum, { column, width }) => {
      const narrowest = least && shrink.includes(column) ? Math.min(width, NARROWEST) : width;
      return sum + narrowest + GAP;
    }, -GAP);
  for (const out of drop) {
    if (total(true) <= terminal) break;
    fitted = fitted.filter(({ column }) => column !== out);
  }
  while (total(false) > terminal) {
    const widest = fitted.filter(({ column, width }) => shrink.includes(column) && width > NARROWEST)
      .sort((one, other) => other.width - one.width)[0];
    if (widest === undefined) break;
    widest.width--;
  }
  return fitted;
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
