/**
 * A member's legacy registers by its owner's commands (virtio 1.4 §2.12.1.2; reference 3.3).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ADMIN_OPCODE } from "../spec/admin.ts";
import { legacyReadCall, legacyWriteCall, notifyInfoCall } from "./calls.ts";
import type { AdminGroup } from "./group.ts";
import type { LegacyNotifyArea, LegacyRegisterAccess, LegacyWidth } from "./legacy_access.ts";

/** `LegacyRegisterAccess` by commands, in this thread. */
export class MemberLegacyRegisters implements LegacyRegisterAccess {
  static {
    typedErrors(this);
  }

  readonly name: string;
  readonly #group: AdminGroup;
  readonly #memberId: bigint;

  /** Sends nothing. @param name of the member */
  constructor(group: AdminGroup, memberId: bigint, name: string) {
    this.#group = group;
    this.#memberId = memberId;
    this.name = `${name} by way of ${group.name}`;
  }

  /** LEGACY_COMMON_CFG_READ. @throws UsageError, and as `AdminGroup.runNow` */
  readCommon(offset: number, width: LegacyWidth): number {
    return this.#group.runNow(legacyReadCall(this.#memberId, "common", offset, width));
  }

  /** LEGACY_COMMON_CFG_WRITE. @throws as `readCommon` */
  writeCommon(offset: number, width: LegacyWidth, value: number): void {
    this.#group.runNow(legacyWriteCall(this.#memberId, "common", offset, width, value));
  }

  /** LEGACY_DEV_CFG_READ. @throws as `readCommon` */
  readDevice(offset: number, width: LegacyWidth): number {
    return this.#group.runNow(legacyReadCall(this.#memberId, "device", offset, width));
  }

  /** LEGACY_DEV_CFG_WRITE. @throws as `readCommon` */
  writeDevice(offset: number, width: LegacyWidth, value: number): void {
    this.#group.runNow(legacyWriteCall(this.#memberId, "device", offset, width, value));
  }

  /** LEGACY_NOTIFY_INFO, if it is in use (N-3.17). */
  notifyAreas(): readonly LegacyNotifyArea[] {
    this.#group.readyNow();
    if (!this.#group.uses(ADMIN_OPCODE.LEGACY_NOTIFY_INFO)) return [];
    return this.#group.runNow(notifyInfoCall(this.#memberId));
  }
}

/** The same without blocking: many members can be asked at once. */
export class AsyncLegacyRegisters {
  static {
    typedErrors(this);
  }

  /** As `LegacyRegisterAccess.name`. */
  readonly name: string;
  readonly #group: AdminGroup;
  readonly #memberId: bigint;

  /** Sends nothing. @param name of the member */
  constructor(group: AdminGroup, memberId: bigint, name: string) {
    this.#group = group;
    this.#memberId = memberId;
    this.name = `${name} by way of ${group.name}`;
  }

  /** LEGACY_COMMON_CFG_READ. @throws UsageError, and as `AdminGroup.run` */
  readCommon(offset: number, width: LegacyWidth): Promise<number> {
    return this.#group.run(legacyReadCall(this.#memberId, "common", offset, width));
  }

  /** LEGACY_COMMON_CFG_WRITE. @throws as `readCommon` */
  async writeCommon(offset: number, width: LegacyWidth, value: number): Promise<void> {
    await this.#group.run(legacyWriteCall(this.#memberId, "common", offset, width, value));
  }

  /** LEGACY_DEV_CFG_READ. @throws as `readCommon` */
  readDevice(offset: number, width: LegacyWidth): Promise<number> {
    return this.#group.run(legacyReadCall(this.#memberId, "device", offset, width));
  }

  /** LEGACY_DEV_CFG_WRITE. @throws as `readCommon` */
  async writeDevice(offset: number, width: LegacyWidth, value: number): Promise<void> {
    await this.#group.run(legacyWriteCall(this.#memberId, "device", offset, width, value));
  }

  /** LEGACY_NOTIFY_INFO, if it is in use (N-3.17). */
  async notifyAreas(): Promise<readonly LegacyNotifyArea[]> {
    await this.#group.ready();
    if (!this.#group.uses(ADMIN_OPCODE.LEGACY_NOTIFY_INFO)) return [];
    return await this.#group.run(notifyInfoCall(this.#memberId));
  }
}
