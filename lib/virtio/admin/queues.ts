/**
 * Administration virtqueues: commands of any caller, several in flight, in the order that members need (virtio 1.4 §2.13; reference 3.5).
 *
 * @module
 */
import { sleepBlocking } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { ADMIN_GROUP, ADMIN_OPCODE, ADMIN_STATUS } from "../constants/admin.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import type { WaitTarget } from "../waiter.ts";
import { AdminCommandError, AdminTimeoutError, describeAdminCommand } from "./error.ts";
import { type AdminCommand, adminFrameSize, type AdminReply, decodeAdminReply } from "./frame.ts";
import { AdminLane } from "./lane.ts";
import { type AdminQueueOptions, type AdminSettings, adminSettings, checkTimeout } from "./options.ts";
import { Pending } from "./pending.ts";
import { TurnOrder } from "./turn_order.ts";

/** How a sleeping session is woken. A `Waiter` is one. */
export interface AdminWaiter {
  /** As `Waiter.wait`. */
  wait(target: WaitTarget, timeoutMs: number): Promise<boolean>;
  /** As `Waiter.wake`. */
  wake(): void;
}

/** What administration queues stand on. */
export interface AdminQueueParts {
  /** PCI address or path of the owner. */
  readonly name: string;
  /** The queues, of a device that is, or will be, live before the first command. */
  readonly queues: readonly Virtqueue[];
  /** Memory for commands. */
  readonly dma: DmaSpace;
  /** The session's. */
  readonly waiter: AdminWaiter;
  /** Throws why the device stopped; asked when a command is not answered. */
  readonly alive?: () => void;
  /** As `VirtioTransport.vfMigrationCapable`. */
  readonly vfMigrationCapable?: boolean | undefined;
}

/** What became of commands so far. */
export interface AdminStatistics {
  /** Frames sent, repetitions included. */
  readonly sent: number;
  /** Commands that were answered with OK. */
  readonly succeeded: number;
  /** Commands that ended with an error. */
  readonly failed: number;
  /** Frames sent again after EAGAIN. */
  readonly retried: number;
  /** Of `failed`: not answered, or not sent, in time. */
  readonly timedOut: number;
  /** Answers that came after their command was given up. */
  readonly late: number;
}

