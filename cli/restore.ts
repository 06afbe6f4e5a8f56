/**
 * `ringside restore`
 *
 * @module
 */
import type { Host, JournalEntry } from "../lib/host/mod.ts";
import { RingsideError } from "../lib/errors/mod.ts";
import { EXIT } from "./failure.ts";
import { print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";

/** Puts the host back. @returns the exit status. */
export function restore(host: Host, options: Of<"restore">): number {
  const report = host.restore(options.function, { force: options.force });
  const failed = report.failed.map(({ entry, error }) => ({ ...entry, error: error.message }));
  if (options.json) printJson({ done: report.done, failed });
  else {
    if (report.done.length === 0 && failed.length === 0) print("nothing to put back");
    for (const entry of report.done) print(describeEntry(entry));
  }
  for (const { entry, error } of report.failed) {
    const hint = error instanceof RingsideError && error.hint !== "" ? ` (${error.hint})` : "";
    remark(`ringside: ${entry.function} ${entry.attribute} stays in the journal: ${error.message}${hint}`);
  }
  return failed.length === 0 ? EXIT.ok : EXIT.failed;
}

/** `0000:01:00.0 driver: vfio-pci -> virtio-pci`: from what was written last to what was there first. */
export function describeEntry(entry: JournalEntry): string {
  const text = (value: string) => (value === "" ? "(none)" : value);
  return `${entry.function} ${entry.attribute}: ${text(entry.after)} -> ${text(entry.before)}`;
}
