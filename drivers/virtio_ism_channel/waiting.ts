/**
 * Waiting for the other side of a channel by looking.
 *
 * @module
 */
import { yieldProcessor } from "../../ffi/mod.ts";

/** What a wait looks at. */
export interface Look {
  /** The other side's position alone. */
  glance(): boolean;
  /** Everything: also whether the other side has closed, or is gone. */
  ready(): boolean;
  /** Asks the other side for a notification, or takes that back. */
  sleep(sleeps: boolean): void;
}

/** Glances between two readings of the clock. */
const GLANCES = 64;
/** So many readings of the clock go by before a loop that looks offers its processor to others. */
const ROUNDS_ALONE = 1;
/** A polling wait lets the event loop run this often. */
const SLICE_MS = 1;

/** Looks, blocking this thread. The other side may need this processor to go on: after a while it is offered. @returns false when it is `until` */
export function spin({ glance, ready }: Look, until: number): boolean {
  for (let rounds = 0;; rounds++) {
    for (let i = 0; i < GLANCES; i++) if (glance()) return true;
    if (ready()) return true;
    if (performance.now() >= until) return false;
    if (rounds >= ROUNDS_ALONE) yieldProcessor();
  }
}

/** Looks, with the event loop going on. @returns false when it is `deadline` */
export async function poll(look: Look, deadline: number): Promise<boolean> {
  for (;;) {
    const until = Math.min(deadline, performance.now() + SLICE_MS);
    if (spin(look, until)) return true;
    if (until === deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}
