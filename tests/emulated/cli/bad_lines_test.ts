/** Random command lines that cannot be done, made over what the parser says that it takes. */
import type { UsageTerm } from "@optique/core/usage";
import { getDocPageSync } from "@optique/core/parser";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { commandPaths } from "../../../cli/man.ts";
import { parse } from "../../../cli/parse.ts";
import { parser } from "../../../cli/parser.ts";
import { ownerOf } from "../../../cli/parsers/usage.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { readDirectory } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { cli } from "./run_cli.ts";

/** Commands that can be done without any function: a line of theirs is wrong only when it cannot be parsed. */
const NEEDS_NONE = /^(list|status|restore|doctor|demo|emulate|man|top|bench)\b/;

interface Grammar {
  readonly path: readonly string[];
  readonly options: readonly (UsageTerm & { readonly type: "option" })[];
  readonly args: readonly string[];
}

function grammars(): Grammar[] {
  return commandPaths().map((path) => {
    const terms = (getDocPageSync(parser, path)?.sections ?? []).flatMap((one) => one.entries)
      .map((one) => one.term);
    return {
      path,
      options: terms.filter((term) => term.type === "option"),
      args: terms.flatMap((term) => (term.type === "argument" ? [term.metavar] : [])),
    };
  });
}

/** A value that is understood, and that stands for nothing there is. */
function missing(metavar: string, scratch: string, random: Random): string {
  switch (metavar) {
    case "FUNCTION":
    case "PF":
    case "RECEIVER":
      return random.pick([
        "0000:55:00.0",
        "55:00.7",
        "nonsense",
        "eth99",
        "a000.virtio_mmio",
        "0000:55:00.0/net",
      ]);
    case "DEVICE":
      return random.pick(["net", "a000.virtio_mmio", "toaster"]);
    case "FILE":
    case "CAPTURE":
    case "DIRECTORY":
      return `${scratch}/${random.pick(["none", "no/where", "x.pcap"])}`;
    case "UUID":
      return random.pick(["3b8a2ad4-52b4-4d9f-9a3b-8b5e1f0f7c11", "token"]);
    case "TOKEN":
      return "0x8000000000000001";
    case "PERMISSIONS":
      return random.pick(["read,attach", "none"]);
    case "DRIVER":
      return random.pick(["no-such-driver", "../../etc"]);
    case "VENDOR:DEVICE":
      return "dead:beef";
    default:
      return random.pick(["1", "4", "64", "read"]);
  }
}

/** Words that no argument or option takes, or few do. */
const WRONG = [
  "",
  " ",
  "-",
  "-1",
  "-x9",
  "--nonsense",
  "--host=",
  "99999999999999999999",
  "1e9",
  "0x",
  "NaN",
  "∞",
  "a\tb",
  "a\nb",
  "x".repeat(300),
  "constructor",
  "__proto__",
  "%s%n",
  "$(true)",
  "--vf",
  "--=",
];

function line({ path, options, args }: Grammar, scratch: string, random: Random): string[] {
  const words = [...path];
  const owner = ownerOf(path[0]);
  const own = args.filter((one) => one !== owner);
  if (owner !== undefined) words.splice(1, 0, missing(owner, scratch, random));
  for (const metavar of own) {
    if (random.below(8) > 0) words.push(missing(metavar, scratch, random));
  }
  for (let more = random.below(4); more > 0 && options.length > 0; more--) {
    const option = random.pick(options);
    if (option.names.some((name) => ["--host", "--json"].includes(name))) continue;
    words.push(random.pick(option.names));
    if (option.metavar !== undefined && random.below(8) > 0) {
      words.push(missing(option.metavar, scratch, random));
    }
  }
  for (let wrong = random.below(3); wrong > 0; wrong--) {
    const at = random.below(words.length + 1);
    switch (random.below(4)) {
      case 0:
        words.splice(at, 0, random.pick(WRONG));
        break;
      case 1:
        if (at < words.length) words[at] = random.pick(WRONG);
        break;
      case 2:
        if (at < words.length) words[at] = typo(words[at]!, random);
        break;
      default:
        words.splice(at, 1);
    }
  }
  return words;
}

function typo(word: string, random: Random): string {
  const at = random.below(word.length + 1);
  return random.below(2) === 0
    ? word.slice(0, at) + word.slice(at + 1)
    : `${word.slice(0, at)}${random.pick(["x", "-", "Q", "="])}${word.slice(at)}`;
}

/** Whether a line asks for help, or could be done. */
async function mayBeDone(args: readonly string[]): Promise<boolean> {
  if (args.some((one) => /^(-h|-V|--help|--version|help|completion|-)$/.test(one))) return true;
  try {
    const invocation = await parse(args);
    return typeof invocation === "number" || NEEDS_NONE.test(invocation.command) ||
      invocation.host !== undefined;
  } catch {
    return false;
  }
}

Deno.test(
  campaign(
    "a command line that cannot be done: a clear line or two, status 1 or 2, nothing changed",
    async () => {
      const random = new Random(14);
      const all = grammars();
      const host = await startEmulatedHost();
      const scratch = makeTemporaryDirectory();
      const snapshot = () => {
        using opened = openHost(host.directory);
        return JSON.stringify([opened.list({ all: true }), opened.journal()]);
      };
      const files = () => readDirectory(scratch).map((one) => one.name);
      const here = () => readDirectory(".").map((one) => one.name).sort();
      try {
        const before = [snapshot(), files(), here()];
        const seen = new Set<string>();
        for (let done = 0; done < rounds(1000);) {
          const args = line(random.pick(all), scratch, random);
          if (await mayBeDone(args)) continue;
          done++;
          const json = random.below(5) === 0;
          const { code, out, err } = await cli(
            "--host",
            host.directory,
            ...(json ? ["--json"] : []),
            ...args,
          );
          const told = `${JSON.stringify(args)} → ${code}\n${err}`;
          assert(code === 1 || code === 2, told);
          assertMatch(err, /^(ringside: [^\n]+\n|[^\n]+\nringside: [^\n]+\n)$/, told);
          assert(!/internal error|undefined|\[object|NaN(?!")|`/.test(err.replaceAll('"NaN"', "")), told);
          assert(!/Did you mean|Expected |Missing |Boolean/.test(err), told);
          if (json) assertEquals(typeof JSON.parse(out).error.message, "string", told);
          else assertEquals(out, "", told);
          assertEquals([snapshot(), files(), here()], before, told);
          seen.add(err.replace(/"[^"]*"|\d+/g, ""));
        }
        assert(seen.size > 15, `${seen.size} different answers`);
        assertEquals(host.violations(), []);
      } finally {
        removeTree(scratch);
        await host.stop();
      }
    },
  ),
);
