/**
 * Commands of the SR-IOV group that reach the legacy registers of a VF (virtio 1.4 §2.12.1.1; N-3.14, N-3.15).
 *
 * @module
 */
import {
  ADMIN_OPCODE,
  LEGACY_NOTIFY_ENTRIES,
  LEGACY_NOTIFY_FLAG,
  LEGACY_NOTIFY_INFO,
  LEGACY_WRITE_DATA,
} from "../../../virtio/spec/admin.ts";
import type { LegacyNotifyPlace } from "../../function_topology.ts";
import type { AdminHandlers } from "./command_group.ts";
import type { AdminHandler, AdminOutcome, AdminRequest, MemberLegacy } from "./handler.ts";
import { INVALID_FIELD, INVALID_MEMBER, OK } from "./outcomes.ts";

/** The last entry ends the list. */
const USABLE_ENTRIES = LEGACY_NOTIFY_ENTRIES - 1;

/** One of the two structures. Each has offsets of its own. */
interface Structure {
  readonly readOpcode: number;
  readonly writeOpcode: number;
  isField(legacy: MemberLegacy, offset: number, length: number): boolean;
  get(legacy: MemberLegacy, offset: number, into: Uint8Array): void;
  put(legacy: MemberLegacy, offset: number, from: Uint8Array): void;
}

const STRUCTURES: readonly Structure[] = [
  {
    readOpcode: ADMIN_OPCODE.LEGACY_COMMON_CFG_READ,
    writeOpcode: ADMIN_OPCODE.LEGACY_COMMON_CFG_WRITE,
    isField: (legacy, offset, length) => legacy.isCommonField(offset, length),
    get: (legacy, offset, into) => legacy.readCommon(offset, into),
    put: (legacy, offset, from) => legacy.writeCommon(offset, from),
  },
  {
    readOpcode: ADMIN_OPCODE.LEGACY_DEV_CFG_READ,
    writeOpcode: ADMIN_OPCODE.LEGACY_DEV_CFG_WRITE,
    isField: (legacy, offset, length) => legacy.isDeviceField(offset, length),
    get: (legacy, offset, into) => legacy.readDevice(offset, into),
    put: (legacy, offset, from) => legacy.writeDevice(offset, from),
  },
];

/** Reads and writes of registers, whose lengths are widths and so no multiple of 8. */
export const LEGACY_ACCESSES: ReadonlySet<number> = new Set(
  STRUCTURES.flatMap(({ readOpcode, writeOpcode }) => [readOpcode, writeOpcode]),
);

/** Where the owner's notify address of a member is. */
export type OwnerNotifyAddress = (memberId: bigint) => { readonly bar: number; readonly offset: number };

/**
 * All four register commands, and NOTIFY_INFO unless `place` is `none`.
 * @param ownerAddress asked when `place` is `owner` or `both`
 */
export function legacyCommands(place: LegacyNotifyPlace, ownerAddress: OwnerNotifyAddress): AdminHandlers {
  const handlers = new Map<number, AdminHandler>();
  for (const structure of STRUCTURES) {
    handlers.set(structure.readOpcode, withLegacy((request, legacy) => read(request, legacy, structure)));
    handlers.set(structure.writeOpcode, withLegacy((request, legacy) => write(request, legacy, structure)));
  }
  if (place !== "none") {
    handlers.set(
      ADMIN_OPCODE.LEGACY_NOTIFY_INFO,
      withLegacy((request, legacy) => notifyInfo(request, legacy, place, ownerAddress)),
    );
  }
  return handlers;
}

function withLegacy(
  answer: (request: AdminRequest, legacy: MemberLegacy) => AdminOutcome,
): AdminHandler {
  return (request) => {
    const legacy = request.member?.legacy;
    return legacy === undefined ? INVALID_MEMBER : answer(request, legacy);
  };
}

/** Offset, 7 reserved bytes, then the bytes to write: their number is the width. */
function write({ data }: AdminRequest, legacy: MemberLegacy, structure: Structure): AdminOutcome {
  const offset = data[0] ?? 0;
  const from = data.subarray(LEGACY_WRITE_DATA.sizeBytes);
  if (from.length === 0 || !structure.isField(legacy, offset, from.length)) return INVALID_FIELD;
  structure.put(legacy, offset, from);
  return OK;
}

/** The room for the result is the width. */
function read({ data, resultRoom }: AdminRequest, legacy: MemberLegacy, structure: Structure): AdminOutcome {
  const offset = data[0] ?? 0;
  if (resultRoom === 0 || !structure.isField(legacy, offset, resultRoom)) return INVALID_FIELD;
  const result = new Uint8Array(resultRoom);
  structure.get(legacy, offset, result);
  return { status: "OK", result };
}

function notifyInfo(
  { memberId }: AdminRequest,
  { notifyAreas }: MemberLegacy,
  place: LegacyNotifyPlace,
  ownerAddress: OwnerNotifyAddress,
): AdminOutcome {
  const entries: { flags: number; bar: number; offset: bigint }[] = place === "owner"
    ? []
    : notifyAreas.map(({ bar, offset }) => ({
      flags: LEGACY_NOTIFY_FLAG.member,
      bar,
      offset: BigInt(offset),
    }));
  if (place !== "member") {
    const { bar, offset } = ownerAddress(memberId);
    // The owner's must not be pushed out by a member that has many.
    entries.splice(USABLE_ENTRIES - 1);
    entries.push({ flags: LEGACY_NOTIFY_FLAG.owner, bar, offset: BigInt(offset) });
  }
  const result = new Uint8Array(LEGACY_NOTIFY_ENTRIES * LEGACY_NOTIFY_INFO.sizeBytes);
  entries.slice(0, USABLE_ENTRIES).forEach((entry, i) =>
    LEGACY_NOTIFY_INFO.encodeInto(result, i * LEGACY_NOTIFY_INFO.sizeBytes, entry)
  );
  return { status: "OK", result };
}
