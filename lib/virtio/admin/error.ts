/**
 * What an administration command can come back with, as typed errors (virtio 1.4 §2.12.1; reference 3.1).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { DeviceError, TimeoutError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import {
  ADMIN_GROUP,
  ADMIN_OPCODE,
  adminOpcodeName,
  type AdminQualifierName,
  adminQualifierName,
  type AdminStatusName,
  adminStatusName,
} from "../spec/admin.ts";

/** A command, for messages. */
export interface AdminCommandPlace {
  /** PCI address or path of the owner. */
  readonly function: string;
  /** Virtqueue that carried it; undefined when it was never sent. */
  readonly queue?: number | undefined;
  /** Opcode. */
  readonly opcode: number;
  /** Group type. */
  readonly groupType: number;
  /** As in the frame: 1 is the first VF. */
  readonly memberId: bigint;
  /** What it was about, such as `offset 18, 1 byte`. */
  readonly detail?: string | undefined;
}

/** Name of a group type: `self`, `sriov`, or `group type 7`. */
export function adminGroupName(groupType: number): string {
  return groupType === ADMIN_GROUP.self
    ? "self"
    : groupType === ADMIN_GROUP.sriov
    ? "sriov"
    : `group type ${shown(groupType)}`;
}

/** `LEGACY_DEV_CFG_READ of sriov member 3 (offset 6, 2 bytes)`. */
export function describeAdminCommand(
  command: Omit<AdminCommandPlace, "function">,
): string {
  requireType(command, "object", "describeAdminCommand: command", "opcode", "groupType", "memberId");
  const { opcode, groupType, memberId, detail } = command;
  const member = groupType === ADMIN_GROUP.sriov && memberId === 0n
    ? "the sriov group"
    : groupType === ADMIN_GROUP.self && memberId === 0n
    ? "the self group"
    : `${adminGroupName(groupType)} member ${shown(memberId)}`;
  return `${adminOpcodeName(opcode)} of ${member}${detail === undefined ? "" : ` (${detail})`}`;
}

/**
 * The device answered a command with a status other than OK. `location.field` is the field of the command that it is about, as far as status and
 * qualifier say, else `status`.
 */
export class AdminCommandError extends DeviceError {
  /** Name of the class. */
  override name = "AdminCommandError";
  /** Opcode of the command. */
  readonly opcode: number;
  /** Its name, without `VIRTIO_ADMIN_CMD_`. */
  readonly opcodeName: string;
  /** Group type. */
  readonly groupType: number;
  /** `self`, `sriov`, or `group type 7`. */
  readonly groupName: string;
  /** As in the frame: 1 is the first VF; 0 for commands without a member. */
  readonly memberId: bigint;
  /** As received. */
  readonly status: number;
  /** What it counts as: a reserved status is EINVAL. */
  readonly statusName: AdminStatusName;
  /** As received. */
  readonly qualifier: number;
  /** What it counts as: a reserved qualifier is INVALID_COMMAND. */
  readonly qualifierName: AdminQualifierName;
  /** Times that the command was sent; more than 1 after EAGAIN (N-3.5). */
  readonly attempts: number;

  /** Takes a status other than OK. */
  constructor(place: AdminCommandPlace, status: number, qualifier: number, attempts = 1) {
    const statusName = adminStatusName(status) ?? "EINVAL";
    const qualifierName = adminQualifierName(qualifier) ?? "INVALID_COMMAND";
    const field = fieldOf(place.opcode, statusName, qualifierName);
    const times = attempts > 1 ? `, ${attempts} times` : "";
    super(
      `${describeAdminCommand(place)}: ${named(status, adminStatusName(status), statusName)}, ` +
        `${named(qualifier, adminQualifierName(qualifier), qualifierName)}${times}`,
      { function: place.function, queue: place.queue, field },
      { hint: hintFor(place.opcode, place.groupType, statusName, qualifierName) },
    );
    this.opcode = place.opcode;
    this.opcodeName = adminOpcodeName(place.opcode);
    this.groupType = place.groupType;
    this.groupName = adminGroupName(place.groupType);
    this.memberId = place.memberId;
    this.status = status;
    this.statusName = statusName;
    this.qualifier = qualifier;
    this.qualifierName = qualifierName;
    this.attempts = attempts;
  }

  /** Field of the command that the device is not content with; `status` when it does not say. */
  get field(): string {
    return this.location.field!;
  }
}

/** A command was not answered in time, or could not be sent in time. */
export class AdminTimeoutError extends TimeoutError {
  /** Name of the class. */
  override name = "AdminTimeoutError";
  /** Opcode of the command. */
  readonly opcode: number;
  /** Group type. */
  readonly groupType: number;
  /** As in the frame: 1 is the first VF. */
  readonly memberId: bigint;
  /** Virtqueue that it is in; undefined when it was never sent. */
  readonly queue: number | undefined;

