/**
 * Loads measured one after the other: for a while each, polled and by interrupt.
 *
 * @module
 */
import type { Load } from "../../drivers/load.ts";
import { TimeoutError } from "../../lib/errors/mod.ts";
import { EventLoopTurns } from "../../lib/wait/event_loop_turns.ts";
import { progress } from "../progress.ts";
import type { Point, Way } from "./points.ts";

/** What to measure. */
export interface MeasureOptions<L extends Load> {
  readonly ways: readonly Way[];
  /** Depths or bursts, in the order in which they are measured. */
  readonly each: readonly number[];
  /** Bytes of a request or frame. */
  readonly sizeBytes: number;
  /** How long each is measured. */
  readonly seconds: number;
  /** No progress is shown. */
  readonly quiet: boolean;
  /** Ends it early. */
  readonly signal: AbortSignal;
  /** A load of so much. It is the only one at its time. */
  readonly load: (each: number) => L;
  /** What a load counts besides, from its beginning on. */
  readonly counts?: (load: L) => Readonly<Record<string, number>>;
}

/** The compiler is given this part of a measurement beforehand, and at most so long. */
const WARM_UP = 0.2;
const WARM_UP_MS = 300;
/** Turns between two looks at the clock. */
const LOOKS = 32;
const SLEEP_MS = 20;
const PATIENCE_MS = 5000;

/** Measures all, or what comes before `signal`: a load that it cuts short counts for as long as it ran. @throws TimeoutError, DeviceError */
export async function measure<L extends Load>(options: MeasureOptions<L>): Promise<Point[]> {
  const { ways, each, seconds, signal, counts = none } = options;
  const points: Point[] = [];
  const eachMs = seconds * 1000;
  const total = Math.ceil(ways.length * each.length * seconds * 10) / 10;
  using bar = await progress("measuring", total, "s", options.quiet);
  for (const way of ways) {
    for (const one of each) {
      if (signal.aborted) return points;
      const before = points.length * seconds;
      const load = options.load(one);
      load.begin();
      await run(load, way, Math.min(WARM_UP_MS, eachMs * WARM_UP), signal, () => {});
      load.latencies.clear();
      const counted = counts(load);
      const start = performance.now();
      const count = await run(load, way, eachMs, signal, (elapsedMs) => {
        bar.update(Math.round((before + elapsedMs / 1000) * 10) / 10);
      });
      const milliseconds = performance.now() - start;
      await drain(load, signal);
      // A signal in the warm-up leaves nothing to tell.
      if (count === 0 && signal.aborted) return points;
      const sinceThen = Object.entries(counts(load)).map(([name, value]) => [name, value - counted[name]!]);
      points.push({
        way,
        each: one,
        milliseconds,
        count,
        ...rates(count, milliseconds, options.sizeBytes),
        microseconds: percentiles(load),
        counts: Object.fromEntries(sinceThen),
      });
    }
  }
  return points;
}

function none(): Readonly<Record<string, number>> {
  return {};
}

async function run(
  load: Load,
  way: Way,
  forMs: number,
  signal: AbortSignal,
  onTime: (elapsedMs: number) => void,
): Promise<number> {
  const turns = new EventLoopTurns();
  const start = performance.now();
  let count = 0;
  while (!signal.aborted) {
    for (let look = 0; look < LOOKS; look++) {
      const done = load.turn();
      count += done;
      if (done > 0 || way === "polled") continue;
      load.wait(SLEEP_MS);
      break;
    }
    const elapsedMs = performance.now() - start;
    // On a busy machine the device may have had no turn yet.
    if (elapsedMs >= forMs && (count > 0 || elapsedMs >= PATIENCE_MS)) break;
    if (!turns.due()) continue;
    onTime(elapsedMs);
    await turns.take();
  }
  return count;
}

/** Until nothing is in flight: the next load begins with nothing. A signal does not shorten it, since it is short. */
async function drain(load: Load, signal: AbortSignal): Promise<void> {
  const until = performance.now() + PATIENCE_MS;
  const turns = new EventLoopTurns();
  for (let left = load.end(); left > 0; left = load.end()) {
    if (performance.now() > until) {
      if (signal.aborted) return;
      throw new TimeoutError(`nothing came back for ${PATIENCE_MS / 1000} s, with ${left} in flight`, {
        hint: "is the device alive and its link up?",
      });
    }
    if (turns.due()) await turns.take();
  }
}

function rates(count: number, milliseconds: number, sizeBytes: number) {
  const perSecond = Math.round(1000 * count / milliseconds);
  return { perSecond, bytesPerSecond: perSecond * sizeBytes };
}

function percentiles({ latencies }: Load): Point["microseconds"] {
  const hundredths = (value: number) => Math.round(value * 100) / 100;
  const at = (part: number) => hundredths(latencies.percentile(part));
  const max = hundredths(latencies.maxMicroseconds);
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max };
}
