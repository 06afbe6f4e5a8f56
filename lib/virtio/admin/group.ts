/**
 * A group of devices as its owner's driver sees it: which commands there are, and which are in use (virtio 1.4 §2.12.1; N-3.1, N-3.2).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { ADMIN_GROUP, ADMIN_OPCODE, adminOpcodeName } from "../spec/admin.ts";
import { type AdminCall, listQueryCall, listUseCall } from "./calls.ts";
import { AdminCommandError, adminGroupName } from "./error.ts";
import type { AdminCommand, AdminReply } from "./frame.ts";
import { copyOf } from "./queued_command.ts";
import type { AdminQueues } from "./queues.ts";

/** Name of a group type. */
export type AdminGroupName = keyof typeof ADMIN_GROUP;

/** How one call is sent. */
export interface AdminCallOptions {
  /** From the call to the answer. Default: the queues'. */
  readonly timeoutMs?: number;
}

/** How one synchronous call is sent. */
export interface AdminNowOptions extends AdminCallOptions {
  /** Called while it spins. Default: the queues'. */
  readonly pump?: () => void;
}

/** What a group stands on. */
export interface AdminGroupParts {
  /** PCI address or path of the owner. */
  readonly name: string;
  /** The queues of now. @throws ClosedError, or why there are none */
  readonly queues: () => AdminQueues;
  /** `auto`: LIST_QUERY and LIST_USE are sent before the first command; `manual`: by hand. */
  readonly lists: "auto" | "manual";
}

/** Opcodes up to 511, which is all there are so far. */
const LIST_BYTES = 64;
const LIST_BYTES_MAX = 8192;
const LEGACY: readonly number[] = [
  ADMIN_OPCODE.LEGACY_COMMON_CFG_WRITE,
  ADMIN_OPCODE.LEGACY_COMMON_CFG_READ,
  ADMIN_OPCODE.LEGACY_DEV_CFG_WRITE,
  ADMIN_OPCODE.LEGACY_DEV_CFG_READ,
];

/** Opcodes that this library knows how to use. */
export const KNOWN_ADMIN_OPCODES: ReadonlySet<number> = new Set<number>(Object.values(ADMIN_OPCODE));

/**
 * What to use of a list of supported opcodes: what this library knows, the four legacy register commands together or not at all, and
 * LEGACY_NOTIFY_INFO only with them (N-3.14, N-3.15).
 */
export function opcodesToUse(supported: ReadonlySet<number>): Set<number> {
  const used = new Set([...supported].filter((opcode) => KNOWN_ADMIN_OPCODES.has(opcode)));
  if (LEGACY.every((opcode) => used.has(opcode))) return used;
  for (const opcode of [...LEGACY, ADMIN_OPCODE.LEGACY_NOTIFY_INFO]) used.delete(opcode);
  return used;
}

/** One group of an owner. It outlives resets of the owner, which only make it forget what is in use. */
export class AdminGroup {
  static {
    typedErrors(this);
  }

  /** Group type. */
  readonly type: number;
  /** `self` or `sriov`. */
  readonly groupName: AdminGroupName;
  readonly #parts: AdminGroupParts;
  #supported: ReadonlySet<number> | null = null;
  #used: ReadonlySet<number> | null = null;
  /** As asked for with `listUse`; null: what the library knows. */
  #wanted: ReadonlySet<number> | null = null;
  #starting: Promise<void> | null = null;

  /** Sends nothing. */
  constructor(groupName: AdminGroupName, parts: AdminGroupParts) {
    this.groupName = groupName;
    this.type = ADMIN_GROUP[groupName];
    this.#parts = parts;
  }

  /** PCI address or path of the owner. */
  get name(): string {
    return this.#parts.name;
  }

  /** Opcodes of the last LIST_QUERY since the owner's reset; null before one. */
  get supported(): ReadonlySet<number> | null {
    return this.#supported;
  }

  /** Opcodes of the last LIST_USE since the owner's reset; null before one: no other command may be sent (N-3.1). */
  get used(): ReadonlySet<number> | null {
    return this.#used;
  }

