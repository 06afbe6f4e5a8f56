/**
 * The seam between what issues the legacy register commands and what drives a function by them.
 *
 * @module
 */

/** Register widths in bytes. A device-specific field of 8 bytes is two accesses of 4. */
export type LegacyWidth = 1 | 2 | 4;

/** A place where legacy notifications are written: 16 bits, the queue's index (reference 3.3). */
export interface LegacyNotifyArea {
  /** Whose BAR: the owner's (PF) or the member's (VF). */
  readonly whose: "owner" | "member";
  /** 1 to 5. */
  readonly bar: number;
  /** Bytes from the start of the BAR; even. */
  readonly offset: number;
}

/**
 * One function's legacy registers, wherever they are. Offsets are those of LEGACY_COMMON_CFG_* and LEGACY_DEV_CFG_*: both parts start at 0.
 * Every call is synchronous and is one command; its failure is an `AdminCommandError`.
 */
export interface LegacyRegisterAccess {
  /** Function that is accessed, and by way of which other, for messages: `0000:01:00.1 by way of 0000:01:00.0`. */
  readonly name: string;
  /** Reads a common register (reference 2.3). */
  readCommon(offset: number, width: LegacyWidth): number;
  /** Writes a common register. */
  writeCommon(offset: number, width: LegacyWidth, value: number): void;
  /** Reads device-specific configuration. */
  readDevice(offset: number, width: LegacyWidth): number;
  /** Writes device-specific configuration. */
  writeDevice(offset: number, width: LegacyWidth, value: number): void;
  /**
   * Where to notify, best first. Entries have valid flags, BAR 1 to 5 and an even offset; whether they lie inside their BAR is for the caller, who has
   * the functions (N-3.17). Empty when the device has no LEGACY_NOTIFY_INFO: then a notification is a write of `queue_notify`.
   */
  notifyAreas(): readonly LegacyNotifyArea[];
}
