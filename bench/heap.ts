/**
 * Memory: what work leaves on the heap, and what a process holds.
 *
 * @module
 */
import { readText } from "../ffi/mod.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { rounds, type Statistic } from "./report.ts";

const MILLION = 1_000_000;
/** The first rounds may still meet the compiler, which works beside them: what goes on being allocated is in all. */
export const HEAP_ROUNDS = 5;

/** Kept outside, so that the compiler cannot remove what is stored. */
let sink: { id: number; length: number } | undefined;

function collect(): void {
  (globalThis as { gc?: () => void }).gc?.();
}

/** Heap bytes that `work` allocates; no collection in between. */
export async function allocatedBytes(run: BenchRun, work: () => void | Promise<void>): Promise<number> {
  await run.turn();
  collect();
  const before = Deno.memoryUsage().heapUsed;
  const result = work();
  if (result !== undefined) await result;
  return Deno.memoryUsage().heapUsed - before;
}

/** Heap bytes for a million of what `work` does `count` times. */
export async function bytesPerMillion(
  run: BenchRun,
  count: number,
  work: () => void | Promise<void>,
): Promise<Statistic> {
  const measured: number[] = [];
  while (measured.length < HEAP_ROUNDS) {
    measured.push(Math.round(await allocatedBytes(run, work) * MILLION / count));
  }
  return rounds("bytes", measured);
}

/** What a small object each costs: what allocations are measured beside. */
export async function objectBytes(run: BenchRun, count: number): Promise<number> {
  const bytes = await allocatedBytes(run, () => {
    for (let i = 0; i < count; i++) sink = { id: i, length: 64 };
  });
  if (sink === undefined) throw new DeviceError("nothing was allocated");
  return bytes;
}

/** Live objects, after a collection. */
export function liveHeapBytes(): number {
  collect();
  // The second collection takes what finalizers of the first let go of.
  collect();
  return Deno.memoryUsage().heapUsed;
}

/** Anonymous memory of a process: what a leak makes grow. */
export function anonymousBytes(pid: number): number {
  return 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(readText(`/proc/${pid}/status`))?.[1] ?? NaN);
}
