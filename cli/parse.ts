/**
 * From arguments to an invocation. What a command accepts is loaded when it is named, the whole command line only when that is not enough: a
 * command is found by its first word, and what it says then needs nothing of the others.
 *
 * @module
 */
import { merge } from "@optique/core/constructs";
import { parse as parseWith } from "@optique/core/parser";
import type { Invocation } from "./parser.ts";
import { globals } from "./parsers/shared.ts";
import type { CommandLine } from "./run_parser.ts";

/** Words that ask for something else than that a command is run. */
const ASKS = ["--help", "-h", "--version", "-V"];

/** An invocation, or the exit status when help was asked for. @throws UsageError */
export async function parse(args: readonly string[]): Promise<Invocation | number> {
  const alone = await parseAlone(args);
  if (alone !== undefined) return alone;
  const { runParserOn } = await import("./run_parser.ts");
  return runParserOn(await parserFor(args), args);
}

/** As little as help, completion or what is wrong needs. */
async function parserFor(args: readonly string[]): Promise<CommandLine> {
  const whole = async () => (await import("./parser.ts")).parser;
  const [first, second] = args;
  if (first === "completion") {
    if (args.length > 2) (await import("./completing.ts")).offerNamesOf(args);
    return await whole();
  }
  const overview = args.length === 1 && (first === "help" || ASKS.includes(first!));
  if (overview) return (await import("./overview.ts")).overview;
  const word = first === "help" ? second : commandWord(args);
  if (word !== undefined && Object.hasOwn(PARSERS, word)) return await PARSERS[word]!();
  return await whole();
}

/** An invocation by the parser of its command alone; undefined when that does not take it, or help may be asked for. */
export async function parseAlone(args: readonly string[]): Promise<Invocation | undefined> {
  const word = commandWord(args);
  if (
    word === undefined || !Object.hasOwn(PARSERS, word) || args.some((one) => ASKS.includes(one))
  ) return undefined;
  const parsed = parseWith(await PARSERS[word]!(), args);
  return parsed.success ? parsed.value : undefined;
}

/** The first argument that is none of the options that every command has. */
export function commandWord(args: readonly string[]): string | undefined {
  let at = 0;
  while (at < args.length && /^--(json$|host$|host=)/.test(args[at]!)) at += args[at] === "--host" ? 2 : 1;
  return args[at];
}

const functions = () => import("./parsers/functions.ts");
const embedded = () => import("./parsers/embedded.ts");

/** By the command's first word: what `parser.ts` has, and nothing else. */
export const PARSERS: Readonly<Record<string, () => Promise<CommandLine>>> = {
  list: async () => merge(globals, (await functions()).list),
  show: async () => merge(globals, (await functions()).show),
  bind: async () => merge(globals, (await functions()).bind),
  restore: async () => merge(globals, (await functions()).restore),
  sriov: async () => merge(globals, (await functions()).sriov),
  status: async () => merge(globals, (await functions()).status),
  top: async () => merge(globals, (await functions()).top),
  doctor: async () => merge(globals, (await functions()).doctor),
  emulate: async () => merge(globals, (await embedded()).emulate),
  demo: async () => merge(globals, (await embedded()).demo),
  man: async () => merge(globals, (await embedded()).man),
  admin: async () => merge(globals, (await import("./parsers/admin.ts")).admin),
  tvq: async () => merge(globals, (await import("./parsers/tvq.ts")).tvq),
  ism: async () => merge(globals, (await import("./parsers/ism.ts")).ism),
  mmio: async () => merge(globals, (await import("./parsers/mmio.ts")).mmio),
  queue: async () => merge(globals, (await import("./parsers/queue.ts")).queue),
  net: async () => merge(globals, (await import("./parsers/net.ts")).net),
  blk: async () => merge(globals, (await import("./parsers/blk.ts")).blk),
  bench: async () => merge(globals, (await import("./parsers/bench.ts")).bench),
  console: async () => merge(globals, (await import("./parsers/console.ts")).consoleCommand),
  rng: async () => merge(globals, (await import("./parsers/rng.ts")).rng),
};
