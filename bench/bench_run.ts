/**
 * What every benchmark gets from `main.ts`: how long it may take, and whether somebody wants it to end.
 *
 * @module
 */
import process from "node:process";
import { RingsideError } from "../lib/errors/mod.ts";

/** Ctrl-C or termination: thrown between two pieces of work, so that everything that is open is closed on the way out. */
export class Interrupted extends RingsideError {
  /** Name of the error type. */
  override name = "Interrupted";
}

/** One run of the benchmarks. */
export class BenchRun implements Disposable {
  /** Few rounds: to see that everything works. */
  readonly short: boolean;
  readonly #stop = new AbortController();
  readonly #listener = (): void => {
    if (this.signal.aborted) Deno.exit(130);
    this.#stop.abort(new Interrupted("interrupted"));
  };

  /** Takes over Ctrl-C until it is disposed of; a second one ends the process at once. */
  constructor(short: boolean) {
    this.short = short;
    for (const signal of SIGNALS) Deno.addSignalListener(signal, this.#listener);
  }

  /** Aborted by Ctrl-C; its reason is an `Interrupted`. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** `full`, or in a short run `few`. */
  pick(full: number, few: number): number {
    return this.short ? few : full;
  }

  /** Lets signals in. To be called at least every second. @throws Interrupted */
  async turn(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.signal.throwIfAborted();
  }

  /** Gives Ctrl-C back. */
  [Symbol.dispose](): void {
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, this.#listener);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** What stands still for so long, while others may have the processors, will not move any more. */
export const PATIENCE_MS = 60_000;

/** Operations per second of `count` operations. */
export function rate(count: number, work: () => void): number {
  const start = performance.now();
  work();
  return count / ((performance.now() - start) / 1000);
}

/**
 * Nanoseconds of processor time for each of `count` operations: what else the machine does counts for little. For work of this process alone, of
 * milliseconds at least.
 */
export function processorNanoseconds(count: number, work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) * 1000 / count;
}

/** As `rate`, of work that is waited for. */
export async function perSecond(count: number, work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return count / ((performance.now() - start) / 1000);
}

/** Does `one` so many times, `depth` at once. @param one gets the line that it stands in, from 0 */
export async function inFlight(
  count: number,
  depth: number,
  one: (line: number) => Promise<void>,
): Promise<void> {
  let left = count;
  const line = async (number: number) => {
    while (left-- > 0) await one(number);
  };
  await Promise.all(Array.from({ length: depth }, (_, number) => line(number)));
}
