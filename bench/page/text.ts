/**
 * Figures as Markdown, between the marks of a page.
 *
 * @module
 */
import { UsageError } from "../../lib/errors/mod.ts";
import { type Figure, quantity, ratioText, type Section, type Statistic, statisticText } from "../report.ts";
import { chartOf } from "./charts.ts";
import type { Recorded } from "./record.ts";

const MARK = /^<!-- figures ([\w-]+): written by deno task performance -->$/gm;
const END = "<!-- /figures -->";
/** The formatter leaves alone what stands between. */
const AS_IT_IS = ["<!-- deno-fmt-ignore-start -->", "<!-- deno-fmt-ignore-end -->"] as const;

/** A picture of a part: the name of its file in `docs/figures`, and what is in it. */
export interface Picture {
  readonly file: string;
  readonly svg: string;
}

/** Parts that a page has marks for, in its order. */
export function partsOf(page: string): string[] {
  return [...page.matchAll(MARK)].map(([, part]) => part!);
}

/** Pictures of a part; sections without figures have none. */
export function picturesOf(part: string, record: Recorded): Picture[] {
  return record.sections.filter(({ figures }) => figures.length > 0).map((section, i) => ({
    file: `${part}-${i + 1}.svg`,
    svg: chartOf(section, sourceOf(record)),
  }));
}

/** The page with all parts as they are recorded. @throws UsageError for a mark without its end */
export function withFigures(page: string, recordOf: (part: string) => Recorded | undefined): string {
  return page.split(MARK).reduce((text, piece, i, pieces) => {
    if (i % 2 === 1) return text;
    if (i === 0) return piece;
    const part = pieces[i - 1]!;
    const end = piece.indexOf(END);
    if (end < 0) throw new UsageError(`the page's mark of ${part} has no ${END}`);
    const [first, last] = AS_IT_IS;
    return [
      `${text}<!-- figures ${part}: written by deno task performance -->`,
      first,
      "",
      partText(part, recordOf(part)),
      "",
      last,
      piece.slice(end),
    ].join("\n");
  }, "");
}

/** What stands between a part's marks. */
export function partText(part: string, record: Recorded | undefined): string {
  if (record === undefined) return `Not measured yet: \`deno task performance --only ${part}\`.`;
  let pictures = 0;
  const sections = record.sections.map((section) => {
    const notes = section.notes.map((note) => `- ${note}`).join("\n");
    if (section.figures.length === 0) return `**${section.title}**\n\n${notes}`;
    const picture = `![${section.title}](figures/${part}-${++pictures}.svg)`;
    return [`**${section.title}**`, picture, tableOf(section), notes].filter((text) => text !== "").join(
      "\n\n",
    );
  });
  return [`_${sourceOf(record)}._`, ...sections].join("\n\n");
}

/** Machine, date and command, as every figure says them. */
function sourceOf({ machine, date, command, short }: Recorded): string {
  const { processor, kernel, deno, load } = machine;
  const few = short ? ", few rounds" : "";
  return `${processor}, Linux ${kernel}, Deno ${
    deno!.split(" ")[0]
  }, load ${load}; ${date}; ${command}${few}`;
}

/** A row each figure, a column for each that it stands beside: its value, and how many times as large the figure is. */
function tableOf({ figures }: Section): string {
  const others = [...new Set(figures.flatMap(({ beside }) => beside.map(({ name }) => name)))];
  const noted = figures.some(({ note }) => note !== undefined);
  const head = ["", "here", ...others.map((name) => `beside: ${name}`), ...(noted ? [""] : [])];
  const rows = figures.map((figure) => [
    figure.name,
    statisticText(figure.value),
    ...others.map((name) => besideText(figure, name)),
    ...(noted ? [figure.note ?? ""] : []),
  ]);
  return markdownTable(head, rows);
}

function besideText({ beside }: Figure, name: string): string {
  const found = beside.find((one) => one.name === name);
  return found === undefined ? "" : `**${ratioText(found.ratio)} ×** ${middleText(found.value)}`;
}

/** Without the spread, which the first column has of what is ours. */
function middleText(statistic: Statistic): string {
  return statistic.kind === "rounds" ? quantity(statistic.unit, statistic.median) : statisticText(statistic);
}

/** Columns as wide as their widest cell, as the formatter would have them; all but the first to the right. */
function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, column) => Math.max(3, ...all.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${
      cells.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))
        .join(
          " | ",
        )
    } |`;
  const rule = widths.map((width, column) => column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`);
  return [line(all[0]!), line(rule), ...all.slice(1).map(line)].join("\n");
}
