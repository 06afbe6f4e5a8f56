/**
 * Administration virtqueues: commands of any caller, several in flight, in the order that members need (virtio 1.4 §2.13; reference 3.5).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { ADMIN_GROUP, ADMIN_STATUS } from "../spec/admin.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import { checkTimeout } from "../control/command.ts";
import type { CommandRoom } from "../control/lane.ts";
import {
  type CommandCounts,
  CommandEngine,
  type CommandPolicy,
  type CommandSite,
} from "../control/engine.ts";
import { AdminCommandError, AdminTimeoutError, describeAdminCommand } from "./error.ts";
import type { AdminCall } from "./calls.ts";
import {
  type AdminCommand,
  type AdminReply,
  decodeAdminReply,
  isAdminReply,
  readAdminReply,
} from "./frame.ts";
import { type AdminQueueOptions, type AdminSettings, adminSettings } from "./options.ts";
import { copyOf, QueuedCommand } from "./queued_command.ts";

/** What administration queues stand on. */
export interface AdminQueueParts extends CommandSite {
  /** The queues, of a device that is, or will be, live before the first command. */
  readonly queues: readonly Virtqueue[];
  /** As `VirtioTransport.vfMigrationCapable`. */
  readonly vfMigrationCapable?: boolean | undefined;
}

/** What became of commands so far. */
export type AdminStatistics = Readonly<CommandCounts>;

const ROOM: CommandRoom = {
  label: "administration commands",
  readableBytes: 256,
  writableBytes: 256,
  spares: 2,
};

/**
 * Sends commands over all queues of one owner. Errors of commands: `AdminCommandError` (answered with another status than OK; EAGAIN after all
 * retries, N-3.5), `AdminTimeoutError`, `DeviceError` (the answer is none, or the device broke the ring: then every command fails so until it is
 * reset), `UsageError`, `ClosedError` after `close`, which a reset does, too.
 */
export class AdminQueues implements Disposable {
  static {
    typedErrors(this);
  }

  /** PCI address or path of the owner. */
  readonly name: string;
  /** VF Migration Capable of the owner is set: nothing is sent to its VFs (N-3.7). */
  readonly vfMigrationCapable: boolean;
  readonly #settings: AdminSettings;
  readonly #engine: CommandEngine<QueuedCommand>;

