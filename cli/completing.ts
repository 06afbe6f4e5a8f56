/**
 * Names of a host for completion: its functions, what hangs on them, and its drivers.
 *
 * @module
 */
import { readDirectory } from "../ffi/mod.ts";
import { openHost } from "../lib/host/mod.ts";
import { PCI, PLATFORM } from "../lib/vfio/bus.ts";
import { commonNames } from "../lib/virtio/function_registers.ts";
import { offerNames } from "./completions.ts";
import { hostName } from "./environment.ts";

/** Offers the names of the host that the arguments are about. A host that does not answer has none. */
export function offerNamesOf(args: readonly string[]): void {
  try {
    const at = args.indexOf("--host");
    const name = hostName(at < 0 ? args.find((one) => one.startsWith("--host="))?.slice(7) : args[at + 1]);
    using host = openHost(name);
    const functions = host.list();
    offerNames({
      functions: functions.flatMap((one) => [one.address, ...one.netInterfaces, ...one.blockDevices]),
      drivers: [
        ...new Set([
          ...functions.flatMap((one) => one.driver ?? []),
          ...[PCI, PLATFORM].map((one) => one.vfioDriver),
          ...(name === "linux" ? [PCI, PLATFORM].flatMap(({ drivers }) => namesIn(drivers)) : []),
        ]),
      ],
      registers: commonNames(),
    });
  } catch {
    // Completion says nothing of what is wrong.
  }
}

function namesIn(directory: string): string[] {
  try {
    return readDirectory(directory).map((one) => one.name);
  } catch {
    return [];
  }
}
