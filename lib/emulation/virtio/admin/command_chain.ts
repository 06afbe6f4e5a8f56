/**
 * An administration command in a descriptor chain: read and answered wherever the descriptors end (virtio 1.4 §2.13.1; reference 3.1).
 *
 * @module
 */
import {
  ADMIN_CMD,
  ADMIN_CMD_STATUS,
  ADMIN_OPCODE,
  ADMIN_QUALIFIER,
  ADMIN_STATUS,
} from "../../../virtio/spec/admin.ts";
import type { Chain } from "../queue/chain.ts";
import type { AdminOutcome } from "./handler.ts";

/** A command as it lies in a chain. What is missing of its head counts as zero (N-3.12). */
export interface AdminCommand {
  /** Opcode. */
  readonly opcode: number;
  /** Group type. */
  readonly groupType: number;
  /** Member id. */
  readonly memberId: bigint;
  /** `command_specific_data`, a copy; cut off at what any command of this opcode can mean. */
  readonly data: Uint8Array;
  /** There was more of it than a device can hold. */
  readonly tooLong: boolean;
  /** Bytes of the device-writable part behind the 8 of the status. */
  readonly resultRoom: number;
}

const HEAD_BYTES = ADMIN_CMD.sizeBytes;
const STATUS_BYTES = ADMIN_CMD_STATUS.sizeBytes;
/** One bit for every opcode that there can be. No other command of a fixed form comes near. */
const DATA_BYTES_MAX = 0x1_0000 / 8;
/** Of device parts: a driver could describe gigabytes, and this memory is copied. */
const PARTS_BYTES_MAX = 1 << 20;
const WITH_PARTS: ReadonlySet<number> = new Set([ADMIN_OPCODE.DEV_PARTS_GET, ADMIN_OPCODE.DEV_PARTS_SET]);

/** Reads commands; holds scratch memory only. */
export class AdminCommandReader {
  readonly #head = new Uint8Array(HEAD_BYTES);

  /** The command of a chain, copied at once: the driver may change its memory at any time. */
  read(chain: Chain): AdminCommand {
    const head = this.#head.fill(0);
    chain.peek(head);
    const { opcode, group_type, group_member_id } = ADMIN_CMD.decode(head);
    const max = WITH_PARTS.has(opcode) ? PARTS_BYTES_MAX : DATA_BYTES_MAX;
    const there = Math.max(0, chain.readableBytes - HEAD_BYTES);
    const data = new Uint8Array(Math.min(there, max));
    chain.peek(data, HEAD_BYTES);
    return {
      opcode,
      groupType: group_type,
      memberId: group_member_id,
      data,
      tooLong: there > max && max === PARTS_BYTES_MAX,
      resultRoom: Math.max(0, chain.writableBytes - STATUS_BYTES),
    };
  }
}

/**
 * Bytes of an answer: status, then the result, padded with zeros to a multiple of 8 (N-3.12). The padding of a legacy read has no room, since
 * the room is the width of the access: such a result stays exact.
 */
export function encodeOutcome({ status, qualifier = "OK", result }: AdminOutcome): Uint8Array<ArrayBuffer> {
  const bytes = ADMIN_CMD_STATUS.encode(
    { status: ADMIN_STATUS[status], status_qualifier: ADMIN_QUALIFIER[qualifier] },
    8 * Math.ceil((result?.length ?? 0) / 8),
  );
  if (result !== undefined) bytes.set(result, STATUS_BYTES);
  return bytes;
}
