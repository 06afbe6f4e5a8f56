/**
 * How a virtio device may differ from the default, and which ring and transport features it offers.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { DRAFT_FEATURE, FEATURE, type Profile } from "../../../virtio/spec/features.ts";
import type { DeviceControls } from "../../device_control.ts";
import type { QuirkName } from "../../function_topology.ts";
import type { AdminEngine } from "../admin/engine.ts";
import type { DeviceQueue, DeviceQueueSetup, QueueDevice } from "../queue/device_queue.ts";

/** Ring and transport features that are offered unless switched off. */
const RING_FEATURES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.ORDER_PLATFORM |
  FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX | FEATURE.RING_PACKED | FEATURE.IN_ORDER;

/** What bits 39 and 40 mean, and are offered for, by profile (reference 0.3). */
const BITS_39_AND_40: Readonly<Record<Profile, bigint>> = {
  "spec": FEATURE.NOTIF_CONFIG_DATA | FEATURE.RING_RESET,
  "queue-state": FEATURE.NOTIF_CONFIG_DATA | DRAFT_FEATURE.QUEUE_STATE,
  "transport-vq": FEATURE.NOTIF_CONFIG_DATA | FEATURE.RING_RESET,
  // what would be QueueReset is MsiStatus there.
  "mmio-v3": 0n,
  "mmio-msi-v2": DRAFT_FEATURE.MMIO_NOTIFICATION | DRAFT_FEATURE.MMIO_MSI,
};

/** How a device differs from the default. */
export interface CoreOptions {
  /** What bits 39 and 40 mean. Default `spec`: NOTIF_CONFIG_DATA and RING_RESET. */
  readonly profile?: Profile | undefined;
  /** With IN_ORDER, what is returned in one burst goes into as few used elements as the standard lets it. Default false. */
  readonly usedBatches?: boolean | undefined;
  /** What it lets drivers do against the standard. Default: nothing. */
  readonly quirks?: readonly QuirkName[] | undefined;
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
  /** What may be done to it from outside, beside what can be done to every device and to its model. */
  readonly controls?: DeviceControls | undefined;
}

/** What a device offers with a model of these features. @throws UsageError when VERSION_1 shall not be offered */
export function offeredFeatures(ofModel: bigint, options: CoreOptions): bigint {
  const off = options.featuresOff ?? 0n;
  if ((off & FEATURE.VERSION_1) !== 0n) {
    throw new UsageError("VIRTIO_F_VERSION_1 cannot be switched off", {
      hint: "a modern device has nothing else to offer",
    });
  }
  return (ofModel | RING_FEATURES | BITS_39_AND_40[options.profile ?? "spec"] |
    (options.sriov ? FEATURE.SR_IOV : 0n) |
    (options.admin === undefined ? 0n : FEATURE.ADMIN_VQ) |
    (options.notificationData ? FEATURE.NOTIFICATION_DATA : 0n)) & ~off;
}
