/**
 * An emulated host: PCI functions served over vfio-user, and the kernel's sysfs above them, by a process of their own.
 *
 * Drivers never import this. `serveEmulatedHost` serves a directory; a driver on the other side opens it as it opens a real host.
 *
 * @module
 */
export * from "./device_model.ts";
export * from "./emulated_function.ts";
export * from "./machine.ts";
export * from "./pci_function.ts";
export * from "./serve.ts";
export * from "./topology.ts";
export { CONTROL_PROTOCOL_VERSION, CONTROL_SOCKET } from "./sysfs_protocol.ts";
