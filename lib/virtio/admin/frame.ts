/**
 * Administration commands as bytes: pure (virtio 1.4 §2.12.1, §2.13; reference 3.1).
 *
 * @module
 */
import { DeviceError, UsageError } from "../../errors/mod.ts";
import { ADMIN_CMD, ADMIN_CMD_STATUS, ADMIN_OPCODE, LEGACY_WRITE_DATA } from "../spec/admin.ts";
import type { AdminCommandPlace } from "./error.ts";
import { describeAdminCommand } from "./error.ts";

/** A command before it is sent. */
export interface AdminCommand {
  /** 0 to 0x7fff: those above may have another frame. */
  readonly opcode: number;
  /** Group type: `ADMIN_GROUP`, or another 16-bit number. */
  readonly groupType: number;
  /** `group_member_id`: VF index + 1 in the SR-IOV group. Default 0. */
  readonly memberId?: bigint | undefined;
  /** `command_specific_data`. Default: none. */
  readonly data?: Uint8Array | undefined;
  /** Bytes of `command_specific_result` that are of interest. Default 0. */
  readonly resultBytes?: number | undefined;
  /** For messages: what it is about, such as `offset 18, 1 byte`. */
  readonly detail?: string | undefined;
}

/** What came back for a command. */
export interface AdminReply {
  /** As received. */
  readonly status: number;
  /** As received. */
  readonly qualifier: number;
  /** `resultBytes` long. What the device did not write is zero (N-3.4). A copy. */
  readonly result: Uint8Array<ArrayBuffer>;
  /** Bytes of the result that the device wrote; at most `resultBytes`. */
  readonly writtenBytes: number;
}

/** A reserved status, and what the device finds in place of one: an unwritten status cannot pass for OK. */
const NOT_WRITTEN = 0xffff;
const MAX_PART_BYTES = 64 << 20;
/** Up to here a loop costs less than the view that `set` takes. */
const SMALL_BYTES = 64;
const TWO_64 = 1n << 64n;

/** Opcodes whose data or result is as long as the register access is wide. */
function isLegacyAccess(opcode: number): boolean {
  return opcode >= ADMIN_OPCODE.LEGACY_COMMON_CFG_WRITE && opcode <= ADMIN_OPCODE.LEGACY_DEV_CFG_READ;
}

function isLegacyRead(opcode: number): boolean {
  return opcode === ADMIN_OPCODE.LEGACY_COMMON_CFG_READ || opcode === ADMIN_OPCODE.LEGACY_DEV_CFG_READ;
}

/**
 * Bytes of the device-readable and the device-writable part of a command's frame: multiples of 8 (N-3.3), but exact for 0x0002 to 0x0005, since there the length is the width of the access.
 * @param padReads pad the device-readable part of legacy reads, too, whose width is that of the result
 * @throws UsageError for what is no command
 */
export function adminFrameSize(
  command: AdminCommand,
  padReads = false,
): { readonly readable: number; readonly writable: number } {
  const { opcode, groupType, memberId = 0n, resultBytes = 0 } = command;
  if (!Number.isInteger(opcode) || opcode < 0 || opcode > 0x7fff) {
    throw new UsageError(`administration opcode ${opcode}`, {
      hint: "0 to 0x7fff; the frame of those above is not known",
    });
  }
  if (!Number.isInteger(groupType) || groupType < 0 || groupType > 0xffff) {
    throw new UsageError(`group type ${groupType}`, { hint: "16 bits; 0 is self, 1 is SR-IOV" });
  }
  if (typeof memberId !== "bigint" || memberId < 0n || memberId >= TWO_64) {
    throw new UsageError(`group member ${memberId}`, { hint: "a bigint of 64 bits" });
  }
  const dataBytes = command.data?.length ?? 0;
  if (!Number.isInteger(resultBytes) || resultBytes < 0 || resultBytes > MAX_PART_BYTES) {
    throw new UsageError(`a result of ${resultBytes} bytes`, { hint: `0 to ${MAX_PART_BYTES}` });
  }
  if (dataBytes > MAX_PART_BYTES) {
    throw new UsageError(`a command with ${dataBytes} bytes of data`, { hint: `${MAX_PART_BYTES} at most` });
  }
  const readable = ADMIN_CMD.sizeBytes + dataBytes;
  const writable = ADMIN_CMD_STATUS.sizeBytes + resultBytes;
  const exact = isLegacyAccess(opcode);
  return {
    readable: exact && !(padReads && isLegacyRead(opcode)) ? readable : pad(readable),
    writable: exact ? writable : pad(writable),
  };
}

