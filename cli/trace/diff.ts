/**
 * `ringside trace diff`
 *
 * @module
 */
import { compareTraces, type Step } from "../../lib/trace/mod.ts";
import { EXIT } from "../exit.ts";
import { print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { decoded, readTraceFile, type ShownRecord } from "./reading.ts";

const BEFORE = 3;

/** Says where two bring-ups part. @returns 1 when they do */
export function traceDiff(options: Of<"trace diff">): number {
  const files = [options.one, options.other] as const;
  const traces = [readTraceFile(files[0]), readTraceFile(files[1])] as const;
  const { same, agreed, difference } = compareTraces(...traces, [options.function, options.function]);
  const shown = [
    decoded(traces[0], options, traces[1]),
    decoded(traces[1], options, traces[0]),
  ].map((list) => new Map(list.map((one) => [one.record.line, one])));
  const of = (which: 0 | 1, step: Step | undefined) =>
    step === undefined ? undefined : shown[which]!.get(step.line);
  if (options.json) {
    printJson({
      steps: same,
      difference: difference === undefined
        ? null
        : { one: json(of(0, difference.one)), other: json(of(1, difference.other)) },
    });
    return difference === undefined ? EXIT.ok : EXIT.failed;
  }
  if (difference === undefined) {
    print(`no difference in ${same} accesses`);
    return EXIT.ok;
  }
  for (const step of agreed.slice(-BEFORE)) print(`  ${stepText(of(0, step))}`);
  print(`- ${stepText(of(0, difference.one))}`);
  print(`+ ${stepText(of(1, difference.other))}`);
  print(
    `they part after ${same} accesses: ${place(files[0], difference.one)}, ${
      place(files[1], difference.other)
    }`,
  );
  return EXIT.failed;
}

function stepText(shown: ShownRecord | undefined): string {
  if (shown === undefined) return "the end of the trace";
  const { record: { kind }, where, what } = shown;
  return [kind.padEnd(8), where, what].filter((part) => part !== "").join(" ");
}

function place(file: string, step: Step | undefined): string {
  return step === undefined ? `${file} is at its end` : `${file}:${step.line}`;
}

function json(shown: ShownRecord | undefined): unknown {
  return shown === undefined ? null : { ...shown.record, where: shown.where, what: shown.what };
}
