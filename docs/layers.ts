/**
 * The layers of the project, lowest first, and their picture: `deno task docs:layers` draws who imports whom, out of the files, into
 * `docs/figures/layers.svg`. A test fails when it is stale.
 *
 * @module
 */
import { svgPicture, svgText, svgTitle } from "../cli/svg.ts";
import { readDirectory, readText, replaceFile } from "../ffi/mod.ts";

/** Folders of one layer: a file may import from its own layer and from those before it. */
export const LAYERS: readonly (readonly string[])[] = [
  ["lib/errors"],
  ["lib/wire"],
  ["ffi"],
  ["lib/memory", "lib/wait", "lib/capture"],
  ["lib/registers"],
  ["lib/pci"],
  ["lib/vfio"],
  // Above it, since the vfio-user client is a `VfioDevice`.
  ["lib/sockets"],
  ["lib/host"],
  ["lib/virtio"],
  ["lib/trace"],
  ["lib/emulation"],
  ["drivers"],
  ["cli"],
];

/** What each folder is for, in a line. */
const ABOUT: Readonly<Record<string, string>> = {
  "lib/errors": "typed errors: what, where, what to do",
  "lib/wire": "declared structures and their codec",
  "ffi": "the C library; system calls, pointers, mappings",
  "lib/memory": "DMA memory and IOVAs",
  "lib/wait": "polling, eventfds, or both",
  "lib/capture": "pcap and pcapng files",
  "lib/registers": "registers and fields by name",
  "lib/pci": "config space and capabilities",
  "lib/vfio": "a function: regions, interrupts, DMA, reset",
  "lib/sockets": "vfio-user and vhost-user",
  "lib/host": "which functions; binding, VFs, journal",
  "lib/virtio": "transports, queues, commands",
  "lib/trace": "what a driver did, recorded",
  "lib/emulation": "the device side: a machine of virtio devices",
  "drivers": "net, blk, console, rng, ism, admin, management",
  "cli": "a file a command",
};

const ROW = 32;
const BOX = 26;
const LEFT = 24;
const TOP = 76;
const NAMES = 112;
const WIDTH = 440;
const GRID = LEFT + WIDTH + 40;
const COLUMN = 28;
const DEVICE_SIDE = "lib/emulation";

/** Relative imports of a file, as paths from the project's folder. */
export function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)]
    .map((match) => new URL(match[1]!, `file:///${path}`).pathname.slice(1));
}

/** How many imports go from folder to folder: by the importing one, then by the imported. */
export type Imports = ReadonlyMap<string, ReadonlyMap<string, number>>;

/** Counts the imports between folders. @param root the project's folder, with a slash */
export function countImports(root: string): Imports {
  const folders = LAYERS.flat();
  const folderOf = (path: string) => folders.find((folder) => path.startsWith(`${folder}/`));
  return new Map(folders.map((folder) => {
    const counts = new Map<string, number>();
    for (const path of files(root, folder)) {
      for (const target of importsOf(path, readText(root + path)).map(folderOf)) {
        if (target !== undefined && target !== folder) counts.set(target, (counts.get(target) ?? 0) + 1);
      }
    }
    return [folder, counts] as const;
  }));
}

function files(root: string, folder: string): string[] {
  const DIRECTORY = 4;
  return readDirectory(root + folder).flatMap(({ name, type }) => {
    const path = `${folder}/${name}`;
    return type === DIRECTORY ? files(root, path) : name.endsWith(".ts") ? [path] : [];
  });
}

/** Three sizes, so that the picture changes when the house does, and not with each import. */
function sizeOf(count: number): number {
  return count < 10 ? 4 : count < 50 ? 6.5 : 9;
}

/** The picture as SVG text: the folders, highest on top, and a dot where a row's folder imports a column's. */
export function layersPicture(imports: Imports): string {
  const rows = LAYERS.flat().toReversed();
  const grid = GRID + 56;
  const width = grid + rows.length * COLUMN + LEFT;
  const bottom = TOP + rows.length * ROW;
  const middle = (index: number) => TOP + index * ROW + BOX / 2;
  const across = (index: number) => grid + index * COLUMN + COLUMN / 2;
  const boxes = rows.map((folder, i) => {
    const colour = folder === DEVICE_SIDE ? "#fff3e0" : folder === "ffi" ? "#e8f5e9" : "#e3f2fd";
    const y = TOP + i * ROW;
    return `<rect x="${LEFT}" y="${y}" width="${WIDTH}" height="${BOX}" rx="4" fill="${colour}" stroke="#90a4ae"/>${
      svgText(LEFT + 12, y + 18, folder, 'font-weight="bold" fill="#102027"')
    }${svgText(LEFT + 12 + NAMES, y + 18, ABOUT[folder]!, 'fill="#37474f"')}`;
  });
  const columns = rows.map((folder, i) =>
    `<path d="M ${LEFT + WIDTH} ${middle(i)} H ${across(rows.length - 1)} M ${across(i)} ${middle(0)} V ${
      middle(i)
    }" stroke="#eceff1"/>${
      // Above the line of its row, in the half where no dot can be.
      svgText(
        across(i) - 8,
        middle(i) - 3,
        folder,
        'text-anchor="end" font-size="11" fill="#37474f"',
      )}<rect x="${across(i) - 4}" y="${middle(i) - 4}" width="8" height="8" fill="#90a4ae"/>`
  );
  const dots = rows.flatMap((from, row) =>
    rows.map((to, column) => {
      const count = imports.get(from)?.get(to) ?? 0;
      if (count === 0) return "";
      return `<circle cx="${across(column)}" cy="${middle(row)}" r="${sizeOf(count)}" fill="#0d47a1">${
        svgTitle(`${from} imports ${to}`)
      }</circle>`;
    })
  );
  return svgPicture(width, bottom + 12, "Ringside's layers: imports point down", [
    svgText(LEFT, 30, "Ringside's layers: imports point down", 'font-size="16" font-weight="bold"'),
    svgText(
      LEFT,
      52,
      "A dot: the folder of the row imports the folder whose square the column ends at (larger: from 10 imports, from 50). None is left of the squares.",
      'font-size="12" fill="#546e7a"',
    ),
    ...boxes,
    ...columns,
    ...dots,
  ]);
}

if (import.meta.main) {
  const root = new URL("../", import.meta.url).pathname;
  const bytes = new TextEncoder().encode(layersPicture(countImports(root)));
  replaceFile(`${root}docs/figures/layers.svg`, bytes as Uint8Array<ArrayBuffer>);
}