/** What a legacy register access is about, for messages; undefined for another command. */
export function legacyDetail({ opcode, data, resultBytes = 0 }: AdminCommand): string | undefined {
  if (!isLegacyAccess(opcode) || data === undefined || data.length === 0) return undefined;
  const width = isLegacyRead(opcode) ? resultBytes : data.length - LEGACY_WRITE_DATA.sizeBytes;
  return `offset ${data[0]}, ${width} ${width === 1 ? "byte" : "bytes"}`;
}

/** Writes the device-readable part; `into` has its size. */
export function encodeAdminCommand(command: AdminCommand, into: Uint8Array): void {
  const data = command.data;
  into.fill(0);
  // By hand: the codec of structures makes three objects for each, and commands come by the thousand.
  const { opcode, group_type, group_member_id } = ADMIN_CMD.fields;
  put16(into, opcode.offset, command.opcode);
  put16(into, group_type.offset, command.groupType);
  let member = command.memberId ?? 0n;
  for (let at = group_member_id.offset; member > 0n; member >>= 8n) into[at++] = Number(member & 0xffn);
  if (data === undefined) return;
  if (data.length > SMALL_BYTES) into.set(data, ADMIN_CMD.sizeBytes);
  else for (let at = 0; at < data.length; at++) into[ADMIN_CMD.sizeBytes + at] = data[at]!;
}

function put16(into: Uint8Array, at: number, value: number): void {
  into[at] = value & 0xff;
  into[at + 1] = value >>> 8;
}

function get16(from: Uint8Array, at: number): number {
  return from[at]! | from[at + 1]! << 8;
}

/** Prepares the device-writable part: a status that is no success, and zero for what the device may leave out (N-3.4). */
export function prepareAdminReply(into: Uint8Array): void {
  into.fill(0);
  put16(into, ADMIN_CMD_STATUS.fields.status.offset, NOT_WRITTEN);
}

/** Whether `usedBytes` of a device-writable part of `partBytes` can be an answer. */
export function isAdminReply(partBytes: number, usedBytes: number): boolean {
  return Number.isInteger(usedBytes) && usedBytes >= ADMIN_CMD_STATUS.sizeBytes && usedBytes <= partBytes;
}

/**
 * Reads the device-writable part.
 * @param bytes the whole part, which nobody changes meanwhile
 * @param usedBytes how much of it the device says to have written
 * @throws DeviceError when that is no whole status, or more than there is
 */
export function decodeAdminReply(
  bytes: Uint8Array,
  usedBytes: number,
  resultBytes: number,
  place: AdminCommandPlace,
): AdminReply {
  if (!isAdminReply(bytes.length, usedBytes)) {
    throw new DeviceError(
      `${describeAdminCommand(place)}: the device wrote ${usedBytes} bytes; ` +
        `a status has ${ADMIN_CMD_STATUS.sizeBytes}, the buffer ${bytes.length}`,
      {
        function: place.function,
        queue: place.queue,
        field: "used.len",
      },
      { hint: "whether the command had an effect is not known; reset the device" },
    );
  }
  return readAdminReply(bytes, usedBytes, resultBytes);
}

/** As `decodeAdminReply`, of what is an answer. @param result becomes the reply's; zeroes, `resultBytes` long */
export function readAdminReply(
  bytes: Uint8Array,
  usedBytes: number,
  resultBytes: number,
  result: Uint8Array<ArrayBuffer> = new Uint8Array(resultBytes),
): AdminReply {
  const { sizeBytes: head, fields } = ADMIN_CMD_STATUS;
  const writtenBytes = Math.min(usedBytes - head, resultBytes);
  if (writtenBytes > SMALL_BYTES) result.set(bytes.subarray(head, head + writtenBytes));
  else for (let at = 0; at < writtenBytes; at++) result[at] = bytes[head + at]!;
  return {
    status: get16(bytes, fields.status.offset),
    qualifier: get16(bytes, fields.status_qualifier.offset),
    result,
    writtenBytes,
  };
}

function pad(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
