/**
 * Regions held for as long as a command runs: events are printed as they come, and commands taken from standard input.
 *
 * @module
 */
import type { IsmRegion, VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import type { Interruption } from "../interruption.ts";
import { EXIT } from "../exit.ts";
import { exitStatus, failureJson, failureText } from "../failure.ts";
import { jsonText, OutputClosedError, print, remark } from "../output.ts";
import { printEvent } from "./event_report.ts";
import { runShell } from "./shell.ts";

/** How to hold regions. */
export interface HoldOptions {
  readonly json: boolean;
  /** Whose commands are taken from standard input; undefined: none are. */
  readonly shell?: IsmRegion;
  /** Ends after so many events. */
  readonly count?: number | undefined;
  /** Ends after so many seconds. */
  readonly seconds?: number | undefined;
}

/** Until it is interrupted, which is what ends it in order, or until what `options` name. @returns exit status: 1 when a line of the shell failed */
export async function hold(ism: VirtioIsm, stop: Interruption, options: HoldOptions): Promise<number> {
  try {
    return await holdUntilEnd(ism, stop, options);
  } catch (error) {
    if (!options.json || error instanceof OutputClosedError) throw error;
    // What was printed are lines of JSON, so this is one, too.
    remark(failureText(error));
    print(jsonText(failureJson(error), 0));
    return exitStatus(error);
  }
}

async function holdUntilEnd(ism: VirtioIsm, stop: Interruption, options: HoldOptions): Promise<number> {
  const ended = new AbortController();
  const signal = AbortSignal.any([stop.signal, ended.signal]);
  const timer = options.seconds === undefined
    ? undefined
    : setTimeout(() => ended.abort(), options.seconds * 1000);
  let failed = 0;
  let failure: { readonly error: unknown } | undefined;
  if (options.shell !== undefined) {
    // Not awaited: a read of standard input cannot be taken back. The process ends with the command.
    runShell(ism, options.shell, options.json, signal)
      .then((count) => void (failed = count), (error) => void (failure = { error }))
      .finally(() => ended.abort());
  }
  try {
    let count = 0;
    for await (const event of ism.events({ signal })) {
      printEvent(event, options.json);
      if (++count === options.count) break;
    }
  } finally {
    clearTimeout(timer);
  }
  if (failure !== undefined) throw failure.error;
  return failed > 0 ? EXIT.failed : EXIT.ok;
}