  /** Says what was waited for. @param why ends the sentence, such as `was not answered in 5000 ms` */
  constructor(place: AdminCommandPlace, why: string, hint: string) {
    const where = place.queue === undefined ? place.function : `${place.function}, queue ${place.queue}`;
    super(`${where}: ${describeAdminCommand(place)} ${why}`, { hint });
    this.opcode = place.opcode;
    this.groupType = place.groupType;
    this.memberId = place.memberId;
    this.queue = place.queue;
  }
}

function named(value: number, name: string | undefined, taken: string): string {
  return name ?? `${value} (reserved, taken as ${taken})`;
}

/** Field that an opcode's INVALID_FIELD is about; for most opcodes there is one that can be wrong. */
const DATA_FIELD: Readonly<Record<number, string>> = {
  [ADMIN_OPCODE.LIST_USE]: "device_admin_cmd_opcodes",
  [ADMIN_OPCODE.LEGACY_COMMON_CFG_WRITE]: "offset",
  [ADMIN_OPCODE.LEGACY_COMMON_CFG_READ]: "offset",
  [ADMIN_OPCODE.LEGACY_DEV_CFG_WRITE]: "offset",
  [ADMIN_OPCODE.LEGACY_DEV_CFG_READ]: "offset",
  [ADMIN_OPCODE.DEVICE_CAP_GET]: "id",
  [ADMIN_OPCODE.DRIVER_CAP_SET]: "cap_specific_data",
  [ADMIN_OPCODE.RESOURCE_OBJ_CREATE]: "resource_obj_specific_data",
  [ADMIN_OPCODE.RESOURCE_OBJ_MODIFY]: "resource_obj_specific_data",
  [ADMIN_OPCODE.RESOURCE_OBJ_QUERY]: "hdr",
  [ADMIN_OPCODE.RESOURCE_OBJ_DESTROY]: "hdr",
  [ADMIN_OPCODE.DEV_PARTS_METADATA_GET]: "type",
  [ADMIN_OPCODE.DEV_PARTS_GET]: "hdr_list",
  [ADMIN_OPCODE.DEV_PARTS_SET]: "parts",
  [ADMIN_OPCODE.DEV_MODE_SET]: "flags",
};

const PARTS_READS: readonly number[] = [ADMIN_OPCODE.DEV_PARTS_METADATA_GET, ADMIN_OPCODE.DEV_PARTS_GET];

/** Fields that qualifiers are about, whatever the opcode. */
const QUALIFIED_FIELD: Partial<Record<AdminQualifierName, string>> = {
  INVALID_OPCODE: "opcode",
  INVALID_GROUP: "group_type",
  INVALID_MEMBER: "group_member_id",
};

function fieldOf(opcode: number, status: AdminStatusName, qualifier: AdminQualifierName): string {
  const field = QUALIFIED_FIELD[qualifier];
  if (field !== undefined) return field;
  if (qualifier === "INVALID_FIELD") return DATA_FIELD[opcode] ?? "command_specific_data";
  // ENXIO and EEXIST are about the id of a capability or an object; ENOMEM of these two is about room for the result.
  if (status === "ENXIO" || status === "EEXIST") return "id";
  if (status === "ENOMEM" && PARTS_READS.includes(opcode)) return "command_specific_result";
  return "status";
}

const STATUS_HINT: Partial<Record<AdminStatusName, string>> = {
  EAGAIN: "the device was busy all the time: try again later, or allow more retries",
  EBUSY: "something that exists depends on it, or the device is in use: finish or destroy that first",
  ENOMEM: "the device is short of resources: nothing was changed, so it may be tried again",
  ENOSPC: "the device has no more of them: destroy some first",
  EEXIST: "an object with this id exists: destroy it first, or take another id",
  ENXIO: "there is no capability or object with this id: list what there is",
};

function hintFor(
  opcode: number,
  groupType: number,
  status: AdminStatusName,
  qualifier: AdminQualifierName,
): string {
  const sriov = groupType === ADMIN_GROUP.sriov;
  switch (qualifier) {
    case "INVALID_GROUP":
      return sriov
        ? "VF Enable is clear, or the function has no VFs: set their number first (command `sriov`)"
        : "the device has no such group";
    case "INVALID_MEMBER":
      return sriov
        ? "members of the SR-IOV group are 1 to NumVFs: the VF does not exist, or exists no longer"
        : "the self group has one member, 0";
    case "INVALID_OPCODE":
      return "the device does not know the command, or LIST_USE does not include it: after a reset, LIST_USE comes first";
  }
  if (status === "ENOMEM" && PARTS_READS.includes(opcode)) {
    return "the state grew meanwhile, or is larger than said: ask for its size again";
  }
  const hint = STATUS_HINT[status];
  if (hint !== undefined || qualifier !== "INVALID_FIELD") return hint ?? "";
  return DATA_FIELD[opcode] === "offset"
    ? "an access is to one field, wholly inside the structure"
    : "the device does not accept this value, or not now";
}
