/**
 * `ringside emulate`
 *
 * @module
 */
import { accessible, readDirectory, readText } from "../ffi/mod.ts";
import { defaultTopology, parseTopology, serveEmulatedHost, type Topology } from "../lib/emulation/mod.ts";
import { createVirtioModels } from "../lib/emulation/virtio/models.ts";
import { RefusedError, UsageError } from "../lib/errors/mod.ts";
import { interruption } from "./interruption.ts";
import { countText, jsonText, OutputClosedError, print, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { removeTree } from "./temporary_directory.ts";

/** Serves an embedded host until it is interrupted. */
export async function emulate(options: Of<"emulate">): Promise<void> {
  if (options.topology !== undefined && options.totalVfs !== undefined) {
    throw new UsageError("--topology and --total-vfs exclude each other", {
      hint: "write totalVfs into the topology file",
    });
  }
  const { directory } = options;
  const models = createVirtioModels();
  const topology = options.topology === undefined
    ? defaultTopology(options.totalVfs)
    : parseTopology(readText(options.topology), models.kinds);
  if (options.temporary && accessible(directory) && readDirectory(directory).length > 0) {
    throw new RefusedError(`${directory} is not empty: it would be removed at the end`, {
      hint: "leave --temporary out, or name a directory that is not there",
    });
  }
  using stop = interruption();
  const parent = new AbortController();
  if (options.temporary) whenInputEnds(() => parent.abort());
  let violations = 0;
  try {
    await serveEmulatedHost({
      directory,
      models,
      topology,
      clientMemory: options.clientMemory,
      signal: AbortSignal.any([stop.signal, parent.signal]),
      onViolation: (violation) => {
        violations++;
        if (!options.verbose) return;
        const { function: where, queue, rule, message } = violation;
        remark(`violation: ${where}${queue === undefined ? "" : `, queue ${queue}`}: ${message} (${rule})`);
      },
      onReady: () => say(() => tell(options, topology)),
    });
  } finally {
    if (options.temporary) removeTree(directory);
  }
  if (options.json) say(() => print(jsonText({ ended: true, violations }, 0)));
  else if (violations > 0) remark(`${countText(violations, "violation")} of the standard by drivers`);
}

function tell(options: Of<"emulate">, topology: Topology): void {
  const { directory } = options;
  if (options.json) {
    print(jsonText({ ready: true, directory, functions: topology.functions }, 0));
    return;
  }
  print(`serving ${countText(topology.functions.length, "function")} in ${directory}`);
  for (const one of topology.functions) {
    const vfs = one.totalVfs > 0 ? `, up to ${countText(one.totalVfs, "VF")}` : "";
    print(`  ${one.address}  ${one.kind}${vfs}  (on ${one.driver ?? "no driver"})`);
  }
  print(`use it with --host ${directory}; stop it with Ctrl-C`);
}

/** Who reads no more (`emulate … | head -1`) still uses the host. */
function say(lines: () => void): void {
  try {
    lines();
  } catch (error) {
    if (!(error instanceof OutputClosedError)) throw error;
  }
}

function whenInputEnds(then: () => void): void {
  (async () => {
    const scratch = new Uint8Array(512);
    while (await Deno.stdin.read(scratch) !== null);
  })().then(then, then);
}