const EMPTY = { readable: 0, writable: 0 };
/** Looks between two readings of the clock while spinning. */
const LOOKS = 64;
/** A synchronous command that takes longer than this is slow: the thread then sleeps between looks. */
const EAGER_MS = 2;
const NAP_MS = 0.1;
/** Between two looks for commands whose time is over. */
const EXPIRY_MS = 1;

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
  readonly #lanes: readonly AdminLane[];
  readonly #settings: AdminSettings;
  readonly #waiter: AdminWaiter;
  readonly #alive: () => void;
  readonly #target: WaitTarget;
  /** Not with the device. */
  readonly #order: TurnOrder<AdminLane>;
  readonly #sent = new Set<Pending>();
  readonly #counts = { sent: 0, succeeded: 0, failed: 0, retried: 0, timedOut: 0, late: 0 };
  /** Those who want quiet, or have it. */
  #quiets = 0;
  #sequence = 0;
  /** Commands that somebody awaits. */
  #awaited = 0;
  #pumping = false;
  /** When the pump's sleep ends. */
  #pumpUntil = Infinity;
  #nudged = false;
  /** No deadline is before this. */
  #expireAt = Infinity;
  /** `vfCount` of this dispatch; undefined before it was asked. */
  #vfs: number | undefined;
  #broken: unknown;
  #closed = false;

  /** Takes queues that carry nothing else. @throws ExhaustedError, SyscallError, UsageError */
  constructor(parts: AdminQueueParts, options: AdminQueueOptions = {}) {
    this.name = parts.name;
    this.vfMigrationCapable = parts.vfMigrationCapable ?? false;
    this.#settings = adminSettings(options);
    if (parts.queues.length === 0) throw new UsageError(`${parts.name}: no administration queue`);
    const lanes: AdminLane[] = [];
    try {
      for (const queue of parts.queues) lanes.push(new AdminLane(queue, parts.dma, this.#settings.depth));
    } catch (error) {
      for (const lane of lanes) lane.close();
      throw error;
    }
    this.#lanes = lanes;
    this.#order = new TurnOrder(lanes, this.#settings.memberOrder === "pipelined");
    this.#waiter = parts.waiter;
    this.#alive = parts.alive ?? (() => {});
    this.#target = {
      hasUsed: () => this.#nudged || this.#closed || this.#hasUsed(),
      suppressInterrupts: () => lanes.forEach((lane) => lane.queue.suppressInterrupts()),
      // Every queue is asked, also when the first says yes.
      enableInterrupts: () =>
        lanes.map((lane) => lane.queue.enableInterrupts()).includes(true) || this.#nudged,
    };
  }

  /** Numbers of the virtqueues. */
  get indices(): number[] {
    return this.#lanes.map((lane) => lane.index);
  }

  /** Commands that the device has, given up ones included. */
  get outstanding(): number {
    return this.#order.outstanding;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Since they were made. */
  statistics(): AdminStatistics {
    return { ...this.#counts };
  }

  /**
   * Sends a command as soon as order allows, and resolves to its answer, whose status is OK.
   * @param options `timeoutMs`: from now until the answer is here, turns and retries included
   */
  async execute(command: AdminCommand, options: { timeoutMs?: number } = {}): Promise<AdminReply> {
    const pending = this.#enqueue(command, options.timeoutMs);
    await this.#settled(pending);
    if (pending.reply === undefined) throw pending.error;
    return pending.reply;
  }

  /**
   * As `execute`, in this thread: spins, and naps when it takes long. Answers to others that come meanwhile reach those who await them.
   * @param options `pump` is called while spinning, for a device that lives in this thread
   * @throws UsageError also while somebody has the queues quiet or waits for that: it would hold this thread up, and wait for itself
   */
  executeNow(command: AdminCommand, options: { timeoutMs?: number; pump?: () => void } = {}): AdminReply {
    if (this.#quiets > 0) {
      throw new UsageError(
        `${this.name}: a synchronous command while the queues are, or will be, held quiet`,
        {
          hint: "send it after that, or asynchronously",
        },
      );
    }
    const pending = this.#enqueue(command, options.timeoutMs);
    const pump = options.pump ?? this.#settings.pump;
    this.#turnOrBreak();
    const eagerUntil = performance.now() + EAGER_MS;
    for (let looks = 1; !pending.done; looks++) {
      pump?.();
      if (this.#looksUsed()) {
        this.#turnOrBreak();
        continue;
      }
      if (looks % LOOKS !== 0) continue;
      const now = performance.now();
      if (now >= this.#due) this.#turnOrBreak();
      else if (now >= eagerUntil) sleepBlocking(NAP_MS);
    }
    this.#nudgeIfNeeded();
    if (pending.reply === undefined) throw pending.error;
    return pending.reply;
  }

  /**
   * Waits until the device has no command, runs `action`, and holds all commands back until it is over: for what must not happen under commands, such
   * as a change of VF Enable (N-3.7).
   * @param options `timeoutMs`: for the wait
   * @throws AdminTimeoutError (a command is never returned), ClosedError, what `action` throws
   */
  async quiet<T>(action: () => T | Promise<T>, options: { timeoutMs?: number } = {}): Promise<T> {
    const pending = this.#enqueue(undefined, options.timeoutMs);
    this.#quiets++;
    try {
      await this.#settled(pending);
      if (pending.error !== undefined) throw pending.error;
      return await action();
    } finally {
      this.#quiets--;
      this.#order.release(pending);
      if (!this.#closed) {
        this.#turnOrBreak();
        this.#keepPumping();
      }
    }
  }

  /** Ends every command with `ClosedError`, and takes their memory away: the device must have been reset. May be called again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#failAll(this.#gone());
    for (const lane of this.#lanes) lane.close();
    this.#waiter.wake();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #enqueue(command: AdminCommand | undefined, timeoutMs?: number): Pending {
    if (this.#closed) throw this.#gone();
    if (this.#broken !== undefined) throw this.#broken;
    const size = command === undefined ? EMPTY : adminFrameSize(command, this.#settings.padReads);
    // The caller's bytes may change before it is sent.
    const kept = command?.data === undefined ? command : { ...command, data: command.data.slice() };
    const alone = command === undefined || command.opcode === ADMIN_OPCODE.LIST_USE;
    const limitMs = checkTimeout(timeoutMs ?? this.#settings.timeoutMs);
    const pending = new Pending(kept, size, alone, limitMs, performance.now(), this.#sequence++);
    this.#order.add(pending);
    this.#expireAt = Math.min(this.#expireAt, pending.deadline);
    return pending;
  }

  #settled(pending: Pending): Promise<void> {
    return new Promise((resolve) => {
      pending.resolve = resolve;
      this.#awaited++;
      // Answers are taken by the pump alone: callers who send again at once would otherwise answer each other for ever.
      this.#turnOrBreak(false);
      this.#keepPumping();
    });
  }

  /** Takes, gives up, sends. What goes wrong with the queues themselves ends everything. */
  #turnOrBreak(takes = true): void {
    try {
      if (takes) { for (const lane of this.#lanes) lane.take(this.#returned); }
      const now = performance.now();
      if (now >= this.#expireAt) this.#expire(now);
      this.#dispatch(now);
    } catch (error) {
      if (this.#closed) return;
      this.#broken = error;
      this.#failAll(error);
    }
  }

  /** The device has given a command back. */
  readonly #returned = (pending: Pending, bytes: Uint8Array<ArrayBuffer>, usedBytes: number): void => {
    this.#sent.delete(pending);
    this.#order.returned(pending);
    if (pending.done) {
      this.#counts.late++;
      this.#order.release(pending);
      return;
    }
    const command = pending.command!;
    const place = pending.where(this.name);
    let reply: AdminReply;
    try {
      reply = decodeAdminReply(bytes, usedBytes, command.resultBytes ?? 0, place);
    } catch (error) {
      this.#finish(pending, undefined, error);
      return;
    }
    if (reply.status === ADMIN_STATUS.OK) {
      this.#finish(pending, reply, undefined);
      return;
    }
    if (reply.status === ADMIN_STATUS.EAGAIN && this.#retry(pending)) return;
    this.#finish(
      pending,
      undefined,
      new AdminCommandError(place, reply.status, reply.qualifier, pending.attempts),
    );
  };

  /** N-3.5. @returns false when there are no more tries */
  #retry(pending: Pending): boolean {
    const { retries, backoffMs, maxBackoffMs } = this.#settings;
    if (pending.attempts > retries) return false;
    const notBefore = performance.now() + Math.min(backoffMs * 2 ** (pending.attempts - 1), maxBackoffMs);
    if (notBefore > pending.deadline) return false;
    pending.notBefore = notBefore;
    this.#counts.retried++;
    this.#order.repeat(pending);
    return true;
  }

  /** Gives up what is over its time. What the device has of it stays in its place until it comes back. */
  #expire(now: number): void {
    let stopped: unknown;
    let earliest = Infinity;
    for (const pending of [...this.#order.waiting(), ...this.#sent]) {
      if (pending.done) continue;
      if (pending.deadline > now) {
        earliest = Math.min(earliest, pending.deadline);
        continue;
      }
      if (this.#sent.has(pending) && stopped === undefined) stopped = this.#whyStopped();
      this.#counts.timedOut++;
      this.#finish(pending, undefined, stopped ?? this.#timeout(pending));
    }
    // Many that end one after the other must not each have all of them looked through.
    this.#expireAt = Math.max(earliest, now + EXPIRY_MS);
  }

  #whyStopped(): unknown {
    try {
      this.#alive();
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #timeout(pending: Pending): AdminTimeoutError {
    const place = pending.where(this.name);
    if (this.#sent.has(pending)) {
      return new AdminTimeoutError(
        place,
        `was not answered in ${pending.timeoutMs} ms`,
        "the device may still do it; its memory stays reserved until then. Reset the device if it does not recover",
      );
    }
    const { queue: _never, ...unsent } = place;
    const others = this.outstanding;
    const why = pending.command === undefined
      ? `${this.name}: the queues did not become quiet`
      : pending.attempts > 0
      ? `was to be tried again after EAGAIN, but its ${pending.timeoutMs} ms are over`
      : `could not be sent in ${pending.timeoutMs} ms`;
    const hint = others === 0
      ? "it waited for those before it: allow more time"
      : `the device has ${others} ${others === 1 ? "command" : "commands"} that it has not answered`;
    return new AdminTimeoutError(unsent, why, hint);
  }

  /** Sends what may be sent. */
  #dispatch(now: number): void {
    this.#vfs = undefined;
    for (let pending; (pending = this.#order.next(now)) !== undefined;) {
      if (pending.command === undefined) this.#finish(pending, undefined, undefined);
      else this.#send(pending, this.#order.laneFor(pending));
    }
    for (const lane of this.#lanes) lane.kick();
  }

  #send(pending: Pending, lane: AdminLane): void {
    try {
      this.#checkVfs(pending);
      lane.add(pending);
    } catch (error) {
      this.#finish(pending, undefined, error);
      return;
    }
    pending.attempts++;
    this.#counts.sent++;
    this.#sent.add(pending);
    this.#order.sent(pending, lane);
  }

  /** N-3.7: VF Migration Capable is clear, and there is no SR-IOV group while VF Enable is clear. */
  #checkVfs(pending: Pending): void {
    if (pending.command!.groupType !== ADMIN_GROUP.sriov) return;
    if (this.vfMigrationCapable) {
      const what = describeAdminCommand(pending.where(this.name));
      throw new UnsupportedError(`${this.name}: ${what} while VF Migration Capable is set (N-3.7)`, {
        hint: "this PF's VFs are managed from elsewhere: the self group alone can be used",
      });
    }
    const count = this.#settings.vfCount;
    if (count === undefined) return;
    // Asked once for all that are sent in one go: it may take long to say.
    const vfs = this.#vfs ??= count();
    const { memberId = 0n } = pending.command!;
    if (vfs > 0 && memberId <= BigInt(vfs)) return;
    const what = describeAdminCommand(pending.where(this.name));
    throw new UsageError(
      vfs === 0
        ? `${this.name}: ${what} while VF Enable is clear (N-3.7)`
        : `${this.name}: ${what}, but NumVFs is ${vfs} (N-3.7)`,
      { hint: "set the number of VFs first (command `sriov`)" },
    );
  }

  #finish(pending: Pending, reply: AdminReply | undefined, error: unknown): void {
    if (pending.done) return;
    pending.done = true;
    pending.reply = reply;
    pending.error = error;
    this.#order.ended(pending);
    if (reply !== undefined) this.#counts.succeeded++;
    else if (error !== undefined) this.#counts.failed++;
    // One that only wants quiet begins now, and ends in `quiet`; a LIST_USE that was given up holds the others back until the device is done with it.
    const goesOn = pending.command === undefined ? error === undefined : this.#sent.has(pending);
    if (!goesOn) this.#order.release(pending);
    if (pending.resolve !== undefined) {
      this.#awaited--;
      pending.resolve();
    }
  }

  #failAll(error: unknown): void {
    for (const pending of [...this.#order.waiting(), ...this.#sent]) this.#finish(pending, undefined, error);
    this.#order.clear();
    this.#expireAt = Infinity;
    this.#nudgeIfNeeded();
  }

  #hasUsed(): boolean {
    for (const lane of this.#lanes) if (lane.queue.hasUsed()) return true;
    return false;
  }

  /** A queue that cannot be looked at any more is taken from, so that its error is found. */
  #looksUsed(): boolean {
    try {
      return this.#hasUsed();
    } catch {
      return true;
    }
  }

  #keepPumping(): void {
    if (this.#pumping) this.#nudgeIfNeeded();
    else if (this.#awaited > 0) void this.#pump();
  }

  /** The pump sleeps too long when a deadline was added, and for nothing when a synchronous command took its answers. */
  #nudgeIfNeeded(): void {
    if (!this.#pumping || (this.#awaited > 0 && this.#due >= this.#pumpUntil)) return;
    this.#nudged = true;
    this.#waiter.wake();
  }

  /** Waits for the device as long as anybody awaits an answer. */
  async #pump(): Promise<void> {
    this.#pumping = true;
    try {
      // Commands that are asked for in one go are sent before anybody looks for answers.
      await undefined;
      while (this.#awaited > 0) {
        this.#pumpUntil = this.#due;
        this.#nudged = false;
        await this.#waiter.wait(this.#target, Math.max(this.#due - performance.now(), 0));
        this.#turnOrBreak();
      }
    } catch (error) {
      // The waiter was closed, or an interrupt's handler found that the device stopped.
      if (!this.#closed) this.#failAll(error);
    } finally {
      this.#pumping = false;
    }
  }

  /** No deadline, and no time to try again, is before this. */
  get #due(): number {
    return Math.min(this.#expireAt, this.#order.retryAt);
  }

  #gone(): ClosedError {
    return new ClosedError(`administration queues of ${this.name}`);
  }
}
