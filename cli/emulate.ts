/**
 * `ringside emulate`
 *
 * @module
 */
import { readText } from "../ffi/mod.ts";
import {
  createVirtioModels,
  defaultTopology,
  parseTopology,
  serveEmulatedHost,
} from "../lib/emulation/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";

/** Serves an embedded host until it is interrupted. */
export async function emulate(options: Of<"emulate">): Promise<void> {
  if (options.topology !== undefined && options.totalVfs !== undefined) {
    throw new UsageError("--topology and --total-vfs exclude each other", {
      hint: "write totalVfs into the topology file",
    });
  }
  const models = createVirtioModels();
  const topology = options.topology === undefined
    ? defaultTopology(options.totalVfs)
    : parseTopology(readText(options.topology), models.kinds);
  const stop = new AbortController();
  const listener = () => stop.abort();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, listener);
  let violations = 0;
  try {
    await serveEmulatedHost({
      directory: options.directory,
      models,
      topology,
      signal: stop.signal,
      onViolation: (violation) => {
        violations++;
        const { function: where, queue, rule, message } = violation;
        if (options.verbose) {
          remark(`violation: ${where}${queue === undefined ? "" : `, queue ${queue}`}: ${message} (${rule})`);
        }
      },
      onReady: () => {
        if (options.json) {
          printJson({ ready: true, directory: options.directory, functions: topology.functions });
          return;
        }
        print(`serving ${topology.functions.length} functions in ${options.directory}`);
        for (const one of topology.functions) {
          const vfs = one.totalVfs > 0 ? `, up to ${one.totalVfs} VFs` : "";
          print(`  ${one.address}  ${one.kind}${vfs}  (on ${one.driver ?? "no driver"})`);
        }
        print(`use it with --host ${options.directory}; stop it with Ctrl-C`);
      },
    });
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, listener);
  }
  if (violations > 0) {
    remark(`${violations} violation${violations === 1 ? "" : "s"} of the standard by drivers`);
  }
}
