/**
 * Output: tables, JSON. Results go to standard output, everything else to standard error.
 *
 * @module
 */
import { RingsideError } from "../lib/errors/mod.ts";
import { environment } from "./environment.ts";

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
  /** It is a terminal of so many columns. Default: no terminal. */
  readonly columns?: number;
  /** It shows colour. Default false. */
  readonly colour?: boolean;
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

/** Whether standard error is a terminal. */
export function remarksOnTerminal(): boolean {
  return handed() === undefined && Deno.stderr.isTerminal();
}

/** Whether it is one on which a line may be written over and over: a dumb one cannot. */
export function saysProgress(): boolean {
  return remarksOnTerminal() && !isDumb();
}

/** Whether standard output is a terminal that shows colour, and nobody has asked for none. */
export function usesColour(): boolean {
  const output = handed();
  if (output !== undefined) return output.colour ?? false;
  return Deno.stdout.isTerminal() && colourWanted();
}

/** As `usesColour`, of standard error. */
export function remarksInColour(): boolean {
  return remarksOnTerminal() && colourWanted();
}

/** https://no-color.org: any value but the empty one counts. */
function colourWanted(): boolean {
  return environment("NO_COLOR") === undefined && !isDumb();
}

/** It can do no more than print one line after the other. */
function isDumb(): boolean {
  return (environment("TERM") ?? "dumb") === "dumb";
}

const STYLES = { bold: "1", red: "31", green: "32", yellow: "33", cyan: "36" } as const;

/** A style of text on a terminal that shows it. */
export type Style = keyof typeof STYLES;

/** Text for standard output in a style, where that shows colour. */
export function painted(text: string, style: Style | undefined): string {
  return style === undefined || text === "" || !usesColour() ? text : inStyle(text, style);
}

/** Text with the marks of a style around it. */
export function inStyle(text: string, style: Style): string {
  return `\x1b[${STYLES[style]}m${text}\x1b[0m`;
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

/** Width of the terminal that standard output is, in columns (`COLUMNS`, else what the terminal says); undefined for a file or a pipe. */
export function terminalColumns(): number | undefined {
  const output = handed();
  if (output !== undefined) return output.columns;
  if (!Deno.stdout.isTerminal()) return undefined;
  const asked = environment("COLUMNS") ?? "";
  if (/^[1-9]\d{0,4}$/.test(asked)) return Number(asked);
  try {
    // A serial console has 0: how wide the other end is, nobody has said.
    return Deno.consoleSize().columns || undefined;
  } catch {
    return undefined;
  }
}

/** Whether standard output is a terminal on which a page may be drawn over the one before. */
export function redrawable(): boolean {
  return handed() === undefined && Deno.stdout.isTerminal() && !isDumb();
}

/** Height of the terminal that standard output is, in lines; 24 where it does not say. */
export function terminalRows(): number {
  try {
    return Deno.consoleSize().rows;
  } catch {
    return 24;
  }
}

const GAP = 2;
const NARROWEST = 12;

/** What gives way where a table is wider than the terminal, by column number. */
export interface GivesWay {
  /** Left out, one after the other, before anything is narrower than it may be. */
  readonly drop: readonly number[];
  /** Cut, the widest first. */
  readonly shrink: readonly number[];
  /** How narrow a column may become, by number. Default 12. */
  readonly least?: Readonly<Record<number, number>>;
}

/** A cell's style, by row (the head is none) and column. */
export type CellStyle = (row: number, column: number) => Style | undefined;

/**
 * A borderless table, columns two spaces apart, as system tools print them. Only on a terminal does anything give way, and what is left out is said.
 * @param more how the rest is to be had
 */
export function printTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  givesWay: GivesWay,
  style: CellStyle = () => undefined,
  more: string = "a pipe gets all",
): void {
  const all = [head, ...rows];
  const terminal = terminalColumns();
  const fitted = fitColumns(all, givesWay, terminal);
  all.forEach((row, at) => {
    const cells = fitted.map(({ column, width }) => cell(row[column] ?? "", width));
    // A style's marks must not be counted among the spaces at the end.
    cells[cells.length - 1] = cells.at(-1)!.trimEnd();
    const shown = cells.map((text, i) => painted(text, at === 0 ? "bold" : style(at - 1, fitted[i]!.column)));
    print(shown.join(" ".repeat(GAP)).trimEnd());
  });
  const out = head.filter((_, column) => !fitted.some((one) => one.column === column));
  if (out.length > 0) {
    remark(folded(`(left out to fit ${terminal} columns: ${out.join(", ")}; ${more})`, terminal!));
  }
}

/** A sentence on lines of no more than so many columns, where its words let it. */
function folded(sentence: string, columns: number): string {
  const lines = [""];
  for (const word of sentence.split(" ")) {
    const last = lines.at(-1)!;
    if (last === "") lines[lines.length - 1] = word;
    else if (last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines.join("\n");
}

function cell(text: string, width: number): string {
  return text.length > width ? `${text.slice(0, width - 1)}…` : text.padEnd(width);
}

/** The columns that stay, and their widths, so that they fit a terminal as far as that can be. */
export function fitColumns(
  rows: readonly (readonly string[])[],
  { drop, shrink, least = {} }: GivesWay,
  terminal: number = Infinity,
): { readonly column: number; readonly width: number }[] {
  const narrowest = (column: number) => least[column] ?? NARROWEST;
  let fitted = (rows[0] ?? []).map((_, column) => ({
    column,
    width: Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  }));
  const total = (atLeast: boolean) =>
    fitted.reduce((sum, { column, width }) => {
      const counted = atLeast && shrink.includes(column) ? Math.min(width, narrowest(column)) : width;
      return sum + counted + GAP;
    }, -GAP);
  for (const out of drop) {
    if (total(true) <= terminal) break;
    fitted = fitted.filter(({ column }) => column !== out);
  }
  while (total(false) > terminal) {
    const widest = fitted.filter(({ column, width }) => shrink.includes(column) && width > narrowest(column))
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

/** `, 5000 frames/s`; nothing where there was nothing. */
export function rateText(frames: number, seconds: number): string {
  return frames === 0 || seconds <= 0 ? "" : `, ${Math.round(frames / seconds)} frames/s`;
}

/** Fixed-width hexadecimal without prefix, as PCI ids are written. */
export function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

/** Bytes in hexadecimal, without spaces. */
export function hexText(bytes: Uint8Array): string {
  return [...bytes].map((byte) => hex(byte, 2)).join("");
}
