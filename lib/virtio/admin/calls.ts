/**
 * Each command as its bytes and the reading of its answer: pure (reference 3.3, 3.6).
 *
 * @module
 */
import { DeviceError, ProtocolError, UsageError } from "../../errors/mod.ts";
import {
  ADMIN_GROUP,
  ADMIN_OPCODE,
  adminCapName,
  CAP_GET_DATA,
  CAP_SET_DATA,
  DEV_MODE_STOPPED,
  DEV_PART_HEADER,
  DEV_PARTS_METADATA,
  DEV_PARTS_METADATA_RESULT,
  DEV_PARTS_OBJ_TYPE,
  DEV_PARTS_REQUEST,
  DEV_PARTS_WANTED,
  LEGACY_READ_DATA,
  LEGACY_WRITE_DATA,
  RESOURCE_OBJ_CREATE,
  RESOURCE_OBJ_DEV_PARTS,
  RESOURCE_OBJ_HEADER,
  RESOURCE_OBJ_TYPE,
} from "../spec/admin.ts";
import {
  decodePartHeaders,
  decodeParts,
  type DevicePart,
  type DevicePartHeader,
  encodePartHeaders,
  encodeParts,
  partBytes,
} from "../spec/device_parts.ts";
import { adminGroupName, describeAdminCommand } from "./error.ts";
import type { AdminCommand, AdminReply } from "./frame.ts";
import { decodeIdBitmap, encodeIdBitmap } from "./id_bitmap.ts";
import type { LegacyNotifyArea, LegacyWidth } from "./legacy_access.ts";
import { NOTIFY_INFO_BYTES, parseNotifyInfo } from "./notify_info.ts";

/** A command and what its answer means. */
export interface AdminCall<T> {
  /** To be sent. */
  readonly command: AdminCommand;
  /** Reads an answer whose status is OK. @param name function, for messages @throws DeviceError for an answer that cannot be */
  readonly read: (reply: AdminReply, name: string) => T;
  /** `read` keeps nothing of the reply: its bytes may be another command's afterwards. */
  readonly passing?: boolean;
}

/** What a DEV_PARTS object is for. */
export type PartsObjectKind = "get" | "set";

/** Most that a device may say its state takes, in bytes. */
const PARTS_BYTES_MAX = 16 << 20;
const NOTHING = (): void => {};

/** LIST_QUERY with room for `resultBytes` of the list. The answer says whether it filled all of them. */
export function listQueryCall(
  groupType: number,
  resultBytes: number,
): AdminCall<{ opcodes: number[]; full: boolean }> {
  return {
    command: {
      opcode: ADMIN_OPCODE.LIST_QUERY,
      groupType,
      resultBytes,
      detail: `${resultBytes} bytes`,
    },
    read: (reply, name) => {
      const opcodes = decodeIdBitmap(reply.result);
      if (!opcodes.includes(ADMIN_OPCODE.LIST_QUERY) || !opcodes.includes(ADMIN_OPCODE.LIST_USE)) {
        throw new DeviceError(
          `the ${adminGroupName(groupType)} group's list of commands is without LIST_QUERY or LIST_USE`,
          { function: name, field: "device_admin_cmd_opcodes" },
        );
      }
      return { opcodes, full: reply.writtenBytes === resultBytes };
    },
  };
}

/** LIST_USE. */
export function listUseCall(groupType: number, opcodes: Iterable<number>): AdminCall<void> {
  return {
    command: { opcode: ADMIN_OPCODE.LIST_USE, groupType, data: encodeIdBitmap(opcodes) },
    read: NOTHING,
  };
}

/** Parts of a function's legacy registers. */
export type LegacySpace = "common" | "device";
const LEGACY_READ = {
  common: ADMIN_OPCODE.LEGACY_COMMON_CFG_READ,
  device: ADMIN_OPCODE.LEGACY_DEV_CFG_READ,
} as const;
const LEGACY_WRITE = {
  common: ADMIN_OPCODE.LEGACY_COMMON_CFG_WRITE,
  device: ADMIN_OPCODE.LEGACY_DEV_CFG_WRITE,
} as const;

