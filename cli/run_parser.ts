/**
 * All that is asked of a command line: help, completion, and what is wrong with it.
 *
 * @module
 */
import type { DocPage } from "@optique/core/doc";
import { runParser } from "@optique/core/facade";
import type { Message } from "@optique/core/message";
import { getDocPageSync } from "@optique/core/parser";
import manifest from "../deno.json" with { type: "json" };
import { type CommandLine, commandWord, PARSERS } from "./command_parsers.ts";
import { EXIT } from "./exit.ts";
import { helpText } from "./help.ts";
import { print } from "./output.ts";
import { noSuchCommand, noSuchShell, parseFailure } from "./parse_failure.ts";
import type { Invocation } from "./parser.ts";

const SHELLS = ["bash", "fish", "nu", "pwsh", "zsh"];
/** Words that are commands beside those of the parser. */
const OURS = ["help", "completion"];

/** An invocation, or the exit status when help, the version or a completion was asked for, and printed. @throws UsageError */
export function runParserOn(parser: CommandLine, args: readonly string[]): Invocation | number {
  checkWords(args);
  let message: Message = [];
  let page: DocPage | undefined;
  const texts: string[] = [];
  const parsed: Invocation | number | undefined = runParser<CommandLine, number, undefined>(
    parser,
    "ringside",
    args,
    {
      help: {
        command: true,
        option: { names: ["--help", "-h"] },
        onShow: (_, shown) => {
          page = shown;
          return EXIT.ok;
        },
      },
      version: {
        option: { names: ["--version", "-V"] },
        value: manifest.version,
        onShow: () => EXIT.ok,
      },
      completion: { command: true, onShow: () => EXIT.ok },
      commandList: "top-level",
      aboveError: "none",
      onError: (_, error): undefined => {
        message = error;
      },
      stdout: (text) => void texts.push(text),
      stderr: () => {},
    },
  );
  if (parsed === undefined) {
    const [command, below] = commandOf(parser, args);
    throw parseFailure(message, command, args, below);
  }
  if (page !== undefined) print(helpText(page));
  else {
    // Addresses have colons, at which bash would break a word.
    if (args[0] === "completion" && args[1] === "bash" && args.length === 2) {
      print("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}");
    }
    for (const text of texts) print(text);
  }
  return parsed;
}

/** @throws UsageError when a word stands for no command or shell */
function checkWords(args: readonly string[]): void {
  const [first, second] = args;
  if (first === "completion" && args.length < 2) throw noSuchShell(undefined, SHELLS);
  if (first === "completion" && !second!.startsWith("-") && !SHELLS.includes(second!)) {
    throw noSuchShell(second!, SHELLS);
  }
  const word = first === "help" ? second : commandWord(args);
  if (word === undefined || word.startsWith("-") || OURS.includes(word)) return;
  if (!Object.hasOwn(PARSERS, word)) throw noSuchCommand(word);
}

/** The words that name the command, and the commands below it where it needs one. */
function commandOf(parser: CommandLine, args: readonly string[]): [command: string[], below: string[]] {
  const command: string[] = [];
  let below = commandsBelow(parser, command);
  for (const word of args) {
    if (!below.includes(word)) continue;
    command.push(word);
    below = commandsBelow(parser, command);
    if (below.length === 0) break;
  }
  return [command, below];
}

function commandsBelow(parser: CommandLine, command: readonly string[]): string[] {
  const entries = getDocPageSync(parser, command)?.sections.flatMap((one) => one.entries) ?? [];
  return entries.flatMap(({ term }) => (term.type === "command" ? [term.name] : []));
}
