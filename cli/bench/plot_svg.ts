/**
 * What was measured as a picture: throughput on the left, latency on the right, a line for each way.
 *
 * @module
 */
import { svgPicture, svgText, svgTitle, tenths } from "../svg.ts";
import { type Point, type Report, timeText, type Way } from "./points.ts";

/** Where one of the two plots is. */
interface Plot {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** From 0 or, on a scale of powers, from the lowest tick on. */
interface Scale {
  readonly ticks: readonly number[];
  /** 0 at the bottom to 1 at the top. */
  readonly place: (value: number) => number;
}

const WIDTH = 900;
const HEIGHT = 440;
const LEFT: Plot = { x: 76, y: 92, width: 346, height: 260 };
const RIGHT: Plot = { x: 526, y: 92, width: 346, height: 260 };
const LEGEND_Y = 412;
const GREY = "#555555";
const COLOURS: Readonly<Record<Way, string>> = { polled: "#0d47a1", interrupt: "#b71c1c" };
const PERCENTILES = [
  { name: "p50", key: "p50", dash: "" },
  { name: "p99", key: "p99", dash: "7 4" },
  { name: "p99.9", key: "p999", dash: "2 4" },
] as const;

/** The picture as SVG text. */
export function plotSvg(report: Report): string {
  const { title, note, points, each } = report;
  const columns = [...new Set(points.map((point) => point.each))].sort((a, b) => a - b);
  const ways = [...new Set(points.map(({ way }) => way))];
  const across = (plot: Plot, value: number) =>
    tenths(plot.x + plot.width * (columns.indexOf(value) + 0.5) / columns.length);
  const rates = linear(Math.max(1, ...points.map(({ perSecond }) => perSecond)));
  const times = powers(points.flatMap(({ microseconds }) => [microseconds.p50, microseconds.p999]));
  const lines = ways.flatMap((way) => {
    const mine = points.filter((point) => point.way === way).sort((a, b) => a.each - b.each);
    const draw = (plot: Plot, scale: Scale, dash: string, value: (point: Point) => number, text: string) =>
      series(
        COLOURS[way],
        dash,
        mine.map((point) => ({
          x: across(plot, point.each),
          y: tenths(plot.y + plot.height * (1 - scale.place(value(point)))),
          says: `${way}, ${each} ${point.each}: ${text} ${timeText(value(point))}`,
        })),
      );
    return [
      draw(LEFT, rates, "", ({ perSecond }) => perSecond, `${report.what} a second`),
      ...PERCENTILES.map(({ name, key, dash }) =>
        draw(RIGHT, times, dash, ({ microseconds }) => microseconds[key], `${name}, µs:`)
      ),
    ];
  });
  const frame = (plot: Plot, head: string, scale: Scale, label: (value: number) => string) => [
    svgText(plot.x, plot.y - 12, head, 'font-weight="bold"'),
    ...grid(plot, scale, label),
    ...columns.map((value) =>
      svgText(across(plot, value), plot.y + plot.height + 18, String(value), 'text-anchor="middle"')
    ),
    svgText(
      plot.x + plot.width / 2,
      plot.y + plot.height + 36,
      each,
      `text-anchor="middle" fill="${GREY}"`,
    ),
  ];
  return svgPicture(WIDTH, HEIGHT, title, [
    svgText(24, 28, title, 'font-size="16" font-weight="bold"'),
    svgText(24, 48, note, `fill="${GREY}"`),
    ...frame(LEFT, `${report.what} a second`, rates, short),
    ...frame(RIGHT, "latency, microseconds", times, short),
    ...lines,
    ...legend(ways),
  ]);
}

function grid({ x, y, width, height }: Plot, { ticks, place }: Scale, label: (value: number) => string) {
  return ticks.flatMap((tick) => {
    const at = tenths(y + height * (1 - place(tick)));
    return [
      `<path d="M ${x} ${at} h ${width}" stroke="#cfd8dc"/>`,
      svgText(x - 8, at + 4, label(tick), 'text-anchor="end"'),
    ];
  });
}

function series(
  colour: string,
  dash: string,
  places: readonly { readonly x: number; readonly y: number; readonly says: string }[],
): string {
  const known = places.filter(({ y }) => !Number.isNaN(y));
  const path = known.map(({ x, y }, i) => `${i === 0 ? "M" : "L"} ${x} ${y}`).join(" ");
  const dashed = dash === "" ? "" : ` stroke-dasharray="${dash}"`;
  return [
    path === "" ? "" : `<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dashed}/>`,
    ...known.map(({ x, y, says }) =>
      `<circle cx="${x}" cy="${y}" r="3.5" fill="${colour}">${svgTitle(says)}</circle>`
    ),
  ].join("");
}

function legend(ways: readonly Way[]): string[] {
  const entry = (x: number, colour: string, dash: string, text: string) =>
    `<path d="M ${x} ${LEGEND_Y} h 30" stroke="${colour}" stroke-width="2" stroke-dasharray="${dash}"/>${
      svgText(x + 38, LEGEND_Y + 4, text)
    }`;
  return [
    ...ways.map((way, i) => entry(LEFT.x + 130 * i, COLOURS[way], "", way)),
    ...PERCENTILES.map(({ name, dash }, i) => entry(RIGHT.x + 110 * i, "#37474f", dash, name)),
  ];
}

/** From 0 to at least the highest value, in steps that are easily read. */
function linear(highest: number): Scale {
  const power = 10 ** Math.floor(Math.log10(highest / 4));
  const step = power * ([1, 2, 2.5, 5].find((factor) => power * factor * 5 >= highest) ?? 10);
  const count = Math.ceil(highest / step);
  const ticks = Array.from({ length: count + 1 }, (_, i) => i * step);
  return { ticks, place: (value) => value / (count * step) };
}

/** From the power of ten, or 2 or 5 times one, below the lowest value to one above the highest. */
function powers(values: readonly number[]): Scale {
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
function short(value: number): string {
  const [unit, suffix] = value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${Number((value / unit).toPrecision(3))}${suffix}`;
}
