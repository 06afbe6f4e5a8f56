/**
 * Which functions of the machine are polled: those that have, or may have, work. A thousand that are open and idle cost nothing.
 *
 * A function that moved nothing for a while is asked to arm its notifications and goes to sleep. It wakes when something happens to it:
 * a doorbell, an access of its user, a descriptor that it watches, its own deadline, or another function that changed what it waits for.
 *
 * @module
 */
import type { DeviceBehaviour } from "./device_behaviour.ts";

/** Buffers that one function may move before it is the next one's turn. */
const BUDGET = 256;
/** Polls without work before notifications are asked for: a driver that answers at once need not ring. */
const IDLE_POLLS = 64;
/**
 * The same of a function that slept for less than `SHORT_SLEEP_MS`. Sleeping and being woken takes some 50 µs of both sides, which is as long as some
 * thousand polls: a driver that goes on at once is better waited for. It stays so until it was waited for in vain.
 */
const PATIENT_POLLS = 2048;
const SHORT_SLEEP_MS = 0.2;
/** Most short sleeps that go by, after patience was in vain again and again, before it is tried once more: the driver may need this processor. */
const MOST_PASSED = 1023;

/** A function that is polled. */
export interface Polled {
  /** PCI address. */
  readonly address: string;
  /** What stands behind it. */
  readonly device: { readonly behaviour: Pick<DeviceBehaviour, "poll" | "arm" | "wakeAfterMs"> };
  /** Whether it may be polled now; while it may not it stays awake. Absent: always. */
  mayPoll?(): boolean;
  /** Lets its user go. */
  disconnect(): void;
}

/** What is kept of a function while it has a user. */
interface Turn {
  readonly fn: Polled;
  /** Polls since it moved something. */
  idle: number;
  /** So many without work are made. */
  patience: number;
  /** Short sleeps that are to go by before it is patient again, and that went by the last time. */
  passing: number;
  passed: number;
  /** When it fell asleep, in milliseconds of `performance.now`. */
  sleptAt: number;
  awake: boolean;
  /** It has a user. */
  there: boolean;
  /** When a sleeping function is to be woken, in milliseconds of `performance.now`; `Infinity`: when something happens. */
  dueAt: number;
}

/** See the module. */
export class FunctionTurns {
  readonly #turns = new Map<Polled, Turn>();
  /** In no order; a turn is in it while it is awake. */
  readonly #awake: Turn[] = [];
  /** Sleeping turns that have a deadline. */
  readonly #timed = new Set<Turn>();
  readonly #broke: (fn: Polled, error: unknown) => void;

  readonly #now: () => number;

  /**
   * Without functions.
   * @param broke told of what a function throws; it has to let its user go @param now milliseconds of a steady clock; default `performance.now`
   */
  constructor(broke: (fn: Polled, error: unknown) => void, now: () => number = () => performance.now()) {
    this.#broke = broke;
    this.#now = now;
  }

  /** A function may have work. */
  get anyAwake(): boolean {
    return this.#awake.length > 0;
  }

  /** A function got a user. */
  came(fn: Polled): void {
    if (this.#turns.has(fn)) return;
    const turn: Turn = {
      fn,
      idle: 0,
      patience: IDLE_POLLS,
      passing: 0,
      passed: 0,
      sleptAt: 0,
      awake: true,
      there: true,
      dueAt: Infinity,
    };
    this.#turns.set(fn, turn);
    this.#awake.push(turn);
  }

  /** A function has no user any more. */
  left(fn: Polled): void {
    const turn = this.#turns.get(fn);
    if (turn === undefined) return;
    this.#turns.delete(fn);
    turn.there = false;
    this.#timed.delete(turn);
    // One that is awake is taken out when its turn comes: the list may be under way.
  }

  /** Something happened to a function. */
  touched(fn: Polled): void {
    const turn = this.#turns.get(fn);
    if (turn !== undefined) this.#wake(turn);
  }

  /** Wakes the sleepers whose time has come. The clock is read only when there are any. */
  wakeDue(nowMs?: number): void {
    if (this.#timed.size === 0) return;
    nowMs ??= this.#now();
    for (const turn of this.#timed) if (turn.dueAt <= nowMs) this.#wake(turn);
  }

  /** Milliseconds till the first sleeper is due, at least 0; `Infinity` when none is. */
  untilDueMs(nowMs: number): number {
    let first = Infinity;
    for (const turn of this.#timed) first = Math.min(first, turn.dueAt);
    return Math.max(0, Math.ceil(first - nowMs));
  }

  /** Polls every function that is awake once. @returns how much was moved */
  poll(): number {
    let moved = 0;
    for (let i = 0; i < this.#awake.length;) {
      const turn = this.#awake[i]!;
      if (turn.there && this.#rests(turn)) {
        i++;
        continue;
      }
      const done = turn.there ? this.#pollOne(turn) : 0;
      moved += done;
      if (turn.there && (done > 0 || ++turn.idle < turn.patience || !this.#sleeps(turn))) {
        if (done > 0) worked(turn);
        i++;
        continue;
      }
      turn.awake = false;
      const last = this.#awake.pop()!;
      if (last !== turn) this.#awake[i] = last;
    }
    return moved;
  }

  /** Polls every function that has a user once; one that had work is awake afterwards. @returns how much was moved */
  pollAll(): number {
    let moved = 0;
    for (const turn of this.#turns.values()) {
      if (this.#rests(turn)) continue;
      const done = this.#pollOne(turn);
      if (done > 0) this.#wake(turn);
      moved += done;
    }
    return moved;
  }

  #rests(turn: Turn): boolean {
    try {
      return turn.fn.mayPoll?.() === false;
    } catch (error) {
      this.#broke(turn.fn, error);
      return true;
    }
  }

  #pollOne(turn: Turn): number {
    try {
      return turn.fn.device.behaviour.poll(BUDGET);
    } catch (error) {
      this.#broke(turn.fn, error);
      return 0;
    }
  }

  /** Arms notifications. @returns false when there is work after all */
  #sleeps(turn: Turn): boolean {
    turn.idle = 0;
    const { behaviour } = turn.fn.device;
    let dueInMs: number | undefined;
    try {
      if (behaviour.arm()) return false;
      dueInMs = behaviour.wakeAfterMs;
    } catch (error) {
      this.#broke(turn.fn, error);
      return true;
    }
    turn.sleptAt = this.#now();
    if (turn.patience > IDLE_POLLS) inVain(turn);
    if (dueInMs !== undefined) {
      turn.dueAt = turn.sleptAt + dueInMs;
      this.#timed.add(turn);
    }
    return true;
  }

  #wake(turn: Turn): void {
    turn.idle = 0;
    if (turn.awake || !turn.there) return;
    turn.awake = true;
    if (this.#now() - turn.sleptAt < SHORT_SLEEP_MS) sleptShortly(turn);
    turn.dueAt = Infinity;
    this.#timed.delete(turn);
    this.#awake.push(turn);
  }
}

/** It moved something. */
function worked(turn: Turn): void {
  if (turn.idle > IDLE_POLLS) turn.passed = 0;
  turn.idle = 0;
}

/** It is patient from now on, unless that was in vain lately. */
function sleptShortly(turn: Turn): void {
  if (turn.passing > 0) turn.passing--;
  else turn.patience = PATIENT_POLLS;
}

/** It was patient, and nothing came. */
function inVain(turn: Turn): void {
  turn.patience = IDLE_POLLS;
  turn.passing = turn.passed = Math.min(2 * turn.passed + 1, MOST_PASSED);
}
