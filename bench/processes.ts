/**
 * Other processes that benchmarks need, each with what it takes to end it.
 *
 * @module
 */
import {
  makeDirectory,
  processId,
  removeDirectory,
  removeFile,
  UnixListener,
  type UnixSocket,
} from "../ffi/mod.ts";
import { type EmulatedProcess, startEmulatedHost } from "../cli/emulated_process.ts";
import type { BenchRun } from "./bench_run.ts";
import { TimeoutError } from "../lib/errors/mod.ts";

const PATIENCE_MS = 30_000;
/** A call on a peer's socket that takes longer has lost its peer. */
const CALL_MS = 5000;

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

/** An emulated host, until the stack is disposed of. */
export async function useEmulatedHost(
  stack: AsyncDisposableStack,
  run: BenchRun,
  totalVfs: number,
): Promise<EmulatedProcess> {
  const emulated = await startEmulatedHost({ totalVfs, signal: run.signal });
  stack.defer(() => emulated.stop());
  return emulated;
}

/** `peer.ts` in one of its modes, with its connections, until the stack is disposed of. @throws TimeoutError */
export async function usePeer(
  stack: AsyncDisposableStack,
  mode: "echo" | "signal",
  connections: number,
): Promise<UnixSocket[]> {
  const directory = `/tmp/ringside-bench-${processId()}-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory, 0o700);
  stack.defer(() => removeDirectory(directory));
  const path = `${directory}/peer.sock`;
  const listener = stack.use(UnixListener.listen(path));
  stack.defer(() => removeFile(path));
  const child = startScript("./peer.ts", { args: [mode, path, String(connections)], flags: ["--allow-ffi"] });
  stack.defer(() => endProcess(child));
  const sockets: UnixSocket[] = [];
  const deadline = performance.now() + PATIENCE_MS;
  while (sockets.length < connections) {
    const socket = listener.accept();
    if (socket !== undefined) {
      socket.setTimeoutMs(CALL_MS);
      sockets.push(stack.use(socket));
    } else if (performance.now() > deadline) {
      throw new TimeoutError(`peer.ts did not connect within ${PATIENCE_MS / 1000} s`);
    } else await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return sockets;
}
