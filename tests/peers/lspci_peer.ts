/** `show` beside `lspci -vvv` of pciutils 3.9 on dumps: the differences by name, and the text of either. */
import { assertEquals } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../cli/temporary_directory.ts";
import { accessible, replaceFile } from "../../ffi/mod.ts";
import { parsePciIds } from "../../lib/pci/ids.ts";
import { formatFunction, parseDump } from "../../lib/pci/mod.ts";

const LSPCI = "/usr/bin/lspci";

/** Lines of one function. */
interface Texts {
  readonly lspci: readonly string[];
  readonly ours: readonly string[];
}

/** What is not the same, and why: both texts without it. */
export interface Difference {
  readonly what: string;
  readonly without: (texts: Texts) => Texts;
}

/** A difference that is a line, or a part of one, in either text. */
function lines(
  what: string,
  { lspci, ours }: {
    readonly [K in keyof Texts]?: (line: string, index: number, all: readonly string[]) => string[];
  },
): Difference {
  return {
    what,
    without: (texts) => ({
      lspci: lspci === undefined ? texts.lspci : texts.lspci.flatMap(lspci),
      ours: ours === undefined ? texts.ours : texts.ours.flatMap(ours),
    }),
  };
}

const regionOf = (line: string | undefined): number => Number(/^\tRegion (\d):/.exec(line ?? "")?.[1]);
/** Titles of capabilities that pciutils 3.9 has no name for. */
const NAMELESS = /^(\tCapabilities: \[[0-9a-f]{3} v\d+\] )Extended Capability ID 0x(?:2a|2f|30|31)$/;

/** All that is not the same. */
export const DIFFERENCES: readonly Difference[] = [
  lines("lspci takes the upper half of a 64-bit BAR in a dump for one more BAR", {
    lspci: (line, at, all) =>
      all[at - 1]?.includes(" (64-bit, ") && regionOf(line) === regionOf(all[at - 1]) + 1 ? [] : [line],
  }),
  lines("we say where a standard list goes on that is not at hand", {
    ours: (line) => [line.replace(/^(\tCapabilities: <access denied>) at [0-9a-f]{2}: .*/, "$1")],
  }),
  lines("lspci says nothing of an extended list that goes on where nothing is at hand", {
    ours: (line) => /^\tCapabilities: <access denied> at [0-9a-f]{3}: /.test(line) ? [] : [line],
  }),
  lines("we name the pointer that is wrong, lspci the place that it leads to", {
    lspci: (line) => [line.replace(/^(\tCapabilities: )\[.*\] (<chain (?:looped|broken)>)$/, "$1$2")],
    ours: (line) => [line.replace(/^(\tCapabilities: <chain (?:looped|broken)>) at .*/, "$1")],
  }),
  {
    what:
      "of a capability that is cut lspci prints what it happens to have read, we its name and how much is there",
    without: ({ lspci, ours }) => {
      const cuts = ours.flatMap((line) =>
        /^(.*) <cut: \d+ of its \d+ bytes are readable>$/.exec(line)?.[1] ?? []
      );
      const bare = (line: string): string => cuts.find((cut) => line.startsWith(cut)) ?? line;
      return { lspci: lspci.map(bare), ours: ours.map(bare) };
    },
  },
  lines("lspci also tries to read the vital product data, which no dump has", {
    lspci: (line, at, all) =>
      all[at - 1]?.endsWith("] Vital Product Data") && line === "\t\tNot readable" ? [] : [line],
  }),
  lines("we decode arbitration tables", {
    ours: (
      line,
    ) => [line.replace(/^(\t+Port Arbitration Table(?: \[[0-9a-f]+\])?) (?:\d+\*\d+ ?)+$/, "$1 <?>")],
  }),
  lines("lspci forgets the end of a line in the Multicast capability of an endpoint", {
    lspci: (line) => line.replace(/^(\t\tMcastCap: .* bytes\))(?=\t)/, "$1\n").split("\n"),
  }),
  {
    what: "pciutils 3.9 does not know Device 3, IDE, and the physical layers of 32 and 64 GT/s",
    without: ({ lspci, ours }) => {
      let inside = false;
      const starts = lspci.flatMap((line) => NAMELESS.exec(line)?.[1] ?? []);
      return {
        lspci: lspci.map((line) => NAMELESS.exec(line)?.[1] ?? line),
        ours: ours.flatMap((line) => {
          if (line.startsWith("\t\t")) return inside ? [] : [line];
          const start = starts.find((one) => line.startsWith(one));
          inside = start !== undefined;
          return [start ?? line];
        }),
      };
    },
  },
  lines("pciutils 3.9 does not know 64 GT/s as a supported speed", {
    ours: (line) => [line.replace(/^(\t\tLnkCap2: Supported Link Speeds: )2\.5-64GT\/s/, "$1RsvdP")],
  }),
  lines(
    "lspci takes the first bytes again, on an Express function behind a conventional bridge, for a capability",
    {
      lspci: (line) => /^\tCapabilities: \[100 v\d\] Extended Capability ID 0x8086$/.test(line) ? [] : [line],
    },
  ),
  {
    what: "we say that a function is gone, lspci that its header type is unknown",
    without: ({ lspci, ours }) =>
      ours[1]?.startsWith("\t!!! Gone: ")
        ? { lspci: lspci.slice(0, 1), ours: ours.slice(0, 1) }
        : { lspci, ours },
  },
];

