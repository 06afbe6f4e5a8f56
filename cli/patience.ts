/**
 * Waiting for somebody who may be slow, but must not be idle.
 *
 * @module
 */

/** Waits for as long as something goes on. */
export class Patience {
  #deadline: number;
  #seen: number;
  readonly #progress: () => number;
  readonly #ms: number;

  /** @param progress a number that changes while something goes on; asked once in `ms`, not with every look @param now as `isOver` has it */
  constructor(progress: () => number, ms: number, now: number = performance.now()) {
    this.#progress = progress;
    this.#ms = ms;
    this.#seen = progress();
    this.#deadline = now + ms;
  }

  /** True when nothing went on for so long. @param now in milliseconds */
  isOver(now: number): boolean {
    if (now <= this.#deadline) return false;
    const seen = this.#progress();
    if (seen === this.#seen) return true;
    this.#seen = seen;
    this.#deadline = now + this.#ms;
    return false;
  }
}
