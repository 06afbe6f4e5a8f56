/**
 * The loop of an emulated machine: busy while there is work, asleep when there is none.
 *
 * @module
 */
import type { EventDispatcher } from "./event_dispatcher.ts";
import { FunctionTurns, type Polled } from "./function_turns.ts";
import type { ViolationLog } from "./violation_log.ts";

/** Rounds between two looks at the descriptors while there is work. */
const ROUNDS_A_DISPATCH = 8;
/** This thread's event loop (signals, timers) gets its turn at least so often, and so does every function that a user drives. */
const YIELD_MS = 20;
/** Turns of the event loop at a time, where there is no work: what one of its threads has read goes through several before anybody hears of it. */
const IDLE_TURNS = 6;
/** After so long without work the loop waits beside the event loop: slower to wake, and free for signals at once. */
const QUIET_AFTER_MS = 1000;
const QUIET_WAIT_MS = 500;

/** Polls the functions that have work, and serves the descriptors of all. */
export class MachineLoop {
  /** Whose turn it is. The machine's functions tell it what happens to them. */
  readonly turns: FunctionTurns;
  readonly #events: EventDispatcher;
  readonly #violations: ViolationLog;
  readonly #sweep: (nowMs: number) => void;
  #stopping = false;

  /** A loop that is not running yet. @param sweep called from time to time, at least every half second: for what has a deadline */
  constructor(events: EventDispatcher, violations: ViolationLog, sweep: (nowMs: number) => void) {
    this.#sweep = (nowMs) => {
      try {
        sweep(nowMs);
      } catch (error) {
        this.#survive(error);
      }
    };
    this.#events = events;
    this.#violations = violations;
    this.turns = new FunctionTurns((fn, error) => this.#breakOff(fn, error));
  }

  /** Ends `run`. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#events.wake();
  }

  /** One round without waiting: every function that a user drives is polled. @returns what was served and moved */
  step(): number {
    this.#sweep(performance.now());
    return this.#dispatch(0) + this.turns.pollAll();
  }

  /** Runs until `stop`. */
  async run(): Promise<void> {
    let yieldedAt = performance.now();
    let workedAt = yieldedAt;
    let sweptAt = yieldedAt;
    while (!this.#stopping) {
      if (this.#work()) workedAt = performance.now();
      if (this.#stopping) return;
      let now = performance.now();
      if (!this.turns.anyAwake) {
        const wakeAfterMs = this.turns.untilDueMs(now);
        const quiet = now - workedAt >= QUIET_AFTER_MS;
        const served = quiet
          ? await this.#events.dispatch(Math.min(wakeAfterMs, QUIET_WAIT_MS)).catch(this.#survive)
          : this.#dispatch(Math.min(wakeAfterMs, YIELD_MS));
        now = performance.now();
        if (served > 0) workedAt = now;
        if (quiet) yieldedAt = now;
      }
      if (now - sweptAt >= YIELD_MS) {
        // What one function does for another may go by without a word to this loop.
        if (this.turns.pollAll() > 0) workedAt = now;
        this.#sweep(now);
        sweptAt = now;
      }
      if (now - yieldedAt >= YIELD_MS) {
        const turns = now - workedAt >= YIELD_MS ? IDLE_TURNS : 1;
        for (let turn = 0; turn < turns; turn++) {
          await new Promise<void>((resolve) => setImmediate(resolve));
        }
        yieldedAt = performance.now();
      }
    }
  }

  /** Polls until all functions are asleep, or the event loop is due. @returns whether anything moved */
  #work(): boolean {
    const start = performance.now();
    this.turns.wakeDue(start);
    let moved = false;
    for (let round = 0; this.turns.anyAwake; round++) {
      if (this.turns.poll() > 0) moved = true;
      if (round % ROUNDS_A_DISPATCH !== 0) continue;
      if (this.#dispatch(0) > 0) moved = true;
      const now = performance.now();
      if (this.#stopping || now - start >= YIELD_MS) break;
      this.turns.wakeDue(now);
    }
    return moved;
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

  #breakOff(fn: Polled, error: unknown): void {
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