  /** Takes queues that carry nothing else. @throws ExhaustedError, SyscallError, UsageError */
  constructor(parts: AdminQueueParts, options: AdminQueueOptions = {}) {
    this.name = parts.name;
    this.vfMigrationCapable = parts.vfMigrationCapable ?? false;
    this.#settings = adminSettings(options);
    const policy = new AdminPolicy(this.name, this.vfMigrationCapable, this.#settings);
    this.#engine = new CommandEngine(parts, parts.queues, policy, {
      what: "administration queues",
      depth: this.#settings.depth,
      room: ROOM,
      pipelined: this.#settings.memberOrder === "pipelined",
      time: "asked",
    });
  }

  /** Numbers of the virtqueues. */
  get indices(): number[] {
    return this.#engine.indices;
  }

  /** Commands that the device has, given up ones included. */
  get outstanding(): number {
    return this.#engine.outstanding;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#engine.closed;
  }

  /** Since they were made. */
  statistics(): AdminStatistics {
    return { ...this.#engine.counts };
  }

  /**
   * Sends a command as soon as order allows, and resolves to its answer, whose status is OK.
   * @param options `timeoutMs`: from now until the answer is here, turns and retries included
   */
  async execute(command: AdminCommand, options: { timeoutMs?: number } = {}): Promise<AdminReply> {
    return await this.#engine.execute(this.#queued(copyOf(command), options.timeoutMs)) as AdminReply;
  }

  /**
   * As `execute`, of a command that nobody changes any more; what its answer means is read where it comes in.
   * @throws also at once
   * @internal
   */
  call<T>(call: AdminCall<T>, name: string, timeoutMs?: number): Promise<T> {
    return this.#engine.execute(this.#queued(call.command, timeoutMs, call, name)) as Promise<T>;
  }

  /**
   * As `call`, in this thread.
   * @internal
   */
  callNow<T>(call: AdminCall<T>, name: string, timeoutMs?: number, pump?: () => void): T {
    const queued = this.#queued(call.command, timeoutMs, call, name);
    this.#engine.executeNow(queued, pump ?? this.#settings.pump);
    return queued.outcome() as T;
  }

  /**
   * As `execute`, in this thread: spins, and naps when it takes long. Answers that come meanwhile settle the calls that they answer.
   * @param options `pump` is called while spinning, for a device that lives in this thread
   * @throws UsageError also while somebody has the queues quiet or waits for that: it would hold this thread up, and wait for itself
   */
  executeNow(command: AdminCommand, options: { timeoutMs?: number; pump?: () => void } = {}): AdminReply {
    const queued = this.#queued(copyOf(command), options.timeoutMs);
    this.#engine.executeNow(queued, options.pump ?? this.#settings.pump);
    return queued.outcome() as AdminReply;
  }

  /**
   * Waits until the device has no command, runs `action`, and holds all commands back until it is over: for what must not happen under commands, such
   * as a change of VF Enable (N-3.7).
   * @param options `timeoutMs`: for the wait
   * @throws AdminTimeoutError (a command is never returned), ClosedError, what `action` throws
   */
  async quiet<T>(action: () => T | Promise<T>, options: { timeoutMs?: number } = {}): Promise<T> {
    return await this.#engine.quiet(this.#queued(undefined, options.timeoutMs), action);
  }

  /** Ends every command with `ClosedError`, and takes their memory away: the device must have been reset. May be called again. */
  close(): void {
    this.#engine.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #queued(
    command: AdminCommand | undefined,
    timeoutMs = this.#settings.timeoutMs,
    call?: AdminCall<unknown>,
    name?: string,
  ): QueuedCommand {
    this.#engine.check();
    return new QueuedCommand(command, checkTimeout(timeoutMs), this.#settings.padReads, call, name);
  }
}

/** What may be sent, what an answer means, and how often a command is tried. */
class AdminPolicy implements CommandPolicy<QueuedCommand> {
  readonly #name: string;
  readonly #vfMigrationCapable: boolean;
  readonly #settings: AdminSettings;
  /** By length. */
  readonly #results: Uint8Array<ArrayBuffer>[] = [];
  /** `vfCount` of this go; undefined before it was asked. */
  #vfs: number | undefined;

  constructor(name: string, vfMigrationCapable: boolean, settings: AdminSettings) {
    this.#name = name;
    this.#vfMigrationCapable = vfMigrationCapable;
    this.#settings = settings;
  }

  beforeSending(): void {
    this.#vfs = undefined;
  }

  /** N-3.7: VF Migration Capable is clear, and there is no SR-IOV group while VF Enable is clear. */
  check(queued: QueuedCommand): void {
    if (queued.command!.groupType !== ADMIN_GROUP.sriov) return;
    if (this.#vfMigrationCapable) {
      const what = describeAdminCommand(queued.where(this.#name));
      throw new UnsupportedError(`${this.#name}: ${what} while VF Migration Capable is set (N-3.7)`, {
        hint: "this PF's VFs are managed from elsewhere: the self group alone can be used",
      });
    }
    const count = this.#settings.vfCount;
    if (count === undefined) return;
    // Asked once for all that are sent in one go: it may take long to say.
    const vfs = this.#vfs ??= count();
    const { memberId = 0n } = queued.command!;
    if (vfs > 0 && memberId <= BigInt(vfs)) return;
    const what = describeAdminCommand(queued.where(this.#name));
    throw new UsageError(
      vfs === 0
        ? `${this.#name}: ${what} while VF Enable is clear (N-3.7)`
        : `${this.#name}: ${what}, but NumVFs is ${vfs} (N-3.7)`,
      { hint: "set the number of VFs first (command `sriov`)" },
    );
  }

  answered(queued: QueuedCommand, bytes: Uint8Array<ArrayBuffer>, usedBytes: number): boolean {
    const resultBytes = queued.command!.resultBytes ?? 0;
    const reply = isAdminReply(bytes.length, usedBytes)
      ? readAdminReply(bytes, usedBytes, resultBytes, queued.passing ? this.#passing(resultBytes) : undefined)
      : decodeAdminReply(bytes, usedBytes, resultBytes, queued.where(this.#name));
    if (reply.status === ADMIN_STATUS.OK) {
      queued.answered(reply);
      return true;
    }
    if (reply.status === ADMIN_STATUS.EAGAIN && this.#retry(queued)) return false;
    throw new AdminCommandError(queued.where(this.#name), reply.status, reply.qualifier, queued.attempts);
  }

  /** An array that is kept: one each command would be half of what a register access leaves on the heap. */
  #passing(lengthBytes: number): Uint8Array<ArrayBuffer> {
    return (this.#results[lengthBytes] ??= new Uint8Array(lengthBytes)).fill(0);
  }

  timedOut(queued: QueuedCommand, sent: boolean, others: number): AdminTimeoutError {
    const place = queued.where(this.#name);
    if (sent) {
      return new AdminTimeoutError(
        place,
        `was not answered in ${queued.timeoutMs} ms`,
        "the device may still do it; its memory stays reserved until then. Reset the device if it does not recover",
      );
    }
    const unsent = { ...place, queue: undefined };
    const why = queued.command === undefined
      ? `${this.#name}: the queues did not become quiet`
      : queued.attempts > 0
      ? `was to be tried again after EAGAIN, but its ${queued.timeoutMs} ms are over`
      : `could not be sent in ${queued.timeoutMs} ms`;
    const hint = others === 0
      ? "it waited for those before it: allow more time"
      : `the device has ${others} ${others === 1 ? "command" : "commands"} that it has not answered`;
    return new AdminTimeoutError(unsent, why, hint);
  }

  /** N-3.5. @returns false when there are no more tries */
  #retry(queued: QueuedCommand): boolean {
    const { retries, backoffMs, maxBackoffMs } = this.#settings;
    if (queued.attempts > retries) return false;
    const notBefore = performance.now() + Math.min(backoffMs * 2 ** (queued.attempts - 1), maxBackoffMs);
    if (notBefore > queued.deadline) return false;
    queued.notBefore = notBefore;
    return true;
  }
}
