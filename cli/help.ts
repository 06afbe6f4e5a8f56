/**
 * Help of a command as text.
 *
 * @module
 */
import { type DocPage, formatDocPage } from "@optique/core/doc";
import type { Usage, UsageTerm } from "@optique/core/usage";
import { painted, terminalColumns, usesColour } from "./output.ts";
import { examplesOf } from "./parsers/examples.ts";
import { COMMAND_USAGE, ownerOf } from "./parsers/usage.ts";

/** Narrower than this, nothing is folded: it would be no easier to read. */
const NARROWEST = 50;

/** Help page as printed: usage, what it does, arguments and options, examples. */
export function helpText(page: DocPage): string {
  const usage = page.usage ?? [];
  const columns = terminalColumns();
  const text = formatDocPage("ringside", page, {
    showUsage: false,
    termWidth: "auto",
    colors: usesColour(),
    ...(columns === undefined || columns < NARROWEST ? {} : { maxWidth: columns }),
  });
  const examples = examplesOf(commandIn(usage)).map((line) => `  ${line}\n`);
  const head = `${painted("Usage:", "bold")} ringside ${shortUsage(usage).map(termText).join(" ")}\n`;
  return `${head}${text.trimEnd()}${
    examples.length === 0 ? "" : `\n\nExamples:\n${examples.join("").trimEnd()}`
  }`;
}

/** The words of a command in its usage. */
export function commandIn(usage: Usage): string[] {
  return usage.flatMap((term) => (term.type === "command" ? [term.name] : []));
}

/**
 * Usage in one line: all options that may be left out as one word, since they are listed below, and the function of a group of commands where it
 * belongs, before the group's command.
 */
export function shortUsage(usage: Usage): Usage {
  const command = usage.filter((term) => term.type === "command");
  const owner = ownerOf(command[0]?.name);
  const rest = usage.filter((term) => term.type !== "command").flatMap(ownAlternative);
  if (command.length === 0) return COMMAND_USAGE;
  const [first, ...below] = command;
  const terms: UsageTerm[] = [first!];
  if (owner !== undefined && below.length > 0) terms.push({ type: "argument", metavar: owner });
  terms.push(...below);
  const kept = rest.filter((term) =>
    !isOption(term) && !(below.length > 0 && term.type === "argument" && term.metavar === owner)
  );
  const options = rest.filter(isOption);
  terms.push(...options.filter((term) => term.type === "option"));
  if (options.some((term) => term.type !== "option")) {
    terms.push({ type: "multiple", terms: [{ type: "argument", metavar: "OPTION" }], min: 0 });
  }
  return [...terms, ...kept];
}

/** Of a command that has others below it and does something of its own: its own. */
function ownAlternative(term: UsageTerm): Usage {
  return term.type === "exclusive" ? term.terms.at(-1)! : [term];
}

/** A term of a usage line. */
export function termText(term: UsageTerm): string {
  switch (term.type) {
    case "command":
      return term.name;
    case "argument":
      return term.metavar;
    case "option":
      return term.metavar === undefined ? term.names[0]! : `${term.names[0]} ${term.metavar}`;
    case "optional":
      return `[${term.terms.map(termText).join(" ")}]`;
    case "multiple": {
      const many = `${term.terms.map(termText).join(" ")}...`;
      return term.min === 0 ? `[${many}]` : many;
    }
    case "sequence":
      return term.terms.map(termText).join(" ");
    case "ellipsis":
      return "...";
    default:
      return "";
  }
}

function isOption(term: UsageTerm): boolean {
  return term.type === "option" || term.type === "optional" && term.terms.every(isOption) ||
    term.type === "multiple" && term.terms.every(isOption);
}
