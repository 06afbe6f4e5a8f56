/**
 * How long one thread may wait for the answers of clients.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";

/**
 * At most half of the time, and never longer than a limit at once. All servers of a thread share one, since all of them stand still while one
 * waits; and it outlives connections, so that a client which does not answer gains nothing by coming again.
 */
export class AnswerBudget {
  /** Longest wait, in milliseconds. */
  readonly limitMs: number;
  /** The clock, in milliseconds. */
  readonly now: () => number;
  #creditMs: number;
  #creditAt: number;

  /** A full one. @param now for tests */
  constructor(limitMs: number, now: () => number = () => performance.now()) {
    requireType(limitMs, "number", "new AnswerBudget: limitMs");
    requireType(now, "function", "new AnswerBudget: now");
    this.limitMs = limitMs;
    this.now = now;
    this.#creditMs = limitMs;
    this.#creditAt = now();
  }

  /** How long may be waited now: half of the time that has passed since the last wait was added. */
  refill(): number {
    const now = this.now();
    this.#creditMs = Math.min(this.limitMs, this.#creditMs + (now - this.#creditAt) / 2);
    this.#creditAt = now;
    return this.#creditMs;
  }

  /** Whoever has waited before should not begin to do so again: others come first. */
  get exhausted(): boolean {
    return this.#creditMs < this.limitMs / 2 && this.refill() < this.limitMs / 2;
  }

  /** A wait is over that began with `refill`. */
  spent(): void {
    const now = this.now();
    this.#creditMs -= now - this.#creditAt;
    this.#creditAt = now;
  }
}