/** LEGACY_COMMON_CFG_READ or LEGACY_DEV_CFG_READ. @throws UsageError */
export function legacyReadCall(
  memberId: bigint,
  space: LegacySpace,
  offset: number,
  width: LegacyWidth,
): AdminCall<number> {
  checkLegacy(space, offset, width);
  const data = READ_DATA[offset] ??= LEGACY_READ_DATA.encode({ offset });
  return { command: ofMember(LEGACY_READ[space], memberId, data, width), read: readRegister, passing: true };
}

/** Data of legacy reads by offset: there are 256, and nobody changes them. */
const READ_DATA: Uint8Array[] = [];

function readRegister({ result }: AdminReply): number {
  let value = 0;
  for (let at = result.length - 1; at >= 0; at--) value = value * 256 + result[at]!;
  return value;
}

/** LEGACY_COMMON_CFG_WRITE or LEGACY_DEV_CFG_WRITE. @throws UsageError */
export function legacyWriteCall(
  memberId: bigint,
  space: LegacySpace,
  offset: number,
  width: LegacyWidth,
  value: number,
): AdminCall<void> {
  checkLegacy(space, offset, width);
  if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
    throw new UsageError(`${value} as a legacy register of ${width} ${width === 1 ? "byte" : "bytes"}`);
  }
  const data = LEGACY_WRITE_DATA.encode({ offset }, width);
  for (let at = 0; at < width; at++) data[LEGACY_WRITE_DATA.sizeBytes + at] = value / 256 ** at;
  return { command: ofMember(LEGACY_WRITE[space], memberId, data, 0), read: NOTHING, passing: true };
}

function checkLegacy(space: LegacySpace, offset: number, width: number): void {
  if (width !== 1 && width !== 2 && width !== 4) {
    throw new UsageError(`a legacy register access of ${width} bytes`, { hint: "1, 2 or 4" });
  }
  if (!Number.isInteger(offset) || offset < 0 || offset + width > 256) {
    throw new UsageError(`legacy ${space} registers at ${offset}, ${width} bytes`, {
      hint: "the command has one byte for the offset",
    });
  }
}

/** LEGACY_NOTIFY_INFO. */
export function notifyInfoCall(memberId: bigint): AdminCall<LegacyNotifyArea[]> {
  return {
    command: ofMember(ADMIN_OPCODE.LEGACY_NOTIFY_INFO, memberId, undefined, NOTIFY_INFO_BYTES),
    read: ({ result }) => parseNotifyInfo(result),
  };
}

/** CAP_ID_LIST_QUERY with room for `resultBytes` of the list. */
export function capListCall(resultBytes: number): AdminCall<{ ids: number[]; full: boolean }> {
  return {
    command: { opcode: ADMIN_OPCODE.CAP_ID_LIST_QUERY, groupType: ADMIN_GROUP.self, resultBytes },
    read: ({ result, writtenBytes }) => ({
      ids: decodeIdBitmap(result),
      full: writtenBytes === resultBytes,
    }),
  };
}

/** DEVICE_CAP_GET: the capability's bytes, as many as the device gave, at most `resultBytes`. @throws UsageError */
export function capGetCall(id: number, resultBytes: number): AdminCall<Uint8Array<ArrayBuffer>> {
  return {
    command: {
      opcode: ADMIN_OPCODE.DEVICE_CAP_GET,
      groupType: ADMIN_GROUP.self,
      data: CAP_GET_DATA.encode({ id }),
      resultBytes,
      detail: adminCapName(id),
    },
    read: ({ result, writtenBytes }) => result.slice(0, writtenBytes),
  };
}

/** DRIVER_CAP_SET. @throws UsageError */
export function capSetCall(id: number, bytes: Uint8Array): AdminCall<void> {
  const data = CAP_SET_DATA.encode({ id }, bytes.length);
  data.set(bytes, CAP_SET_DATA.sizeBytes);
  return {
    command: {
      opcode: ADMIN_OPCODE.DRIVER_CAP_SET,
      groupType: ADMIN_GROUP.self,
      data,
      detail: adminCapName(id),
    },
    read: NOTHING,
  };
}

