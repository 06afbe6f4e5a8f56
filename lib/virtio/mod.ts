/**
 * How a virtio device is reached and fed: transports, queues, negotiation, waiting.
 *
 * @module
 */
export * from "./spec/mod.ts";
export * from "./device.ts";
export {
  baseFeatures,
  chooseFeatures,
  type FeatureDependency,
  type FeatureWishes,
  hasQueueState,
  refusedRingFeatures,
  type RingOptions,
} from "./features.ts";
export * from "./inspect.ts";
export * from "./inspect_queues.ts";
export * from "./interrupts.ts";
export * from "./queue/create.ts";
export type * from "./queue/driver_ring.ts";
export * from "./queue/inspect.ts";
export type * from "./queue/packed.ts";
export * from "./queue/queue_state.ts";
export * from "./queue/remains.ts";
export * from "./queue/saved_queue.ts";
export type * from "./queue/split.ts";
export type { QueuePlace } from "./queue/faults.ts";
export * from "./queue/layout.ts";
export * from "./queue/used_burst.ts";
export * from "./queue/virtqueue.ts";
export * from "./admin/mod.ts";
export { legacyConfigBytes, legacyConfigField, type LegacyField } from "./transport/legacy_config.ts";
export * from "./transport/legacy_identity.ts";
export * from "./transport/legacy_io_bar.ts";
export * from "./transport/legacy_notify.ts";
export type { LegacyAdminOptions } from "./transport/pci_legacy_admin.ts";
export { findVirtioLayout, type StructurePlace, type VirtioPciLayout } from "./transport/pci_layout.ts";
export * from "./transport/movable.ts";
export * from "./transport/open.ts";
export type { PciModernOptions } from "./transport/pci_modern.ts";
export * from "./transport/transport.ts";
export * from "./view/queue_view.ts";
export type * from "./view/ring_image.ts";
export * from "../wait/waiter.ts";
export type * from "../wait/interrupt_vector.ts";
export type * from "../wait/lifeline.ts";
// What the types above are made of.
export type { DeviceError } from "../errors/mod.ts";
export type { EventFd } from "../../ffi/mod.ts";
export type { DmaMemory, DmaSpace, MappedMemory, SharedDmaSpace } from "../memory/mod.ts";
export type { IrqInfo, RegionInfo, VfioDevice, VfioPath } from "../vfio/mod.ts";
export type { RegisterAccess } from "../registers/registers.ts";
export type { AccessWidth } from "../registers/declaration.ts";
export type { Field, Fields, FieldType, Struct, Values } from "../wire/mod.ts";
