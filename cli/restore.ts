/**
 * `ringside restore`
 *
 * @module
 */
import type { Host, JournalEntry } from "../lib/host/mod.ts";
import { EXIT } from "./exit.ts";
import { failureJson, failureText } from "./failure.ts";
import { print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";

/** Puts the host back. @returns the exit status. */
export function restore(host: Host, options: Of<"restore">): number {
  const report = host.restore(options.function, options);
  const failed = report.failed.map(({ entry, error }) => ({ ...entry, ...failureJson(error, host.name) }));
  const { unchanged } = report;
  if (options.json) printJson({ done: report.done, unchanged, failed });
  else {
    if (report.done.length + unchanged.length + failed.length === 0) print("nothing to put back");
    for (const entry of unchanged) print(`${entry.function} ${entry.attribute}: nothing to put back`);
    for (const entry of report.done) print(`${options.forget ? "dropped: " : ""}${describeEntry(entry)}`);
  }
  for (const { entry, error } of report.failed) {
    const why = failureText(error, host.name).replace(/^ringside: /, "");
    remark(`ringside: ${entry.function} ${entry.attribute} stays in the journal: ${why}`);
  }
  return failed.length === 0 ? EXIT.ok : EXIT.failed;
}

/** `0000:01:00.0 driver: vfio-pci -> virtio-pci`: from what was written last to what was there first. */
export function describeEntry(entry: JournalEntry): string {
  const text = (value: string) => (value === "" ? "(none)" : value);
  return `${entry.function} ${entry.attribute}: ${text(entry.after)} -> ${text(entry.before)}`;
}