  /** LIST_QUERY. @throws AdminCommandError (the device has no such group, or its VFs are not enabled), DeviceError, AdminTimeoutError, ClosedError */
  async listQuery(options: AdminCallOptions = {}): Promise<ReadonlySet<number>> {
    this.#mayList(ADMIN_OPCODE.LIST_QUERY);
    for (let bytes = LIST_BYTES;; bytes *= 2) {
      const call = listQueryCall(this.type, bytes);
      const { opcodes, full } = call.read(await this.#queues.execute(call.command, options), this.name);
      if (!full || bytes >= LIST_BYTES_MAX) return this.#supported = new Set(opcodes);
    }
  }

  /**
   * LIST_USE, after LIST_QUERY if there was none. Waits until no command is outstanding, of no group, and holds others back meanwhile (N-3.2).
   * @param subset of what is supported. Default: what this library knows of it; it is used again after a reset
   * @throws UnsupportedError (more than is supported), and as `listQuery`
   */
  async listUse(subset?: Iterable<number>, options: AdminCallOptions = {}): Promise<ReadonlySet<number>> {
    this.#mayList(ADMIN_OPCODE.LIST_USE);
    const wanted = subset === undefined ? null : new Set(subset);
    const supported = this.#supported ?? await this.listQuery(options);
    const used = this.#choose(supported, wanted);
    const queues = this.#queues;
    await queues.execute(listUseCall(this.type, used).command, options);
    // Since the answer came, the owner may have been reset.
    if (queues.closed) throw new ClosedError(`administration queues of ${this.name}`);
    this.#wanted = wanted;
    return this.#used = used;
  }

  /** As `listQuery`, in this thread. */
  listQueryNow(options: AdminNowOptions = {}): ReadonlySet<number> {
    this.#mayList(ADMIN_OPCODE.LIST_QUERY);
    for (let bytes = LIST_BYTES;; bytes *= 2) {
      const call = listQueryCall(this.type, bytes);
      const { opcodes, full } = call.read(this.#queues.executeNow(call.command, options), this.name);
      if (!full || bytes >= LIST_BYTES_MAX) return this.#supported = new Set(opcodes);
    }
  }

  /** As `listUse`, in this thread. */
  listUseNow(subset?: Iterable<number>, options: AdminNowOptions = {}): ReadonlySet<number> {
    this.#mayList(ADMIN_OPCODE.LIST_USE);
    const wanted = subset === undefined ? null : new Set(subset);
    const used = this.#choose(this.#supported ?? this.listQueryNow(options), wanted);
    this.#queues.executeNow(listUseCall(this.type, used).command, options);
    this.#wanted = wanted;
    return this.#used = used;
  }

  /** Sends LIST_QUERY and LIST_USE unless that was done since the owner's reset. Calls that come together share it. */
  async start(): Promise<void> {
    if (this.#used !== null) return;
    const mine = this.#starting ??= this.listUse(this.#wanted ?? undefined).then(() => undefined);
    try {
      await mine;
    } finally {
      if (this.#starting === mine) this.#starting = null;
    }
  }

  /** What comes before the first command: `start`, or that it was done by hand. @throws UsageError (N-3.1), and as `listUse` */
  async ready(): Promise<void> {
    if (this.#used === null && this.#parts.lists === "auto") await this.start();
    this.#checkStarted("a command");
  }

  /** As `ready`, in this thread. */
  readyNow(options: AdminNowOptions = {}): void {
    if (this.#used === null && this.#parts.lists === "auto") {
      this.listUseNow(this.#wanted ?? undefined, options);
    }
    this.#checkStarted("a command");
  }

  /**
   * Sends a call. @throws UsageError (N-3.1), UnsupportedError (not among the commands of this device), and as `AdminQueues`
   * @internal
   */
  run<T>(call: AdminCall<T>, options?: AdminCallOptions): Promise<T> {
    if (this.#used === null && this.#parts.lists === "auto") return this.#runStarted(call, options);
    try {
      this.check(call.command.opcode);
      return this.#queues.call(call, this.name, options?.timeoutMs);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #runStarted<T>(call: AdminCall<T>, options: AdminCallOptions | undefined): Promise<T> {
    await this.start();
    this.check(call.command.opcode);
    return await this.#queues.call(call, this.name, options?.timeoutMs);
  }

  /**
   * As `run`, in this thread.
   * @internal
   */
  runNow<T>(call: AdminCall<T>, options?: AdminNowOptions): T {
    if (this.#used === null && this.#parts.lists === "auto") this.readyNow(options);
    this.check(call.command.opcode);
    return this.#queues.callNow(call, this.name, options?.timeoutMs, options?.pump);
  }

  /** A command made by hand, to this group; opcodes that are in use only. */
  async raw(command: Omit<AdminCommand, "groupType">, options: AdminCallOptions = {}): Promise<AdminReply> {
    return await this.run(this.#rawCall(command), options);
  }

  /** As `raw`, in this thread. */
  rawNow(command: Omit<AdminCommand, "groupType">, options: AdminNowOptions = {}): AdminReply {
    return this.runNow(this.#rawCall(command), options);
  }

  #rawCall(command: Omit<AdminCommand, "groupType">): AdminCall<AdminReply> {
    return { command: copyOf({ ...command, groupType: this.type }), read: (reply) => reply };
  }

  /** True when an opcode is in use. */
  uses(opcode: number): boolean {
    return this.#used?.has(opcode) ?? false;
  }

  /** Whether an opcode may be sent now. @throws UsageError, UnsupportedError when not (N-3.1) */
  check(opcode: number): void {
    if (opcode === ADMIN_OPCODE.LIST_QUERY && this.#used === null) return;
    if (opcode !== ADMIN_OPCODE.LIST_USE && this.#used?.has(opcode)) return;
    const what = `${this.name}: ${adminOpcodeName(opcode)} to the ${this.groupName} group`;
    if (opcode === ADMIN_OPCODE.LIST_USE) {
      throw new UsageError(`${what} as any other command`, {
        hint: "call listUse(), which remembers what is in use",
      });
    }
    this.#checkStarted(adminOpcodeName(opcode));
    if (this.#supported?.has(opcode)) {
      throw new UsageError(`${what}, but LIST_USE did not include it (N-3.1)`, {
        hint: "call listUse() again, with it",
      });
    }
    throw new UnsupportedError(`${what}: the device does not support it`, {
      hint: `${adminGroupName(this.type)}.supported has what it supports`,
    });
  }

  #checkStarted(what: string): ReadonlySet<number> {
    if (this.#used !== null) return this.#used;
    throw new UsageError(`${this.name}: ${what} to the ${this.groupName} group before LIST_USE (N-3.1)`, {
      hint: "call listUse() first",
    });
  }

  /** The owner was reset: nothing is in use, and what is supported may have grown. */
  forget(): void {
    this.#supported = null;
    this.#used = null;
    this.#starting = null;
  }

  get #queues(): AdminQueues {
    return this.#parts.queues();
  }

  #mayList(opcode: number): void {
    if (this.#used === null || this.#used.has(opcode)) return;
    throw new UsageError(`${this.name}: ${adminOpcodeName(opcode)} was excluded by LIST_USE`, {
      hint: "reset the owner to allow it again",
    });
  }

  /** N-3.2. */
  #choose(supported: ReadonlySet<number>, wanted: ReadonlySet<number> | null): ReadonlySet<number> {
    if (wanted === null) return opcodesToUse(supported);
    const missing = [...wanted].filter((opcode) => !supported.has(opcode));
    if (missing.length === 0) return wanted;
    throw new UnsupportedError(
      `${this.name} does not support ${
        missing.map(adminOpcodeName).join(", ")
      } in its ${this.groupName} group (N-3.2)`,
      { hint: "choose from `supported`" },
    );
  }
}

/** True for the answer of a device that has no such group, or not now. */
export function isNoSuchGroup(error: unknown): error is AdminCommandError {
  return error instanceof AdminCommandError && error.qualifierName === "INVALID_GROUP";
}