/** RESOURCE_OBJ_CREATE of a DEV_PARTS object. @throws UsageError */
export function partsObjectCreateCall(memberId: bigint, id: number, kind: PartsObjectKind): AdminCall<void> {
  const data = RESOURCE_OBJ_CREATE.encode(
    { type: RESOURCE_OBJ_TYPE.DEV_PARTS, id },
    RESOURCE_OBJ_DEV_PARTS.sizeBytes,
  );
  RESOURCE_OBJ_DEV_PARTS.encodeInto(data, RESOURCE_OBJ_CREATE.sizeBytes, { type: DEV_PARTS_OBJ_TYPE[kind] });
  return { command: objectCommand(ADMIN_OPCODE.RESOURCE_OBJ_CREATE, memberId, id, data), read: NOTHING };
}

/** RESOURCE_OBJ_DESTROY of a DEV_PARTS object. @throws UsageError */
export function partsObjectDestroyCall(memberId: bigint, id: number): AdminCall<void> {
  const data = RESOURCE_OBJ_HEADER.encode({ type: RESOURCE_OBJ_TYPE.DEV_PARTS, id });
  return { command: objectCommand(ADMIN_OPCODE.RESOURCE_OBJ_DESTROY, memberId, id, data), read: NOTHING };
}

/** DEV_PARTS_METADATA_GET: bytes of all parts, or their number. @throws UsageError */
export function partsMetadataCall(memberId: bigint, id: number, wanted: "size" | "count"): AdminCall<number> {
  const command = objectCommand(
    ADMIN_OPCODE.DEV_PARTS_METADATA_GET,
    memberId,
    id,
    request(id, DEV_PARTS_METADATA[wanted]),
    DEV_PARTS_METADATA_RESULT.sizeBytes,
    wanted,
  );
  const most = wanted === "size" ? PARTS_BYTES_MAX : PARTS_BYTES_MAX / DEV_PART_HEADER.sizeBytes;
  return {
    command,
    read: ({ result }, name) => {
      const { value } = DEV_PARTS_METADATA_RESULT.decode(result);
      if (value <= most) return value;
      throw new DeviceError(`${describe(command)}: ${value}, more than the ${most} that this driver takes`, {
        function: name,
        field: wanted === "size" ? "parts_size.size" : "hdr_list_count.count",
      });
    },
  };
}

/** DEV_PARTS_METADATA_GET: the headers, with room for `count`. More of them are returned as an error, as by `partsGetCall`. @throws UsageError */
export function partsListCall(
  memberId: bigint,
  id: number,
  count: number,
): AdminCall<DevicePartHeader[] | DeviceError> {
  const head = DEV_PARTS_METADATA_RESULT.sizeBytes;
  const command = objectCommand(
    ADMIN_OPCODE.DEV_PARTS_METADATA_GET,
    memberId,
    id,
    request(id, DEV_PARTS_METADATA.list),
    head + count * DEV_PART_HEADER.sizeBytes,
    `list, room for ${count}`,
  );
  return {
    command,
    read: ({ result }, name) => {
      const { value } = DEV_PARTS_METADATA_RESULT.decode(result);
      if (value > count) {
        return new DeviceError(`${describe(command)}: ${value} headers, but there is room for ${count}`, {
          function: name,
          field: "hdr_list.count",
        });
      }
      return decodePartHeaders(result.subarray(head, head + value * DEV_PART_HEADER.sizeBytes), value);
    },
  };
}

/**
 * DEV_PARTS_GET: all parts, or those that headers name, with room for `resultBytes` of them. A result that does not fit is cut off with OK: one that ends
 * inside a part, or with the room, is returned as the error that it may be. @throws UsageError
 */
