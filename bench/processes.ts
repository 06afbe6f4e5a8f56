/**
 * Other processes that benchmarks need, each with what it takes to end it.
 *
 * @module
 */
import { O, OwnedFd, UnixListener, type UnixSocket, writeAll } from "../ffi/mod.ts";
import {
  type EmulatedProcess,
  type EmulatedProcessOptions,
  startEmulatedHost,
} from "../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../cli/temporary_directory.ts";
import { type BenchRun, PATIENCE_MS } from "./bench_run.ts";
import { TimeoutError } from "../lib/errors/mod.ts";

/** A process that was started from a script of this folder. */
export function startScript(script: string, options: {
  readonly args?: readonly string[];
  readonly flags?: readonly string[];
  readonly output?: "piped" | "null";
} = {}): Deno.ChildProcess {
  const { args = [], flags = [], output = "null" } = options;
  const url = new URL(script, import.meta.url).href;
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", ...flags, url, ...args],
    stdin: "null",
    stdout: output,
    stderr: "inherit",
  }).spawn();
}

/** Ends it, now when it has not ended by itself. */
export async function endProcess(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGTERM");
  } catch {
    // It has ended already.
  }
  await child.status;
}

/** A directory, until the stack is disposed of, which removes all that is in it. */
export function useDirectory(stack: AsyncDisposableStack): string {
  const directory = makeTemporaryDirectory();
  stack.defer(() => removeTree(directory));
  return directory;
}

/**
 * An emulated host, until the stack is disposed of.
 * @param serve TotalVFs of the default topology's PF, or the functions of another topology
 */
export async function useEmulatedHost(
  stack: AsyncDisposableStack,
  run: BenchRun,
  serve: number | readonly Readonly<Record<string, unknown>>[],
): Promise<EmulatedProcess> {
  const { signal } = run;
  let options: EmulatedProcessOptions;
  if (typeof serve === "number") options = { totalVfs: serve, signal };
  else {
    const topology = `${useDirectory(stack)}/topology.json`;
    using file = OwnedFd.open(topology, O.WRONLY | O.CREAT, 0o600);
    writeAll(file, new TextEncoder().encode(JSON.stringify({ functions: serve })));
    options = { topology, signal };
  }
  const emulated = await startEmulatedHost(options);
  stack.defer(() => emulated.stop());
  return emulated;
}

/** `peer.ts` in one of its modes, with its connections, until the stack is disposed of. @throws TimeoutError */
export async function usePeer(
  stack: AsyncDisposableStack,
  mode: "echo" | "signal",
  connections: number,
): Promise<UnixSocket[]> {
  const path = `${useDirectory(stack)}/peer.sock`;
  const listener = stack.use(UnixListener.listen(path));
  const child = startScript("./peer.ts", { args: [mode, path, String(connections)], flags: ["--allow-ffi"] });
  stack.defer(() => endProcess(child));
  return await accept(stack, listener, connections);
}

/** Connections of a script that was started. @throws TimeoutError */
export async function accept(
  stack: AsyncDisposableStack,
  listener: UnixListener,
  connections: number,
): Promise<UnixSocket[]> {
  const sockets: UnixSocket[] = [];
  const deadline = performance.now() + PATIENCE_MS;
  while (sockets.length < connections) {
    const socket = listener.accept();
    if (socket !== undefined) {
      socket.setTimeoutMs(PATIENCE_MS);
      sockets.push(stack.use(socket));
    } else if (performance.now() > deadline) {
      throw new TimeoutError(`the other process did not connect within ${PATIENCE_MS / 1000} s`);
    } else await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return sockets;
}
