/**
 * Turns of the event loop in work that never waits.
 *
 * @module
 */

/** How long work may go on without one: a turn costs about a millisecond. */
const EVERY_MS = 50;

/** Gives the event loop a turn now and then, so that signals, timers and other work are seen during a long poll. */
export class EventLoopTurns {
  #last = performance.now();

  /** True when the last turn is long ago. */
  due(): boolean {
    return performance.now() - this.#last >= EVERY_MS;
  }

  /** A turn. @throws the reason of `signal` when it is aborted */
  async take(signal?: AbortSignal): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#last = performance.now();
    signal?.throwIfAborted();
  }
}
