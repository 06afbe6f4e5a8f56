/**
 * Waiting for the other side of a channel by looking.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { yieldProcessor } from "../../ffi/mod.ts";

/** What a wait looks at. */
export interface Look {
  /** The other side's position alone. */
  glance(): boolean;
  /** Everything: also whether the other side has closed, or is gone. */
  ready(): boolean;
  /** Asks the other side for a notification; null: it sends one anyway. */
  readonly wish: WakeWish | null;
}

/** The wish of one direction to be woken, which all that wait for that direction share: the last one to end takes it back. */
export class WakeWish {
  readonly #say: (wishes: boolean) => void;
  #waiting = 0;

  /** @param say tells the other side */
  constructor(say: (wishes: boolean) => void) {
    this.#say = say;
  }

  /** One more waits. */
  begin(): void {
    this.#waiting++;
  }

  /** Asks; once more after each notification, which takes the wish away. */
  ask(): void {
    this.#say(true);
  }

  /** One fewer waits. @param reachable there is still somebody to tell */
  end(reachable: boolean): void {
    if (--this.#waiting === 0 && reachable) this.#say(false);
  }
}

/** Glances between two readings of the clock. */
const GLANCES = 64;
/** A polling wait lets the event loop run this often. */
const SLICE_MS = 1;

/**
 * Looks, blocking this thread. The other side may need this processor to go on: after each round of glances, which is longer than an
 * answer from another processor takes, it is offered.
 * @returns false when it is `until`
 */
export function spin({ glance, ready }: Look, until: number): boolean {
  for (;;) {
    for (let i = 0; i < GLANCES; i++) if (glance()) return true;
    if (ready()) return true;
    if (performance.now() >= until) return false;
    yieldProcessor();
  }
}

/** Looks, with the event loop going on. @returns false when it is `deadline` */
export async function poll(look: Look, deadline: number): Promise<boolean> {
  for (;;) {
    const until = Math.min(deadline, performance.now() + SLICE_MS);
    if (spin(look, until)) return true;
    if (until === deadline) return false;
    await new Promise<void>((resolve) => void setImmediate(resolve));
  }
}
