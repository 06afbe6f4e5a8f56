/**
 * Sections of a benchmark as pictures: bars for ratios, dots for quantiles, lines over bursts, shares of a whole.
 *
 * @module
 */
import {
  GREY,
  gridAcross,
  gridDown,
  legendEntry,
  type Plot,
  plotText,
  powers,
  series,
} from "../../cli/plot.ts";
import { svgPicture, svgText, svgTitle, tenths } from "../../cli/svg.ts";
import {
  centre,
  type Figure,
  quantity,
  ratioText,
  type Section,
  type Statistic,
  type Unit,
} from "../report.ts";

const WIDTH = 960;
const MARGIN = 24;
/** What is named on the left of rows. */
const LABELS = 300;
const HEAD = 88;
const ROW = 15;
const GAP = 12;
const FOOT = 76;
const COLOURS = ["#0d47a1", "#b71c1c", "#1b5e20", "#ff8f00", "#6a1b9a", "#00838f"];

/** The section as SVG text. @param source machine, date and command */
export function chartOf(section: Section, source: string): string {
  if (section.chart === "bursts") return bursts(section, source);
  if (section.chart === "shares") return shares(section, source);
  return section.figures.every(({ value }) => value.kind === "samples")
    ? quantiles(section, source)
    : ratios(section, source);
}

function picture(height: number, title: string, source: string, parts: readonly string[]): string {
  return svgPicture(WIDTH, height, title, [
    svgText(MARGIN, 28, title, 'font-size="15" font-weight="bold"'),
    svgText(MARGIN, 48, source, `fill="${GREY}" font-size="11"`),
    ...parts,
  ]);
}

function colour(index: number): string {
  return COLOURS[index % COLOURS.length]!;
}

/** A bar from 1 to each ratio; a group of bars each figure. */
function ratios({ title, figures }: Section, source: string): string {
  const others = namesBeside(figures);
  const known = figures.flatMap(({ beside }) => beside.map(({ ratio }) => ratio)).filter((one) => one > 0);
  const scale = powers([1, ...known]);
  const heights = figures.map(({ beside }) => beside.length * ROW + GAP);
  const plot = rowsPlot(heights);
  const across = (ratio: number) => tenths(plot.x + plot.width * scale.place(ratio));
  let y = plot.y;
  const bars = figures.flatMap((figure, i) => {
    const top = y + GAP / 2;
    y += heights[i]!;
    const [left, unit] = [across(1), figure.value.unit];
    return [
      label(top + figure.beside.length * ROW / 2 + 4, figure.name),
      ...figure.beside.map(({ name, value, ratio }, bar) => {
        const [from, to] = [Math.min(left, across(ratio)), Math.max(left, across(ratio))];
        const says = `${figure.name}: ${middle(figure.value)}; ${name}: ${quantity(unit, centre(value))}`;
        const at = top + bar * ROW;
        return `<rect x="${from}" y="${at + 2}" width="${tenths(Math.max(1, to - from))}" height="${
          ROW - 4
        }" fill="${colour(others.indexOf(name))}">${svgTitle(says)}</rect>${
          svgText(to + 5, at + 11, ratioText(ratio), 'font-size="11"')
        }`;
      }),
    ];
  });
  return picture(plot.y + plot.height + FOOT + legendRows(others.length) * 20, title, source, [
    ...gridDown(plot, scale),
    `<path d="M ${across(1)} ${plot.y - 6} v ${plot.height + 12}" stroke="#37474f" stroke-width="1.5"/>`,
    ...bars,
    svgText(
      plot.x + plot.width / 2,
      plot.y + plot.height + 36,
      `times as ${moreIsBetter(figures) ? "many (right: faster here)" : "much (left: less here)"} as`,
      `text-anchor="middle" fill="${GREY}"`,
    ),
    ...legend(plot.y + plot.height + 58, others.map((name, i) => ({ name, colour: colour(i), dash: "" }))),
  ]);
}

