/**
 * The device side of virtio: queues, registers, devices, and the switch between them.
 *
 * @module
 */
export * from "./lies/admin.ts";
export type { AdminCommand } from "./admin/command_chain.ts";
export * from "./admin/controller.ts";
export type * from "./admin/engine.ts";
export type * from "./admin/handler.ts";
export * from "./lies/blk.ts";
export * from "./blk/model.ts";
export * from "./blk/request.ts";
export * from "./blk/storage.ts";
export * from "./queue/chain.ts";
export * from "./console/model.ts";
export * from "./console/peer.ts";
export * from "./console/port.ts";
export * from "./views/pci/common.ts";
export * from "./queue/device_queue.ts";
export * from "./queue/ring.ts";
export * from "./lies/hostile.ts";
export type { LegacyHost, LegacyOptions, LegacyRegisters } from "./views/legacy/view.ts";
export * from "./ism/area.ts";
export * from "./ism/chunks.ts";
export type { IsmCommander } from "./ism/control.ts";
export * from "./ism/domain.ts";
export * from "./ism/events.ts";
export * from "./lies/ism.ts";
export * from "./ism/memory.ts";
export * from "./ism/model.ts";
export * from "./ism/region.ts";
export * from "./ism/report.ts";
export * from "./models.ts";
export * from "./net/filter.ts";
export * from "./net/frame.ts";
export * from "./net/model.ts";
export * from "./net/switch.ts";
export * from "./queue/packed.ts";
export * from "./views/pci/view.ts";
export * from "./rng/model.ts";
export * from "./queue/split.ts";
export * from "./core/status.ts";
export * from "./net/mac_address.ts";
export * from "./net/control.ts";
export type * from "../device_model.ts";
export type {
  BarDeclaration,
  BehaviourOptions,
  FunctionModels,
  MsixDeclaration,
  PciFunctionBehaviour,
  PciFunctionPort,
  PciIdentity,
  ResetKind,
  SwitchPortState,
  VendorCapability,
} from "../pci_function.ts";
export type { ServedDoorbell } from "../../vfio/vfio_user/served_device.ts";
export type { DmaRegion, DmaTable } from "../../vfio/vfio_user/dma_table.ts";
export type { EventFd, OwnedFd } from "../../../ffi/mod.ts";
export type { RegionArea } from "../../vfio/device.ts";
export type {
  PackedQueueState,
  QueueState,
  QueueStateWords,
  SplitQueueState,
} from "../../virtio/constants/queue_state.ts";
export type { DevicePart } from "../../virtio/constants/device_parts.ts";
export {
  ADMIN_QUALIFIER,
  ADMIN_STATUS,
  type AdminQualifierName,
  type AdminStatusName,
} from "../../virtio/constants/admin.ts";
