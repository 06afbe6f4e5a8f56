/**
 * What a benchmark is about: the functions that it is given, the only one of its kind, or an embedded host of its own.
 *
 * @module
 */
import { DeviceError, UsageError } from "../../lib/errors/mod.ts";
import { type Host, openHost } from "../../lib/host/mod.ts";
import { virtioTypeOf } from "../../lib/pci/virtio_ids.ts";
import { type EmulatedProcess, startEmulatedHost } from "../emulated_process.ts";
import { writeJsonFile } from "../json_file.ts";
import { makeTemporaryDirectory, removeTree } from "../temporary_directory.ts";

/** Where to look for functions. */
export interface TargetOptions {
  /** As on the command line. */
  readonly host: string | undefined;
  /** Functions that were named. */
  readonly named: readonly string[];
  /** Virtio device id. */
  readonly type: number;
  /** Functions of the embedded host, as a topology has them. */
  readonly topology: readonly Readonly<Record<string, unknown>>[];
  /** Names of those that are measured there, once it is made ready. */
  readonly ready: (host: Host) => readonly string[];
  readonly signal: AbortSignal;
}

/** Does `use` with the host and the names of the functions. @param own whether it is an embedded host of this command's own */
export async function withTarget(
  host: Host,
  options: TargetOptions,
  use: (host: Host, names: readonly string[], own: boolean) => Promise<void>,
): Promise<void> {
  const { named } = options;
  if (named.length > 0) return await use(host, named, false);
  if (options.host !== undefined) return await use(host, [onlyOne(host, options.type)], false);
  const emulated = await start(options);
  try {
    using own = openHost(emulated.directory);
    await use(own, options.ready(own), true);
    const violations = emulated.violations();
    if (violations.length > 0) {
      throw new DeviceError(`the devices report violations: ${violations.join("; ")}`);
    }
  } finally {
    await emulated.stop();
  }
}

async function start({ topology, signal }: TargetOptions): Promise<EmulatedProcess> {
  const scratch = makeTemporaryDirectory();
  try {
    writeJsonFile(`${scratch}/topology.json`, { functions: topology });
    return await startEmulatedHost({ topology: `${scratch}/topology.json`, signal });
  } finally {
    removeTree(scratch);
  }
}

/** @throws UsageError when there are none, or several */
function onlyOne(host: Host, type: number): string {
  const found = host.list().filter((one) =>
    (one.bus === "pci" ? virtioTypeOf(one) : one.virtioType) === type
  );
  const [first, ...others] = found.map(({ address }) => address);
  if (first !== undefined && others.length === 0) return first;
  throw new UsageError(
    first === undefined ? "this host has no function of this kind" : "which FUNCTION?",
    first === undefined ? {} : { hint: `one of ${[first, ...others].join(", ")}` },
  );
}
