/**
 * Which of the offered features a driver accepts (SPEC feature bits; reference 0.3, 1.1, 1.2).
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UnsupportedError, UsageError } from "../errors/mod.ts";
import { DRAFT_FEATURE, FEATURE, featureNames, takenByDraft } from "./spec/features.ts";
import type { Profile, VirtioTransport } from "./transport/transport.ts";

export { featureBit, featureName, featureNames } from "./spec/features.ts";

/** A feature that may be accepted only together with all bits of one of several sets. */
export interface FeatureDependency {
  /** Mask of the feature. */
  readonly feature: bigint;
  /** Masks; one of them must be accepted as a whole. */
  readonly anyOf: readonly bigint[];
}

/** What a driver makes of the bits that are offered. */
export interface FeatureWishes {
  /** Must be offered; else the device cannot be driven. */
  readonly required?: bigint;
  /** Accepted when offered. */
  readonly wanted?: bigint;
  /** Never accepted, not even those that the stack takes by itself. */
  readonly refused?: bigint;
  /** A wanted bit whose needs are not met is left out (1.1: a driver must not accept it). */
  readonly dependencies?: readonly FeatureDependency[];
}

/**
 * Ring features, each accepted when the device offers it unless it is turned off here. Shared by the options of all drivers.
 */
export interface RingOptions {
  /** Accept RING_PACKED: the packed layout. Default true. */
  readonly packed?: boolean;
  /** Accept INDIRECT_DESC. Default true. */
  readonly indirect?: boolean;
  /** Accept EVENT_IDX. Default true. */
  readonly eventIndex?: boolean;
  /** Accept IN_ORDER. Default true. */
  readonly inOrder?: boolean;
  /** Accept NOTIFICATION_DATA: notifications say how far the ring is filled. Default true. */
  readonly notificationData?: boolean;
  /** Accept RING_RESET: a queue can be reset alone. Default true. */
  readonly ringReset?: boolean;
}

const RING_OPTION_FEATURES: readonly (readonly [keyof RingOptions, bigint])[] = [
  ["packed", FEATURE.RING_PACKED],
  ["indirect", FEATURE.INDIRECT_DESC],
  ["eventIndex", FEATURE.EVENT_IDX],
  ["inOrder", FEATURE.IN_ORDER],
  ["notificationData", FEATURE.NOTIFICATION_DATA],
  ["ringReset", FEATURE.RING_RESET],
];

/**
 * What ring options turn off, for `FeatureWishes.refused`.
 * @param profile where bit 40 is another feature, `ringReset: false` does not touch it
 */
export function refusedRingFeatures(options: RingOptions, profile: Profile = "spec"): bigint {
  requireType(options, "object", "refusedRingFeatures: options");
  let refused = 0n;
  for (const [option, feature] of RING_OPTION_FEATURES) if (options[option] === false) refused |= feature;
  return refused & ~takenByDraft(profile);
}

/**
 * The bits of rings and transports that this stack accepts unasked, since it handles them and nothing is lost by it. ADMIN_VQ and SUSPEND are for
 * a driver to want: they change what it has to do. IN_ORDER is safe to accept: a device that offers it returns buffers in order anyway, and
 * the rings are then used as it demands. On the legacy interface these are INDIRECT_DESC, EVENT_IDX and ANY_LAYOUT, which a driver must accept
 * (SPEC "Legacy Interface: Reserved Feature Bits").
 */
function baseFeatures(
  transport: Pick<VirtioTransport, "profile"> & Partial<Pick<VirtioTransport, "legacy" | "ownFeatures">>,
): bigint {
  const { ownFeatures = 0n } = transport;
  // NOTIFY_ON_EMPTY would only bring interrupts that nobody waits for; bit 30 is not to be negotiated.
  if (transport.legacy) return FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX | FEATURE.ANY_LAYOUT;
  const rings = FEATURE.RING_PACKED | FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX | FEATURE.IN_ORDER |
    FEATURE.RING_RESET;
  const all = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.ORDER_PLATFORM | rings;
  const draft = transport.profile === "queue-state" ? DRAFT_FEATURE.QUEUE_STATE : 0n;
  // A transport knows what its own bits mean under its profile.
  return (all & ~takenByDraft(transport.profile)) | draft | ownFeatures;
}

/** Whether a bit means what the standard says, and not what the draft under a profile made of it (0.3). */
export function meansStandard(profile: Profile, feature: bigint): boolean {
  return (takenByDraft(profile) & feature) === 0n;
}

/** True when the state of queues is read and written: the transport has it, and what it needs is among `features`. */
export function hasQueueState(
  { queueState }: Pick<VirtioTransport, "queueState">,
  features: bigint,
): boolean {
  return queueState !== undefined && (features & queueState.feature) === queueState.feature;
}

/**
 * Chooses the subset of `offered` to accept.
 * @throws UnsupportedError when VERSION_1 (not on the legacy interface), ACCESS_PLATFORM (where the transport needs it) or a required bit is not
 * offered, or a required bit's needs are not met
 * @throws UsageError when a bit is both required and refused
 */
export function chooseFeatures(
  transport:
    & Pick<VirtioTransport, "profile" | "name" | "deviceId">
    & Partial<Pick<VirtioTransport, "legacy" | "ownFeatures" | "needsAccessPlatform">>,
  offered: bigint,
  wishes: FeatureWishes,
): bigint {
  for (const bits of ["refused", "required", "wanted"] as const) {
    if (wishes[bits] !== undefined) requireType(wishes[bits], "bigint", `chooseFeatures: ${bits}`);
  }
  const refused = wishes.refused ?? 0n;
  const required = (wishes.required ?? 0n) | (transport.legacy ? 0n : FEATURE.VERSION_1) |
    (transport.needsAccessPlatform ? FEATURE.ACCESS_PLATFORM : 0n);
  const names = (bits: bigint) => featureNames(bits, transport.deviceId, transport.profile).join(", ");
  if ((required & refused) !== 0n) {
    throw new UsageError(`${transport.name}: both required and refused: ${names(required & refused)}`);
  }
  const missing = required & ~offered;
  if (missing !== 0n) {
    throw new UnsupportedError(`${transport.name} does not offer ${names(missing)}`, {
      hint: (missing & FEATURE.VERSION_1) !== 0n
        ? "the device is a legacy one, or is shown as one: it cannot be driven through the modern interface"
        : (missing & FEATURE.ACCESS_PLATFORM & ~(wishes.required ?? 0n)) !== 0n
        ? "it may take the IOMMU's addresses for physical ones: let it offer the bit (QEMU: iommu_platform=on), or, where it " +
          "is known to go through the IOMMU, insist (assumeAccessPlatform, --assume-access-platform)"
        : "",
    });
  }
  let accepted = (required | (wishes.wanted ?? 0n) | baseFeatures(transport)) & offered & ~refused;
  const dependencies = wishes.dependencies ?? [];
  for (let changed = true; changed;) {
    changed = false;
    for (const { feature, anyOf } of dependencies) {
      if ((accepted & feature) === 0n || anyOf.some((set) => (accepted & set) === set)) continue;
      accepted &= ~feature;
      changed = true;
    }
  }
  const unmet = required & ~accepted;
  if (unmet !== 0n) {
    throw new UnsupportedError(`${transport.name} offers ${names(unmet)} without the features that it needs`);
  }
  return accepted;
}
