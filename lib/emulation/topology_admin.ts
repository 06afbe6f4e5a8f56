/**
 * What a topology says of a PF's administration queues, and of the legacy interface of its VFs.
 *
 * @module
 */
import * as v from "valibot";
import type { FunctionPlace, TopologyKind } from "./topology_kind.ts";
import { type AdminTopology, LEGACY_NOTIFY_PLACES, type LegacyNotifyPlace } from "./function_topology.ts";
import { type FieldSchemas, flag, oneOf, TopologyError, whole } from "./topology_fields.ts";

/** Most administration queues of a PF. */
const QUEUES_MAX = 8;

/** Fields of a PF. */
export const ADMIN_FIELDS: FieldSchemas = {
  adminQueues: v.optional(whole(0, QUEUES_MAX)),
  legacyVfs: v.optional(flag),
  legacyNotify: v.optional(oneOf(LEGACY_NOTIFY_PLACES, "where notify addresses can be")),
};

/** What was read by `ADMIN_FIELDS`. */
export interface AdminFields {
  /** Administration queues. */
  readonly adminQueues?: number;
  /** Its VFs shall have legacy registers. */
  readonly legacyVfs?: boolean;
  /** Where they are notified. */
  readonly legacyNotify?: LegacyNotifyPlace;
}

/** What follows from the fields; undefined for a function without administration queues. @throws TopologyError */
export function adminOf(
  fields: AdminFields,
  kind: string,
  kinds: readonly TopologyKind[],
  { at, totalVfs }: FunctionPlace,
): AdminTopology | undefined {
  const can = kinds.find(({ name }) => name === kind)?.admin;
  const queues = fields.adminQueues ?? (totalVfs > 0 && can !== undefined ? 1 : 0);
  if (queues > 0 && can === undefined) {
    throw new TopologyError(`${at}.adminQueues`, `a ${kind} function has none`);
  }
  const possible = queues > 0 && totalVfs > 0 && can === "legacy";
  const { legacyVfs = possible, legacyNotify } = fields;
  if (legacyVfs && !possible) {
    throw new TopologyError(
      `${at}.legacyVfs`,
      can === "legacy"
        ? "legacy registers of VFs are reached through administration queues of their PF"
        : `a ${kind} function has no legacy interface here`,
      `set adminQueues and totalVfs of a ${
        kinds.filter(({ admin }) => admin === "legacy").map(({ name }) => name).join(" or ")
      } function`,
    );
  }
  if (legacyNotify !== undefined && legacyNotify !== "none" && !legacyVfs) {
    throw new TopologyError(`${at}.legacyNotify`, "the VFs have no legacy registers", "set legacyVfs");
  }
  if (queues === 0) return undefined;
  return { queues, legacyVfs, legacyNotify: legacyNotify ?? (legacyVfs ? "member" : "none") };
}
