/**
 * Feature bits that belong to rings and transports (virtio 1.2 §6; reference 1.2), and what profiles make of bits 39 to 43 (reference 0.3, R-0).
 *
 * A set of features is a `bigint` of 64 bits: no bit of these profiles lies above 63.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { deviceFeatureName } from "./device_types.ts";
import { masks } from "./masks.ts";

/** Which text gives bits 39–42 and the later registers their meaning (reference R-0). Chosen by the caller, never guessed. */
export type Profile = "spec" | "queue-state" | "transport-vq" | "mmio-v3" | "mmio-msi-v2";

/** Bit numbers of the reserved feature bits, as profile `spec` has them. */
export const FEATURE_BIT = {
  /** Legacy only. */
  NOTIFY_ON_EMPTY: 24,
  /** Legacy only. */
  ANY_LAYOUT: 27,
  INDIRECT_DESC: 28,
  EVENT_IDX: 29,
  VERSION_1: 32,
  ACCESS_PLATFORM: 33,
  RING_PACKED: 34,
  IN_ORDER: 35,
  ORDER_PLATFORM: 36,
  SR_IOV: 37,
  NOTIFICATION_DATA: 38,
  NOTIF_CONFIG_DATA: 39,
  RING_RESET: 40,
  ADMIN_VQ: 41,
  SUSPEND: 43,
} as const;

/** Name of a reserved feature bit, without its `VIRTIO_F_`. */
export type FeatureName = keyof typeof FEATURE_BIT;

/** The same as masks: `FEATURE.VERSION_1` is `1n << 32n`. */
export const FEATURE: Readonly<Record<FeatureName, bigint>> = masks(FEATURE_BIT);

/** Bit numbers that only a draft gives a meaning; valid under its profile alone (reference 0.3). */
export const DRAFT_FEATURE_BIT = {
  /** Profile `queue-state`; collides with RING_RESET. */
  QUEUE_STATE: 40,
  /** Profile `mmio-msi-v2`; collides with NOTIF_CONFIG_DATA. */
  MMIO_NOTIFICATION: 39,
  /** Profile `mmio-msi-v2`; collides with RING_RESET. */
  MMIO_MSI: 40,
  /** Profile `transport-vq`: a transport virtqueue. No stored text has the number; 44 is unused in the standard, and an option where it matters. */
  TRANSPT_VQ: 44,
  /** Profile `transport-vq`: managed devices, only with TRANSPT_VQ (N-4.1). The number as above. */
  TRANSPT_VQ_MDEV: 45,
} as const;

/** The same as masks. */
export const DRAFT_FEATURE: Readonly<Record<keyof typeof DRAFT_FEATURE_BIT, bigint>> = masks(
  DRAFT_FEATURE_BIT,
);

const RESERVED_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(FEATURE_BIT).map(([name, bit]) => [bit, `VIRTIO_F_${name}`]),
);

/** What a profile calls bits that the standard calls otherwise. */
const DRAFT_NAMES: Readonly<Record<Profile, ReadonlyMap<number, string>>> = {
  "spec": new Map(),
  "queue-state": new Map([[DRAFT_FEATURE_BIT.QUEUE_STATE, "VIRTIO_F_QUEUE_STATE"]]),
  "transport-vq": new Map([
    [DRAFT_FEATURE_BIT.TRANSPT_VQ, "VIRTIO_F_TRANSPT_VQ"],
    [DRAFT_FEATURE_BIT.TRANSPT_VQ_MDEV, "VIRTIO_F_TRANSPT_VQ_MDEV"],
  ]),
  "mmio-v3": new Map(),
  "mmio-msi-v2": new Map([
    [DRAFT_FEATURE_BIT.MMIO_NOTIFICATION, "VIRTIO_F_MMIO_NOTIFICATION"],
    [DRAFT_FEATURE_BIT.MMIO_MSI, "VIRTIO_F_MMIO_MSI"],
  ]),
};

/** All profiles. */
export const PROFILES: readonly string[] = Object.keys(DRAFT_NAMES);

function draftNames(profile: Profile): ReadonlyMap<number, string> {
  if (typeof profile === "string" && PROFILES.includes(profile)) return DRAFT_NAMES[profile];
  throw new UsageError(`${shown(profile)} is no profile`);
}

/** Bits that the drafts under a profile gave another meaning: the standard's names do not hold for them. @throws UsageError for what is no profile */
export function takenByDraft(profile: Profile): bigint {
  let taken = 0n;
  for (const bit of draftNames(profile).keys()) taken |= 1n << BigInt(bit);
  return taken;
}

/** The name of one feature bit of a device type under a profile; `bit 49` when it has none. */
export function featureName(bit: number, deviceId: number, profile: Profile = "spec"): string {
  const draft = draftNames(profile).get(bit);
  requireType(bit, "number", "featureName: bit");
  return draft ?? RESERVED_NAMES.get(bit) ?? deviceFeatureName(bit, deviceId) ?? `bit ${bit}`;
}

/** Names of all bits of a set, lowest first. */
export function featureNames(features: bigint, deviceId: number, profile: Profile = "spec"): string[] {
  requireType(features, "bigint", "featureNames: features");
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((features >> BigInt(bit) & 1n) === 1n) names.push(featureName(bit, deviceId, profile));
  }
  return names;
}

/** The bit that a name stands for, as `featureName` gives it (`VIRTIO_NET_F_MQ`); undefined for an unknown name. */
export function featureBit(name: string, deviceId: number, profile: Profile = "spec"): number | undefined {
  for (let bit = 0; bit < 64; bit++) {
    if (featureName(bit, deviceId, profile) === name) return bit;
  }
  return undefined;
}
