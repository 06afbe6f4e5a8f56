/**
 * The loop of an emulated machine: busy while there is work, asleep when there is none.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { EventDispatcher } from "./event_dispatcher.ts";
import type { MachineFunction } from "./machine_function.ts";
import type { ViolationLog } from "./violation_log.ts";

/** Buffers that one function may move before it is the next one's turn. */
const BUDGET = 256;
/** Rounds between two looks at the descriptors while there is work. */
const ROUNDS_A_DISPATCH = 8;
/** Rounds without work before notifications are asked for: a driver that answers at once need not ring. */
const IDLE_ROUNDS = 64;
/** This thread's event loop (signals, timers) gets its turn at least so often. */
const YIELD_MS = 20;
/** After so long without work the loop waits beside the event loop: slower to wake, and free for signals at once. */
const QUIET_AFTER_MS = 1000;
const QUIET_WAIT_MS = 500;

/** Polls the functions that a user drives, and serves the descriptors of all. */
export class MachineLoop {
  readonly #events: EventDispatcher;
  readonly #functions: ReadonlyMap<string, MachineFunction>;
  readonly #violations: ViolationLog;
  #stopping = false;

  /** A loop that is not running yet. @param functions the machine's; it may change between rounds */
  constructor(
    events: EventDispatcher,
    functions: ReadonlyMap<string, MachineFunction>,
    violations: ViolationLog,
  ) {
    this.#events = events;
    this.#functions = functions;
    this.#violations = violations;
  }

  /** Ends `run`. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#events.wake();
  }

  /** One round without waiting. @returns what was served and moved */
  step(): number {
    return this.#dispatch(0) + this.#poll();
  }

  /** Runs until `stop`. */
  async run(): Promise<void> {
    let yieldedAt = performance.now();
    let workedAt = yieldedAt;
    while (!this.#stopping) {
      if (this.#work()) workedAt = performance.now();
      if (this.#stopping) return;
      let now = performance.now();
      if (!this.#arm()) {
        const wakeAfterMs = this.#wakeAfterMs();
        const quiet = now - workedAt >= QUIET_AFTER_MS;
        const served = quiet
          ? await this.#events.dispatch(Math.min(wakeAfterMs, QUIET_WAIT_MS)).catch(this.#survive)
          : this.#dispatch(Math.min(wakeAfterMs, YIELD_MS));
        now = performance.now();
        if (served > 0) workedAt = now;
        if (quiet) yieldedAt = now;
      }
      if (now - yieldedAt >= YIELD_MS) {
        await new Promise<void>((resolve) => setImmediate(resolve));
        yieldedAt = performance.now();
      }
    }
  }

  /** Polls until nothing has moved for a while, or the event loop is due. @returns whether anything moved */
  #work(): boolean {
    const until = performance.now() + YIELD_MS;
    let moved = false;
    let idle = 0;
    for (let round = 0; idle < IDLE_ROUNDS && this.#anyInUse(); round++) {
      let done = this.#poll();
      if (round % ROUNDS_A_DISPATCH === 0) {
        done += this.#dispatch(0);
        if (this.#stopping || performance.now() >= until) return moved || done > 0;
      }
      if (done > 0) {
        moved = true;
        idle = 0;
      } else idle++;
    }
    return moved;
  }

  #anyInUse(): boolean {
    for (const fn of this.#functions.values()) {
      if (fn.inUse) return true;
    }
    return false;
  }

  #poll(): number {
    let moved = 0;
    for (const fn of this.#functions.values()) {
      if (!fn.inUse) continue;
      try {
        moved += fn.device.behaviour.poll(BUDGET);
      } catch (error) {
        this.#breakOff(fn, error);
      }
    }
    return moved;
  }

  /** @returns true when work arrived while notifications were being asked for */
  #arm(): boolean {
    let work = false;
    for (const fn of this.#functions.values()) {
      if (!fn.inUse) continue;
      try {
        if (fn.device.behaviour.arm()) work = true;
      } catch (error) {
        this.#breakOff(fn, error);
      }
    }
    return work;
  }

  #wakeAfterMs(): number {
    let least = QUIET_WAIT_MS;
    for (const fn of this.#functions.values()) {
      if (fn.inUse) least = Math.min(least, fn.device.behaviour.wakeAfterMs ?? QUIET_WAIT_MS);
    }
    return Math.max(0, Math.ceil(least));
  }

  #dispatch(timeoutMs: number): number {
    try {
      return this.#events.dispatchBlocking(timeoutMs);
    } catch (error) {
      return this.#survive(error);
    }
  }

  /** One client, or the model of one device, must not take the others down: what it broke is listed, and the machine goes on. */
  readonly #survive = (error: unknown): number => {
    if (this.#stopping) return 0;
    this.#violations.add({ function: "machine", rule: "internal", message: describe(error) });
    return 1;
  };

  #breakOff(fn: MachineFunction, error: unknown): void {
    this.#violations.add({ function: fn.address, rule: "internal", message: describe(error) });
    try {
      fn.disconnect();
    } catch (second) {
      this.#survive(second);
    }
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
