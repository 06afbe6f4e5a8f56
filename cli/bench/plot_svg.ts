/**
 * What was measured as a picture: throughput on the left, latency on the right, a line for each way.
 *
 * @module
 */
import {
  GREY,
  gridAcross,
  legendEntry,
  linear,
  type Plot,
  plotText,
  powers,
  type Scale,
  series,
} from "../plot.ts";
import { svgPicture, svgText, tenths } from "../svg.ts";
import { type Point, type Report, timeText, type Way } from "./points.ts";

const WIDTH = 900;
const HEIGHT = 440;
const LEFT: Plot = { x: 76, y: 92, width: 346, height: 260 };
const RIGHT: Plot = { x: 526, y: 92, width: 346, height: 260 };
const LEGEND_Y = 412;
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
  const frame = (plot: Plot, head: string, scale: Scale) => [
    ...gridAcross(plot, scale),
    ...plotText(
      plot,
      head,
      columns.map((value) => ({ at: across(plot, value), text: String(value) })),
      each,
    ),
  ];
  return svgPicture(WIDTH, HEIGHT, title, [
    svgText(24, 28, title, 'font-size="16" font-weight="bold"'),
    svgText(24, 48, note, `fill="${GREY}"`),
    ...frame(LEFT, `${report.what} a second`, rates),
    ...frame(RIGHT, "latency, microseconds", times),
    ...lines,
    ...ways.map((way, i) => legendEntry(LEFT.x + 130 * i, LEGEND_Y, COLOURS[way], "", way)),
    ...PERCENTILES.map(({ name, dash }, i) =>
      legendEntry(RIGHT.x + 110 * i, LEGEND_Y, "#37474f", dash, name)
    ),
  ]);
}
