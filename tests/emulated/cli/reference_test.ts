import { getDocPageSync } from "@optique/core/parser";
import type { DocEntry } from "@optique/core/doc";
import { assert, assertEquals } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { parser } from "../../../cli/parser.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { readText } from "../../../ffi/mod.ts";
import { CaptureWriter } from "../../../lib/capture/mod.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";
import { cli } from "./run_cli.ts";

const page = readText(fromFileUrl(new URL("../../../docs/cli.md", import.meta.url)));
/** Groups of commands whose function stands before the command: `admin PF list`. */
const FUNCTION_FIRST = /^ringside (admin|ism|mmio|tvq) [A-Z]+ /;
/** Text below each heading of the page, by heading. */
const sections = new Map(
  page.split(/^## /m).slice(1).map((part) => [part.slice(0, part.indexOf("\n")), part] as const),
);

interface Entry {
  /** Title of the group that `--help` shows it in. */
  readonly group: string;
  readonly term: DocEntry["term"];
}

function entries(command: readonly string[]): Entry[] {
  const doc = getDocPageSync(parser, command);
  return (doc?.sections ?? []).flatMap(({ title, entries }) =>
    entries.map(({ term }) => ({ group: title ?? "", term }))
  );
}

/** Every command that can be run, as words. */
function commands(above: readonly string[] = []): string[][] {
  const terms = entries(above).map(({ term }) => term);
  const below = terms.flatMap((term) => (term.type === "command" ? commands([...above, term.name]) : []));
  // A command may have others below it and still do something of its own.
  const itself = below.length === 0 ||
    (!FUNCTION_FIRST.test(`ringside ${above[0]} X `) && terms.some((term) => term.type === "argument"));
  return itself ? [[...above], ...below] : below;
}

function sectionOf(command: readonly string[]): string {
  const name = `ringside ${command.join(" ")} `;
  const found = [...sections].find(([heading]) =>
    `${heading} `.replace(FUNCTION_FIRST, "ringside $1 ").startsWith(name)
  );
  if (found === undefined) throw new Error(`docs/cli.md has no section for ${command.join(" ")}`);
  return found[1];
}

const optionsIn = (text: string) => new Set(text.match(/(?<=`)--?[a-z][a-z0-9-]*/g) ?? []);

Deno.test("docs/cli.md has every command with its arguments and options, and no others", () => {
  const all = commands();
  assert(all.length >= 16);
  assertEquals(page.match(/^## ringside /gm)?.length, all.length);
  for (const command of all) {
    const text = sectionOf(command);
    const known = new Set<string>();
    for (const { group, term } of entries(command)) {
      const shared = sections.get(group);
      if (term.type === "option") {
        for (const name of term.names) {
          known.add(name);
          assert(optionsIn(shared ?? text).has(name), `${command.join(" ")}: ${name} is not described`);
        }
        if (shared !== undefined && group !== "Everywhere") {
          assert(text.includes(`[${group}](#`), `${command.join(" ")} does not refer to ${group}`);
        }
      } else if (term.type === "argument") {
        assert(text.split("\n")[0]!.includes(term.metavar), `${command.join(" ")}: ${term.metavar}`);
      }
    }
    for (const name of optionsIn(text)) {
      assert(known.has(name), `${command.join(" ")} has no ${name}, but docs/cli.md says so`);
    }
  }
});

/** Keys of the `occurrence`th shape `{ a, b }` after "JSON:". */
function documentedKeys(command: readonly string[], occurrence = 0): string[] {
  const json = sectionOf(command).split("JSON:")[1] ?? "";
  const shape = [...json.matchAll(/`\{ ([^}]+) \}`/g)][occurrence];
  return (shape?.[1] ?? "").split(",").map((key) => key.trim()).sort();
}

Deno.test("docs/cli.md has the JSON of each command", async () => {
  const host = await startEmulatedHost();
  const scratch = makeTemporaryDirectory();
  const shape = async (...args: string[]) => {
    const { code, out, err } = await cli("--host", host.directory, "--json", ...args);
    assertEquals(code, 0, err);
    return JSON.parse(out);
  };
  const keys = (value: object) => Object.keys(value).sort();
  try {
    {
      using writer = new CaptureWriter(`${scratch}/one.pcap`);
      writer.write(new Uint8Array(60));
    }
    const whole: readonly string[][] = [
      ["control", "01:00.0"],
      ["bind", "01:00.0"],
      ["sriov", "01:00.0", "2"],
      ["bind", "02:00.0"],
      ["status"],
      ["net", "send", "01:00.1", `${scratch}/one.pcap`],
      ["net", "receive", "01:00.1", `${scratch}/two.pcap`, "--seconds", "1"],
      ["net", "loop", "01:00.1", "01:00.2", "--count", "10"],
      ["bench", "net", "01:00.1", "01:00.2", "--seconds", "0.01", "--burst", "1"],
      ["rng", "02:00.0"],
      ["queue", "02:00.0"],
      ["doctor"],
    ];
    for (const args of whole) {
      const command = args.slice(0, args[0] === "net" || args[0] === "bench" ? 2 : 1);
      assertEquals(keys(await shape(...args)), documentedKeys(command), command.join(" "));
    }
    const peeked = await shape("peek", "02:00.0", "common:num_queues");
    assertEquals(keys(peeked), documentedKeys(["peek"]));
    assertEquals(keys(peeked.values[0]), documentedKeys(["peek"], 1));
    assertEquals(
      keys(await shape("poke", "02:00.0", "common:queue_select", "0")),
      documentedKeys(["poke"]),
    );
    const dumped = await shape("regs", "02:00.0", "config:command");
    assertEquals(keys(dumped), documentedKeys(["regs"]));
    assertEquals(keys(dumped.registers[0]), documentedKeys(["regs"], 1));
    await shape("bind", "a003e00.virtio_mmio");
    const window = await shape("mmio", "a003e00.virtio_mmio", "show");
    assertEquals(keys(window), documentedKeys(["mmio", "show"]));
    assertEquals(keys(window.registers[0]), documentedKeys(["mmio", "show"], 1));
    const [pf] = await shape("list");
    const always = documentedKeys(["list"]);
    assertEquals(always.filter((key) => !(key in pf)), []);
    for (const key of keys(pf)) assert(sectionOf(["list"]).includes(key), `list: ${key}`);
    const shown = await shape("show", "01:00.1", "--hex");
    for (const key of keys(shown).filter((key) => !(key in pf) && key !== "heldBy")) {
      assert((sectionOf(["show"]) + sectionOf(["list"])).includes(`\`${key}\``), `show: ${key}`);
    }
    for (const key of keys(shown.vfio)) {
      assert(sectionOf(["show"]).includes(`\`${key}\``), `show: vfio.${key}`);
    }
    const vf = (await shape("sriov", "01:00.0", "2")).vfs[0];
    assertEquals(keys(vf), documentedKeys(["sriov"], 1));
    const entry = (await shape("status")).journal[0];
    assertEquals(keys(entry), documentedKeys(["status"], 1));
    assertEquals(keys(await shape("restore")), documentedKeys(["restore"]));
    const demo = JSON.parse((await cli("demo", "--frames", "100", "--interrupt-frames", "1", "--json")).out);
    assertEquals([keys(demo), keys(demo.steps[0])], [documentedKeys(["demo"]), documentedKeys(["demo"], 1)]);
  } finally {
    removeTree(scratch);
    await host.stop();
  }
});
