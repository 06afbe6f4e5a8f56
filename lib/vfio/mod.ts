/**
 * A function opened for userspace: regions, interrupts, DMA, reset; through kernel VFIO (group or character device). The door
 * `vfio-user` has the same from a vfio-user server.
 *
 * @module
 */
export { EventFd, OwnedFd } from "../../ffi/mod.ts";
export type * from "../memory/mod.ts";
// What a `VfioDevice` of one's own is made of.
export { DmaSpace } from "../memory/mod.ts";
export * from "./bar.ts";
export * from "./config_access.ts";
export * from "./device.ts";
export type * from "./doorbell.ts";
export type * from "./pci_device.ts";
export * from "./interrupts.ts";
export * from "./uuid.ts";
export type * from "../wait/lifeline.ts";
export { type KernelOpenOptions, openKernelDevice } from "./kernel/open.ts";
