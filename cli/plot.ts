/**
 * What plots have in common: a place with a scale and its lines, series of points, and what stands below.
 *
 * @module
 */
import { svgText, svgTitle, tenths } from "./svg.ts";

/** Where a plot is. */
export interface Plot {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** From 0 or, on a scale of powers, from the lowest tick on. */
export interface Scale {
  readonly ticks: readonly number[];
  /** 0 at the beginning to 1 at the end. */
  readonly place: (value: number) => number;
}

/** Colour of what is said beside the figures. */
export const GREY = "#555555";
const GRID = "#cfd8dc";

/** A line for each tick, from the left to the right. */
export function gridAcross({ x, y, width, height }: Plot, { ticks, place }: Scale): string[] {
  return ticks.flatMap((tick) => {
    const at = tenths(y + height * (1 - place(tick)));
    return [
      `<path d="M ${x} ${at} h ${width}" stroke="${GRID}"/>`,
      svgText(x - 8, at + 4, shortNumber(tick), 'text-anchor="end"'),
    ];
  });
}

/** A line for each tick, from the top to the bottom. */
export function gridDown({ x, y, width, height }: Plot, { ticks, place }: Scale): string[] {
  return ticks.flatMap((tick) => {
    const at = tenths(x + width * place(tick));
    return [
      `<path d="M ${at} ${y} v ${height}" stroke="${GRID}"/>`,
      svgText(at, y + height + 18, shortNumber(tick), 'text-anchor="middle"'),
    ];
  });
}

/** A head above, the values of the columns below, and what they are. */
export function plotText(
  { x, y, width, height }: Plot,
  head: string,
  columns: readonly { readonly at: number; readonly text: string }[],
  each: string,
): string[] {
  return [
    svgText(x, y - 12, head, 'font-weight="bold"'),
    ...columns.map(({ at, text }) => svgText(at, y + height + 18, text, 'text-anchor="middle"')),
    svgText(x + width / 2, y + height + 36, each, `text-anchor="middle" fill="${GREY}"`),
  ];
}

/** Points and a line through those that are known. */
export function series(
  colour: string,
  dash: string,
  places: readonly { readonly x: number; readonly y: number; readonly says: string }[],
): string {
  const known = places.filter(({ y }) => !Number.isNaN(y));
  const path = known.map(({ x, y }, i) => `${i === 0 ? "M" : "L"} ${x} ${y}`).join(" ");
  return [
    path === "" ? "" : stroke(path, colour, dash),
    ...known.map(({ x, y, says }) =>
      `<circle cx="${x}" cy="${y}" r="3.5" fill="${colour}">${svgTitle(says)}</circle>`
    ),
  ].join("");
}

/** A line and what it means. */
export function legendEntry(x: number, y: number, colour: string, dash: string, text: string): string {
  return `${stroke(`M ${x} ${y} h 30`, colour, dash)}${svgText(x + 38, y + 4, text)}`;
}

function stroke(path: string, colour: string, dash: string): string {
  const dashed = dash === "" ? "" : ` stroke-dasharray="${dash}"`;
  return `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dashed}/>`;
}

/** From 0 to at least the highest value, in steps that are easily read. */
export function linear(highest: number): Scale {
  const power = 10 ** Math.floor(Math.log10(highest / 4));
  const step = power * ([1, 2, 2.5, 5].find((factor) => power * factor * 5 >= highest) ?? 10);
  const count = Math.ceil(highest / step);
  // A step of 0.2, three times, is not 0.6.
  const ticks = Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)));
  return { ticks, place: (value) => value / (count * step) };
}

/** From the power of ten, or 2 or 5 times one, below the lowest value to one above the highest. */
export function powers(values: readonly number[]): Scale {
  const known = values.filter((value) => value > 0);
  const [low, high] = known.length === 0 ? [1, 10] : [Math.min(...known), Math.max(...known)];
  const all = Array.from({ length: 16 }, (_, i) => 10 ** (i - 4)).flatMap((ten) => [ten, 2 * ten, 5 * ten]);
  const from = all.findLastIndex((value) => value <= low);
  const to = Math.max(from + 1, all.findIndex((value) => value >= high));
  const [least, most] = [Math.log(all[from]!), Math.log(all[to]!)];
  return {
    ticks: all.slice(from, to + 1),
    // 0 has no logarithm that could be drawn.
    place: (value) => Math.max(0, (Math.log(value) - least) / (most - least)),
  };
}

/** `250`, `2.5k`, `1M`. */
export function shortNumber(value: number): string {
  const [unit, suffix] = value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${Number((value / unit).toPrecision(3))}${suffix}`;
}