/** From the median to the maximum, with a dot at each quantile. */
function quantiles({ title, figures }: Section, source: string): string {
  const rows = figures.flatMap(({ name, value, beside }) => [
    { name, value, own: true },
    ...beside.map((other) => ({ name: other.name, value: other.value, own: false })),
  ]);
  const marks = rows.map(({ value }) => quantilesOf(value));
  const scale = powers(marks.flat().map(({ at }) => at));
  const heights = rows.map(() => ROW + 4);
  const plot = rowsPlot(heights);
  const across = (value: number) => tenths(plot.x + plot.width * scale.place(value));
  const dots = rows.flatMap(({ name, value, own }, i) => {
    const y = plot.y + i * (ROW + 4) + (ROW + 4) / 2;
    const places = marks[i]!.map(({ at, name: quantile }) => ({
      x: across(at),
      y,
      says: `${name}: ${quantile} ${quantity(value.unit, at)}`,
    }));
    return [
      label(y + 4, own ? name : `beside: ${name}`, own ? "" : ` fill="${GREY}"`),
      series(own ? colour(0) : "#90a4ae", "", places),
    ];
  });
  const unit = rows[0]?.value.unit ?? "";
  return picture(plot.y + plot.height + FOOT, title, source, [
    ...gridDown(plot, scale),
    ...dots,
    svgText(
      plot.x + plot.width / 2,
      plot.y + plot.height + 36,
      `${unit}: p50, p99, highest`,
      `text-anchor="middle" fill="${GREY}"`,
    ),
  ]);
}

/** Nanoseconds of each over bursts: a panel each first word of the names, a line each of the rest; dashed what stands beside. */
function bursts({ title, figures }: Section, source: string): string {
  const points = figures.map((figure) => {
    const [, panel, kind, burst] = /^(\w+)(?:, )?(.*), burst (\d+)$/.exec(figure.name) ?? [];
    return { panel: panel ?? "", kind: kind || "plain", burst: Number(burst), figure };
  });
  const panels = unique(points.map(({ panel }) => panel));
  const kinds = unique(points.map(({ kind }) => kind));
  const columns = unique(points.map(({ burst }) => burst)).sort((a, b) => a - b);
  const others = namesBeside(figures);
  const scale = powers(
    figures.flatMap(({ value, beside }) => [value, ...beside.map((one) => one.value)]).map(nanoseconds),
  );
  const width = (WIDTH - 2 * MARGIN - 52 * panels.length) / panels.length;
  const places: Plot[] = panels.map((_, i) => ({
    x: MARGIN + 40 + i * (width + 52),
    y: HEAD + 12,
    width,
    height: 300,
  }));
  const drawn = panels.flatMap((panel, p) => {
    const plot = places[p]!;
    const column = (burst: number) =>
      tenths(plot.x + plot.width * (columns.indexOf(burst) + 0.5) / columns.length);
    const mine = points.filter((one) => one.panel === panel);
    const line = (
      kind: string,
      colour: string,
      dash: string,
      of: (figure: Figure) => Statistic | undefined,
      says: string,
    ) =>
      series(
        colour,
        dash,
        mine.filter((one) => one.kind === kind).map(({ burst, figure }) => {
          const value = of(figure);
          const ns = value === undefined ? NaN : nanoseconds(value);
          return {
            x: column(burst),
            y: tenths(plot.y + plot.height * (1 - scale.place(ns))),
            says: `${panel}, ${kind}, burst ${burst}${says}: ${quantity("nanoseconds", ns)}`,
          };
        }),
      );
    return [
      ...gridAcross(plot, scale),
      ...plotText(
        plot,
        `${panel}: nanoseconds each`,
        columns.map((burst) => ({ at: column(burst), text: String(burst) })),
        "burst",
      ),
      ...others.flatMap((other, o) =>
        kinds.map((kind, k) =>
          line(
            kind,
            colour(k),
            DASHES[o % DASHES.length]!,
            ({ beside }) => beside.find(({ name }) => name === other)?.value,
            `, ${other}`,
          )
        )
      ),
      ...kinds.map((kind, k) => line(kind, colour(k), "", ({ value }) => value, "")),
    ];
  });
  const y = HEAD + 12 + 300 + 64;
  const entries = [
    ...kinds.map((name, i) => ({ name, colour: colour(i), dash: "" })),
    ...others.map((name, i) => ({ name, colour: "#37474f", dash: DASHES[i % DASHES.length]! })),
  ];
  return picture(y + legendRows(entries.length) * 20, title, source, [...drawn, ...legend(y, entries)]);
}

