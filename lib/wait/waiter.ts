/**
 * How a driver waits for its device: by polling, by sleeping on eventfds, or first the one and then the other.
 *
 * @module
 */
import { Epoll } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import type { InterruptVector } from "./interrupt_vector.ts";
import type { Lifeline } from "./lifeline.ts";

/** What is waited for. A `Virtqueue` is one; a driver makes one of several queues. */
export interface WaitTarget {
  /** True when there is something to take. Called in a spin: allocates nothing. */
  hasUsed(): boolean;
  /** No interrupts, please: somebody is looking. */
  suppressInterrupts(): void;
  /** An interrupt at the next event. @returns true when something came meanwhile. */
  enableInterrupts(): boolean;
}

/**
 * `poll` never sleeps, `eventfd` never spins, `adaptive` spins first and then sleeps, and spins only where that has been worth it. After a spin in which
 * nothing came it sleeps at once, until some waits were shorter than a spin: two, and twice as many each time that the next spin is in vain, too. So where
 * the other side needs the processor that would spin, it behaves as `eventfd`.
 */
export type WaitMode = "poll" | "eventfd" | "adaptive";

/** How to wait. */
export interface WaiterOptions {
  /** Default `adaptive`. */
  readonly mode?: WaitMode;
  /** How long `adaptive` spins at most before it sleeps, in microseconds. Default 50. */
  readonly spinMicroseconds?: number | undefined;
}

interface Sleeper {
  readonly target: WaitTarget;
  /** When the wait began. */
  readonly since: number;
  /** It began with a spin. */
  readonly spun: boolean;
  readonly deadline: number;
  readonly resolve: (ready: boolean) => void;
  readonly reject: (error: unknown) => void;
}

interface Source {
  readonly vector: InterruptVector;
  readonly onSignal: ((isr: number, count: number) => void) | undefined;
}

/** Most short waits that are slept for between two spins in vain. */
const MOST_SHORT_WAITS = 256;
/** Looks between two readings of the clock while spinning. */
const LOOKS = 64;
/** A polling wait lets the event loop run this often, so that timers and other waits go on. */
const POLL_SLICE_MS = 1;
/** The event loop gets a turn when it had none for so long. */
const TURN_MS = 10;
/** Most waits that end at once between two looks at the clock, which cost more than such a wait. Work between waits may be long: then each one looks. */
const MOST_QUICK_WAITS = 16;
/**
 * One turn of so long a time sleeps. Deno looks at sockets, pipes and signals before it sleeps, and else with every 61st turn only; to sleep costs one or
 * two milliseconds.
 */
const SLEEPING_TURN_MS = 50;
const LONGEST_SLEEP_MS = 2 ** 31 - 1;
/** A thread that polls looks this often whether its device is still there. */
const BLOCKING_SLICE_MS = 10;
/** Beyond the numbers of sources. */
const LIFELINE_TAG = 0xffff_fffe;

/**
 * Waits for many targets with one epoll set. The rule against lost wake-ups: interrupts are suppressed while somebody polls; before
 * sleeping they are enabled, and the target is looked at once more.
 *
 * Any number of asynchronous waits may be under way. A blocking wait (for a Worker) stands alone.
 */
export class Waiter implements Disposable {
  static {
    typedErrors(this);
  }

  /** How it waits. */
  readonly mode: WaitMode;
  readonly #spinMs: number;
  /** Short waits until it spins again; 0: it does. */
  #shortWaits = 0;
  /** The same after the next spin in vain. */
  #shortWaitsNext = 2;
  readonly #epoll: Epoll;
  readonly #sources: Source[] = [];
  readonly #sleepers = new Set<Sleeper>();
  #interrupts = 0;
  #pumping: Promise<void> | null = null;
  #quickWaits = 0;
  /** As many of them until the next look at the clock. One that stands alone needs none. */
  #looksAfter = 2;
  #lookedAt = 0;
  #turnedAt = 0;
  #sleptAt = 0;
  /** What lets the event loop run. */
  readonly #naps = new Set<Promise<void>>();
  #lifeline: Lifeline | null = null;
  #forgetLifeline: (() => void) | null = null;
  /** Why nothing will come any more. */
  #lost: Error | null = null;
  #closed = false;

