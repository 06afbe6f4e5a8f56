/**
 * Hosts: which PCI functions there are, who has them, and how to get one and put it back.
 *
 * ```ts
 * import { openHost } from "@ringside/ringside/host";
 *
 * using host = openHost("linux"); // or the directory of an emulated host
 * for (const { address, deviceName, driver } of host.list()) console.log(address, deviceName, driver);
 * host.bind("01:00.0"); // to vfio-pci; the journal remembers what it was
 * using device = host.open("01:00.0");
 * // later, also after a crash: host.restore()
 * ```
 *
 * @module
 */
export type * from "./host.ts";
export { type FunctionPattern, type IdsPattern, selectFunctions } from "./selection.ts";
export { EmulatedControl } from "./emulated_control.ts";
export { openHost, type OpenHostOptions } from "./open_host.ts";