const DASHES = ["7 4", "2 4", "10 3 2 3"];

/** One bar, cut into what each figure has of the whole; then a line for each. */
function shares({ title, figures }: Section, source: string): string {
  const total = figures.reduce((sum, { value }) => sum + centre(value), 0);
  const width = WIDTH - 2 * MARGIN;
  let x = MARGIN;
  const parts = figures.flatMap(({ name, value }, i) => {
    const part = width * centre(value) / total;
    const at = x;
    x += part;
    const y = HEAD + 62 + i * 20;
    const says = `${name}: ${quantity(value.unit, centre(value))}`;
    return [
      `<rect x="${tenths(at)}" y="${HEAD - 18}" width="${tenths(part)}" height="44" fill="${
        colour(i)
      }" fill-opacity="${i < COLOURS.length ? 1 : 0.55}" stroke="#ffffff">${svgTitle(says)}</rect>`,
      `<rect x="${MARGIN}" y="${y - 10}" width="12" height="12" fill="${colour(i)}" fill-opacity="${
        i < COLOURS.length ? 1 : 0.55
      }"/>`,
      svgText(MARGIN + 20, y, `${says} (${(100 * centre(value) / total).toFixed(0)} %)`),
    ];
  });
  return picture(HEAD + 62 + figures.length * 20 + 8, title, source, parts);
}

function label(y: number, text: string, more = ""): string {
  const most = 46;
  const cut = text.length > most ? `${text.slice(0, most - 1)}…` : text;
  return svgText(MARGIN + LABELS - 10, y, cut, `text-anchor="end" font-size="12"${more}`);
}

function rowsPlot(heights: readonly number[]): Plot {
  const height = heights.reduce((sum, one) => sum + one, 0);
  return { x: MARGIN + LABELS, y: HEAD - 18, width: WIDTH - 2 * MARGIN - LABELS - 40, height };
}

interface Entry {
  readonly name: string;
  readonly colour: string;
  readonly dash: string;
}

const IN_A_ROW = 4;

function legendRows(entries: number): number {
  return Math.ceil(entries / IN_A_ROW);
}

function legend(y: number, entries: readonly Entry[]): string[] {
  const width = (WIDTH - 2 * MARGIN) / IN_A_ROW;
  return entries.map(({ name, colour, dash }, i) =>
    legendEntry(MARGIN + width * (i % IN_A_ROW), y + 20 * Math.floor(i / IN_A_ROW), colour, dash, name)
  );
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function namesBeside(figures: readonly Figure[]): string[] {
  return unique(figures.flatMap(({ beside }) => beside.map(({ name }) => name)));
}

function middle(statistic: Statistic): string {
  return quantity(statistic.unit, centre(statistic));
}

/** What one takes. */
function nanoseconds(statistic: Statistic): number {
  return statistic.unit === "per second" ? 1e9 / centre(statistic) : centre(statistic);
}

function quantilesOf(statistic: Statistic): { readonly name: string; readonly at: number }[] {
  if (statistic.kind !== "samples") return [{ name: "median", at: centre(statistic) }];
  const { p50, p99, max } = statistic;
  return [{ name: "p50", at: p50 }, { name: "p99", at: p99 }, { name: "highest", at: max }];
}

const RATES: readonly Unit[] = ["per second", "bytes per second"];

function moreIsBetter(figures: readonly Figure[]): boolean {
  return figures.some(({ value }) => RATES.includes(value.unit));
}
