/**
 * What a topology says of a PF's administration queues, and of the legacy interface of its VFs.
 *
 * @module
 */
import { known, optional, show, TopologyError } from "./topology_fields.ts";

/** Where drivers of the legacy interface can notify a VF (LEGACY_NOTIFY_INFO; reference 3.3). */
export const LEGACY_NOTIFY_PLACES = ["member", "owner", "both", "none"] as const;

/** `member`: in the VF's BAR, `owner`: in the PF's, `both`: the VF's is preferred, `none`: by command only. */
export type LegacyNotifyPlace = typeof LEGACY_NOTIFY_PLACES[number];

/** Administration of a PF and its VFs. A VF has the fields of its PF. */
export interface AdminTopology {
  /** Administration queues of the PF; 0: it does not offer ADMIN_VQ. */
  readonly queues: number;
  /** Its VFs have legacy registers, which the PF reaches by command. */
  readonly legacyVfs: boolean;
  /** Where their notify addresses are. */
  readonly legacyNotify: LegacyNotifyPlace;
}

/** Fields of a PF. */
export const ADMIN_FIELDS: readonly string[] = ["adminQueues", "legacyVfs", "legacyNotify"];

/** Most administration queues of a PF. */
const QUEUES_MAX = 8;
/** Devices that may have administration queues, and whether they have a legacy interface. */
const KINDS: ReadonlyMap<string, boolean> = new Map([
  ["virtio-net", true],
  ["virtio-blk", true],
  ["virtio-rng", false],
  ["virtio-console", false],
]);

/** Reads the fields; undefined for a function without administration queues. @throws TopologyError */
export function readAdmin(
  from: Readonly<Record<string, unknown>>,
  at: string,
  kind: string,
  totalVfs: number,
): AdminTopology | undefined {
  const legacyKind = KINDS.get(kind);
  const queues = optional(from.adminQueues, `${at}.adminQueues`, 0, QUEUES_MAX) ??
    (totalVfs > 0 && legacyKind !== undefined ? 1 : 0);
  if (queues > 0 && legacyKind === undefined) {
    throw new TopologyError(`${at}.adminQueues`, `a ${kind} function has none`);
  }
  const possible = queues > 0 && totalVfs > 0 && legacyKind === true;
  const { legacyVfs = possible, legacyNotify } = from;
  if (typeof legacyVfs !== "boolean") {
    throw new TopologyError(`${at}.legacyVfs`, `${show(legacyVfs)} is neither true nor false`);
  }
  if (legacyVfs && !possible) {
    throw new TopologyError(
      `${at}.legacyVfs`,
      legacyKind === true
        ? "legacy registers of VFs are reached through administration queues of their PF"
        : `a ${kind} function has no legacy interface here`,
      "set adminQueues and totalVfs of a virtio-net or virtio-blk function",
    );
  }
  const place = LEGACY_NOTIFY_PLACES.find((one) => one === legacyNotify);
  if (legacyNotify !== undefined && place === undefined) {
    throw new TopologyError(
      `${at}.legacyNotify`,
      `${show(legacyNotify)} is not where notify addresses can be`,
      known(LEGACY_NOTIFY_PLACES),
    );
  }
  if (place !== undefined && place !== "none" && !legacyVfs) {
    throw new TopologyError(`${at}.legacyNotify`, "the VFs have no legacy registers", "set legacyVfs");
  }
  if (queues === 0) return undefined;
  return { queues, legacyVfs, legacyNotify: place ?? (legacyVfs ? "member" : "none") };
}
