/**
 * One member of the SR-IOV group, as its owner reaches it.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import type { DevicePart } from "../spec/device_parts.ts";
import { modeSetCall, type PartsObjectKind } from "./calls.ts";
import { AdminTimeoutError } from "./error.ts";
import type { AdminCommand, AdminReply } from "./frame.ts";
import type { AdminCallOptions } from "./group.ts";
import type { LegacyRegisterAccess } from "./legacy_access.ts";
import { AsyncLegacyRegisters, MemberLegacyRegisters } from "./legacy_registers.ts";
import type { MemberContext } from "./member_context.ts";
import { checkPartOrder, PartsObject } from "./parts_object.ts";

/** A VF. It outlives resets of the owner. */
export class AdminMember {
  static {
    typedErrors(this);
  }

  /** Index of the VF, from 0. */
  readonly vf: number;
  /** `group_member_id`: the index + 1. */
  readonly memberId: bigint;
  /** PCI address, if the owner was told addresses; else `VF 3`. */
  readonly name: string;
  /** Its legacy registers, synchronously: what a `pci-legacy-admin` transport is fed by. */
  readonly legacy: LegacyRegisterAccess;
  /** The same without blocking. */
  readonly legacyAsync: AsyncLegacyRegisters;
  readonly #context: MemberContext;

  /** Sends nothing. @throws UsageError for what is no index of a VF */
  constructor(context: MemberContext, vf: number, name: string) {
    if (!Number.isInteger(vf) || vf < 0 || vf > 0xfffe) {
      throw new UsageError(`VF ${vf}`, {
        hint: "VFs are counted from 0 here; the first is member 1 of the group",
      });
    }
    this.vf = vf;
    this.memberId = BigInt(vf) + 1n;
    this.name = name;
    this.#context = context;
    this.legacy = new MemberLegacyRegisters(context.group, this.memberId, name);
    this.legacyAsync = new AsyncLegacyRegisters(context.group, this.memberId, name);
  }

  /** As this driver set it since the owner's reset; undefined when it did not, or the device did not answer. */
  get stopped(): boolean | undefined {
    return this.#context.record().stopped;
  }

  /** DEV_MODE_SET: stops the VF (true), or lets it go on (false). Either may be repeated. @throws as `AdminGroup.run` */
  async setMode(stopped: boolean): Promise<void> {
    const record = this.#context.record();
    try {
      await this.#context.group.run(modeSetCall(this.memberId, stopped));
      record.stopped = stopped;
    } catch (error) {
      // One that was sent and not answered may still be done.
      if (error instanceof AdminTimeoutError && error.queue !== undefined) record.stopped = undefined;
      throw error;
    }
  }

  /**
   * Creates an object to get or to set parts with; the capability is negotiated first, if it was not. Ids are chosen below the limits.
   * @throws ExhaustedError (as many as the device allows), UnsupportedError, and as `AdminGroup.run`
   */
  createPartsObject(kind: PartsObjectKind): Promise<PartsObject> {
    return PartsObject.create(this.#context, this, kind);
  }

  /** All parts of the VF, in their order. Stop it first if they must not change meanwhile. @throws as `createPartsObject`, DeviceError */
  async saveParts(): Promise<DevicePart[]> {
    return await this.#with("get", (object) => object.getAll());
  }

  /**
   * Stops the VF and sets parts, which take effect when it is resumed. It stays stopped, also when this fails.
   * @throws UsageError (their order), and as `createPartsObject`
   */
  async loadParts(parts: readonly DevicePart[]): Promise<void> {
    checkPartOrder(this.name, parts);
    await this.setMode(true);
    await this.#with("set", (object) => object.set(parts));
  }

  /** A command made by hand, to this member. */
  raw(
    command: Pick<AdminCommand, "opcode" | "data" | "resultBytes" | "detail">,
    options: AdminCallOptions = {},
  ): Promise<AdminReply> {
    return this.#context.group.raw({ ...command, memberId: this.memberId }, options);
  }

  /** Destroys the object whatever comes of it; the first error counts. */
  async #with<T>(kind: PartsObjectKind, act: (object: PartsObject) => Promise<T>): Promise<T> {
    const object = await this.createPartsObject(kind);
    let result: T;
    try {
      result = await act(object);
    } catch (error) {
      await object.destroy().catch(() => {});
      throw error;
    }
    await object.destroy();
    return result;
  }
}
