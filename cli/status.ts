/**
 * `ringside status`
 *
 * @module
 */
import type { Host } from "../lib/host/mod.ts";
import { isVfioDriver } from "../lib/host/changes/driver_binding.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { describeEntry } from "./restore.ts";

/** What restore would put back, and who holds what. */
export function status(host: Host, options: Of<"status">): void {
  const journal = host.journal();
  const functions = host.list();
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
    print(`  ${describeEntry(entry)}  (since ${seconds(entry.time)}, pid ${entry.pid})`);
  }
  if (vfio.length === 0) print("no function is on a VFIO driver");
  for (const driver of new Set(vfio.map((one) => one.driver!))) {
    print(`on ${driver}:`);
    for (const one of vfio.filter((one) => one.driver === driver)) {
      print(
        `  ${one.address}  ${one.deviceName}  ${one.heldBy === undefined ? "free" : `held by ${one.heldBy}`}`,
      );
    }
  }
  for (const one of held.filter((one) => !vfio.includes(one))) {
    print(`  ${one.address}  on ${one.driver ?? "no driver"}  held by ${one.heldBy}`);
  }
}

/** ISO 8601 without its fraction. */
function seconds(time: string): string {
  return time.replace(/\.\d+/, "");
}
