/**
 * Several queues as one thing to wait for.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import { anyOf } from "../lib/wait/any_of.ts";
import type { WaitTarget } from "../lib/wait/waiter.ts";

/** One of several queues, or without a number all of them as one. @param what what the number counts, for messages @throws UsageError */
export function oneOrAll(
  queues: readonly WaitTarget[],
  number: number | undefined,
  what: string,
): WaitTarget {
  if (number !== undefined || queues.length === 1) {
    const one = queues[number ?? 0];
    if (one !== undefined) return one;
    throw new UsageError(`there is no ${what} ${number}; ${queues.length} are set up`);
  }
  return anyOf(queues);
}
