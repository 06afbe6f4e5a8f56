/**
 * The device side of virtio: queues, registers, devices, and the switch between them.
 *
 * @module
 */
export * from "./admin/admin_lies.ts";
export type { AdminCommand } from "./admin/command_chain.ts";
export * from "./admin/controller.ts";
export type * from "./admin/engine.ts";
export type * from "./admin/handler.ts";
export * from "./blk_lies.ts";
export * from "./blk_model.ts";
export * from "./blk_request.ts";
export * from "./blk_storage.ts";
export * from "./chain.ts";
export * from "./console_model.ts";
export * from "./console_peer.ts";
export * from "./console_port.ts";
export * from "./common_registers.ts";
export * from "./device_queue.ts";
export * from "./device_ring.ts";
export * from "./hostile.ts";
export type { LegacyHost, LegacyOptions, LegacyRegisters } from "./legacy_registers.ts";
export * from "./ism_area.ts";
export * from "./ism_chunks.ts";
export type { IsmCommander } from "./ism_control.ts";
export * from "./ism_domain.ts";
export * from "./ism_events.ts";
export * from "./ism_lies.ts";
export * from "./ism_memory.ts";
export * from "./ism_model.ts";
export * from "./ism_region.ts";
export * from "./ism_report.ts";
export * from "./models.ts";
export * from "./net_filter.ts";
export * from "./net_frame.ts";
export * from "./net_model.ts";
export * from "./net_switch.ts";
export * from "./packed_device_queue.ts";
export * from "./pci_front.ts";
export * from "./rng_model.ts";
export * from "./split_device_queue.ts";
export * from "./status_rules.ts";
export * from "./mac_address.ts";
export * from "./net_control.ts";
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
