/**
 * What the parts of a member's driver share.
 *
 * @module
 */
import type { PartsObjectKind } from "./calls.ts";
import type { AdminCapabilities } from "./capabilities.ts";
import type { AdminGroup } from "./group.ts";

/** Who a member is. */
export interface MemberName {
  /** Index of the VF, from 0. */
  readonly vf: number;
  /** `group_member_id`: the index + 1. */
  readonly memberId: bigint;
  /** PCI address, if the owner was told addresses; else `VF 3`. */
  readonly name: string;
}

/** What the owner's driver remembers of a member, from one reset of the owner to the next. */
export interface MemberRecord {
  /** As DEV_MODE_SET last had it; undefined: never sent, or not answered. */
  stopped: boolean | undefined;
  /** DEV_PARTS objects by id. */
  readonly objects: Map<number, PartsObjectKind>;
}

/** What members stand on. */
export interface MemberContext {
  /** The SR-IOV group. */
  readonly group: AdminGroup;
  /** Of the self group. */
  readonly capabilities: AdminCapabilities;
  /** The record of now: another one after a reset. */
  readonly record: () => MemberRecord;
}
