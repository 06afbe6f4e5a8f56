/**
 * Work in phases, each timed.
 *
 * @module
 */

/** How long each phase of one round took. */
export class Stopwatch<Phase extends string> {
  /** Milliseconds; 0 for a phase that is not over. */
  readonly took: Record<Phase, number>;
  #since = performance.now();

  /** Begins. */
  constructor(phases: readonly Phase[]) {
    this.took = Object.fromEntries(phases.map((phase) => [phase, 0])) as Record<Phase, number>;
  }

  /** A phase is over, in which the same was done so many times; the next one begins. */
  done(phase: Phase, times = 1): void {
    const now = performance.now();
    this.took[phase] = (now - this.#since) / times;
    this.#since = now;
  }

  /** What was done since the last phase counts for none. */
  skip(): void {
    this.#since = performance.now();
  }
}
