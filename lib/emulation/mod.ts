/**
 * An emulated host: PCI functions served over vfio-user, and the kernel's sysfs above them, by a process of their own.
 *
 * Drivers never import this. `serveEmulatedHost` serves a directory; a driver on the other side opens it as it opens a real host.
 *
 * @module
 */
export type * from "./device_model.ts";
export type * from "./emulated_function.ts";
export type * from "./function_config.ts";
export type * from "./function_interrupts.ts";
export type * from "./kernel_attributes.ts";
export type * from "./kernel_function.ts";
export * from "./machine.ts";
export type * from "./pci_function.ts";
export type { BarShape } from "../pci/bar_builder.ts";
export type {
  MsixShape,
  SriovShape,
  VendorSpecificDeclaration,
  VirtioDeclaration,
} from "../pci/capability_builder.ts";
export * from "./serve.ts";
export type * from "./sysfs_tree.ts";
export * from "./topology.ts";
export type * from "./violation_log.ts";
export type * from "./virtual_kernel.ts";
export type {
  IsmAttachmentState,
  IsmDomainState,
  IsmFunctionState,
  IsmRegionState,
} from "./virtio/ism/report.ts";
export type * from "./virtio/net/filter.ts";
export type * from "./virtio/net/frame.ts";
export type * from "./virtio/net/switch.ts";
export type * from "./virtio/queue/chain.ts";
export type * from "./virtio/queue/device_queue.ts";
export { createVirtioModels, type VirtioModels } from "./virtio/models.ts";
export { CONTROL_PROTOCOL_VERSION, CONTROL_SOCKET } from "./sysfs_protocol.ts";
// What the types above are made of.
export type { EventFd, MappedMemory, OwnedFd, SyscallError } from "../../ffi/mod.ts";
export { RingsideError, UsageError } from "../errors/mod.ts";
export type { IrqInfo, RegionArea, RegionInfo, VfioDeviceInfo } from "../vfio/device.ts";
export type { DmaFile, DmaRegion, DmaTable } from "../sockets/vfio_user/server/dma_table.ts";
export type {
  ServedDevice,
  ServedDoorbell,
  ServedIrqRequest,
  ServedMapping,
  ServedRegion,
} from "../sockets/vfio_user/server/served_device.ts";
