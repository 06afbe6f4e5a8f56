/**
 * Commands of the SR-IOV group that read and write the state of a VF as device parts, and stop and resume it (virtio 1.4 §2.12.1.5).
 *
 * @module
 */
import { ProtocolError } from "../../../errors/mod.ts";
import {
  ADMIN_OPCODE,
  DEV_MODE_STOPPED,
  DEV_PART,
  DEV_PART_HEADER,
  DEV_PARTS_METADATA,
  DEV_PARTS_METADATA_RESULT,
  DEV_PARTS_OBJ_TYPE,
  DEV_PARTS_REQUEST,
  DEV_PARTS_WANTED,
  RESOURCE_OBJ_HEADER,
} from "../../../virtio/spec/admin.ts";
import {
  decodePartHeaders,
  decodeParts,
  type DevicePart,
  type DevicePartHeader,
  encodePartHeaders,
  encodeParts,
  partHeader,
} from "../../../virtio/spec/device_parts.ts";
import type { AdminHandlers } from "./command_group.ts";
import type { AdminHandler, AdminOutcome, AdminRequest, MemberParts } from "./handler.ts";
import { BUSY, INVALID_FIELD, INVALID_MEMBER, NO_ROOM, NO_SUCH_ID, OK } from "./outcomes.ts";
import { atLeast, type PartsObjectKind, type PartsObjects } from "./parts_objects.ts";

/** The four commands. */
export function partsCommands(objects: PartsObjects): AdminHandlers {
  const { get, set } = DEV_PARTS_OBJ_TYPE;
  return new Map<number, AdminHandler>([
    [ADMIN_OPCODE.DEV_PARTS_METADATA_GET, withObject(objects, get, metadata)],
    [ADMIN_OPCODE.DEV_PARTS_GET, withObject(objects, get, getParts)],
    [ADMIN_OPCODE.DEV_PARTS_SET, withObject(objects, set, setParts)],
    [ADMIN_OPCODE.DEV_MODE_SET, withParts(setMode)],
  ]);
}

type PartsHandler = (request: AdminRequest, parts: MemberParts) => AdminOutcome;

function withParts(answer: PartsHandler): AdminHandler {
  return (request) => {
    const parts = request.member?.parts;
    return parts === undefined ? INVALID_MEMBER : answer(request, parts);
  };
}

/** The object must be there, and be for this. */
function withObject(objects: PartsObjects, kind: PartsObjectKind, answer: PartsHandler): AdminHandler {
  return withParts((request, parts) => {
    const there = objects.kindOf(request);
    if (there === undefined) return NO_SUCH_ID;
    return there === kind ? answer(request, parts) : INVALID_FIELD;
  });
}

function metadata({ data, resultRoom }: AdminRequest, parts: MemberParts): AdminOutcome {
  const { wanted } = DEV_PARTS_REQUEST.decode(atLeast(data, DEV_PARTS_REQUEST.sizeBytes));
  const { size, count, list } = DEV_PARTS_METADATA;
  if (wanted !== size && wanted !== count && wanted !== list) return INVALID_FIELD;
  const all = parts.get();
  const value = wanted === size ? parts.mostBytes : all.length;
  const headers = wanted === list ? encodePartHeaders(all.map(partHeader)) : new Uint8Array(0);
  const result = DEV_PARTS_METADATA_RESULT.encode({ value }, headers);
  // Here the standard wants an error, and not the general rule that what does not fit is discarded.
  return result.length > resultRoom ? NO_ROOM : { status: "OK", result };
}

/** What does not fit is discarded, as with every command whose text does not say otherwise. */
function getParts({ data }: AdminRequest, parts: MemberParts): AdminOutcome {
  const head = DEV_PARTS_REQUEST.sizeBytes;
  const { wanted } = DEV_PARTS_REQUEST.decode(atLeast(data, head));
  if (wanted === DEV_PARTS_WANTED.all) return { status: "OK", result: encodeParts(parts.get()) };
  if (wanted !== DEV_PARTS_WANTED.selected) return INVALID_FIELD;
  const list = data.subarray(head);
  const whole = DEV_PART_HEADER.sizeBytes * Math.ceil(list.length / DEV_PART_HEADER.sizeBytes);
  const keys = new Set(decodePartHeaders(atLeast(list, whole)).map(keyOf));
  return { status: "OK", result: encodeParts(parts.get().filter((part) => keys.has(keyOf(part)))) };
}

function setParts({ data }: AdminRequest, parts: MemberParts): AdminOutcome {
  if (!parts.stopped) return BUSY;
  let given: DevicePart[];
  try {
    given = decodeParts(data.subarray(RESOURCE_OBJ_HEADER.sizeBytes));
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return INVALID_FIELD;
  }
  if (parts.problemOf(given) !== undefined) return INVALID_FIELD;
  parts.set(given);
  return OK;
}

function setMode({ data }: AdminRequest, parts: MemberParts): AdminOutcome {
  const flags = data[0] ?? 0;
  if ((flags & ~DEV_MODE_STOPPED) !== 0) return INVALID_FIELD;
  parts.setStopped(flags === DEV_MODE_STOPPED);
  return OK;
}

/** Type and what its selector means; the rest of a selector is reserved and ignored. */
function keyOf({ type, selector }: DevicePart | DevicePartHeader): string {
  switch (type) {
    case DEV_PART.DEV_FEATURES:
    case DEV_PART.DRV_FEATURES:
    case DEV_PART.DEVICE_STATUS:
      return `${type}`;
    case DEV_PART.PCI_COMMON_CFG:
      return `${type} ${selector & 0xffff_ffffn}`;
    case DEV_PART.VQ_CFG:
    case DEV_PART.VQ_NOTIFY_CFG:
      return `${type} ${selector & 0xffffn}`;
    default:
      return `${type} ${selector}`;
  }
}