  /** Makes an epoll set of its own. @throws UsageError, SyscallError */
  constructor(options: WaiterOptions = {}) {
    requireType(options, "object", "new Waiter: options");
    this.mode = options.mode ?? "adaptive";
    const spin = options.spinMicroseconds ?? 50;
    requireType(spin, "number", "new Waiter: spinMicroseconds");
    if (!(spin >= 0 && spin <= 1e9)) throw new UsageError(`a spin of ${shown(spin)} µs`);
    this.#spinMs = this.mode === "eventfd" ? 0 : spin / 1000;
    // Last: nobody would close it if the options were refused.
    this.#epoll = new Epoll();
  }

  /** Interrupts that were taken from the watched vectors so far. */
  get interrupts(): number {
    return this.#interrupts;
  }

  /** Why nothing will come any more (`watchLifeline`); null while something may. */
  get lost(): Error | null {
    return this.#lost;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Adds an interrupt vector to those that end a sleep. `onSignal` is called with the ISR bits (1 queue, 2 config, 3 unknown) after the
   * vector was acknowledged, and with how often it was signalled; what it throws ends all waits with that error.
   */
  watch(vector: InterruptVector, onSignal?: (isr: number, count: number) => void): void {
    this.#requireOpen();
    requireType(vector, "object", "watch: vector", "eventFd", "acknowledge");
    if (onSignal !== undefined) requireType(onSignal, "function", "watch: onSignal");
    this.#epoll.add(vector.eventFd.fd, this.#sources.length);
    this.#sources.push({ vector, onSignal });
  }

  /**
   * From when the device's process is gone, or the device closed, all waits end with that error: nobody is left who could end them. What that
   * process asks for is answered by whoever waits. At most one.
   */
  watchLifeline(lifeline: Lifeline): void {
    this.#requireOpen();
    const watch = () => {
      if (!this.#closed) { for (const fd of lifeline.fds) this.#epoll.add(fd, LIFELINE_TAG); }
    };
    watch();
    this.#lifeline = lifeline;
    const end = lifeline.onEnd(() => this.lose(lifeline.reason()));
    const move = lifeline.onMove?.(() => {
      if (!this.#closed) { for (const fd of lifeline.fds) if (!fd.closed) this.#epoll.remove(fd); }
      return () => {
        watch();
        // Who sleeps may wait for what came with the move, and the set tells it nothing of that.
        this.wake();
      };
    });
    this.#forgetLifeline = () => {
      end();
      move?.();
    };
  }

  /**
   * Resolves to true when the target has something, to false after `timeoutMs` (Infinity: no limit). However many waits in a row end at once, timers,
   * signals and other work get their turn.
   * @throws whatever the target throws; UsageError; ClosedError when the waiter is closed meanwhile; PeerGoneError (`watchLifeline`)
   */
  async wait(target: WaitTarget, timeoutMs: number): Promise<boolean> {
    this.#check(timeoutMs);
    const since = performance.now(), deadline = since + timeoutMs;
    // A turn only where something is there. Any other wait is armed before this call returns: an interrupt tells of what comes from then on.
    let spun = this.#spins;
    while (this.#atOnce(target, deadline)) {
      const turn = this.turnIfDue();
      if (turn === null) return true;
      await turn;
      if (target.hasUsed()) return true;
      spun = this.#spins;
    }
    if (this.mode === "poll") return await this.#poll(target, deadline);
    return await new Promise<boolean>((resolve, reject) => {
      this.#sleepers.add({ target, since, spun, deadline, resolve, reject });
      if (this.#pumping === null) this.#pumping = this.#pump();
      // The pump sleeps until the deadline of those before.
      else this.#epoll.wake();
    });
  }

  /** Looks, and spins where that is asked for; what has nothing then is armed, unless it is polled. */
  #atOnce(target: WaitTarget, deadline: number): boolean {
    if (target.hasUsed()) return true;
    if (this.#lost !== null) throw this.#lost;
    if (this.mode === "poll") return false;
    if (this.#spins) {
      target.suppressInterrupts();
      if (this.#spin(target, deadline)) {
        // Somebody may sleep for the same interrupt, which is off now.
        this.wake();
        return true;
      }
    }
    return target.enableInterrupts();
  }

  /** The next wait begins with a spin. */
  get #spins(): boolean {
    return this.#spinMs > 0 && this.#shortWaits === 0;
  }

  /** @returns whether something came */
  #spin(target: WaitTarget, deadline: number): boolean {
    const until = performance.now() + this.#spinMs;
    if (spin(target, Math.min(deadline, until))) {
      this.#shortWaitsNext = 2;
      return true;
    }
    // What was given up early says nothing.
    if (until <= deadline) {
      this.#shortWaits = this.#shortWaitsNext;
      this.#shortWaitsNext = Math.min(2 * this.#shortWaits, MOST_SHORT_WAITS);
    }
    return false;
  }

  /** Something came to a sleeper. @param spun it had spun before, in vain */
  #came(since: number, spun: boolean): void {
    if (!spun && this.#shortWaits > 0 && performance.now() - since <= this.#spinMs) this.#shortWaits--;
  }

  /** As `wait`, blocking this thread. @throws UsageError also while an asynchronous wait is under way */
  waitBlocking(target: WaitTarget, timeoutMs: number): boolean {
    this.#check(timeoutMs);
    if (this.#pumping !== null) {
      throw new UsageError("a blocking wait while an asynchronous one is under way", {
        hint: "use a waiter of its own for the thread that blocks",
      });
    }
    const since = performance.now(), deadline = since + timeoutMs;
    if (target.hasUsed()) return true;
    if (this.#lost !== null) throw this.#lost;
    if (this.mode === "poll") {
      target.suppressInterrupts();
      return this.#pollBlocking(target, deadline);
    }
    const spins = this.#spins;
    if (spins) {
      target.suppressInterrupts();
      if (this.#spin(target, deadline)) return true;
    }
    for (;;) {
      if (target.enableInterrupts()) return true;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) return false;
      this.#take(this.#epoll.waitBlocking(sleepMs(leftMs)));
      if (target.hasUsed()) {
        target.suppressInterrupts();
        this.#came(since, spins);
        return true;
      }
      if (this.#lost !== null) throw this.#lost;
    }
  }

  /**
   * For loops that have no need to wait: once in a while, a turn of the event loop to be awaited; else null. @throws ClosedError when closed meanwhile
   */
  turnIfDue(): Promise<void> | null {
    if (++this.#quickWaits < this.#looksAfter) return null;
    this.#quickWaits = 0;
    const now = performance.now();
    const isQuick = now - this.#lookedAt < TURN_MS / 4;
    this.#looksAfter = isQuick ? Math.min(2 * this.#looksAfter, MOST_QUICK_WAITS) : 1;
    this.#lookedAt = now;
    if (now - this.#turnedAt < TURN_MS) return null;
    this.#turnedAt = now;
    if (now - this.#sleptAt < SLEEPING_TURN_MS) return this.#nap((done) => void setImmediate(done));
    this.#sleptAt = now;
    return this.#nap((done) => setTimeout(done, 0));
  }

  /** Takes the interrupts that are pending now, without waiting: config changes are seen by this, too. @returns how many vectors had fired */
  service(): number {
    this.#requireOpen();
    // While somebody sleeps, the pump takes them.
    return this.#pumping !== null ? 0 : this.#take(this.#epoll.waitBlocking(0));
  }

  /** Makes whoever sleeps look at its target again: something else than an interrupt may have changed it. */
  wake(): void {
    if (this.#pumping !== null && !this.#closed) this.#epoll.wake();
  }

  /** Ends all waits with `ClosedError`. The vectors stay open. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#forgetLifeline?.();
    this.#endAll(new ClosedError("waiter"));
    this.#epoll.close();
  }

  /** Resolves when nothing of a wait that `close` interrupted is left. */
  get settled(): Promise<void> {
    return Promise.all([this.#epoll.settled, this.#pumping, ...this.#naps]).then(() => undefined);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  async #poll(target: WaitTarget, deadline: number): Promise<boolean> {
    target.suppressInterrupts();
    for (;;) {
      const until = Math.min(deadline, performance.now() + POLL_SLICE_MS);
      if (spin(target, until)) return true;
      if (until === deadline) return false;
      await this.#nap((done) => setTimeout(done, 0));
      this.#checkLifeline();
    }
  }

  #pollBlocking(target: WaitTarget, deadline: number): boolean {
    for (;;) {
      const until = Math.min(deadline, performance.now() + BLOCKING_SLICE_MS);
      if (spin(target, until)) return true;
      if (until === deadline) return false;
      this.#checkLifeline();
    }
  }

  /** While nobody sleeps: by polling. */
  #checkLifeline(): void {
    if (this.#lifeline !== null && this.#pumping === null) this.#take(this.#epoll.waitBlocking(0));
    if (this.#lost !== null) throw this.#lost;
  }

  /** Nothing will come any more: all waits, also later ones, end with `reason`, unless their targets have something. @internal */
  lose(reason: Error): void {
    if (this.#closed) return;
    this.#lost ??= reason;
    // What came before the end is still there to be taken.
    for (const sleeper of this.#sleepers) {
      try {
        if (!sleeper.target.hasUsed()) continue;
        sleeper.resolve(true);
      } catch (error) {
        sleeper.reject(error);
      }
      this.#sleepers.delete(sleeper);
    }
    this.#endAll(this.#lost);
    this.wake();
  }

  /** `close` may come meanwhile, and `settled` then waits for it. */
  async #nap(begin: (done: () => void) => void): Promise<void> {
    const nap = new Promise<void>(begin);
    this.#naps.add(nap);
    await nap;
    this.#naps.delete(nap);
    this.#requireOpen();
  }

  /** Sleeps for all sleepers, as long as there are any. */
  async #pump(): Promise<void> {
    try {
      while (this.#sleepers.size > 0) {
        let earliest = Infinity;
        for (const { deadline } of this.#sleepers) earliest = Math.min(earliest, deadline);
        this.#take(await this.#epoll.wait(sleepMs(earliest - performance.now())));
        this.#wakeReady();
      }
    } catch (error) {
      this.#endAll(error);
    } finally {
      this.#pumping = null;
    }
  }

  #wakeReady(): void {
    const now = performance.now();
    for (const sleeper of this.#sleepers) {
      try {
        if (sleeper.target.hasUsed()) {
          sleeper.target.suppressInterrupts();
          this.#sleepers.delete(sleeper);
          this.#came(sleeper.since, sleeper.spun);
          sleeper.resolve(true);
        } else if (sleeper.target.enableInterrupts() || sleeper.deadline <= now) {
          this.#sleepers.delete(sleeper);
          sleeper.resolve(sleeper.target.hasUsed());
        }
      } catch (error) {
        this.#sleepers.delete(sleeper);
        sleeper.reject(error);
      }
    }
  }

  #take(ready: number): number {
    // A handler may wait in turn and overwrite the tags, so they are not read again after it.
    for (let i = 0; i < ready; i++) {
      const tag = this.#epoll.tags[i]!;
      if (tag === LIFELINE_TAG) {
        this.#lifeline!.answer();
        continue;
      }
      const source = this.#sources[tag];
      if (source === undefined || source.vector.eventFd.closed) continue;
      const count = source.vector.eventFd.take();
      if (count === 0) continue;
      this.#interrupts += count;
      const isr = source.vector.acknowledge();
      source.onSignal?.(isr, count);
    }
    return ready;
  }

  #endAll(error: unknown): void {
    const sleepers = [...this.#sleepers];
    this.#sleepers.clear();
    for (const sleeper of sleepers) sleeper.reject(error);
  }

  #check(timeoutMs: number): void {
    this.#requireOpen();
    if (!(timeoutMs >= 0)) throw new UsageError(`a timeout of ${timeoutMs} ms`);
    if (this.mode !== "poll" && this.#sources.length === 0) {
      throw new UsageError(`a waiter in mode "${this.mode}" with no interrupt to wait for`, {
        hint: 'watch() a vector first, or use mode "poll"',
      });
    }
  }

  #requireOpen(): void {
    if (this.#closed) throw new ClosedError("waiter");
  }
}

/** Looks until something is there or the time is over. */
function spin(target: WaitTarget, until: number): boolean {
  for (;;) {
    for (let look = 0; look < LOOKS; look++) if (target.hasUsed()) return true;
    if (performance.now() >= until) return false;
  }
}

/** Epoll's timeout: whole milliseconds, rounded up so that a wait is not cut short into a spin; −1 for no limit. */
function sleepMs(leftMs: number): number {
  if (leftMs === Infinity) return -1;
  return Math.min(Math.max(Math.ceil(leftMs), 0), LONGEST_SLEEP_MS);
}
