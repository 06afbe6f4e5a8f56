/**
 * Hosts: which PCI functions there are, who owns them, and how to get one and put it back.
 *
 * @module
 */
export type { BaseClassNames, DeviceNames, PciNames, SubclassNames, VendorNames } from "../pci/ids.ts";
export type { Attribute, FunctionAttributes, StepHook } from "./sysfs/attributes.ts";
export { isVfioDriver, VFIO_PCI } from "./changes/driver_binding.ts";
export { EmulatedHost, type EmulatedHostOptions } from "./emulated_host.ts";
export * from "./host.ts";
export type { HostUsage } from "./functions/host_usage.ts";
export { FileJournalStore, type JournalStore } from "./journal/store.ts";
export { KernelSysfs } from "./sysfs/kernel_sysfs.ts";
export { KernelUsage } from "./functions/kernel_usage.ts";
export { LinuxHost, type LinuxHostOptions } from "./linux_host.ts";
export { type NameSource, PciIdsNames, readPciNames, type ShownNames } from "./functions/names.ts";
export { openHost } from "./open_host.ts";
export { SocketSysfs } from "./sysfs/socket_sysfs.ts";
export * from "./sysfs/sysfs.ts";
export { type OpenRequest, SysfsHost, type SysfsHostParts } from "./sysfs_host.ts";
export { VfioUserHost } from "./vfio_user_host.ts";
export { TreeUsage } from "./functions/tree_usage.ts";
