/**
 * An embedded host as a process of its own, for as long as a command needs it.
 *
 * @module
 */
import {
  accessible,
  makeDirectory,
  processId,
  readDirectory,
  removeDirectory,
  removeFile,
} from "../ffi/mod.ts";
import { TimeoutError } from "../lib/errors/mod.ts";
import { SocketSysfs } from "../lib/host/mod.ts";

/** A running embedded host. */
export interface EmulatedProcess {
  readonly pid: number;
  readonly directory: string;
  /** Violations that its devices have seen so far. */
  violations(): string[];
  /** Ends the process and removes its directory. */
  stop(): Promise<void>;
}

const PATIENCE_MS = 30_000;

/** What to serve. */
export interface EmulatedProcessOptions {
  /** TotalVFs of the default topology's PF. Default 4. */
  readonly totalVfs?: number;
  /** Topology file, instead of the default topology. */
  readonly topology?: string;
}

/** Starts one. @throws TimeoutError when it does not come up */
export async function startEmulatedHost(options: EmulatedProcessOptions = {}): Promise<EmulatedProcess> {
  const directory = `/tmp/ringside-${processId()}-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory, 0o700);
  const main = new URL("./main.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-ffi",
      "--allow-env",
      "--allow-sys",
      main,
      "emulate",
      directory,
      ...(options.totalVfs === undefined ? [] : ["--total-vfs", String(options.totalVfs)]),
      ...(options.topology === undefined ? [] : ["--topology", options.topology]),
    ],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
  const stop = async (): Promise<void> => {
    try {
      child.kill("SIGTERM");
    } catch {
      // It has ended already.
    }
    await child.status;
    removeTree(directory);
  };
  const deadline = performance.now() + PATIENCE_MS;
  while (!accessible(`${directory}/ready`)) {
    if (performance.now() > deadline) {
      await stop();
      throw new TimeoutError(`the embedded host did not come up within ${PATIENCE_MS / 1000} s`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    pid: child.pid,
    directory,
    violations: () => {
      using sysfs = new SocketSysfs(`${directory}/host.sock`);
      return sysfs.readText("/ringside/violations").split("\n").filter((line) => line !== "");
    },
    stop,
  };
}

function removeTree(directory: string): void {
  for (const { name, type } of readDirectory(directory)) {
    const path = `${directory}/${name}`;
    if (type === DIRECTORY) removeTree(path);
    else removeFile(path);
  }
  removeDirectory(directory);
}

const DIRECTORY = 4;
