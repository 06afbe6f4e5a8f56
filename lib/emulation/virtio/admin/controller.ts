/**
 * The administration queues of a PF: takes commands, checks group, opcode and member in this order (N-3.8), and has them carried out.
 *
 * @module
 */
import { RingsideError } from "../../../errors/mod.ts";
import {
  ADMIN_CMD,
  ADMIN_CMD_STATUS,
  ADMIN_GROUP,
  ADMIN_OPCODE,
  adminOpcodeName,
} from "../../../virtio/spec/admin.ts";
import { FEATURE } from "../../../virtio/spec/features.ts";
import type { DeviceCore } from "../../device_model.ts";
import type { LegacyNotifyPlace } from "../../function_topology.ts";
import { Chain } from "../queue/chain.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import { type AdminCommand, AdminCommandReader, encodeOutcome } from "./command_chain.ts";
import { CommandGroup } from "./command_group.ts";
import type { AdminEngine, GroupPlace } from "./engine.ts";
import type { AdminOutcome, GroupMember, NotifyArea } from "./handler.ts";
import { LEGACY_ACCESSES, legacyCommands } from "./legacy_commands.ts";
import { INVALID_GROUP, INVALID_MEMBER, INVALID_OPCODE, NO_ROOM } from "./outcomes.ts";
import { partsCommands } from "./parts_commands.ts";
import { PartsObjects } from "./parts_objects.ts";

/** What a controller is made from. */
export interface AdminControllerOptions {
  /** Administration queues, at least 1. */
  readonly queues: number;
  /** VFs that the owner's SR-IOV capability has; 0: it has none, and the SR-IOV group does not exist. */
  readonly totalVfs: number;
  /** The VFs have legacy registers: all four commands are supported, or none (N-3.14). */
  readonly legacyVfs: boolean;
  /** Where the VFs are notified; `none`: LEGACY_NOTIFY_INFO is not supported. */
  readonly legacyNotify: LegacyNotifyPlace;
}

/** Entries of each administration queue. */
const ADMIN_QUEUE_SIZE = 128;
/** VIRTIO_DEV_PARTS_CAP: objects of each kind that a member may have. */
const DEV_PARTS_LIMIT = 16;

const HEAD_BYTES = ADMIN_CMD.sizeBytes;
const STATUS_BYTES = ADMIN_CMD_STATUS.sizeBytes;
/** One notify address: the 16 bits that are written there. */
const NOTIFY_BYTES = 2;

/** See the module. Members join by themselves (`place`) when they connect, and leave when they close. */
export class AdminController implements AdminEngine {
  readonly queueSizes: readonly number[];
  readonly notifyBytes: number;
  readonly #self: CommandGroup;
  /** Undefined without an SR-IOV capability. */
  readonly #sriov: CommandGroup | undefined;
  readonly #objects = new PartsObjects({ get: DEV_PARTS_LIMIT, set: DEV_PARTS_LIMIT });
  readonly #members = new Map<bigint, GroupMember>();
  readonly #reader = new AdminCommandReader();
  readonly #chain = new Chain(ADMIN_QUEUE_SIZE);
  #owner: DeviceCore | null = null;
  #firstQueue = 0;
  #notifyArea: NotifyArea = { bar: 0, offset: 0 };
  /** NumVFs; 0 while VF Enable is clear. */
  #numVfs = 0;
  /** Queue that is served first next time, so that none starves. */
  #first = 0;

