/**
 * Sends commands over one or more virtqueues, several in flight, and settles each call with its answer. Every wait has an end; the memory
 * of a command that was not answered stays the device's until it is reset.
 *
 * @module
 */
import { sleepBlocking } from "../../../ffi/mod.ts";
import { ClosedError, UsageError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import type { DeviceAbsence } from "../transport/transport.ts";
import type { Waiter, WaitTarget } from "../../wait/waiter.ts";
import type { Command } from "./command.ts";
import { CommandLane, type CommandRoom } from "./lane.ts";
import { TurnOrder } from "./turn_order.ts";

/** What commands of one kind are like. */
export interface CommandPolicy<C extends Command> {
  /** About to check and send what may be sent. */
  beforeSending?(): void;
  /** A command is about to be sent. @throws why it must not be */
  check?(command: C): void;
  /**
   * Reads an answer into its command.
   * @param bytes the device-writable part: a copy, which is another command's after the call @param usedBytes how much of it the device says it wrote
   * @returns false to have it sent again at `notBefore` @throws what it comes to
   */
  answered(command: C, bytes: Uint8Array<ArrayBuffer>, usedBytes: number): boolean;
  /** Error of one that is given up. @param sent the device has it @param outstanding commands that the device has */
  timedOut(command: C, sent: boolean, outstanding: number): Error;
}

/** Where commands go. */
export interface CommandSite {
  /** PCI address or path of the function, for messages. */
  readonly name: string;
  /** Memory for commands. */
  readonly dma: DmaSpace;
  /** The session's. */
  readonly waiter: Pick<Waiter, "wait" | "wake">;
  /** Throws why the device stopped; asked when a command is not answered. */
  readonly alive?: () => void;
  /** Of a device that can be lost and come back: what it has then has all its time once more. */
  readonly absence?: Pick<DeviceAbsence, "away" | "returns"> | undefined;
}

/** How they go. */
export interface CommandEngineOptions {
  /** For messages: `administration queues`. */
  readonly what: string;
  /** Commands in flight in each queue, at most. */
  readonly depth: number;
  /** Of each. */
  readonly room: CommandRoom;
  /** A line's commands are sent at once, into one queue. Else the next is sent when the one before is answered. */
  readonly pipelined: boolean;
  /**
   * When a command's time begins. `asked`: with the call. `sent`: with its sending, and one that is not answered then ends all: no more are sent until
   * the device is reset.
   */
  readonly time: "asked" | "sent";
}

/** What became of commands so far. */
export interface CommandCounts {
  /** Commands sent, repetitions included. */
  sent: number;
  /** Commands that were answered as they should be. */
  succeeded: number;
  /** Commands that ended with an error. */
  failed: number;
  /** Commands sent again. */
  retried: number;
  /** Of `failed`: not answered, or not sent, in time. */
  timedOut: number;
  /** Answers that came after their command was given up. */
  late: number;
}

/** Counts of nothing. */
export function noCounts(): CommandCounts {
  return { sent: 0, succeeded: 0, failed: 0, retried: 0, timedOut: 0, late: 0 };
}

/** Looks between two readings of the clock while spinning. */
const LOOKS = 64;
/** A synchronous command that takes longer than this is slow: the thread then sleeps between looks. */
const EAGER_MS = 2;
const NAP_MS = 0.1;
/** Between two looks for commands whose time is over. */
const EXPIRY_MS = 1;

/**
 * See the module's text. Once the device breaks a ring, every command ends with that error until it is reset; after `close`, which a reset does, too,
 * with `ClosedError`.
 */
export class CommandEngine<C extends Command> {
  readonly counts: CommandCounts = noCounts();
  readonly #site: CommandSite;
  readonly #policy: CommandPolicy<C>;
  readonly #what: string;
  /** A command's time begins when it is sent. */
  readonly #fromSending: boolean;
  readonly #lanes: readonly CommandLane<C>[];
  readonly #target: WaitTarget;
  /** Not with the device. */
  readonly #order: TurnOrder<C, CommandLane<C>>;
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
  #broken: unknown;
  #closed = false;

  /**
   * Takes queues that carry nothing else, of a device that is, or will be, live before the first command.
   * @throws ExhaustedError, SyscallError, UsageError (no queue)
   */
  constructor(
    site: CommandSite,
    queues: readonly Virtqueue[],
    policy: CommandPolicy<C>,
    { what, depth, room, pipelined, time }: CommandEngineOptions,
  ) {
    if (queues.length === 0) throw new UsageError(`${site.name}: no ${what}`);
    this.#site = site;
    this.#policy = policy;
    this.#what = `${what} of ${site.name}`;
    this.#fromSending = time === "sent";
    using stack = new DisposableStack();
    const lanes = queues.map((queue) => stack.use(new CommandLane<C>(queue, site.dma, depth, room)));
    stack.move();
    this.#lanes = lanes;
    this.#order = new TurnOrder(lanes, pipelined);
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
    return this.#lanes.map((lane) => lane.queue.index);
  }

  /** Commands that the device has, given up ones included. */
  get outstanding(): number {
    return this.#order.outstanding;
  }

  /** Nothing is sent any more until the device is reset. */
  get broken(): boolean {
    return this.#broken !== undefined;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Throws when nothing can be asked for. @throws ClosedError, why the queues are broken */
  check(): void {
    if (this.#closed) throw this.#gone();
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** Sends a command as soon as order allows, and resolves to its outcome when it is answered. @throws its error; at once, as `check` */
  execute(command: C): Promise<unknown> {
    this.#enqueue(command);
    return this.#settled(command);
  }

  /**
   * As `execute`, in this thread: spins, and naps when it takes long. Answers that come meanwhile settle the calls that they answer.
   * @param pump is called while spinning, for a device that lives in this thread
   * @throws UsageError also while somebody has the queues quiet or waits for that: it would hold this thread up, and wait for itself
   */
  executeNow(command: C, pump: (() => void) | undefined): void {
    if (this.#quiets > 0) {
      throw new UsageError(
        `${this.#site.name}: a synchronous command while the queues are, or will be, held quiet`,
        {
          hint: "send it after that, or asynchronously",
        },
      );
    }
    this.#enqueue(command);
    this.#turnOrBreak();
    const eagerUntil = performance.now() + EAGER_MS;
    for (let looks = 1; !command.done; looks++) {
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
    if (command.error !== undefined) throw command.error;
  }

  /**
   * Waits until the device has no command, runs `action`, and holds all commands back until it is over.
   * @param command one that is `quiet` @throws its error, ClosedError, what `action` throws
   */
  async quiet<T>(command: C, action: () => T | Promise<T>): Promise<T> {
    this.#enqueue(command);
    this.#quiets++;
    try {
      await this.#settled(command);
      return await action();
    } finally {
      this.#quiets--;
      this.#order.release(command);
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
    for (const lane of this.#lanes) lane[Symbol.dispose]();
    this.#site.waiter.wake();
  }

  #enqueue(command: C): void {
    this.check();
    command.sequence = this.#sequence++;
    if (!this.#fromSending) this.#limit(command, performance.now());
    this.#order.add(command);
  }

  #limit(command: C, now: number): void {
    command.deadline = now + command.timeoutMs;
    command.returns = this.#site.absence?.returns ?? 0;
    this.#expireAt = Math.min(this.#expireAt, command.deadline);
  }

  #settled(command: C): Promise<unknown> {
    return new Promise((resolve, reject) => {
      command.resolve = resolve;
      command.reject = reject;
      this.#awaited++;
      // Answers are taken by the pump alone: callers who send again at once would otherwise answer each other for ever.
      this.#turnOrBreak(false);
      this.#keepPumping();
    });
  }

  /** Takes, gives up, sends. What goes wrong with the queues themselves ends everything. */
  #turnOrBreak(takes = true): void {
    try {
      // By number, here and below: an iterator would be an object each time.
      if (takes) { for (let at = 0; at < this.#lanes.length; at++) this.#lanes[at]!.take(this.#returned); }
      const now = performance.now();
      if (now >= this.#expireAt) this.#expire(now);
      this.#dispatch(now);
    } catch (error) {
      if (!this.#closed) this.#break(error);
    }
  }

  #break(error: unknown): void {
    this.#broken = error;
    this.#failAll(error);
  }

  /** The device has given a command back. */
  readonly #returned = (command: C, bytes: Uint8Array<ArrayBuffer>, usedBytes: number): void => {
    command.sent = false;
    this.#order.returned(command);
    if (command.done) {
      this.counts.late++;
      this.#order.release(command);
      return;
    }
    try {
      if (!this.#policy.answered(command, bytes, usedBytes)) {
        this.counts.retried++;
        this.#order.repeat(command);
        return;
      }
    } catch (error) {
      this.#finish(command, error);
      return;
    }
    this.#finish(command, undefined);
  };

  /** Gives up what is over its time. What the device has of it stays in its place until it comes back. */
  #expire(now: number): void {
    let stopped: unknown;
    let earliest = Infinity;
    for (const command of this.#all()) {
      if (command.done) continue;
      const { sent } = command;
      if (sent && command.deadline <= now && this.#wasAway(command)) this.#limit(command, now);
      if (command.deadline > now) {
        earliest = Math.min(earliest, command.deadline);
        continue;
      }
      if (sent && stopped === undefined) stopped = this.#whyStopped();
      this.counts.timedOut++;
      const error = stopped ?? this.#policy.timedOut(command, sent, this.outstanding);
      if (this.#fromSending) return this.#break(error);
      this.#finish(command, error);
    }
    // Many that end one after the other must not each have all of them looked through.
    this.#expireAt = Math.max(earliest, now + EXPIRY_MS);
  }

  /** Nobody could answer it for some of its time. */
  #wasAway({ returns }: C): boolean {
    const { absence } = this.#site;
    return absence !== undefined && (absence.away || absence.returns !== returns);
  }

  #whyStopped(): unknown {
    try {
      this.#site.alive?.();
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** Sends what may be sent. */
  #dispatch(now: number): void {
    this.#policy.beforeSending?.();
    for (let command; (command = this.#order.next(now)) !== undefined;) {
      if (command.quiet) this.#finish(command, undefined);
      else this.#send(command, this.#order.laneFor(command), now);
    }
    for (let at = 0; at < this.#lanes.length; at++) this.#lanes[at]!.notify();
  }

  /** All that are not over, and those given up that the device has. */
  #all(): C[] {
    const held = this.#lanes.flatMap((lane) => lane.held());
    return [...this.#order.waiting(), ...held.sort((one, other) => one.sequence - other.sequence)];
  }

  #send(command: C, lane: CommandLane<C>, now: number): void {
    try {
      this.#policy.check?.(command);
      lane.add(command);
    } catch (error) {
      this.#finish(command, error);
      return;
    }
    command.attempts++;
    this.counts.sent++;
    command.sent = true;
    this.#order.sent(command, lane);
    if (this.#fromSending) this.#limit(command, now);
  }

  #finish(command: C, error: unknown): void {
    if (command.done) return;
    command.done = true;
    command.error = error;
    this.#order.ended(command);
    if (error !== undefined) this.counts.failed++;
    else if (!command.quiet) this.counts.succeeded++;
    // One that only wants quiet begins now, and ends in `quiet`; one that went alone and was given up holds the others back until the device is done with it.
    const goesOn = command.quiet ? error === undefined : command.sent;
    if (!goesOn) this.#order.release(command);
    if (command.resolve !== undefined) {
      this.#awaited--;
      if (error === undefined) settle(command);
      else command.reject!(error);
    }
  }

  #failAll(error: unknown): void {
    for (const command of this.#all()) this.#finish(command, error);
    this.#order.clear();
    this.#expireAt = Infinity;
    this.#nudgeIfNeeded();
  }

  #hasUsed(): boolean {
    for (let at = 0; at < this.#lanes.length; at++) if (this.#lanes[at]!.queue.hasUsed()) return true;
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
    this.#site.waiter.wake();
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
        await this.#site.waiter.wait(this.#target, Math.max(this.#due - performance.now(), 0));
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
    return new ClosedError(this.#what);
  }
}

function settle(command: Command): void {
  try {
    command.resolve!(command.outcome());
  } catch (error) {
    command.reject!(error);
  }
}
