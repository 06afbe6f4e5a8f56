/**
 * `ringside man`: the manual page, made from the parser.
 *
 * @module
 */
import type { DocSection } from "@optique/core/doc";
import { formatMessage } from "@optique/core/message";
import { getDocPageSync } from "@optique/core/parser";
import { formatUsageTerm } from "@optique/core/usage";
import manifest from "../deno.json" with { type: "json" };
import { shortUsage, termText } from "./help.ts";
import { print, printJson } from "./output.ts";
import { type Of, parser } from "./parser.ts";
import { examplesOf } from "./parsers/examples.ts";

/** Prints the manual page in the format of man(7). */
export function man({ json }: Of<"man">): void {
  const page = manualPage();
  if (json) printJson({ page });
  else print(page.trimEnd());
}

/** Words of every command, and of every group of commands, in the order of help. */
export function commandPaths(above: readonly string[] = []): string[][] {
  const terms = (getDocPageSync(parser, above)?.sections ?? []).flatMap((one) => one.entries)
    .map((one) => one.term);
  return terms.flatMap((term) =>
    term.type === "command" ? [[...above, term.name], ...commandPaths([...above, term.name])] : []
  );
}

/** The whole page. */
export function manualPage(): string {
  const paths = commandPaths();
  const shared = new Map<string, DocSection>();
  const commands = paths.map((path) => commandSection(path, shared));
  const groups = [...shared.values()].map((one) =>
    `.SH ${text(one.title!.toUpperCase())}\n${one.entries.map(entry).join("")}`
  );
  return [
    `.TH RINGSIDE 1 "" "ringside ${manifest.version}" "User Commands"\n`,
    ".SH NAME\nringside \\- a userspace driver stack for PCI and virtio functions\n",
    ".SH SYNOPSIS\n.B ringside\n.I COMMAND\n\\&...\n",
    `.SH DESCRIPTION\n${DESCRIPTION}\n`,
    ".SH COMMANDS\n",
    ...commands,
    ...groups,
    ENVIRONMENT,
    EXIT_STATUS,
    `.SH EXAMPLES\n${examples([])}`,
  ].join("");
}

const DESCRIPTION =
  "Lists, binds and drives PCI functions and platform devices through VFIO, and puts back what it changed. " +
  "Results go to standard output; progress, remarks and errors go to standard error.";

const ENVIRONMENT = `.SH ENVIRONMENT
.TP
.B RINGSIDE_HOST
The host that commands are about where there is no --host.
.TP
.B COLUMNS
Width of the terminal, instead of what it says itself.
.TP
.B NO_COLOR
No colour, whatever the terminal shows. TERM=dumb means so, too, and no progress line.
.TP
.B TMPDIR
Where embedded hosts of demo and bench are; default /tmp.
`;

const EXIT_STATUS = `.SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
Failed or refused.
.TP
.B 2
The request is wrong.
.TP
.B 129, 130, 143
Ended by SIGHUP, SIGINT or SIGTERM before the work was done.
`;

/** @param shared takes the groups of options that several commands have */
function commandSection(path: readonly string[], shared: Map<string, DocSection>): string {
  const page = getDocPageSync(parser, path);
  const usage = ["ringside", ...shortUsage(page?.usage ?? []).map(termText)].join(" ");
  const own = (page?.sections ?? []).flatMap(({ title, entries }) => {
    if (title === undefined) return entries.filter((one) => one.term.type !== "command");
    shared.set(title, { title, entries });
    return [];
  });
  const about = page?.description === undefined ? "" : `${message(page.description)}\n`;
  const titles = (page?.sections ?? []).flatMap((one) => one.title ?? []);
  const also = titles.length === 0 ? "" : `.PP\nAlso: ${text(titles.join(", "))}.\n`;
  return `.SS ${text(usage)}\n${about}${own.map(entry).join("")}${also}${examples(path)}`;
}

function entry({ term, description }: DocSection["entries"][number]): string {
  const name = formatUsageTerm(term, { optionsSeparator: ", ", context: "doc" });
  return `.TP\n.B ${text(name)}\n${description === undefined ? "\\&" : message(description)}\n`;
}

function examples(path: readonly string[]): string {
  const lines = examplesOf(path);
  return lines.length === 0
    ? ""
    : `.PP\n.nf\n.RS\n${lines.map((line) => `${text(line)}\n`).join("")}.RE\n.fi\n`;
}

function message(value: Parameters<typeof formatMessage>[0]): string {
  return text(formatMessage(value, { quotes: true }).replace(/\s+/g, " "));
}

/** Text as roff takes it: no line is a request, and a minus sign is one. */
function text(plain: string): string {
  return plain.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "...").replace(
    /^(?=[.'])/,
    "\\&",
  );
}