/** Of virtio functions, which no made dump is. */
const OF_VIRTIO = lines("lspci has no name for virtio's access by configuration space", {
  ours: (line) => [line.replace(/(: VirtIO: )PciCfg$/, "$1<unknown>")],
});

/** Text of each function. Without names, which are the host's and not pciutils': from a file, and from the system's own table. */
function lspci(folder: string, dump: string): string[] {
  replaceFile(`${folder}/dump`, new TextEncoder().encode(dump));
  replaceFile(`${folder}/ids`, new Uint8Array());
  return run("-O", "hwdb.disable=1", "-i", `${folder}/ids`, "-vvv", "-F", `${folder}/dump`).trimEnd().split(
    "\n\n",
  );
}

function run(...args: string[]): string {
  const { code, stdout, stderr } = new Deno.Command(LSPCI, { args }).outputSync(), text = new TextDecoder();
  assertEquals(code, 0, text.decode(stderr));
  return text.decode(stdout);
}

/** Why the test cannot be made here; empty where it can. Each release of pciutils prints more, and 3.9 is what we follow. */
export function whyNoLspci(): string {
  if (!accessible(LSPCI)) return "no lspci; install pciutils 3.9";
  const version = run("--version").trim();
  return /^lspci version 3\.9\./.test(version) ? "" : `${version}, not 3.9`;
}

/** A function's bytes, as `lspci -x` prints them. */
export interface NamedDump {
  readonly name: string;
  readonly dump: string;
}

/**
 * Compares what both print of functions' dumps, which are in the order of their addresses.
 * @returns the differences that are in them @throws AssertionError for any that has no name
 */
export function compareWithLspci(dumps: readonly NamedDump[]): Set<Difference> {
  const folder = makeTemporaryDirectory();
  try {
    const printed = lspci(folder, dumps.map(({ dump }) => dump).join("\n"));
    assertEquals(printed.length, dumps.length);
    const met = new Set<Difference>(), names = parsePciIds("");
    dumps.forEach(({ name, dump }, index) => {
      const [read] = parseDump(new TextEncoder().encode(dump));
      let texts: Texts = {
        lspci: printed[index]!.split("\n"),
        ours: formatFunction(read!.config, { address: read!.address, names }),
      };
      for (const difference of [...DIFFERENCES, OF_VIRTIO]) {
        const rest = difference.without(texts);
        if (JSON.stringify(rest) !== JSON.stringify(texts)) met.add(difference);
        texts = rest;
      }
      assertEquals(texts.ours.join("\n"), texts.lspci.join("\n"), name);
    });
    return met;
  } finally {
    removeTree(folder);
  }
}
