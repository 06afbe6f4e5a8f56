/**
 * `ringside emulate --background` and `--stop`
 *
 * @module
 */
import { accessible } from "../ffi/mod.ts";
import { READY_FILE } from "../lib/emulation/serve.ts";
import { TimeoutError, UsageError } from "../lib/errors/mod.ts";
import { EmulatedHost } from "../lib/host/emulated_host.ts";
import { SocketSysfs } from "../lib/host/sysfs/socket_sysfs.ts";
import { interruption } from "./interruption.ts";
import { print, printJson, remark } from "./output.ts";
import { ownCommand } from "./own_process.ts";
import type { Of } from "./parser.ts";

/** What an embedded host says, on a line, when it serves. */
export interface ReadyLine {
  readonly directory: string;
  readonly functions: readonly {
    readonly address: string;
    readonly kind: string;
    readonly totalVfs: number;
    readonly driver?: string | null;
  }[];
  readonly vhostUser?: readonly {
    readonly address: string;
    readonly kind: string;
    readonly socket: string;
    readonly connect?: boolean;
  }[];
}

const PATIENCE_MS = 10_000;
const LOOK_MS = 10;

/** Starts an embedded host that outlives this process, and waits until it serves. @returns what it said, or its exit status when it did not come up */
export async function startInBackground(
  options: Of<"emulate">,
): Promise<(ReadyLine & { readonly pid: number }) | number> {
  const { program, args } = ownCommand(argumentsOf(options));
  using stop = interruption();
  const child = new Deno.Command(program, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    // Neither Ctrl-C nor the end of the terminal is for it.
    detached: true,
  }).spawn();
  const onSignal = () => child.kill("SIGTERM");
  stop.signal.addEventListener("abort", onSignal);
  const line = await firstLine(child.stdout);
  stop.signal.removeEventListener("abort", onSignal);
  const ready = line === undefined ? undefined : readyLine(line);
  if (ready === undefined) {
    const errors = await new Response(child.stderr).text();
    const { code } = await child.status;
    stop.signal.throwIfAborted();
    if (options.json && line !== undefined) print(line);
    remark(errors.trimEnd());
    return code;
  }
  await child.stderr.cancel();
  child.unref();
  return { ...ready, pid: child.pid };
}

function argumentsOf(options: Of<"emulate">): string[] {
  const { directory, topology, totalVfs, vhostUser, clientMemory, verbose, log } = options;
  return [
    "emulate",
    directory,
    "--json",
    "--log",
    log ?? `${directory}/log`,
    ...(topology === undefined ? [] : ["--topology", topology]),
    ...(totalVfs === undefined ? [] : ["--total-vfs", String(totalVfs)]),
    ...vhostUser.flatMap((one) => ["--vhost-user", one]),
    ...(clientMemory === undefined ? [] : ["--client-memory", clientMemory]),
    ...(verbose ? ["--verbose"] : []),
  ];
}

/** A failure is JSON of several lines: all of it. @returns undefined when there was nothing */
async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string | undefined> {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    text += value ?? "";
    const end = text.indexOf("\n");
    if (!done && (end < 0 || text.startsWith("{\n"))) continue;
    await reader.cancel();
    return text === "" ? undefined : done ? text.trimEnd() : text.slice(0, end);
  }
}

function readyLine(line: string): ReadyLine | undefined {
  const said: unknown = JSON.parse(line);
  return typeof said === "object" && said !== null && "ready" in said
    ? said as unknown as ReadyLine
    : undefined;
}

/** Ends the host that is served in a directory, and waits until it has gone. @throws NotFoundError, PeerGoneError (none is), TimeoutError */
export async function stopServing(options: Of<"emulate">): Promise<void> {
  const { directory } = options;
  if (argumentsOf({ ...options, log: "" }).length > 5 || options.background || options.log !== undefined) {
    throw new UsageError("--stop takes DIRECTORY alone");
  }
  EmulatedHost.connect(directory)[Symbol.dispose]();
  {
    using sysfs = new SocketSysfs(`${directory}/host.sock`);
    sysfs.writeText("/ringside/stop", "1\n");
  }
  const deadline = performance.now() + PATIENCE_MS;
  while (accessible(`${directory}/${READY_FILE}`)) {
    if (performance.now() > deadline) {
      throw new TimeoutError(`the host in ${directory} did not end within ${PATIENCE_MS / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  if (options.json) printJson({ directory, stopped: true });
  else print(`stopped the host in ${directory}`);
}
