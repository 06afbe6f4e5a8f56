/** A command's own parser against the whole command line's: it takes less, and what it takes is understood as the whole understands it. */
import { getDocPageSync, parse } from "@optique/core/parser";
import { assert, assertEquals } from "@std/assert";
import { overview } from "../../../cli/overview.ts";
import { PARSERS } from "../../../cli/command_parsers.ts";
import { parseAlone } from "../../../cli/parse.ts";
import { parser } from "../../../cli/parser.ts";
import { printingTo } from "../../../cli/printing_to.ts";
import { runParserOn } from "../../../cli/run_parser.ts";
import { campaign, Random, rounds } from "../../random.ts";

interface Words {
  readonly path: readonly string[];
  /** Options that stand there. */
  readonly options: readonly string[];
}

function commands(path: readonly string[] = []): Words[] {
  const terms = (getDocPageSync(parser, path)?.sections ?? []).flatMap(({ entries }) =>
    entries.map(({ term }) => term)
  );
  const options = terms.flatMap((term) => (term.type === "option" ? term.names : []));
  const below = terms.flatMap((term) => (term.type === "command" ? commands([...path, term.name]) : []));
  return [{ path, options }, ...below];
}

const ALL = commands().filter(({ path }) => path.length > 0);
const VALUES = [
  "01:00.0",
  "0",
  "3",
  "7",
  "0x1",
  "1M",
  "read",
  "none",
  "cdev",
  "a.json",
  "-",
  "--",
  "on",
  "x",
];

Deno.test("commands are loaded by their first word: each that there is, and no other", () => {
  assertEquals(Object.keys(PARSERS).toSorted(), [...new Set(ALL.map(({ path }) => path[0]!))].toSorted());
});

Deno.test(
  campaign("what a command's own parser takes, the whole takes, and to the same invocation", async () => {
    const random = new Random(41);
    const taken = new Set<string>();
    let refused = 0;
    for (let i = 0; i < rounds(12_000); i++) {
      const { path, options } = ALL[i % ALL.length]!;
      const args = [...path];
      if (random.below(4) > 0) args.splice(1, 0, "01:00.0");
      for (let more = random.below(5); more > 0; more--) {
        const word = random.below(2) === 0 && options.length > 0
          ? options[random.below(options.length)]!
          : VALUES[random.below(VALUES.length)]!;
        args.splice(random.below(3) === 0 ? random.below(args.length + 1) : args.length, 0, word);
      }
      if (random.below(3) === 0) {
        args.unshift(...[["--json"], ["--host", "x"], ["--host=y"]][random.below(3)]!);
      }
      const alone = await parseAlone(args);
      if (alone === undefined) {
        refused++;
        continue;
      }
      const whole = parse(parser, args);
      assertEquals(whole, { success: true, value: alone }, args.join(" "));
      taken.add(alone.command);
    }
    assert(taken.size >= 20, `only ${[...taken].join(", ")} were understood`);
    assert(refused > 50, `${refused} refused`);
  }),
);

Deno.test("help and version are asked of the whole; so are words that are no command, and names that every object has", async () => {
  for (const word of ["--help", "--version"]) {
    assertEquals(await parseAlone(["list", word]), undefined);
    assertEquals(await parseAlone([word, "list"]), undefined);
  }
  for (const word of ["help", "completion", "lisst", "constructor", "toString", "--nonsense", "--"]) {
    assertEquals(await parseAlone([word]), undefined);
    assertEquals(await parseAlone(["--json", word]), undefined);
  }
  assertEquals(await parseAlone([]), undefined);
  assertEquals(await parseAlone(["--host", "list"]), undefined);
});

Deno.test("the list of commands is the same whether their parsers are loaded or not", () => {
  for (const args of [["--help"], ["help"]]) {
    const [short, long] = [overview, parser].map((one) => {
      let text = "";
      printingTo({ out: (more) => text += more, err: () => {} }, () => runParserOn(one, args));
      return text;
    });
    assertEquals(short, long);
    assert(short!.includes("  doctor "), short);
  }
});

Deno.test("parsing makes no segmenter of text, and leaves Intl as it was; help makes one", async () => {
  const code = `
    let made = 0;
    Intl.Segmenter = class extends Intl.Segmenter { constructor(...options) { super(...options); made++; } };
    const before = Intl.Segmenter;
    const { main } = await import(${JSON.stringify(new URL("../../../cli/main.ts", import.meta.url).href)});
    const { parse } = await import(${JSON.stringify(new URL("../../../cli/parse.ts", import.meta.url).href)});
    const { command } = await parse(["list"]);
    const parsed = made;
    await main(["list", "--help"], { out: () => {}, err: () => {} });
    console.log(command, parsed, made > 0, Intl.Segmenter === before);`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: ["eval", code] }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals([out, err], ["list 0 true true\n", ""]);
});