export function partsGetCall(
  memberId: bigint,
  id: number,
  selected: readonly DevicePartHeader[] | "all",
  resultBytes: number,
): AdminCall<DevicePart[] | DeviceError> {
  const list = selected === "all" ? new Uint8Array(0) : encodePartHeaders(selected);
  const data = request(id, selected === "all" ? DEV_PARTS_WANTED.all : DEV_PARTS_WANTED.selected, list);
  const what = selected === "all" ? "all" : `${selected.length} selected`;
  const command = objectCommand(ADMIN_OPCODE.DEV_PARTS_GET, memberId, id, data, resultBytes, what);
  return {
    command,
    read: ({ result, writtenBytes }, name) => {
      const wrong = (message: string, cause?: ProtocolError) =>
        new DeviceError(`${describe(command)}: ${message}`, { function: name, field: "parts" }, {
          cause,
          hint: cause?.hint,
        });
      try {
        const parts = decodeParts(withoutTail(result.subarray(0, writtenBytes)));
        const left = resultBytes - parts.reduce((sum, part) => sum + partBytes(part), 0);
        if (writtenBytes < resultBytes || left >= 8) return parts;
        return wrong(`${parts.length} parts fill the room of ${resultBytes} bytes; there may be more`);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        return wrong(error.message, error);
      }
    },
  };
}

/** DEV_PARTS_SET. @throws UsageError */
export function partsSetCall(memberId: bigint, id: number, parts: readonly DevicePart[]): AdminCall<void> {
  const bytes = encodeParts(parts);
  const data = RESOURCE_OBJ_HEADER.encode({ type: RESOURCE_OBJ_TYPE.DEV_PARTS, id }, bytes.length);
  data.set(bytes, RESOURCE_OBJ_HEADER.sizeBytes);
  const what = `${parts.length} ${parts.length === 1 ? "part" : "parts"}`;
  return { command: objectCommand(ADMIN_OPCODE.DEV_PARTS_SET, memberId, id, data, 0, what), read: NOTHING };
}

/** DEV_MODE_SET. */
export function modeSetCall(memberId: bigint, stopped: boolean): AdminCall<void> {
  const data = Uint8Array.of(stopped ? DEV_MODE_STOPPED : 0), detail = stopped ? "stop" : "resume";
  return { command: ofMember(ADMIN_OPCODE.DEV_MODE_SET, memberId, data, 0, detail), read: NOTHING };
}

function objectCommand(
  opcode: number,
  memberId: bigint,
  id: number,
  data: Uint8Array,
  resultBytes = 0,
  what?: string,
): AdminCommand {
  const detail = what === undefined ? `object ${id}` : `object ${id}, ${what}`;
  return ofMember(opcode, memberId, data, resultBytes, detail);
}

function ofMember(
  opcode: number,
  memberId: bigint,
  data?: Uint8Array,
  resultBytes?: number,
  detail?: string,
): AdminCommand {
  return { opcode, groupType: ADMIN_GROUP.sriov, memberId, data, resultBytes, detail };
}

function request(id: number, wanted: number, tail = new Uint8Array(0)): Uint8Array {
  const data = DEV_PARTS_REQUEST.encode({ type: RESOURCE_OBJ_TYPE.DEV_PARTS, id, wanted }, tail.length);
  data.set(tail, DEV_PARTS_REQUEST.sizeBytes);
  return data;
}

function describe(command: AdminCommand): string {
  return describeAdminCommand({ ...command, memberId: command.memberId ?? 0n });
}

/**
 * Cuts zeros where the next header would be: with IN_ORDER the device may return a batch by its last command, and the others then count as
 * written completely. No part has type 0.
 */
function withoutTail(bytes: Uint8Array): Uint8Array {
  const head = DEV_PART_HEADER.sizeBytes;
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  for (let at = 0; at + head <= bytes.length;) {
    if (at >= end) return bytes.subarray(0, at);
    at += head + DEV_PART_HEADER.decode(bytes, at).length;
    if (at >= end) return bytes.subarray(0, Math.min(at, bytes.length));
  }
  return bytes;
}
