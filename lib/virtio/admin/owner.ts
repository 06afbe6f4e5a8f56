/**
 * The driver's side of an owner device: its groups, their members, its capabilities.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, UnsupportedError } from "../../errors/mod.ts";
import { noCounts } from "../control/engine.ts";
import type { VirtioTransport } from "../transport/transport.ts";
import { AdminCapabilities } from "./capabilities.ts";
import type { AdminCommand, AdminReply } from "./frame.ts";
import { type AdminCallOptions, AdminGroup, type AdminNowOptions, isNoSuchGroup } from "./group.ts";
import { AdminMember } from "./member.ts";
import type { MemberRecord } from "./member_context.ts";
import type { AdminQueueOptions } from "./options.ts";
import type { AdminQueues, AdminStatistics } from "./queues.ts";

/** How an owner is driven. */
export interface GroupOwnerOptions extends AdminQueueOptions {
  /** Administration queues to use, at most. Default 4; the device may have fewer. */
  readonly adminQueues?: number;
  /**
   * When LIST_QUERY and LIST_USE are sent (N-3.1). `open` (default): at once, for both groups, and after each reset; a group that does not exist yet,
   * because VF Enable is clear, is asked again at its first command. `lazy`: before the first command of a group. `manual`: by `listUse` only.
   */
  readonly lists?: "open" | "lazy" | "manual";
  /** PCI address of a VF by its index, for messages. */
  readonly memberName?: (vf: number) => string;
}

/**
 * Group administration by an owner. Objects of it (`member(3).legacy`) stay good over resets of the owner; `PartsObject`s do not.
 *
 * Errors of all calls: `AdminCommandError`, `AdminTimeoutError`, `DeviceError`, `UsageError` (N-3.1, N-3.2, N-3.7), `UnsupportedError`, and
 * `ClosedError` while there are no queues: after `close`, during a reset, and for commands that a reset overtook.
 */
export class GroupOwner {
  static {
    typedErrors(this);
  }

  /** PCI address or path of the owner. */
  readonly name: string;
  /** The device itself. */
  readonly self: AdminGroup;
  /** Its VFs. */
  readonly sriov: AdminGroup;
  /** Of the self group. */
  readonly capabilities: AdminCapabilities;
  readonly #options: GroupOwnerOptions;
  readonly #members = new Map<number, AdminMember>();
  readonly #records = new Map<number, MemberRecord>();
  #queues: AdminQueues | null = null;
  #before: AdminStatistics = noCounts();

  /** Without queues. */
  constructor(name: string, options: GroupOwnerOptions = {}) {
    this.name = name;
    this.#options = options;
    const parts = {
      name,
      queues: () => this.queues,
      lists: options.lists === "manual" ? "manual" : "auto",
    } as const;
    this.self = new AdminGroup("self", parts);
    this.sriov = new AdminGroup("sriov", parts);
    this.capabilities = new AdminCapabilities(this.self);
  }

  /** The queues of now: another object after a reset. @throws ClosedError when there are none */
  get queues(): AdminQueues {
    if (this.#queues === null || this.#queues.closed) {
      throw new ClosedError(`administration queues of ${this.name}`);
    }
    return this.#queues;
  }

  /** Commands so far, over all resets. */
  get statistics(): AdminStatistics {
    return this.#queues === null ? this.#before : sum(this.#before, this.#queues.statistics());
  }

  /** A VF by its index, from 0; the same object each time. Nothing is sent, so it need not exist. @throws UsageError */
  member(vf: number): AdminMember {
    const known = this.#members.get(vf);
    if (known !== undefined) return known;
    const context = { group: this.sriov, capabilities: this.capabilities, record: () => this.#record(vf) };
    const made = new AdminMember(context, vf, this.#options.memberName?.(vf) ?? `VF ${vf}`);
    this.#members.set(vf, made);
    return made;
  }

  /** A group by its name. */
  group(name: "self" | "sriov"): AdminGroup {
    return this[name];
  }

  /** A command made by hand, to any group. Nothing is checked but its frame: the device says what it thinks of it. */
  async execute(command: AdminCommand, options: AdminCallOptions = {}): Promise<AdminReply> {
    return await this.queues.execute(command, options);
  }

  /** As `execute`, in this thread. */
  executeNow(command: AdminCommand, options: AdminNowOptions = {}): AdminReply {
    return this.queues.executeNow(command, options);
  }

  /**
   * Runs `action` while no command is outstanding, and holds commands back until it is over: for a change of the number of VFs, or of VF Migration
   * Capable (N-3.7). @throws as `AdminQueues.quiet`
   */
  async quiet<T>(action: () => T | Promise<T>, options: AdminCallOptions = {}): Promise<T> {
    return await this.queues.quiet(action, options);
  }

  /** Takes the queues of a new session: nothing is in use, no object exists. The session closes them. */
  attach(queues: AdminQueues): void {
    if (this.#queues !== null) this.#before = this.statistics;
    this.#queues = queues;
    this.self.forget();
    this.sriov.forget();
    this.capabilities.forget();
    this.#records.clear();
  }

  /**
   * LIST_QUERY and LIST_USE of both groups, unless they are left for later. A group that the device does not have is no error here.
   * @throws as `AdminGroup.listUse`
   */
  async begin(): Promise<void> {
    if ((this.#options.lists ?? "open") !== "open") return;
    for (const group of [this.self, this.sriov]) {
      // N-3.7: without VFs there is no such group yet, and of VFs that may migrate nobody must ask.
      if (group === this.sriov && (this.queues.vfMigrationCapable || this.#options.vfCount?.() === 0)) {
        continue;
      }
      try {
        await group.start();
      } catch (error) {
        if (!isNoSuchGroup(error)) throw error;
      }
    }
  }

  #record(vf: number): MemberRecord {
    let record = this.#records.get(vf);
    if (record === undefined) {
      record = { stopped: undefined, objects: new Map() };
      this.#records.set(vf, record);
    }
    return record;
  }
}

/**
 * Numbers of the administration queues to use.
 * @param most as `GroupOwnerOptions.adminQueues` @throws UnsupportedError when the device has none, UsageError
 */
export function adminQueueNumbers(transport: VirtioTransport, most = 4): number[] {
  const { first, count } = transport.adminQueues ?? { first: 0, count: 0 };
  if (count === 0) {
    throw new UnsupportedError(
      `${transport.name} has no administration queue: it does not offer VIRTIO_F_ADMIN_VQ`,
      {
        hint:
          "only a PF of a device with group administration has one: `inspect` shows the features; profile `spec` gives bit 41 that meaning",
      },
    );
  }
  return Array.from({ length: Math.min(count, Math.max(1, Math.trunc(most))) }, (_, at) => first + at);
}

function sum(a: AdminStatistics, b: AdminStatistics): AdminStatistics {
  const both = noCounts();
  for (const name of Object.keys(both) as (keyof AdminStatistics)[]) both[name] = a[name] + b[name];
  return both;
}
