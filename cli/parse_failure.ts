/**
 * What is wrong with a command line, in one sentence.
 *
 * @module
 */
import { formatMessage, type Message } from "@optique/core/message";
import { findSimilar } from "@optique/core/suggestion";
import { UsageError } from "../lib/errors/mod.ts";
import { ABOUT } from "./parsers/about.ts";

const UNEXPECTED = "Unexpected option or argument: ";
/** What the parser's library says, as we say it. */
const REWORDED: readonly (readonly [RegExp, string])[] = [
  [/Expected one of (.*), but got (".*")$/, "$2 is none of $1"],
  [/Missing option (\S+)$/, "$1 is missing"],
  [/Option (\S+) is a Boolean flag, but got a value: .*$/, "$1 takes no value"],
  [/cannot be used multiple times$/, "is given more than once"],
];
const NO_COMMAND = /^No (command|matching command)/;

/** A first word that is no command. */
export function noSuchCommand(word: string): UsageError {
  return new UsageError(`there is no command ${JSON.stringify(word)}`, {
    hint: suggestion(findSimilar(word, Object.keys(ABOUT))) ?? "ringside --help lists the commands",
  });
}

/** A shell that there is no completion for. @param word undefined when none was named */
export function noSuchShell(word: string | undefined, shells: readonly string[]): UsageError {
  return new UsageError(
    word === undefined ? "completion needs a shell" : `there is no completion for ${JSON.stringify(word)}`,
    { hint: `one of ${shells.join(", ")}` },
  );
}

/**
 * From what the parser says.
 * @param command the words that name the command, as far as they are known
 * @param args all that was given
 * @param below commands below `command`, where it needs one of them
 */
export function parseFailure(
  message: Message,
  command: readonly string[],
  args: readonly string[],
  below: readonly string[],
): UsageError {
  const name = command.join(" ");
  const help = `ringside ${name === "" ? "" : `${name} `}--help says what it takes`;
  // A suggestion is a paragraph of its own.
  const at = message.findIndex((term) => term.type === "text" && term.text.includes("Did you mean"));
  const said = at < 0 ? message : message.slice(0, at);
  const candidates = at < 0
    ? []
    : message.slice(at).flatMap((term) => (term.type === "optionName" ? [term.optionName] : []));
  const about = name === "" ? "" : `${name}: `;
  const text = formatMessage(said, { quotes: true }).replace(/\s+/g, " ").trim().replace(/\.$/, "");
  const [first, second] = said;
  if (NO_COMMAND.test(text)) {
    return name === "" || below.length === 0
      ? new UsageError("No command; --help lists them")
      : new UsageError(`${about}no command; it needs one of ${below.join(", ")}`, { hint: help });
  }
  if (first?.type === "text" && first.text === UNEXPECTED && second?.type === "value") {
    const given = second.value;
    const hint = suggestion(useful(candidates, given, args)) ?? help;
    return new UsageError(`${about}${unexpected(given, below)}`, { hint });
  }
  const missing = /^Expected an? (`?[^,`]+`?), but too few arguments/.exec(text)?.[1];
  if (missing !== undefined) {
    return new UsageError(`${about}${missing.replaceAll("`", "")} is missing`, { hint: help });
  }
  const ours = REWORDED.reduce((sentence, [theirs, words]) => sentence.replace(theirs, words), text);
  return new UsageError(`${about}${ours.replaceAll("`", "")}`, { hint: help });
}

function unexpected(given: string, below: readonly string[]): string {
  const quoted = JSON.stringify(given);
  if (/^-[0-9.]/.test(given)) return `${quoted} is below 0, which no number here may be`;
  if (given.startsWith("-") && given !== "-") return `there is no option ${quoted}`;
  return below.length > 0 ? `there is no command ${quoted}` : `${quoted} is one argument too many`;
}

/** Not what was given, and of one letter only what differs by case. */
function useful(candidates: readonly string[], given: string, args: readonly string[]): string[] {
  return candidates.filter((one) =>
    !args.includes(one) && (one.length > 2 || one.toLowerCase() === given.toLowerCase())
  );
}

function suggestion(candidates: readonly string[]): string | undefined {
  return candidates.length === 0 ? undefined : `did you mean ${candidates.join(" or ")}?`;
}
