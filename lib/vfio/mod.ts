/**
 * A function opened for userspace: regions, interrupts, DMA, reset; through kernel VFIO (group or character device). The door
 * `vfio-user` has the same from a vfio-user server.
 *
 * ```ts
 * import { Bar, openKernelDevice } from "@ringside/ringside/vfio";
 *
 * using device = openKernelDevice("0000:00:04.0"); // bound to vfio-pci; `Host.open` finds the way by itself
 * using bar = new Bar(device, 0);
 * console.log(bar.read32(0).toString(16));
 * using memory = device.dma.allocate(4096); // the device reaches it at memory.iova
 * ```
 *
 * @module
 */
export { EventFd } from "../../ffi/event_fd.ts";
export type { OwnedFd } from "../../ffi/fd.ts";
export type { MappedMemory } from "../../ffi/memory.ts";
export { SyscallError } from "../../ffi/syscall_error.ts";
export {
  type AddressSpaces,
  type DmaAccess,
  type DmaMapper,
  type DmaMemory,
  type DmaOptions,
  DmaSpace,
} from "../memory/dma.ts";
export { dmaReadBarrier, dmaWriteBarrier } from "../memory/barriers.ts";
export { type DmaPart, type DmaPiece, scatterList } from "../memory/scatter.ts";
export type { IovaPlacement, IovaRange, IovaRequest } from "../memory/iova.ts";
export type { SharedDmaSpace } from "../memory/shared_dma.ts";
export type { Lifeline } from "../wait/lifeline.ts";
export { Bar } from "./bar.ts";
export { type CommandChange, ConfigAccess } from "./config_access.ts";
export * from "./device.ts";
export type { BarDoorbell, DoorbellWidth } from "./doorbell.ts";
export type { MappedRegion } from "./mapped_region.ts";
export type { RegionRegisters, RegionWindow } from "./region_registers.ts";
export { InterruptSet, type VectorKind } from "./interrupts.ts";
export { type KernelOpenOptions, openKernelDevice } from "./kernel/open.ts";
export * from "./pci_device.ts";
