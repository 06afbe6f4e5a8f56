/**
 * A communication domain as a picture: functions on the left, regions on the right, lines for who has attached and who might.
 *
 * @module
 */
import type { IsmDomainState } from "../../lib/emulation/mod.ts";
import { bytesText, countText } from "../output.ts";
import { standingOf } from "./domain_view.ts";

type FunctionState = IsmDomainState["functions"][number];
type RegionState = IsmDomainState["regions"][number];

const MARGIN = 24;
const HEAD = 64;
const FUNCTION = { x: MARGIN, width: 210, height: 58, gap: 26 } as const;
const REGION = { x: 560, width: 270, leastHeight: 78, gap: 22 } as const;
/** Between the lines of two functions, where they meet a region. */
const LINE_GAP = 15;
const WIDTH = REGION.x + REGION.width + MARGIN;
const LEGEND = 58;
const LEGEND_AT = [0, 160, 250, 350] as const;

/** How a line looks: by what the device is attached for, or may attach for. */
const LINES = {
  rw: { colour: "#1b5e20", text: "read and write" },
  r: { colour: "#0d47a1", text: "read" },
  w: { colour: "#b71c1c", text: "write" },
  none: { colour: "#757575", text: "neither" },
} as const;

/** The picture as SVG text. @param note a line below the title; may be empty */
export function domainSvg(domain: IsmDomainState, note: string): string {
  const regionHeight = Math.max(REGION.leastHeight, LINE_GAP * (domain.functions.length + 1));
  const regionColumn = { height: regionHeight, gap: REGION.gap };
  const rows = Math.max(
    columnHeight(domain.functions.length, FUNCTION),
    columnHeight(domain.regions.length, regionColumn),
    40,
  );
  const height = HEAD + rows + LEGEND + MARGIN;
  const functionY = placer(domain.functions.length, FUNCTION, rows);
  const regionY = placer(domain.regions.length, regionColumn, rows);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">`,
    `<title>${escape(titleOf(domain))}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(MARGIN, 28, titleOf(domain), 'font-size="16" font-weight="bold"'),
    text(MARGIN, 47, note === "" ? subtitleOf(domain) : note, 'fill="#555555"'),
    ...lines(domain, functionY, regionY, regionHeight),
    ...domain.functions.map((one, i) => functionBox(one, functionY(i))),
    ...domain.regions.map((one, i) => regionBox(one, regionY(i), regionHeight)),
    ...(domain.regions.length === 0 ? [text(REGION.x, HEAD + rows / 2, "no regions", 'fill="#555555"')] : []),
    ...legend(HEAD + rows + 30),
    "</svg>",
  ];
  return `${parts.join("\n")}\n`;
}

function titleOf({ domain, cdid }: IsmDomainState): string {
  return `virtio-ism domain ${domain === "" ? cdid : `${domain} (${cdid})`}`;
}

function subtitleOf({ chunkSize, memory, memoryUsed }: IsmDomainState): string {
  return `chunks of ${bytesText(chunkSize)}; ${bytesText(memoryUsed)} of ${bytesText(memory)} in use`;
}

function columnHeight(count: number, box: { readonly height: number; readonly gap: number }): number {
  return count * (box.height + box.gap) - (count === 0 ? 0 : box.gap);
}

/** Where the boxes of a column begin, which is centred. */
function placer(
  count: number,
  box: { readonly height: number; readonly gap: number },
  rows: number,
): (index: number) => number {
  const top = HEAD + (rows - columnHeight(count, box)) / 2;
  return (index) => top + index * (box.height + box.gap);
}

function functionBox({ function: name, devid, chunks, chunksUsed }: FunctionState, y: number): string {
  const { x, width, height } = FUNCTION;
  const bar = width - 24;
  const used = chunks === 0 ? 0 : chunksUsed === 0 ? 0 : Math.max(2, Math.round(bar * chunksUsed / chunks));
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="6" fill="#eceff1" stroke="#37474f"/>`,
    text(x + 12, y + 20, name, 'font-weight="bold"'),
    text(x + 12, y + 37, `device ${devid}; ${chunksUsed} of ${countText(chunks, "chunk")}`),
    `<rect x="${x + 12}" y="${y + 45}" width="${bar}" height="5" fill="#cfd8dc"/>`,
    `<rect x="${x + 12}" y="${y + 45}" width="${used}" height="5" fill="#37474f"/>`,
  ].join("\n");
}

