/**
 * How the front of a virtio function may differ from the default, and which ring and transport features it offers.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { DRAFT_FEATURE, FEATURE, featureNames } from "../../../virtio/constants/features.ts";
import type { DeviceModel } from "../../device_model.ts";
import type { AdminEngine, GroupPlace } from "../admin/engine.ts";
import type { DeviceQueue, DeviceQueueOwner, DeviceQueueSetup } from "../queue/device_queue.ts";
import type { LegacyOptions } from "../views/legacy/view.ts";

/** Ring and transport features that are offered unless switched off. */
const RING_FEATURES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.ORDER_PLATFORM |
  FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX | FEATURE.RING_PACKED | FEATURE.IN_ORDER |
  FEATURE.NOTIF_CONFIG_DATA;
/** Features that the driver must accept when they are offered: without them the device could not work behind an IOMMU. */
const INDISPENSABLE = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;

/** A profile that a PCI function of the emulated host can have: what bit 40 and the registers past the standard's mean. */
export type FrontProfile = "spec" | "queue-state";

/** How a front differs from the default. */
export interface PciFrontOptions {
  /** Default `spec`: RING_RESET is offered. `queue-state`: QUEUE_STATE is, in its place. */
  readonly profile?: FrontProfile;
  /** With IN_ORDER, what is returned in one burst goes into as few used elements as the standard lets it. Default false. */
  readonly usedBatches?: boolean;
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
  readonly admin?: AdminEngine;
  /** Of a VF: its place in the group of its PF. */
  readonly group?: GroupPlace;
  /** It has legacy registers, for the commands of its owner to reach: a VF whose PF offers them. Not together with `admin`. */
  readonly legacy?: boolean | LegacyOptions;
  /** Makes the queues; default: honest ones. */
  readonly makeQueue?: (setup: DeviceQueueSetup, owner: DeviceQueueOwner) => DeviceQueue;
}

/** What a front offers in front of a model with these features. @throws UsageError when VERSION_1 shall not be offered */
export function offeredFeatures(ofModel: bigint, options: PciFrontOptions): bigint {
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

/** Why a front refuses FEATURES_OK; undefined when it does not. */
export function featureProblem(
  accepted: bigint,
  offered: bigint,
  model: DeviceModel,
  profile: FrontProfile,
): string | undefined {
  const names = (features: bigint) => featureNames(features, model.deviceId, profile).join(", ");
  const alien = accepted & ~offered;
  if (alien !== 0n) return `not offered: ${names(alien)}`;
  const missing = offered & INDISPENSABLE & ~accepted;
  if (missing !== 0n) return `must be accepted: ${names(missing)}`;
  return model.checkFeatures?.(accepted);
}
