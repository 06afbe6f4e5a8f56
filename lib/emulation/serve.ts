/**
 * Serves an emulated host from a directory: what `ringside emulate` does.
 *
 * @module
 */
import {
  accessible,
  FileLock,
  makeDirectory,
  processId,
  raiseOpenFileLimit,
  readDirectory,
  removeDirectory,
  removeFile,
  replaceFile,
} from "../../ffi/mod.ts";
import { requireType } from "../errors/doors.ts";
import { RefusedError, UsageError } from "../errors/mod.ts";
import { busOf, isAddress, PCI } from "../vfio/bus.ts";
import type { Violation } from "./device_model.ts";
import { EmulatedMachine } from "./machine.ts";
import type { FunctionModels } from "./pci_function.ts";
import { CONTROL_SOCKET } from "../host/sysfs/control.ts";
import type { UnsealedFiles } from "../sockets/passed_memory.ts";
import type { Topology } from "./function_topology.ts";
import { defaultTopology } from "./virtio/default_topology.ts";
import { createVirtioModels } from "./virtio/models.ts";

/** File that is there while the host serves; it holds the process id. */
export const READY_FILE = "ready";
/** File that the serving process holds locked, so that a directory has one host. It stays behind, empty. */
export const LOCK_FILE = "host.lock";

/** `sun_path` without its end mark. */
const LONGEST_SOCKET_PATH = 107;
const SUFFIX = ".sock";
/** Of a PCI function, VFs included. */
const LONGEST_PCI_ADDRESS = "00000000:00:00.0";

/** How to serve. */
export interface ServeOptions {
  /** Where the sockets go; made when it is not there. */
  readonly directory: string;
  /** What stands behind the functions. Default: the virtio devices. */
  readonly models?: FunctionModels;
  /** Default: `defaultTopology`, without platform devices where the models make none. */
  readonly topology?: Topology;
  /** Called once everything can be opened. */
  readonly onReady?: () => void;
  /** What becomes of memory of users that they could truncate; default `copy`. */
  readonly clientMemory?: UnsealedFiles;
  /** Told of each violation at once. */
  readonly onViolation?: (violation: Violation) => void;
  /** Ends serving when it is aborted, as a write to `/ringside/stop` does. */
  readonly signal?: AbortSignal;
}

/**
 * Serves until it is told to stop; then sockets and ready file are gone. What a killed process left in the directory is replaced.
 * The process's soft limit on open descriptors is raised to the hard one, and stays so: each function that can be opened takes one, each
 * that is opened some ten more.
 * @throws RefusedError when another process serves this directory; UsageError; SyscallError
 */
export async function serveEmulatedHost(options: ServeOptions): Promise<void> {
  requireType(options, "object", "serveEmulatedHost: options", "directory");
  const { directory, signal, onReady } = options;
  requireType(directory, "string", "serveEmulatedHost: directory");
  if (signal !== undefined) {
    requireType(signal, "object", "serveEmulatedHost: signal", "addEventListener", "removeEventListener");
  }
  if (onReady !== undefined) requireType(onReady, "function", "serveEmulatedHost: onReady");
  const models = options.models ?? createVirtioModels();
  const topology = options.topology ?? topologyFor(models);
  requireType(topology, "object", "serveEmulatedHost: topology", "functions");
  requireType(topology.functions, "array", "serveEmulatedHost: topology.functions");
  for (const one of topology.functions) {
    requireType(one, "object", "serveEmulatedHost: topology.functions", "address");
    requireType(one.address, "string", "serveEmulatedHost: address of a function");
  }
  const names = [LONGEST_PCI_ADDRESS, ...topology.functions.map(({ address }) => address)];
  const longest = LONGEST_SOCKET_PATH - Math.max(...names.map((one) => one.length)) - SUFFIX.length - 1;
  if (new TextEncoder().encode(directory).byteLength > longest) {
    throw new UsageError(`${directory}: its sockets' paths would be longer than the kernel takes`, {
      hint: `use a directory with a path of at most ${longest} bytes`,
    });
  }
  raiseOpenFileLimit();
  const isNew = !accessible(directory);
  makeDirectory(directory, 0o700);
  const lock = FileLock.tryAcquire(`${directory}/${LOCK_FILE}`, `process ${processId()}`);
  if (!(lock instanceof FileLock)) {
    throw new RefusedError(`${directory} is served by ${lock.heldBy || "another process"}`, {
      hint: "stop that emulated host first, or use another directory",
    });
  }
  using _held = lock;
  removeRemains(directory);
  const machine = comesUp(isNew ? directory : undefined, () =>
    new EmulatedMachine({
      topology,
      models,
      directory,
      clientMemory: options.clientMemory,
      onViolation: options.onViolation,
    }));
  const stop = () => machine.stop();
  try {
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) return machine.close();
    replaceFile(
      `${directory}/${READY_FILE}`,
      new TextEncoder().encode(`${processId()}\n`) as Uint8Array<ArrayBuffer>,
    );
    onReady?.();
    await machine.run();
  } finally {
    signal?.removeEventListener("abort", stop);
    machine.close();
    removeFile(`${directory}/${READY_FILE}`);
  }
}

/** A host that does not come up leaves nothing. @param made the directory, where it was made for it */
function comesUp<T>(made: string | undefined, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (made !== undefined) {
      removeFile(`${made}/${LOCK_FILE}`);
      if (readDirectory(made).length === 0) removeDirectory(made);
    }
    throw error;
  }
}

/** Sockets of a process that was killed. The lock says that it is not there any more. */
function removeRemains(directory: string): void {
  removeFile(`${directory}/${READY_FILE}`);
  for (const { name } of readDirectory(directory)) {
    const isFunction = name.endsWith(SUFFIX) && isAddress(name.slice(0, -SUFFIX.length));
    if (name === CONTROL_SOCKET || isFunction) removeFile(`${directory}/${name}`);
  }
}

/** What these models can serve of the default host. */
function topologyFor(models: FunctionModels): Topology {
  const { functions } = defaultTopology();
  return models.createPlatformBehaviour === undefined
    ? { functions: functions.filter(({ address }) => busOf(address) === PCI) }
    : { functions };
}
