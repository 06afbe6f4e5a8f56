/**
 * A PCI function opened for userspace: regions, interrupts, DMA, reset; through kernel VFIO (group or character device)
 * or from a vfio-user server.
 *
 * @module
 */
export * from "./bar.ts";
export * from "./config_access.ts";
export * from "./device.ts";
export * from "./doorbell.ts";
export * from "./interrupts.ts";
export * from "./uuid.ts";
export { type KernelOpenOptions, openKernelDevice } from "./kernel/open.ts";
