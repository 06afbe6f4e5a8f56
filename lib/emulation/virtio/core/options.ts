/**
 * How a virtio device may differ from the default, and which ring and transport features it offers.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { DRAFT_FEATURE, FEATURE } from "../../../virtio/spec/features.ts";
import type { TopologyProfile } from "../../function_topology.ts";
import type { AdminEngine } from "../admin/engine.ts";
import type { DeviceQueue, DeviceQueueSetup, QueueDevice } from "../queue/device_queue.ts";

/** Ring and transport features that are offered unless switched off. */
const RING_FEATURES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.ORDER_PLATFORM |
  FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX | FEATURE.RING_PACKED | FEATURE.IN_ORDER |
  FEATURE.NOTIF_CONFIG_DATA;

/** How a device differs from the default. */
export interface CoreOptions {
  /** Default `spec`: RING_RESET is offered. `queue-state`: QUEUE_STATE is, in its place. */
  readonly profile?: TopologyProfile | undefined;
  /** With IN_ORDER, what is returned in one burst goes into as few used elements as the standard lets it. Default false. */
  readonly usedBatches?: boolean | undefined;
  /** Bits not to offer. VERSION_1 cannot be switched off. */
  readonly featuresOff?: bigint;
  /**
   * Offer NOTIFICATION_DATA. Not by default: an eventfd carries no data, so every notification of a driver that accepts it is a register
   * write, which over a socket is a message.
   */
  readonly notificationData?: boolean;
  /** The function has an SR-IOV capability: offer SR_IOV. */
  readonly sriov?: boolean;
  /** Answers administration queues: offer ADMIN_VQ. */
  readonly admin?: AdminEngine | undefined;
  /** Makes the queues; default: honest ones. */
  readonly makeQueue?: ((setup: DeviceQueueSetup, device: QueueDevice) => DeviceQueue) | undefined;
}

/** What a device offers with a model of these features. @throws UsageError when VERSION_1 shall not be offered */
export function offeredFeatures(ofModel: bigint, options: CoreOptions): bigint {
  const off = options.featuresOff ?? 0n;
  if ((off & FEATURE.VERSION_1) !== 0n) {
    throw new UsageError("VIRTIO_F_VERSION_1 cannot be switched off", {
      hint: "a modern PCI function has nothing else to offer",
    });
  }
  const bit40 = options.profile === "queue-state" ? DRAFT_FEATURE.QUEUE_STATE : FEATURE.RING_RESET;
  return (ofModel | RING_FEATURES | bit40 | (options.sriov ? FEATURE.SR_IOV : 0n) |
    (options.admin === undefined ? 0n : FEATURE.ADMIN_VQ) |
    (options.notificationData ? FEATURE.NOTIFICATION_DATA : 0n)) & ~off;
}
