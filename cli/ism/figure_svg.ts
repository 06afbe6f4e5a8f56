/**
 * A communication domain as a picture: functions on the left, regions on the right, lines for who has attached and who might.
 *
 * @module
 */
import type { IsmDomainState } from "../../lib/emulation/mod.ts";
import { bytesText, countText } from "../output.ts";
import { svgPicture, svgText, svgTitle, tenths } from "../svg.ts";
import { standingOf } from "./domain_view.ts";

type FunctionState = IsmDomainState["functions"][number];
type RegionState = IsmDomainState["regions"][number];

/** Boxes one below the other. */
interface Column {
  readonly x: number;
  readonly width: number;
  /** Of each box. */
  readonly height: number;
  readonly gap: number;
}

const MARGIN = 24;
const HEAD = 64;
const FUNCTIONS: Column = { x: MARGIN, width: 210, height: 58, gap: 26 };
const REGIONS: Column = { x: 560, width: 270, height: 78, gap: 22 };
/** Between the lines of two functions, where they meet a region. */
const LINE_GAP = 15;
const WIDTH = REGIONS.x + REGIONS.width + MARGIN;
const LEGEND_HEIGHT = 58;

/** Of a line, by what the device is attached for, or may attach for. */
const COLOURS: Readonly<Record<string, string>> = { rw: "#1b5e20", r: "#0d47a1", w: "#b71c1c" };
const LOOKS = {
  allocated: 'stroke-width="3.5"',
  attached: 'stroke-width="2"',
  might: 'stroke-dasharray="3 5" stroke-width="1.2"',
} as const;

/** What lines mean, side by side. */
const LEGEND: readonly (readonly [x: number, rights: string, look: keyof typeof LOOKS, says: string])[] = [
  [0, "rw", "attached", "read and write"],
  [160, "r", "attached", "read"],
  [250, "w", "attached", "write"],
  [350, "rw", "allocated", "has allocated it"],
  [520, "rw", "might", "may attach, has not"],
];

/** The picture as SVG text. @param note a line below the title; may be empty */
export function domainSvg(domain: IsmDomainState, note: string): string {
  const { functions, regions } = domain;
  const regionColumn = { ...REGIONS, height: Math.max(REGIONS.height, LINE_GAP * (functions.length + 1)) };
  const heights = [heightOf(FUNCTIONS, functions.length), heightOf(regionColumn, regions.length)];
  const rows = Math.max(...heights, 40);
  const height = HEAD + rows + LEGEND_HEIGHT + MARGIN;
  const from = placesOf(FUNCTIONS, functions.length, rows);
  const to = placesOf(regionColumn, regions.length, rows);
  return svgPicture(WIDTH, height, titleOf(domain), [
    svgText(MARGIN, 28, titleOf(domain), 'font-size="16" font-weight="bold"'),
    svgText(MARGIN, 47, note === "" ? subtitleOf(domain) : note, 'fill="#555555"'),
    ...regions.flatMap((region, r) =>
      functions.map((one, f) => {
        // Ends are spread over the sides of the boxes, so that lines stay apart.
        const y1 = from[f]! + FUNCTIONS.height * (r + 1) / (regions.length + 1);
        const y2 = to[r]! + regionColumn.height * (f + 1) / (functions.length + 1);
        return line(region, one, tenths(y1), tenths(y2));
      })
    ),
    ...functions.map((one, i) => functionBox(one, from[i]!)),
    ...regions.map((region, i) => regionBox(region, to[i]!, regionColumn.height)),
    regions.length === 0 ? svgText(REGIONS.x, HEAD + rows / 2, "no regions", 'fill="#555555"') : "",
    legend(HEAD + rows + 30),
  ]);
}

function titleOf({ domain, cdid }: IsmDomainState): string {
  return `virtio-ism domain ${domain === "" ? cdid : `${domain} (${cdid})`}`;
}

function subtitleOf({ chunkSize, memory, memoryUsed }: IsmDomainState): string {
  return `chunks of ${bytesText(chunkSize)}; ${bytesText(memoryUsed)} of ${bytesText(memory)} in use`;
}

