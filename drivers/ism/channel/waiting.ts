/**
 * Waiting for the other side of a channel by looking.
 *
 * @module
 */
import { yieldProcessor } from "../../../ffi/mod.ts";

/** What a wait looks at. */
export interface Look {
  /** The other side's position alone. */
  glance(): boolean;
  /** Everything: also whether the other side has closed, or is gone. */
  ready(): boolean;
  /** Asks the other side for a notification; null: it sends one anyway. */
  readonly wish: WakeWish | null;
  /** How long to look before the processor is offered. */
  readonly patience: Patience;
}

/** What a wait learns for the next one: whether answers come while it looks, or when it has offered its processor. */
export class Patience {
  #shared = false;
  #waits = 0;

  /** Glances of the wait that begins. */
  begin(): number {
    return this.#shared && ++this.#waits % TRY_ALONE !== 0 ? GLANCES_SHARED : GLANCES;
  }

  /** It has ended. @param glances as `begin` said @param offered the processor was offered just before */
  end(glances: number, offered: boolean): void {
    if (glances === GLANCES) this.#shared = offered;
  }
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

/** Glances before a wait offers its processor: longer than an answer from another processor takes. */
const GLANCES = 64;
/** The same where the other side seems to need this processor: then looking only keeps it from answering. */
const GLANCES_SHARED = 4;
/** One wait of so many looks long all the same: the scheduler may have moved somebody. */
const TRY_ALONE = 16;
/** A polling wait lets the event loop run this often. */
const SLICE_MS = 1;

/** Looks, blocking this thread; in between, others that need the processor get it. @returns false when it is `until` */
export function spin({ glance, ready, patience }: Look, until: number): boolean {
  const glances = patience.begin();
  for (;;) {
    for (let i = 0; i < glances; i++) {
      if (!glance()) continue;
      patience.end(glances, false);
      return true;
    }
    yieldProcessor();
    if (glance()) {
      patience.end(glances, true);
      return true;
    }
    if (ready()) return true;
    if (performance.now() >= until) return false;
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
