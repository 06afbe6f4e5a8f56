/**
 * Which of the offered features a driver accepts (SPEC feature bits; reference 0.3, 1.1, 1.2).
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../errors/mod.ts";
import { FEATURE, featureNames } from "./constants/features.ts";
import type { Profile, VirtioTransport } from "./transport/transport.ts";

export { featureBit, featureName, featureNames } from "./constants/features.ts";

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

/** Bits that the drafts under a profile gave another meaning: the standard's names do not hold for them. */
const TAKEN_BY_DRAFT: Readonly<Record<Profile, bigint>> = {
  "spec": 0n,
  "queue-state": FEATURE.RING_RESET,
  "transport-vq": 0n,
  "mmio-v3": 0n,
  "mmio-msi-v2": FEATURE.NOTIF_CONFIG_DATA | FEATURE.RING_RESET,
};

/**
 * The bits of rings and transports that this stack accepts unasked, because the standard says that a driver should and nothing is lost by it.
 * RING_PACKED, IN_ORDER, ADMIN_VQ and SUSPEND are for a driver to want: they change what it has to do.
 */
export function baseFeatures(transport: Pick<VirtioTransport, "kind" | "profile">): bigint {
  const pci = transport.kind === "pci-modern"
    ? FEATURE.SR_IOV | FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA
    : 0n;
  const all = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.ORDER_PLATFORM | FEATURE.RING_RESET | pci;
  return all & ~TAKEN_BY_DRAFT[transport.profile];
}

/**
 * Chooses the subset of `offered` to accept.
 * @throws UnsupportedError when VERSION_1 or a required bit is not offered, or a required bit's needs are not met
 * @throws UsageError when a bit is both required and refused
 */
export function chooseFeatures(
  transport: Pick<VirtioTransport, "kind" | "profile" | "name" | "deviceId">,
  offered: bigint,
  wishes: FeatureWishes,
): bigint {
  const refused = wishes.refused ?? 0n;
  const required = (wishes.required ?? 0n) | FEATURE.VERSION_1;
  const names = (bits: bigint) => featureNames(bits, transport.deviceId, transport.profile).join(", ");
  if ((required & refused) !== 0n) {
    throw new UsageError(`${transport.name}: both required and refused: ${names(required & refused)}`);
  }
  const missing = required & ~offered;
  if (missing !== 0n) {
    throw new UnsupportedError(`${transport.name} does not offer ${names(missing)}`, {
      hint: (missing & FEATURE.VERSION_1) !== 0n
        ? "the device is a legacy one, or is shown as one: it cannot be driven through the modern interface"
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
