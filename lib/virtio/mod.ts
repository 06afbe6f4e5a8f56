/**
 * How a virtio device is reached and fed: a transport, the life of a device, its queues.
 *
 * A driver of a device type that has none stands on these:
 *
 * ```ts
 * import { FEATURE, openTransport, usedBurst, VirtioDevice } from "@ringside/ringside/virtio";
 * import { Waiter } from "@ringside/ringside/wait";
 *
 * using transport = openTransport(device); // an opened function
 * using virtio = new VirtioDevice(transport);
 * virtio.negotiate({ wanted: FEATURE.EVENT_IDX });
 * const queue = virtio.createQueue(0, { size: 64 });
 * virtio.driverOk();
 *
 * using buffer = transport.dma.allocate(4096);
 * queue.addSingle(buffer.iovaLo, buffer.iovaHi, 4096, true);
 * queue.flush();
 * using waiter = new Waiter({ mode: "poll" });
 * if (await waiter.wait(queue, 1000)) queue.takeUsed(usedBurst(64));
 * ```
 *
 * @module
 */
// Reaching a device.
export { openTransport, type TransportOptions } from "./transport/open.ts";
export type { LegacyAdminOptions } from "./transport/pci_legacy_admin.ts";
export type { PciModernOptions } from "./transport/pci_modern.ts";
export { openMmio } from "./transport/mmio/open.ts";
export type { MmioOptions } from "./transport/mmio/transport.ts";
export type { MmioForm } from "./spec/mmio.ts";
export { type MmioWindow, platformWindow } from "./transport/mmio/window.ts";
export type {
  DeviceAbsence,
  Doorbell,
  InterruptKind,
  Profile,
  QueueAddresses,
  QueueStateAccess,
  QueueTakeover,
  SharedMemory,
  VirtioTransport,
} from "./transport/transport.ts";
export { MovableTransport } from "./transport/movable.ts";
export { LegacyIoBar, type LegacyIoBarOptions } from "./transport/legacy_io_bar.ts";
export { type LegacyDoorbell, LegacyNotify, type LegacyNotifyFunctions } from "./transport/legacy_notify.ts";
export { type TransitionalIdentity, transitionalIdentity } from "./transport/legacy_identity.ts";
export type { LegacyNotifyArea, LegacyRegisterAccess, LegacyWidth } from "./admin/legacy_access.ts";
// Its life.
export { type DeviceState, type ResumeOptions, VirtioDevice, type VirtioDeviceOptions } from "./device.ts";
export type { FeatureDependency, FeatureWishes, RingOptions } from "./features.ts";
export { refusedRingFeatures } from "./features.ts";
export { bindInterrupts, type BoundInterrupts, type InterruptChoice } from "./interrupts.ts";
// Its queues.
export type { VirtqueueOptions } from "./queue/create.ts";
export type { NotifyGate } from "./queue/driver_ring.ts";
export type { CompletedChain, QueueRemains } from "./queue/remains.ts";
export { checkSavedQueue, type SavedChain, type SavedPart, type SavedQueue } from "./queue/saved_queue.ts";
export { usedBurst } from "./queue/used_burst.ts";
export type {
  ChainParts,
  QueueSlots,
  QueueSnapshot,
  SlotTables,
  UsedBurst,
  Virtqueue,
} from "./queue/virtqueue.ts";
// Looking at it.
export { type FunctionFacts, inspect, type VirtioFacts } from "./inspect.ts";
export { inspectMmio, type MmioFacts, type MmioRegister } from "./inspect_mmio.ts";
export { inspectQueues } from "./inspect_queues.ts";
export { inspectQueue, type QueueInspection } from "./queue/inspect.ts";
export type { ImageChain, ImagePart, RingEvent, RingImage, RingPlace } from "./view/ring_image.ts";
export type { FunctionQueues, QueueCounters, QueueView, RingView } from "./view/queue_view.ts";
// Numbers of the standard, and their names.
export { DEVICE_ID } from "./spec/device_id.ts";
export { deviceTypeName } from "./spec/device_types.ts";
export {
  FEATURE,
  FEATURE_BIT,
  featureBit,
  type FeatureName,
  featureName,
  featureNames,
} from "./spec/features.ts";
export { BLK_FEATURE, BLK_FEATURE_BIT, type BlkFeatureName } from "./spec/blk.ts";
export { CONSOLE_FEATURE, CONSOLE_FEATURE_BIT, type ConsoleFeatureName } from "./spec/console.ts";
export { ISM_FEATURE } from "./spec/ism.ts";
export { NET_FEATURE, NET_FEATURE_BIT, type NetFeatureName } from "./spec/net.ts";
export { LEGACY_CFG, LEGACY_CFG_BYTES } from "./spec/legacy.ts";
export type { PackedQueueState, QueueState, SplitQueueState } from "./spec/queue_state.ts";
export { describeStatus, STATUS } from "./spec/status.ts";
