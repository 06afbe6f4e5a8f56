import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { chartOf } from "../../../bench/page/charts.ts";
import { readRecord, type Recorded } from "../../../bench/page/record.ts";
import { partsOf, partText, picturesOf, withFigures } from "../../../bench/page/text.ts";
import { compare, type Figure, rounds, samples, type Section, single } from "../../../bench/report.ts";
import { readDirectory, readText } from "../../../ffi/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { fromFileUrl } from "../architecture/source_files.ts";

const DOCS = fromFileUrl(new URL("../../../docs/", import.meta.url));
const MARK = "<!-- figures ring: written by deno task performance -->";

const rates: Section = {
  title: "Rates <of> things",
  figures: [
    figure("one", 12e6, { "in C": 9e6, "another | kind": 3e6 }),
    figure("two", 4e6, { "in C": 16e6 }),
  ],
  notes: ["how"],
};
const times: Section = {
  title: "Times",
  figures: [{
    name: "asleep",
    value: samples("microseconds", [3, 4, 900]),
    beside: [compare(samples("microseconds", [3, 4, 900]), "eventfds", samples("microseconds", [2, 3, 50]))],
  }],
  notes: [],
};
const overBursts: Section = {
  title: "Rings",
  figures: ["split", "split, in order", "packed"].flatMap((kind) =>
    [1, 32].map((burst) => figure(`${kind}, burst ${burst}`, 1e6 * burst, { "the same in C": 2e6 * burst }))
  ),
  notes: [],
  chart: "bursts",
};
const ofAWhole: Section = {
  title: "Where it goes",
  figures: ["here", "there", "nowhere"].map((name, i) => ({
    name,
    value: single("nanoseconds", 20 * i),
    beside: [compare(single("nanoseconds", 20 * i), "whole", single("nanoseconds", 60))],
  })),
  notes: [],
  chart: "shares",
};
const nothing: Section = { title: "A race", figures: [], notes: ["skipped: no peer here"] };

function figure(name: string, value: number, others: Record<string, number>): Figure {
  const mine = rounds("per second", [value * 0.9, value, value * 1.1]);
  return {
    name,
    value: mine,
    beside: Object.entries(others).map(([other, rate]) => compare(mine, other, rounds("per second", [rate]))),
    note: "a note",
  };
}

function recorded(...sections: Section[]): Recorded {
  const machine = { processor: "2 x P", memory: "8 GiB", kernel: "6.1", deno: "2", load: "0.1 at the start" };
  return {
    date: "2026-11-30 17:40 UTC",
    command: "deno task bench --only ring",
    machine,
    short: false,
    seconds: 1,
    sections,
  };
}

Deno.test("the page's tables and pictures are what was measured; deno task performance --draw writes them", () => {
  const page = readText(`${DOCS}performance.md`);
  assertEquals(page, withFigures(page, readRecord));
  const parts = partsOf(page);
  assert(parts.length > 8);
  const pictures = new Map<string, string>();
  for (const part of parts) {
    const record = readRecord(part);
    for (const { file, svg } of record === undefined ? [] : picturesOf(part, record)) pictures.set(file, svg);
  }
  const there = readDirectory(`${DOCS}figures`).map(({ name }) => name).filter((name) =>
    name.endsWith(".svg")
  );
  // The picture of the layers is drawn out of the code: tests/unit/architecture holds it.
  assertEquals(there.sort(), [...pictures.keys(), "layers.svg"].sort());
  for (const [file, svg] of pictures) assertEquals(readText(`${DOCS}figures/${file}`), svg, file);
});

Deno.test("a part says machine, date and command, and has a picture and a table each section", () => {
  const text = partText("ring", recorded(rates, times));
  assertStringIncludes(
    text,
    "_2 x P, Linux 6.1, Deno 2, load 0.1 at the start; 2026-11-30 17:40 UTC; deno task bench",
  );
  assertStringIncludes(text, "![Rates <of> things](figures/ring-1.svg)");
  assertStringIncludes(text, "![Times](figures/ring-2.svg)");
  const rows = text.split("\n").filter((line) => line.startsWith("|")).slice(0, 4)
    .map((row) => row.split(/(?<!\\)\|/).slice(1, -1).map((cell) => cell.trim()));
  assertEquals(rows[0], ["", "here", "beside: in C", "beside: another \\| kind", ""]);
  assertEquals(rows[2], [
    "one",
    "12.0 M/s [10.8 M/s - 13.2 M/s]",
    "**1.33 ×** 9.00 M/s",
    "**4.00 ×** 3.00 M/s",
    "a note",
  ]);
  assertEquals(rows[3], ["two", "4.00 M/s [3.60 M/s - 4.40 M/s]", "**0.25 ×** 16.0 M/s", "", "a note"]);
  assertStringIncludes(text, "p50 4.00 us / p99 900 us / max 900 us");
  assertStringIncludes(text, "\n- how");
});

Deno.test("a part that was not measured says how to, a race without its peer why; neither has a picture", () => {
  assertEquals(partText("ring", undefined), "Not measured yet: `deno task performance --only ring`.");
  const without = recorded(nothing);
  assertStringIncludes(partText("ring", without), "- skipped: no peer here");
  assertEquals(picturesOf("ring", without), []);
  assertEquals(picturesOf("ring", recorded(nothing, rates)).map(({ file }) => file), ["ring-1.svg"]);
});

Deno.test("a page is written between its marks, and twice the same; a mark without an end is an error", () => {
  const page = `before\n\n${MARK}\n\nold\n\n<!-- /figures -->\n\nbetween\n\n${
    MARK.replace("ring", "wake")
  }\n<!-- /figures -->\nafter\n`;
  const once = withFigures(page, (part) => part === "ring" ? recorded(rates) : undefined);
  assertEquals(partsOf(page), ["ring", "wake"]);
  assert(!once.includes("old"));
  for (const text of ["before\n", "\nbetween\n", "after\n", "Rates", "--only wake"]) {
    assertStringIncludes(once, text);
  }
  assertEquals(withFigures(once, (part) => part === "ring" ? recorded(rates) : undefined), once);
  assertThrows(() => withFigures(`${MARK}\n`, () => undefined), UsageError, "ring");
});

Deno.test("pictures have everything inside, names escaped, and a number for each mark", () => {
  for (const section of [rates, times, overBursts, ofAWhole]) {
    const svg = chartOf(section, "machine & date");
    assert(!/NaN|Infinity|undefined/.test(svg), svg);
    assertStringIncludes(svg, "machine &amp; date");
    const [, width, height] = /viewBox="0 0 ([\d.]+) ([\d.]+)"/.exec(svg)!;
    for (const [, axis, value] of svg.matchAll(/ (c?[xy])="([^"]+)"/g)) {
      assert(
        Number(value) >= 0 && Number(value) <= Number(axis!.endsWith("x") ? width : height),
        `${section.title}: ${axis} ${value}`,
      );
    }
    for (const { name } of section.figures) assertStringIncludes(svg, `${name.split(",")[0]}`);
  }
  assertStringIncludes(chartOf(rates, ""), "Rates &lt;of&gt; things");
  assertEquals(chartOf(rates, "").match(/<rect x="[\d.]+" y="[\d.]+"/g)?.length, 3);
  assertEquals(chartOf(overBursts, "").match(/<circle /g)?.length, 12);
  assertEquals(chartOf(times, "").match(/<circle /g)?.length, 6);
});
