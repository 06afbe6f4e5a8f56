/**
 * `ringside trace replay`
 *
 * @module
 */
import { Replay, serveReplay, type Step } from "../../lib/trace/mod.ts";
import { EXIT } from "../exit.ts";
import { interruption } from "../interruption.ts";
import { print, printJson, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { decoderWith, readTraceFile } from "./reading.ts";

/** Serves a recorded function to one driver. @returns 1 when that did something else than was recorded */
export async function traceReplay(options: Of<"trace replay">): Promise<number> {
  const { file, socket } = options;
  const records = readTraceFile(file);
  const decoder = decoderWith(options);
  for (const one of records) if (one.kind === "open") decoder.decode(one);
  const text = (step: Step) => {
    const { where, what } = decoder.decode({ ...step, device: options.function });
    return [step.kind === "doorbell" ? "write" : step.kind, where, what].filter((part) => part !== "").join(
      " ",
    );
  };
  const replay = new Replay(records, options.function, text);
  using stop = interruption();
  const ready = () => remark(`${replay.name} as recorded: --host vfio-user:${socket}`);
  const { done, steps, lastLine, difference } = await serveReplay(replay, socket, stop.signal, ready);
  if (options.json) {
    printJson({
      function: replay.name,
      done,
      steps,
      lastRecord: lastLine ?? null,
      difference: difference === undefined
        ? null
        : { record: difference.line ?? null, message: difference.message },
    });
  } else {
    print(
      `${done} of ${steps} accesses as recorded${lastLine === undefined ? "" : `, to record ${lastLine}`}`,
    );
    if (difference !== undefined) print(difference.message);
  }
  return difference === undefined ? stop.exitStatus : EXIT.failed;
}
