/**
 * `ringside restore`
 *
 * @module
 */
import type { Host, JournalEntry } from "../lib/host/mod.ts";
import { matches } from "../lib/host/selection.ts";
import { NotFoundError } from "../lib/errors/mod.ts";
import { EXIT } from "./exit.ts";
import { failureJson, failureText } from "./failure.ts";
import { print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { changeProgress } from "./progress.ts";
import { meansAll, patternOf } from "./selecting.ts";

/** Puts the host back. @returns the exit status. */
export function restore(host: Host, options: Of<"restore">): number {
  const { force, forget, dryRun } = options;
  const report = host.restore(concerned(host, options), {
    force,
    forget,
    dryRun,
    onProgress: changeProgress("putting back", options.json),
  });
  const failed = report.failed.map(({ entry, error }) => ({ ...entry, ...failureJson(error, host.name) }));
  const { unchanged } = report;
  if (options.json) printJson({ done: report.done, unchanged, failed });
  else {
    if (report.done.length + unchanged.length + failed.length === 0) print("nothing to put back");
    for (const entry of unchanged) print(`${entry.function} ${entry.attribute}: nothing to put back`);
    for (const entry of report.done) print(`${forget ? "dropped: " : ""}${describeEntry(entry)}`);
  }
  for (const { entry, error } of report.failed) {
    const why = failureText(error, host.name).replace(/^ringside: /, "");
    remark(`ringside: ${entry.function} ${entry.attribute} stays in the journal: ${why}`);
  }
  return failed.length === 0 ? EXIT.ok : EXIT.failed;
}

/** Names as they are, and of what is asked for those that there is something to put back of; undefined for all. */
function concerned(host: Host, options: Of<"restore">): readonly string[] | undefined {
  if (meansAll(options.functions, options)) return undefined;
  if (meansAll([], options)) return options.functions;
  const pattern = patternOf(options);
  const noted = new Set(host.journal().map((one) => one.function));
  const found = host.list({ all: true }).filter((one) => noted.has(one.address) && matches(one, pattern));
  if (found.length === 0 && options.functions.length === 0) {
    throw new NotFoundError("no function that is asked for has anything to put back", {
      hint: "ringside status shows what restore would put back",
    });
  }
  return [...options.functions, ...found.map((one) => one.address)];
}

/** `0000:01:00.0 driver: vfio-pci -> virtio-pci`: from what was written last to what was there first. */
export function describeEntry(entry: JournalEntry): string {
  const text = (value: string) => (value === "" ? "(none)" : value);
  return `${entry.function} ${entry.attribute}: ${text(entry.after)} -> ${text(entry.before)}`;
}
