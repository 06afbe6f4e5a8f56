/**
 * `ringside emulate`
 *
 * @module
 */
import { accessible, O, OwnedFd, readDirectory, readText, writeAll } from "../ffi/mod.ts";
import {
  addVhostUser,
  defaultTopology,
  parseTopology,
  serveEmulatedHost,
  type Topology,
} from "../lib/emulation/mod.ts";
import { createVirtioModels, type VirtioModels } from "../lib/emulation/virtio/models.ts";
import { RefusedError, UsageError } from "../lib/errors/mod.ts";
import { type ReadyLine, startInBackground, stopServing } from "./background.ts";
import { interruption } from "./interruption.ts";
import { ofFile } from "./json_file.ts";
import { countText, jsonText, OutputClosedError, print, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { removeTree } from "./temporary_directory.ts";
import { vhostUserFields } from "./vhost_user_option.ts";

/** Serves an embedded host until it is interrupted, or in a process of its own. @returns the exit status */
export async function emulate(options: Of<"emulate">): Promise<number | void> {
  if (options.stop) return await stopServing(options);
  if (options.topology !== undefined && options.totalVfs !== undefined) {
    throw new UsageError("--topology and --total-vfs exclude each other", {
      hint: "write totalVfs into the topology file",
    });
  }
  const { directory } = options;
  const models = createVirtioModels();
  const topology = topologyOf(options, models.kinds);
  if (options.temporary && accessible(directory) && readDirectory(directory).length > 0) {
    throw new RefusedError(`${directory} is not empty: it would be removed at the end`, {
      hint: "leave --temporary out, or name a directory that is not there",
    });
  }
  if (options.background) {
    if (options.temporary) throw new UsageError("--background and --temporary exclude each other");
    const ready = await startInBackground(options);
    if (typeof ready === "number") return ready;
    return tell(options, ready, `stop it with ringside emulate ${directory} --stop`);
  }
  using note = new Notes(options.log);
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
        note.write(
          `violation: ${where}${queue === undefined ? "" : `, queue ${queue}`}: ${message} (${rule})`,
        );
      },
      onReady: () => say(() => tell(options, { directory, ...topology }, "stop it with Ctrl-C")),
    });
  } finally {
    if (options.temporary) removeTree(directory);
  }
  if (options.json) say(() => print(jsonText({ ended: true, violations }, 0)));
  else if (violations > 0) note.write(`${countText(violations, "violation")} of the standard by drivers`);
}

function topologyOf(options: Of<"emulate">, kinds: VirtioModels["kinds"]): Topology {
  const { topology, totalVfs, vhostUser } = options;
  const given = topology === undefined ? undefined : topologyIn(topology, kinds);
  if (vhostUser.length === 0) return given ?? defaultTopology(totalVfs);
  // Who names such devices and nothing else wants nothing else.
  const others = given ?? (totalVfs === undefined ? { functions: [] } : defaultTopology(totalVfs));
  return addVhostUser(others, vhostUser.map(vhostUserFields), kinds, "--vhost-user");
}

/** @throws TopologyError, which names the file; SyscallError */
function topologyIn(file: string, kinds: VirtioModels["kinds"]): Topology {
  return ofFile(file, () => parseTopology(readText(file), kinds));
}

function tell(options: Of<"emulate">, ready: ReadyLine & { readonly pid?: number }, end: string): void {
  const { directory, functions, vhostUser = [] } = ready;
  if (options.json) return print(jsonText({ ready: true, ...ready }, 0));
  const what = [
    ...(functions.length > 0 || vhostUser.length === 0 ? [countText(functions.length, "function")] : []),
    ...(vhostUser.length > 0 ? [countText(vhostUser.length, "vhost-user device")] : []),
  ];
  print(`serving ${what.join(" and ")} in ${directory}`);
  for (const one of functions) {
    const vfs = one.totalVfs > 0 ? `, up to ${countText(one.totalVfs, "VF")}` : "";
    print(`  ${one.address}  ${one.kind}${vfs}  (on ${one.driver ?? "no driver"})`);
  }
  for (const { address, kind, socket, connect = false } of vhostUser) {
    const type = `type=${kind.replace("virtio-", "")}${connect ? ",server=on" : ""}`;
    print(`  ${address}  ${kind}  (use it with --host vhost-user:${socket},${type})`);
  }
  // A host without functions has nothing to list.
  print(functions.length > 0 ? `use it with --host ${directory}; ${end}` : end);
}

/** What is said besides, on standard error or in a file. */
class Notes implements Disposable {
  readonly #path: string | undefined;
  #file: OwnedFd | undefined;

  constructor(path: string | undefined) {
    this.#path = path;
  }

  write(line: string): void {
    if (this.#path === undefined) return remark(line);
    // Made when there is something to say.
    this.#file ??= OwnedFd.open(this.#path, O.WRONLY | O.CREAT | O.APPEND, 0o600);
    writeAll(this.#file, new TextEncoder().encode(`${line}\n`) as Uint8Array<ArrayBuffer>);
  }

  [Symbol.dispose](): void {
    this.#file?.close();
  }
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