function regionBox(region: RegionState, y: number, height: number): string {
  const { x, width } = REGION;
  const { token, size, chunks, allocator, defaultPermissions, permissions, driverMemory } = region;
  const own = permissions.filter(({ devid }) => devid !== allocator)
    .map((one) => `device ${one.devid}: ${one.permissions || "nothing"}`);
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="#fff8e1" stroke="#ff8f00"/>`,
    text(x + 12, y + 20, `${token}  ${bytesText(Number(size))}`, 'font-weight="bold"'),
    text(
      x + 12,
      y + 38,
      `${countText(chunks, "chunk")}, allocated by device ${allocator}${driverMemory ? ", its memory" : ""}`,
    ),
    text(x + 12, y + 55, `others may: ${defaultPermissions || "nothing"}`),
    text(x + 12, y + 71, cut(own.join(", "), 40), 'fill="#555555" font-size="12"'),
  ].join("\n");
}

function lines(
  { functions, regions }: IsmDomainState,
  functionY: (index: number) => number,
  regionY: (index: number) => number,
  regionHeight: number,
): string[] {
  const x1 = FUNCTION.x + FUNCTION.width;
  const x2 = REGION.x;
  return regions.flatMap((region, to) =>
    functions.flatMap((one, from) => {
      const { permissions, attached, allocator } = standingOf(region, one.devid);
      const may = permissions.includes("a") ? permissions.replace(/[am]/g, "") : "";
      if (attached === undefined && may === "") return [];
      // Ends are spread over the sides of the boxes, so that lines stay apart.
      const y1 = functionY(from) + FUNCTION.height * (to + 1) / (regions.length + 1);
      const y2 = regionY(to) + regionHeight * (from + 1) / (functions.length + 1);
      const { colour } = lineOf(attached ?? may);
      const look = attached === undefined
        ? 'stroke-dasharray="3 5" stroke-width="1.2"'
        : `stroke-width="${allocator ? 3.5 : 2}"`;
      const bend = (x2 - x1) / 2;
      return [
        `<path d="M ${x1} ${round(y1)} C ${x1 + bend} ${round(y1)} ${x2 - bend} ${round(y2)} ${x2} ${
          round(y2)
        }" fill="none" stroke="${colour}" ${look}><title>${
          escape(
            `${one.function}: ${
              attached === undefined ? "not attached" : `attached for ${attached || "nothing"}`
            }, may ${permissions || "nothing"}`,
          )
        }</title></path>`,
        text(
          x2 - 8,
          y2 - 4,
          attached === undefined ? `(${may || "-"})` : attached || "-",
          `font-size="11" text-anchor="end" fill="${colour}"`,
        ),
      ];
    })
  );
}

function lineOf(rights: string): { readonly colour: string; readonly text: string } {
  return rights === "rw" || rights === "r" || rights === "w" ? LINES[rights] : LINES.none;
}

function legend(y: number): string[] {
  const kinds = [LINES.rw, LINES.r, LINES.w];
  const solid = kinds.map(({ colour, text: label }, i) => {
    const x = MARGIN + LEGEND_AT[i]!;
    return `<path d="M ${x} ${y} h 30" stroke="${colour}" stroke-width="2"/>\n${text(x + 38, y + 4, label)}`;
  });
  const x = MARGIN + LEGEND_AT[3]!;
  return [
    ...solid,
    `<path d="M ${x} ${y} h 30" stroke="#1b5e20" stroke-width="3.5"/>`,
    text(x + 38, y + 4, "has allocated it"),
    `<path d="M ${x + 170} ${y} h 30" stroke="#1b5e20" stroke-width="1.2" stroke-dasharray="3 5"/>`,
    text(x + 208, y + 4, "may attach, has not"),
    text(
      MARGIN,
      y + 26,
      "r read, w write, a attach, m manage; in brackets: might, but has not attached. Of tokens the first digits only.",
      'fill="#555555"',
    ),
  ];
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${x}" y="${round(y)}"${attributes === "" ? "" : ` ${attributes}`}>${
    escape(content)
  }</text>`;
}

function cut(content: string, most: number): string {
  return content.length <= most ? content : `${content.slice(0, most - 1)}…`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(content: string): string {
  const names: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return content.replace(/[&<>"]/g, (one) => names[one]!);
}
