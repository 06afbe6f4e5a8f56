/**
 * Waiting for eventfds as they are, whoever signals them: interrupts of a function that is no virtio device, or one eventfd alone.
 *
 * @module
 */
import type { EventFd } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import type { Lifeline } from "./lifeline.ts";
import { Waiter, type WaitTarget } from "./waiter.ts";

/** Whose eventfds they are. */
export interface SignalsOptions {
  /** For messages. Default `eventfds`. */
  readonly name?: string;
  /** Waits end with its reason when it ends: that of the function which signals them. */
  readonly lifeline?: Lifeline | undefined;
}

/**
 * Counts what comes to eventfds, by their places in the list, and waits for it. They stay the caller's; nobody else takes from them.
 *
 * ```ts
 * using signals = new Signals([eventFd]);
 * const count = await signals.wait(0, 1000); // 0: nothing came in a second
 * ```
 */
export class Signals implements Disposable {
  static {
    typedErrors(this);
  }

  readonly #name: string;
  readonly #waiter: Waiter;
  /** By eventfd: what has come in all, and what of it no wait has given out. */
  readonly #counts: number[];
  readonly #pending: number[];
  readonly #targets: readonly WaitTarget[];

  /** Takes an epoll set of its own. @throws UsageError, SyscallError, ClosedError */
  constructor(eventFds: readonly EventFd[], options: SignalsOptions = {}) {
    requireType(eventFds, "array", "new Signals: eventFds");
    requireType(options, "object", "new Signals: options");
    this.#name = options.name ?? "eventfds";
    this.#counts = eventFds.map(() => 0);
    this.#pending = eventFds.map(() => 0);
    this.#targets = eventFds.map((_, at) => {
      const has = () => this.#pending[at]! > 0;
      return { hasUsed: has, suppressInterrupts: () => {}, enableInterrupts: has };
    });
    using opened = new DisposableStack();
    // After what may throw, since nobody would close it.
    const waiter = this.#waiter = opened.use(new Waiter({ mode: "eventfd" }));
    eventFds.forEach((eventFd, at) => {
      requireType(eventFd, "object", `new Signals: eventfd ${at}`, "take");
      const came = (_isr: number, count: number) => {
        this.#counts[at]! += count;
        this.#pending[at]! += count;
      };
      waiter.watch({ eventFd, acknowledge: () => 0 }, came);
    });
    if (options.lifeline !== undefined) waiter.watchLifeline(options.lifeline);
    opened.move();
  }

  /** By eventfd: how often it was signalled, as far as anybody has looked. */
  get counts(): readonly number[] {
    return this.#counts;
  }

  /**
   * Resolves to how often an eventfd was signalled since the last wait for it, at least once; to 0 after `timeoutMs`.
   * @param at which of them; default the first @param timeoutMs default: no limit
   * @throws UsageError; what the lifeline says when it ends; ClosedError
   */
  async wait(at = 0, timeoutMs = Infinity): Promise<number> {
    const target = this.#target(at, timeoutMs);
    for (const deadline = performance.now() + timeoutMs;;) {
      if (!await this.#waiter.wait(target, Math.max(0, deadline - performance.now()))) return 0;
      // Another wait for the same may have been first.
      const count = this.#take(at);
      if (count > 0) return count;
    }
  }

  /** As `wait`, blocking this thread: for a Worker. @throws as `wait`; UsageError also while an asynchronous wait is under way */
  waitBlocking(at = 0, timeoutMs = Infinity): number {
    return this.#waiter.waitBlocking(this.#target(at, timeoutMs), timeoutMs) ? this.#take(at) : 0;
  }

  /** `for await`: as `wait`, again and again. @throws as `wait` */
  async *each(at = 0): AsyncGenerator<number, never, void> {
    for (;;) yield await this.wait(at);
  }

  #take(at: number): number {
    const count = this.#pending[at]!;
    this.#pending[at] = 0;
    return count;
  }

  #target(at: number, timeoutMs: number): WaitTarget {
    if (!(timeoutMs >= 0)) throw new UsageError(`${this.#name}: a timeout of ${shown(timeoutMs)} ms`);
    const target = typeof at === "number" ? this.#targets[at] : undefined;
    if (target !== undefined) return target;
    throw new UsageError(`${this.#name}: number ${shown(at)} of ${this.#targets.length}`);
  }

  /** All waits end with this error, also later ones. What came before is still given out. */
  end(reason: Error): void {
    this.#waiter.lose(reason);
  }

  /** Ends all waits with `ClosedError`. The eventfds stay open. */
  close(): void {
    this.#waiter.close();
  }

  /** Resolves when nothing of a wait that `close` interrupted is left. */
  get settled(): Promise<void> {
    return this.#waiter.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
