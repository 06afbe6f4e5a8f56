/**
 * What `/ringside` has of each device of the machine: its queues, and its controls as attributes below `/ringside/functions`.
 *
 * @module
 */
import { RingsideError } from "../errors/mod.ts";
import { SyscallError } from "../../ffi/mod.ts";
import type { DeviceBehaviour } from "./device_behaviour.ts";
import type { DeviceControl, DeviceControls } from "./device_control.ts";
import type { EmulatedFunction } from "./emulated_function.ts";
import type { Attribute, Fail, SysfsTree } from "./sysfs_tree.ts";

/** Directory of the attributes that show each device's queues. */
const QUEUES = "/ringside/queues";
/** Directory of the attributes by which each device is controlled. */
const FUNCTIONS = "/ringside/functions";

/** A device of the machine, on whatever bus. */
interface Reporting {
  readonly address: string;
  readonly device: { readonly behaviour: Pick<DeviceBehaviour, "queueReport" | "controls"> };
}

/** Shows a device's queues, and lets it be controlled. */
export function addReports(tree: SysfsTree, { address, device: { behaviour } }: Reporting): void {
  addControls(tree, address, behaviour.controls ?? {});
  if (behaviour.queueReport === undefined) return;
  tree.attribute(`${QUEUES}/${address}`, { read: () => `${JSON.stringify(behaviour.queueReport!())}\n` });
}

/** The device is gone. */
export function removeReports(tree: SysfsTree, address: string): void {
  for (const directory of [QUEUES, FUNCTIONS]) tree.remove(`${directory}/${address}`);
}

/** Adds controls to those that a device has. */
export function addControls(tree: SysfsTree, address: string, controls: DeviceControls): void {
  for (const [name, control] of Object.entries(controls)) {
    tree.attribute(`${FUNCTIONS}/${address}/${name}`, controlAttribute(control));
  }
}

/** One as an attribute: what cannot be is EINVAL, with what to do. */
function controlAttribute(control: DeviceControl): Attribute {
  const write: Attribute["write"] = (text, fail) => refusing(fail, () => control.write(text.trim()));
  return control.read === undefined ? { write } : { read: () => `${control.read!()}\n`, write };
}

/** What a PCI function's bus has: an error that its user is told of, and the wish of the host's kernel to have it back. */
export function functionControls(fn: EmulatedFunction): DeviceControls {
  return { error: { write: () => fn.reportError() }, release: { write: () => fn.requestRelease() } };
}

/** Runs what a write asks for; what is wrong with the request becomes EINVAL. */
export function refusing(fail: Fail, run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof RingsideError) || error instanceof SyscallError) throw error;
    fail("EINVAL", !error.hint ? error.message : `${error.message}: ${error.hint}`);
  }
}
