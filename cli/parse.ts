/**
 * From arguments to an invocation. What a command accepts is loaded when it is named, the whole command line only when that is not enough: a
 * command is found by its first word, and what it says then needs nothing of the others.
 *
 * @module
 */
// Before the first of Optique.
import { segmentersAtOnce } from "./later_segmenter.ts";
import { parse as parseWith } from "@optique/core/parser";
import { type CommandLine, commandWord, PARSERS } from "./command_parsers.ts";
import type { Invocation } from "./parser.ts";

segmentersAtOnce();

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