  /** A controller without members. */
  constructor({ queues, totalVfs, legacyVfs, legacyNotify }: AdminControllerOptions) {
    this.queueSizes = new Array<number>(queues).fill(ADMIN_QUEUE_SIZE);
    const atOwner = legacyVfs && (legacyNotify === "owner" || legacyNotify === "both");
    this.notifyBytes = atOwner ? NOTIFY_BYTES * totalVfs : 0;
    const withVfs = totalVfs > 0;
    this.#self = new CommandGroup(withVfs ? this.#objects.capabilityCommands : new Map());
    this.#sriov = withVfs
      ? new CommandGroup(
        new Map([
          ...(legacyVfs ? legacyCommands(legacyNotify, (memberId) => this.#ownerAddress(memberId)) : []),
          ...this.#objects.objectCommands,
          ...partsCommands(this.#objects),
        ]),
      )
      : undefined;
  }

  /** The place of a VF in the group. @param vfIndex 0 for the first; its member id is one more */
  place(vfIndex: number): GroupPlace {
    const id = BigInt(vfIndex + 1);
    let mine: GroupMember | undefined;
    return {
      join: (member) => {
        mine = member;
        this.#members.set(id, member);
      },
      leave: () => {
        if (mine === undefined || this.#members.get(id) !== mine) return;
        this.#members.delete(id);
        this.#objects.forget(id);
      },
    };
  }

  /** Called once, before anything else. */
  connect(owner: DeviceCore, firstQueue: number, notifyArea: NotifyArea): void {
    this.#owner = owner;
    this.#firstQueue = firstQueue;
    this.#notifyArea = notifyArea;
  }

  /** Forgets owner and members. */
  close(): void {
    this.reset();
    this.#members.clear();
    this.#numVfs = 0;
    this.#owner = null;
  }

  /** Device reset: every list, capability and object of the driver is forgotten. The VFs stay. */
  reset(): void {
    this.#self.reset();
    this.#sriov?.reset();
    this.#objects.reset();
  }

  /** NumVFs took effect. */
  vfsEnabled(count: number): void {
    this.#numVfs = count;
  }

  /** A notification through the owner's BAR: as if written to `queue_notify` of the member (N-3.15). */
  notifyWritten(offset: number, from: Uint8Array): void {
    const index = Math.floor(offset / NOTIFY_BYTES);
    if (from.length !== NOTIFY_BYTES || offset % NOTIFY_BYTES !== 0) {
      this.#owner?.report("N-3.16", `a notify address of VF ${index} was written with ${from.length} bytes`);
      return;
    }
    const legacy = this.#member(BigInt(index + 1))?.legacy;
    if (legacy === undefined) this.#owner?.report("N-3.16", `VF ${index} was notified, there is no such VF`);
    else legacy.notified(from[0]! | from[1]! << 8);
  }

  /** Carries out at most `budget` commands. @returns how many; 0 means idle */
  poll(budget: number): number {
    const count = this.queueSizes.length;
    const first = this.#first;
    this.#first = (first + 1) % count;
    let done = 0;
    for (let i = 0; i < count && done < budget; i++) done += this.serve((first + i) % count, budget - done);
    return done;
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    let work = false;
    for (let index = 0; index < this.queueSizes.length; index++) {
      if (this.#queue(index)?.arm()) work = true;
    }
    return work;
  }

  /** An enabled administration queue of a live device; its numbers begin at 0. */
  #queue(index: number): DeviceQueue | undefined {
    const negotiated = ((this.#owner?.negotiatedFeatures ?? 0n) & FEATURE.ADMIN_VQ) !== 0n;
    return negotiated ? this.#owner?.queue(this.#firstQueue + index) : undefined;
  }

  /** One burst of a queue, in its order (N-3.6). @returns how many commands */
  protected serve(index: number, budget: number): number {
    const queue = this.#queue(index);
    if (queue === undefined) return 0;
    const chain = this.#chain;
    let done = 0;
    while (done < budget) {
      const id = queue.pop(chain);
      if (id < 0) break;
      if (done === 0) queue.suppress();
      const command = this.#reader.read(chain);
      this.#judge(command, chain, index, done);
      this.answer(queue, id, chain, command);
      done++;
    }
    if (done > 0) queue.publish();
    return done;
  }

  /** Chains that wait in a queue, at most `atMost`. */
  protected waiting(index: number, atMost: number): number {
    return this.#queue(index)?.available(atMost) ?? 0;
  }

  /** Carries a command out and returns its chain. */
  protected answer(queue: DeviceQueue, id: number, chain: Chain, command: AdminCommand): void {
    queue.pushUsed(id, chain.write(encodeOutcome(this.carryOut(command))));
  }

  /** Checks a command, and has it carried out. */
  protected carryOut(command: AdminCommand): AdminOutcome {
    const { opcode, memberId } = command;
    const group = this.#group(command.groupType);
    if (group === undefined) return INVALID_GROUP;
    if (!group.allows(opcode)) return INVALID_OPCODE;
    // These two are about the group: the member id is not used, and so ignored.
    if (opcode === ADMIN_OPCODE.LIST_QUERY) return group.query();
    if (opcode === ADMIN_OPCODE.LIST_USE) return group.use(command.data);
    const member = group === this.#sriov ? this.#member(memberId) : undefined;
    if (group === this.#sriov ? member === undefined : memberId !== 0n) return INVALID_MEMBER;
    if (command.tooLong) return NO_ROOM;
    try {
      return group.handler(opcode)!({ ...command, member });
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      this.#owner?.report(
        "administration",
        `${adminOpcodeName(opcode)} of member ${memberId}: ${error.message}`,
      );
      return { status: "EINVAL", qualifier: "INVALID_COMMAND" };
    }
  }

  #group(type: number): CommandGroup | undefined {
    if (type === ADMIN_GROUP.self) return this.#self;
    return type === ADMIN_GROUP.sriov && this.#numVfs > 0 ? this.#sriov : undefined;
  }

  /** Members from 1 to NumVFs; undefined for others, and for one that is just appearing or vanishing. */
  #member(id: bigint): GroupMember | undefined {
    return id >= 1n && id <= BigInt(this.#numVfs) ? this.#members.get(id) : undefined;
  }

  #ownerAddress(memberId: bigint): NotifyArea {
    const { bar, offset } = this.#notifyArea;
    return { bar, offset: offset + NOTIFY_BYTES * (Number(memberId) - 1) };
  }

  /** Notes what a driver must not do; the device answers all the same. @param unpublished commands whose answers it cannot have seen yet */
  #judge(command: AdminCommand, chain: Chain, index: number, unpublished: number): void {
    const report = (rule: string, message: string) =>
      this.#owner?.report(rule, message, this.#firstQueue + index);
    const { opcode } = command;
    const name = adminOpcodeName(opcode);
    const { readableBytes, writableBytes } = chain;
    if (readableBytes < HEAD_BYTES || writableBytes < STATUS_BYTES) {
      report(
        "N-3.3",
        `a command of ${readableBytes} bytes with ${writableBytes} for its answer; ${HEAD_BYTES} and ${STATUS_BYTES} are the least`,
      );
    } else if (!LEGACY_ACCESSES.has(opcode) && (readableBytes % 8 !== 0 || writableBytes % 8 !== 0)) {
      report("N-3.3", `${name}: ${readableBytes} and ${writableBytes} bytes, both must be multiples of 8`);
    }
    const group = this.#group(command.groupType);
    if (group === undefined || !group.supports(opcode)) return;
    if (!group.allows(opcode)) report("N-3.1", `${name} is not in the list of LIST_USE`);
    else if (opcode === ADMIN_OPCODE.LIST_USE && (unpublished > 0 || this.#anyWaiting())) {
      report("N-3.2", "LIST_USE was given while other commands are outstanding");
    }
  }

  #anyWaiting(): boolean {
    for (let index = 0; index < this.queueSizes.length; index++) if (this.waiting(index, 1) > 0) return true;
    return false;
  }
}
