/**
 * A trace as a picture: lanes of what was done where, from the left to the right.
 *
 * @module
 */
import { REGION } from "../../lib/vfio/device.ts";
import { svgPicture, svgText, svgTitle, tenths } from "../svg.ts";
import type { ShownRecord } from "./reading.ts";

const LEFT = 210, TOP = 120, LANE = 30, RIGHT = 30;
/** Between two records: at least so much; a pause is longer, but not by all of its length. */
const LEAST = 7, PAUSE = 40;
const TIME_EVERY = 90;
/** More than anybody looks at, and than a browser likes. */
const MOST_RECORDS = 4000;
const COLOURS = {
  read: "#1565c0",
  write: "#e65100",
  doorbell: "#b71c1c",
  interrupt: "#2e7d32",
  irqs: "#6a1b9a",
  map: "#00838f",
} as const;
const GREY = "#555555", GRID = "#e0e0e0";

/** Draws records, the first of them where there are too many. */
export function timeline(all: readonly ShownRecord[], title: string): string {
  const shown = all.slice(0, MOST_RECORDS);
  const xs: number[] = [];
  let x = LEFT + 10;
  shown.forEach(({ record: { us } }, at) => {
    const pauseUs = at === 0 ? 0 : us - shown[at - 1]!.record.us;
    // Twice the pause is a step more.
    x += at === 0 ? 0 : Math.min(LEAST + PAUSE, LEAST + Math.max(0, 4 * Math.log2(pauseUs / 500 || 1)));
    xs.push(x);
  });
  const end = x + 20;
  const several = shown.some(({ record }) => record.device > 0);
  const lanes = [...new Set(shown.map((one) => laneOf(one, several)).filter((lane) => lane !== ""))].sort();
  const y = (lane: string) => TOP + LANE * lanes.indexOf(lane) + LANE / 2;
  const height = TOP + LANE * lanes.length + 60;
  const parts = [svgText(16, 26, title, 'font-size="16" font-weight="bold"'), legend()];
  lanes.forEach((lane, at) => {
    parts.push(
      `<path d="M ${LEFT} ${y(lane)} H ${tenths(end)}" stroke="${GRID}" stroke-width="${LANE - 8}"/>`,
    );
    // Sorted by what they are; the number in front is not shown.
    parts.push(svgText(LEFT - 10, TOP + LANE * at + LANE / 2 + 5, lane.slice(2), 'text-anchor="end"'));
  });
  parts.push(...times(shown, xs, height));
  const bars: string[] = [], marks: string[] = [];
  shown.forEach((one, at) => {
    const { record, where, what } = one;
    const lane = laneOf(one, several);
    if (record.kind === "unmap" || lane === "") return;
    const told = svgTitle(
      `${record.line}: ${record.kind} ${where} ${what} (${(record.us / 1000).toFixed(3)} ms)`,
    );
    if (record.kind === "map") {
      const ends = shown.findIndex(({ record: other }, later) =>
        later > at && other.kind === "unmap" && other.iova === record.iova && other.device === record.device
      );
      const until = ends < 0 ? end : xs[ends]!;
      bars.push(
        `<rect x="${tenths(xs[at]!)}" y="${y(lane) - 7}" width="${
          tenths(Math.max(3, until - xs[at]!))
        }" height="14" rx="3" fill="${COLOURS.map}" fill-opacity="0.45">${told}</rect>`,
      );
      return;
    }
    const colour = COLOURS[record.kind as keyof typeof COLOURS] ?? GREY;
    marks.push(
      `<rect x="${tenths(xs[at]! - 2.5)}" y="${
        y(lane) - 9
      }" width="5" height="18" fill="${colour}">${told}</rect>`,
    );
    marks.push(...milestone(one, xs[at]!, height));
  });
  parts.push(...bars, ...marks);
  if (all.length > shown.length) {
    parts.push(
      svgText(16, height - 12, `the first ${shown.length} of ${all.length} records`, `fill="${GREY}"`),
    );
  }
  return svgPicture(Math.ceil(end + RIGHT), height, title, parts);
}

/** A number to sort by, a blank, and the lane's name; empty: in none. */
function laneOf({ record, where }: ShownRecord, several: boolean): string {
  const of = several ? ` of ${record.device}` : "";
  switch (record.kind) {
    case "read":
    case "write":
      if (record.region === REGION.config) return `0 configuration${of}`;
      return where.startsWith("notify:") ? `2 doorbells${of}` : `1 BAR ${record.region}${of}`;
    case "doorbell":
      return `2 doorbells${of}`;
    case "interrupt":
    case "irqs":
      return `3 interrupts${of}`;
    case "map":
    case "unmap":
      return `4 ${record.label}${of}`;
    default:
      return "";
  }
}

/** What a virtio driver has come to: a new status, over all lanes. */
function milestone({ record, where, what }: ShownRecord, x: number, height: number): string[] {
  if (record.kind !== "write" || where !== "common:device_status") return [];
  // The bit of the last step stands below that of the one before it.
  const name = what.includes("DRIVER_OK") ? "DRIVER_OK" : what.split(" ").at(-1)!;
  return [
    `<path d="M ${tenths(x)} ${TOP - 8} V ${height - 50}" stroke="${GREY}" stroke-dasharray="3 3"/>`,
    `<g transform="translate(${tenths(x + 3)} ${TOP - 10}) rotate(-30)">${
      svgText(0, 0, name, `fill="${GREY}" font-size="11"`)
    }</g>`,
  ];
}

function times(shown: readonly ShownRecord[], xs: readonly number[], height: number): string[] {
  let last = -Infinity;
  return shown.flatMap(({ record: { us } }, at) => {
    const x = xs[at]!;
    if (x - last < TIME_EVERY) return [];
    last = x;
    return [
      `<path d="M ${tenths(x)} ${height - 50} v 6" stroke="${GREY}"/>`,
      svgText(
        tenths(x),
        height - 32,
        `${(us / 1000).toFixed(1)} ms`,
        `text-anchor="middle" fill="${GREY}" font-size="11"`,
      ),
    ];
  });
}

function legend(): string {
  return Object.entries(COLOURS).map(([kind, colour], at) => {
    const x = 16 + 95 * at;
    return `<rect x="${x}" y="38" width="10" height="12" fill="${colour}"/>${svgText(x + 15, 49, kind)}`;
  }).join("");
}
