/**
 * All that is asked of a command line: help, completion, and what is wrong with it.
 *
 * @module
 */
import { runParser } from "@optique/core/facade";
import { formatMessage, type Message } from "@optique/core/message";
import type { Parser } from "@optique/core/parser";
import manifest from "../deno.json" with { type: "json" };
import { UsageError } from "../lib/errors/mod.ts";
import { EXIT } from "./exit.ts";
import { print, terminalColumns } from "./output.ts";
import type { Invocation } from "./parser.ts";
import { COMMAND_USAGE } from "./parsers/usage.ts";

/** A parser of the command line, or of a part of it. */
export type CommandLine = Parser<"sync", Invocation, unknown>;

/** An invocation, or the exit status when help, the version or a completion was asked for, and printed. @throws UsageError */
export function runParserOn(parser: CommandLine, args: readonly string[]): Invocation | number {
  let message: Message = [];
  const columns = terminalColumns();
  const parsed: Invocation | number | undefined = runParser<CommandLine, number, undefined>(
    parser,
    "ringside",
    args,
    {
      help: { command: true, option: true, onShow: () => EXIT.ok },
      version: { option: true, value: manifest.version, onShow: () => EXIT.ok },
      completion: { command: true, onShow: () => EXIT.ok },
      commandList: "top-level",
      usageLine: COMMAND_USAGE,
      termWidth: "auto",
      maxWidth: columns,
      aboveError: "none",
      onError: (_, error): undefined => {
        message = error;
      },
      stdout: (text) => print(ownerFirst(text)),
      stderr: () => {},
    },
  );
  if (parsed !== undefined) return parsed;
  // A suggestion is a paragraph of its own.
  throw new UsageError(formatMessage(message, { quotes: true }).replace(/\n+/g, " "));
}

/** The parser allows an argument of a group of commands anywhere, and lists it last; where it belongs is before the group's command. */
function ownerFirst(help: string): string {
  return help.replace(
    /^(Usage: ringside (?:admin|ism|mmio|tvq) )(?!PF |FUNCTION |DEVICE )(.*) (PF|FUNCTION|DEVICE)$/m,
    "$1$3 $2",
  );
}
