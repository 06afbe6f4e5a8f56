/**
 * A resource object by which a member's state is read or written (virtio 1.4 §2.12.1.4, §2.12.1.5; reference 3.6).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, DeviceError, ExhaustedError, UsageError } from "../../errors/mod.ts";
import { DEV_PART } from "../spec/admin.ts";
import { checkPart, type DevicePart, type DevicePartHeader, partOrderProblem } from "../spec/device_parts.ts";
import {
  partsGetCall,
  partsListCall,
  partsMetadataCall,
  partsObjectCreateCall,
  partsObjectDestroyCall,
  type PartsObjectKind,
  partsSetCall,
} from "./calls.ts";
import { AdminCommandError } from "./error.ts";
import type { MemberContext, MemberName, MemberRecord } from "./member_context.ts";

export type { PartsObjectKind } from "./calls.ts";

/** Beside what the device says that parts take at most. */
const SLACK_BYTES = 256;
/** Each has so many times the room. */
const TRIES = 3;
/** Ids that may be found taken before no further one is tried. */
const TAKEN_MAX = 1000;

/** An object of type DEV_PARTS. A reset of the owner destroys it. */
export class PartsObject implements AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** The VF that it belongs to. */
  readonly member: MemberName;
  /** What it is for. */
  readonly kind: PartsObjectKind;
  /** The lowest one that was free. */
  readonly id: number;
  readonly #context: MemberContext;
  readonly #record: MemberRecord;

  private constructor(context: MemberContext, member: MemberName, kind: PartsObjectKind, id: number) {
    this.#context = context;
    this.#record = context.record();
    this.member = member;
    this.kind = kind;
    this.id = id;
  }

  /**
   * Made by `AdminMember.createPartsObject`.
   * @internal
   */
  static async create(
    context: MemberContext,
    member: MemberName,
    kind: PartsObjectKind,
  ): Promise<PartsObject> {
    const limits = await context.capabilities.useParts();
    const record = context.record();
    const refused = new Set<number>();
    for (;;) {
      const same = [...record.objects.values()].filter((one) => one === kind).length;
      let id = 0;
      while (record.objects.has(id) || refused.has(id)) id++;
      const why = same >= limits[kind]
        ? `the device has ${limits[kind]} for a VF`
        : refused.size > TAKEN_MAX
        ? `ids up to ${id - 1} are taken`
        : undefined;
      if (why !== undefined) {
        throw new ExhaustedError(`${member.name}: no more objects to ${kind} device parts; ${why}`, {
          hint: "destroy one first",
        });
      }
      // Reserved before it is asked for, so that calls at the same time take other ids.
      record.objects.set(id, kind);
      try {
        await context.group.run(partsObjectCreateCall(member.memberId, id, kind));
      } catch (error) {
        record.objects.delete(id);
        if (!(error instanceof AdminCommandError) || error.statusName !== "EEXIST") throw error;
        // Left behind by somebody else, or the device counts ids over all members.
        refused.add(id);
        continue;
      }
      if (record !== context.record()) throw new ClosedError(`device parts object ${id} of ${member.name}`);
      context.capabilities.countObjects(1);
      return new PartsObject(context, member, kind, id);
    }
  }

  /** False after `destroy`, and after a reset of the owner. */
  get exists(): boolean {
    return this.#record === this.#context.record() && this.#record.objects.has(this.id);
  }

  /** Bytes that all parts take at most, headers included. @throws UsageError (an object to set with), ClosedError, and as `AdminGroup.run` */
  async sizeBytes(): Promise<number> {
    this.#check("get");
    return await this.#context.group.run(partsMetadataCall(this.member.memberId, this.id, "size"));
  }

  /** Number of parts. @throws as `sizeBytes` */
  async count(): Promise<number> {
    this.#check("get");
    return await this.#context.group.run(partsMetadataCall(this.member.memberId, this.id, "count"));
  }

  /** Headers of all parts, in their order. @throws as `sizeBytes` */
  async list(): Promise<DevicePartHeader[]> {
    return await this.#withRoom(
      () => this.count(),
      (count) => this.#context.group.run(partsListCall(this.member.memberId, this.id, count)),
    );
  }

  /** All parts, in their order. @throws DeviceError (what came are no parts), and as `sizeBytes` */
  async getAll(): Promise<DevicePart[]> {
    return await this.#get("all");
  }

  /** Parts that headers name, those that there are. @throws as `getAll` */
  async getSelected(headers: readonly DevicePartHeader[]): Promise<DevicePart[]> {
    return await this.#get(headers);
  }

  /**
   * Sets parts of a stopped VF. @throws UsageError (an object to get with; their order; the VF was not stopped by this driver), ClosedError, and as
   * `AdminGroup.run`
   */
  async set(parts: readonly DevicePart[]): Promise<void> {
    this.#check("set");
    checkPartOrder(this.member.name, parts);
    if (this.#record.stopped !== true) {
      throw new UsageError(`${this.member.name}: device parts set while it runs`, {
        hint: "call setMode(true) first",
      });
    }
    await this.#context.group.run(partsSetCall(this.member.memberId, this.id, parts));
  }

  /** Destroys it. May be called again. @throws as `AdminGroup.run` */
  async destroy(): Promise<void> {
    if (!this.exists) return;
    try {
      await this.#context.group.run(partsObjectDestroyCall(this.member.memberId, this.id));
    } catch (error) {
      // It is gone: by an earlier try, as when that was not answered in time.
      if (!(error instanceof AdminCommandError) || error.statusName !== "ENXIO") throw error;
    }
    // Two calls at a time destroy one object, and a reset destroys all.
    if (this.exists && this.#record.objects.delete(this.id)) this.#context.capabilities.countObjects(-1);
  }

  /** As `destroy`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy();
  }

  #get(wanted: readonly DevicePartHeader[] | "all"): Promise<DevicePart[]> {
    return this.#withRoom(
      async () => await this.sizeBytes() + SLACK_BYTES,
      (bytes) => this.#context.group.run(partsGetCall(this.member.memberId, this.id, wanted, bytes)),
    );
  }

  /** State may grow between being measured and being read. @param read resolves to an error when more room may help */
  async #withRoom<T>(
    measure: () => Promise<number>,
    read: (room: number) => Promise<T | DeviceError>,
  ): Promise<T> {
    for (let tries = 1;; tries++) {
      const found = await read(tries * await measure()).catch((error) => {
        if (error instanceof AdminCommandError && error.statusName === "ENOMEM") return error;
        throw error;
      });
      if (!(found instanceof DeviceError)) return found;
      if (tries === TRIES) throw found;
    }
  }

  #check(kind: PartsObjectKind): void {
    if (!this.exists) throw new ClosedError(`device parts object ${this.id} of ${this.member.name}`);
    if (this.kind === kind) return;
    throw new UsageError(`${this.member.name}: object ${this.id} is there to ${this.kind} device parts`, {
      hint: `createPartsObject("${kind}")`,
    });
  }
}

/** Parts are set in their order. @throws UsageError, also for what are no parts */
export function checkPartOrder(name: string, parts: readonly DevicePart[]): void {
  parts.forEach(checkPart);
  const problem = partOrderProblem(parts, [DEV_PART.DEV_FEATURES]);
  if (problem !== undefined) throw new UsageError(`${name}: device parts: ${problem}`);
}