function heightOf({ height, gap }: Column, count: number): number {
  return Math.max(0, count * (height + gap) - gap);
}

/** Where the boxes of a column begin, which is centred. */
function placesOf(column: Column, count: number, rows: number): number[] {
  const top = HEAD + (rows - heightOf(column, count)) / 2;
  return Array.from({ length: count }, (_, i) => top + i * (column.height + column.gap));
}

function functionBox({ function: name, devid, chunks, chunksUsed }: FunctionState, y: number): string {
  const { x, width, height } = FUNCTIONS;
  const bar = width - 24;
  const used = chunks === 0 ? 0 : chunksUsed === 0 ? 0 : Math.max(2, Math.round(bar * chunksUsed / chunks));
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="6" fill="#eceff1" stroke="#37474f"/>`,
    svgText(x + 12, y + 20, name, 'font-weight="bold"'),
    svgText(x + 12, y + 37, `device ${devid}; ${chunksUsed} of ${countText(chunks, "chunk")}`),
    `<rect x="${x + 12}" y="${y + 45}" width="${bar}" height="5" fill="#cfd8dc"/>`,
    `<rect x="${x + 12}" y="${y + 45}" width="${used}" height="5" fill="#37474f"/>`,
  ].join("\n");
}

function regionBox(region: RegionState, y: number, height: number): string {
  const { x, width } = REGIONS;
  const { token, size, chunks, allocator, defaultPermissions, permissions, driverMemory } = region;
  const own = permissions.filter(({ devid }) => devid !== allocator)
    .map((one) => `device ${one.devid}: ${one.permissions || "nothing"}`);
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="#fff8e1" stroke="#ff8f00"/>`,
    svgText(x + 12, y + 20, `${token}  ${bytesText(Number(size))}`, 'font-weight="bold"'),
    svgText(
      x + 12,
      y + 38,
      `${countText(chunks, "chunk")}, allocated by device ${allocator}${driverMemory ? ", its memory" : ""}`,
    ),
    svgText(x + 12, y + 55, `others may: ${defaultPermissions || "nothing"}`),
    svgText(x + 12, y + 71, cut(own.join(", "), 40), 'fill="#555555" font-size="12"'),
  ].join("\n");
}

/** Nothing where the device is not attached and may not attach. */
function line(region: RegionState, one: FunctionState, y1: number, y2: number): string {
  const { permissions, attached, allocator } = standingOf(region, one.devid);
  const may = permissions.includes("a") ? permissions.replace(/[am]/g, "") : "";
  if (attached === undefined && may === "") return "";
  const colour = COLOURS[attached ?? may] ?? "#757575";
  const look = LOOKS[attached === undefined ? "might" : allocator ? "allocated" : "attached"];
  const does = attached === undefined ? "not attached" : `attached for ${attached || "nothing"}`;
  const [x1, x2] = [FUNCTIONS.x + FUNCTIONS.width, REGIONS.x];
  const middle = (x1 + x2) / 2;
  return [
    `<path d="M ${x1} ${y1} C ${middle} ${y1} ${middle} ${y2} ${x2} ${y2}" fill="none" stroke="${colour}" ${look}>`,
    `${svgTitle(`${one.function}: ${does}, may ${permissions || "nothing"}`)}</path>`,
    svgText(
      x2 - 8,
      y2 - 4,
      attached === undefined ? `(${may})` : attached || "-",
      `font-size="11" text-anchor="end" fill="${colour}"`,
    ),
  ].join("");
}

function legend(y: number): string {
  return [
    ...LEGEND.map(([at, rights, look, says]) => {
      const x = MARGIN + at;
      const stroke = `<path d="M ${x} ${y} h 30" stroke="${COLOURS[rights]}" ${LOOKS[look]}/>`;
      return `${stroke}${svgText(x + 38, y + 4, says)}`;
    }),
    svgText(
      MARGIN,
      y + 26,
      "r read, w write, a attach, m manage; in brackets: might, but has not attached. Of tokens the first digits only.",
      'fill="#555555"',
    ),
  ].join("\n");
}

function cut(content: string, most: number): string {
  return content.length <= most ? content : `${content.slice(0, most - 1)}…`;
}
