/**
 * `ringside status`
 *
 * @module
 */
import type { FunctionInfo, Host } from "../lib/host/mod.ts";
import { isVfioDriver } from "../lib/host/changes/driver_binding.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { describeEntry } from "./restore.ts";
import { meansAll, selected } from "./selecting.ts";

/** What restore would put back, and who holds what: of all functions, or of those that are asked for. */
export function status(host: Host, options: Of<"status">): void {
  const all = host.list();
  const asked = meansAll(options.functions, options)
    ? undefined
    : new Set(selected(host, "status", options.functions, options).map((one) => one.address));
  const about = (address: string) => asked === undefined || asked.has(address);
  const journal = host.journal().filter((one) => about(one.function));
  const functions = all.filter((one) => about(one.address));
  const held = functions.filter((one) => one.heldBy !== undefined);
  const vfio = functions.filter((one) => one.driver !== undefined && isVfioDriver(one.driver));
  if (options.json) {
    return printJson({
      journal,
      held: held.map((one) => ({ function: one.address, holder: one.heldBy })),
      vfio: vfio.map((one) => ({
        function: one.address,
        driver: one.driver,
        iommuGroup: one.iommuGroup ?? null,
      })),
    });
  }
  print(journal.length === 0 ? "restore would change nothing" : "restore would put back:");
  for (const entry of journal) {
    const was = entry.names === undefined ? "" : `was ${entry.names.join(", ")}, `;
    print(`  ${describeEntry(entry)}  (${was}since ${seconds(entry.time)}, pid ${entry.pid})`);
  }
  if (vfio.length === 0) {
    print(asked === undefined ? "no function is on a VFIO driver" : "none is on a VFIO driver");
  }
  for (const driver of new Set(vfio.map((one) => one.driver!))) {
    print(`on ${driver}:`);
    for (const one of vfio.filter((one) => one.driver === driver)) {
      print(`  ${one.address}  ${one.deviceName}  ${holding(one)}`);
    }
  }
  for (const one of held.filter((one) => !vfio.includes(one))) {
    print(`  ${one.address}  on ${one.driver ?? "no driver"}  held by ${one.heldBy}`);
  }
}

function holding(one: FunctionInfo): string {
  return one.heldBy === undefined ? "free" : `held by ${one.heldBy}`;
}

/** ISO 8601 without its fraction. */
function seconds(time: string): string {
  return time.replace(/\.\d+/, "");
}
