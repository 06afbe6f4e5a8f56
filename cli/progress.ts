/**
 * How far long work has come, and how fast: a line on standard error that is written over, where that is a terminal; on a dumb one a line now and then.
 * What draws it is loaded there.
 *
 * @module
 */
// @ts-types="@types/cli-progress"
import type {} from "cli-progress";
import { bytesText, remark, remarksOnTerminal, saysProgress } from "./output.ts";

/** Work that says how much is done. */
export interface Progress extends Disposable {
  update(done: number): void;
}

const EVERY_MS = 250;
const EVERY_LINE_MS = 5000;
/** Work that is over sooner needs no word. */
const SLOW_MS = 2000;
const NOTHING: Progress = { update: () => {}, [Symbol.dispose]: () => {} };

/**
 * A bar for work of a known size, a count for other work; nothing where standard error is no terminal, or when it is to be quiet.
 * @param total undefined when nobody knows @param unit frames, sectors, …; `bytes` are written as KiB, MiB, …
 */
export async function progress(
  label: string,
  total: number | undefined,
  unit: string,
  quiet: boolean,
): Promise<Progress> {
  if (quiet || !remarksOnTerminal()) return NOTHING;
  if (!saysProgress()) return lines(label, total, unit);
  const { Presets, SingleBar } = await import("cli-progress");
  const bar = total === undefined ? "" : "[{bar}] {percentage}% ";
  const line = new SingleBar({
    format: `${label} ${bar}{done}  {rate}/s  {duration_formatted}`,
    clearOnComplete: true,
    hideCursor: true,
  }, Presets.legacy);
  const rate = new Rate();
  line.start(total ?? 1, 0, texts(0, 0, total, unit));
  return {
    update: (done) => {
      const perSecond = rate.at(done, EVERY_MS);
      if (perSecond === undefined) return;
      line.update(total === undefined ? 0 : Math.min(done, total), texts(done, perSecond, total, unit));
    },
    [Symbol.dispose]: () => line.stop(),
  };
}

/** A line every few seconds, for a terminal that can do no more. */
function lines(label: string, total: number | undefined, unit: string): Progress {
  const rate = new Rate();
  return {
    update: (done) => {
      const perSecond = rate.at(done, EVERY_LINE_MS);
      if (perSecond === undefined) return;
      const said = texts(done, perSecond, total, unit);
      remark(`${label} ${said.done}, ${said.rate}/s`);
    },
    [Symbol.dispose]: () => {},
  };
}

function texts(
  done: number,
  perSecond: number,
  total: number | undefined,
  unit: string,
): { done: string; rate: string } {
  if (unit === "bytes") {
    const of = total === undefined ? "" : ` of ${bytesText(total)}`;
    return { done: `${bytesText(done)}${of}`, rate: bytesText(Math.round(perSecond)) };
  }
  const of = total === undefined ? "" : ` of ${total}`;
  return { done: `${done}${of} ${unit}`, rate: String(Math.round(perSecond)) };
}

/**
 * For changes of the host, which let nothing else happen meanwhile: a line every two seconds.
 * @returns undefined where standard error is no terminal, or when it is to be quiet
 */
export function changeProgress(
  label: string,
  quiet: boolean,
): ((done: number, total: number) => void) | undefined {
  return quiet || !remarksOnTerminal() ? undefined : slowly(label, remark, () => performance.now());
}

/** Says how much of `label` is done when it takes long. @param now the clock, in milliseconds */
export function slowly(
  label: string,
  say: (line: string) => void,
  now: () => number,
): (done: number, total: number) => void {
  let saidAt = now();
  return (done, total) => {
    if (done === total || now() - saidAt < SLOW_MS) return;
    saidAt = now();
    say(`${label} ${done} of ${total} functions`);
  };
}

/** How fast work goes since it was last asked. */
class Rate {
  #ms = performance.now();
  #done = 0;

  /** @returns undefined when the last look is less than `everyMs` ago */
  at(done: number, everyMs: number): number | undefined {
    const now = performance.now(), elapsedMs = now - this.#ms;
    if (elapsedMs < everyMs) return undefined;
    const perSecond = (done - this.#done) * 1000 / elapsedMs;
    [this.#ms, this.#done] = [now, done];
    return perSecond;
  }
}
