/**
 * `ringside trace show`
 *
 * @module
 */
import { UsageError } from "../../lib/errors/mod.ts";
import { matcher } from "../../lib/registers/dump.ts";
import { print, printJson, printTable } from "../output.ts";
import type { Of } from "../parser.ts";
import { writePicture } from "../svg.ts";
import { timeline } from "./picture.ts";
import { decoded, readTraceFile } from "./reading.ts";

/** Prints a trace, or draws it. */
export function traceShow(options: Of<"trace show">): void {
  const records = readTraceFile(options.file);
  const functions = records.flatMap((one) => one.kind === "open" ? [one.name] : []);
  if (options.function !== undefined && options.function >= Math.max(functions.length, 1)) {
    throw new UsageError(`${options.file} has ${functions.length} functions`, {
      hint: "they are numbered from 0",
    });
  }
  const wanted = matcher(options.only);
  const shown = decoded(records, options).filter(({ record, where }) =>
    (options.function === undefined || record.device === options.function) &&
    (options.kind.length === 0 || options.kind.includes(record.kind)) && wanted(where)
  );
  if (options.svg !== undefined) {
    writePicture(options.svg, timeline(shown, options.file));
    if (options.svg === "-") return;
  }
  if (options.json) {
    return printJson(shown.map(({ record, where, what }) => ({ ...record, where, what })));
  }
  if (options.svg !== undefined) {
    print(`${shown.length} records drawn in ${options.svg}`);
    return;
  }
  const many = functions.length > 1;
  printTable(
    ["RECORD", "MS", ...(many ? ["FUNCTION"] : []), "WHAT", "WHERE", "VALUE"],
    shown.map(({ record, where, what }) => [
      `${record.line}`,
      (record.us / 1000).toFixed(3),
      ...(many ? [functions[record.device] ?? ""] : []),
      record.kind,
      where,
      what,
    ]),
    { drop: [1], shrink: [many ? 5 : 4] },
  );
}
