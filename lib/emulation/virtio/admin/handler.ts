/**
 * What answers one administration command, once group, opcode and member are found to be in order (N-3.8), and what a member is to it.
 *
 * @module
 */
import type { DevicePart } from "../../../virtio/spec/device_parts.ts";
import type { AdminQualifierName, AdminStatusName } from "../../../virtio/spec/admin.ts";

/** Where the index of a queue can be written, as 16 bits, to notify it. */
export interface NotifyArea {
  /** BAR of the function. */
  readonly bar: number;
  /** Bytes from its start. */
  readonly offset: number;
}

/** A member's legacy registers, as the commands reach them (N-3.14). Offsets of both spaces start at 0. */
export interface MemberLegacy {
  /** True when [offset, +length) is one field of the common registers, as they are now (with or without MSI-X). */
  isCommonField(offset: number, length: number): boolean;
  /** True when [offset, +length) is one field of the device-specific configuration. */
  isDeviceField(offset: number, length: number): boolean;
  /** Same effect as the register access; `into.length` bytes, little-endian. */
  readCommon(offset: number, into: Uint8Array): void;
  /** Same effect as the register access. */
  writeCommon(offset: number, from: Uint8Array): void;
  /** Same effect as the register access. */
  readDevice(offset: number, into: Uint8Array): void;
  /** Same effect as the register access. */
  writeDevice(offset: number, from: Uint8Array): void;
  /** Where its driver may notify: offsets in the member's own BARs. */
  readonly notifyAreas: readonly NotifyArea[];
  /** The owner's notify address of this member was written: as if `index` had been written to `queue_notify`. */
  notified(index: number): void;
}

/** A member's state, as parts of it (reference 3.6). */
export interface MemberParts {
  /** True after DEV_MODE_SET with the stopped flag. */
  readonly stopped: boolean;
  /** Stops or resumes; idempotent. */
  setStopped(stopped: boolean): void;
  /** All parts, in the standard's order. */
  get(): readonly DevicePart[];
  /** Most bytes that they can ever take, headers included. */
  readonly mostBytes: number;
  /** Why these parts cannot be taken now; undefined when they can. Nothing changes. */
  problemOf(parts: readonly DevicePart[]): string | undefined;
  /** Takes parts that `problemOf` has nothing against. They take effect at resume. */
  set(parts: readonly DevicePart[]): void;
}

/** One VF, to its PF. */
export interface GroupMember {
  /** PCI address. */
  readonly name: string;
  /** Undefined: the member has no legacy registers. */
  readonly legacy?: MemberLegacy;
  /** Its state as parts. Undefined: it cannot be had. */
  readonly parts?: MemberParts;
}

/** A command, its header checked. */
export interface AdminRequest {
  /** Opcode. */
  readonly opcode: number;
  /** Group type. */
  readonly groupType: number;
  /** As given. */
  readonly memberId: bigint;
  /** The member; undefined for commands without one. */
  readonly member?: GroupMember;
  /** `command_specific_data` as received. What is missing of it counts as zero (N-3.12); nothing may be written to it. */
  readonly data: Uint8Array;
  /** Bytes of the device-writable part behind the 8 of the status: how much of a result arrives. */
  readonly resultRoom: number;
}

/** An answer. */
export interface AdminOutcome {
  /** Status. */
  readonly status: AdminStatusName;
  /** Qualifier; default OK. */
  readonly qualifier?: AdminQualifierName;
  /** `command_specific_result`; what does not fit into the driver's buffer is discarded (N-3.12). */
  readonly result?: Uint8Array;
}

/** Answers one opcode. EINVAL, EAGAIN and ENOMEM leave no side effect (N-3.10). */
export type AdminHandler = (request: AdminRequest) => AdminOutcome;
