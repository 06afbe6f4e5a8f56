/**
 * An embedded host as a process of its own, for as long as a command needs it.
 *
 * @module
 */
import { accessible, readTextIfAny } from "../ffi/mod.ts";
import { RingsideError, TimeoutError } from "../lib/errors/mod.ts";
import { SocketSysfs } from "../lib/host/sysfs/socket_sysfs.ts";
import { ownCommand } from "./own_process.ts";
import { Patience } from "./patience.ts";
import { makeTemporaryDirectory, removeTree } from "./temporary_directory.ts";

/** A running embedded host. */
export interface EmulatedProcess {
  readonly pid: number;
  readonly directory: string;
  /** Violations that its devices have seen so far. */
  violations(): string[];
  /** Ends the process and removes its directory. */
  stop(): Promise<void>;
}

/** How long it may do nothing before it is up: on a slow machine it may compute for minutes. */
const PATIENCE_MS = 30_000;
const LOOK_MS = 5;
/** Linux's USER_HZ, which is the same for all that userspace is told. */
const TICKS_A_SECOND = 100;

/** What to serve. */
export interface EmulatedProcessOptions {
  /** TotalVFs of the default topology's PF. Default 4. */
  readonly totalVfs?: number;
  /** Topology file, instead of the default topology. */
  readonly topology?: string;
  /** Value of `--client-memory`. */
  readonly clientMemory?: "copy" | "map" | "refuse";
  /** Gives up when it is aborted before the host is up. */
  readonly signal?: AbortSignal;
}

/**
 * Starts one. It ends, and its directory goes, with `stop` or when this process ends, however that happens.
 * @throws TimeoutError when it does not come up; RingsideError when it ends before; the reason of `signal`
 */
export async function startEmulatedHost(options: EmulatedProcessOptions = {}): Promise<EmulatedProcess> {
  const directory = makeTemporaryDirectory();
  let child: Deno.ChildProcess;
  try {
    child = spawn(directory, options);
  } catch (error) {
    removeTree(directory);
    throw error;
  }
  let ended = false;
  const status = child.status.finally(() => {
    ended = true;
  });
  const stop = async (): Promise<void> => {
    try {
      if (!ended) child.kill("SIGTERM");
    } catch {
      // It has ended, and that has not been heard of yet.
    }
    await status;
    await child.stdin.close().catch(() => {});
    removeTree(directory);
  };
  try {
    const patience = new Patience(() => processorTime(child.pid), PATIENCE_MS);
    while (!accessible(`${directory}/ready`)) {
      options.signal?.throwIfAborted();
      if (ended) {
        throw new RingsideError(`the embedded host ended at once, with status ${(await status).code}`);
      }
      if (patience.isOver(performance.now())) {
        throw new TimeoutError(
          `the embedded host did not come up, and has done nothing for ${PATIENCE_MS / 1000} s`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } catch (error) {
    await stop();
    throw error;
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

/** Seconds that a process has computed for, whole ones since one that waits computes a little, too; 0 when it is gone. */
function processorTime(pid: number): number {
  // The name, which comes second, may have spaces in it (proc(5), /proc/pid/stat: utime and stime are the 14th and 15th).
  const fields = (readTextIfAny(`/proc/${pid}/stat`) ?? "").split(") ").at(-1)!.split(" ");
  return Math.floor((Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS_A_SECOND);
}

function spawn(directory: string, options: EmulatedProcessOptions): Deno.ChildProcess {
  const { program, args } = ownCommand([
    "emulate",
    directory,
    "--temporary",
    ...(options.totalVfs === undefined ? [] : ["--total-vfs", String(options.totalVfs)]),
    ...(options.topology === undefined ? [] : ["--topology", options.topology]),
    ...(options.clientMemory === undefined ? [] : ["--client-memory", options.clientMemory]),
  ]);
  return new Deno.Command(program, {
    args,
    // Its end tells the child that this process has gone.
    stdin: "piped",
    stdout: "null",
    stderr: "inherit",
    // A Ctrl-C on the terminal is for this process: it needs the host to put it back.
    detached: true,
  }).spawn();
}
