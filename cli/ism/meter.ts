/**
 * How far a stream of unknown length has come.
 *
 * @module
 */
// @ts-types="@types/cli-progress"
import { Presets, SingleBar } from "cli-progress";
import { bytesText } from "../output.ts";

/** Bytes and bytes a second, on a terminal. */
export interface Meter extends Disposable {
  update(bytes: number): void;
}

const EVERY_MS = 250;

/** A line on a terminal; nothing where standard error is not one, or when it is to be quiet. */
export function meter(label: string, quiet: boolean): Meter {
  if (quiet || !Deno.stderr.isTerminal()) return { update: () => {}, [Symbol.dispose]: () => {} };
  const line = new SingleBar(
    { format: `${label} {passed}  {rate}/s  {duration_formatted}`, clearOnComplete: true, hideCursor: true },
    Presets.legacy,
  );
  line.start(1, 0, { passed: bytesText(0), rate: bytesText(0) });
  let [lastMs, lastBytes] = [performance.now(), 0];
  return {
    update(bytes) {
      const elapsedMs = performance.now() - lastMs;
      if (elapsedMs < EVERY_MS) return;
      const rate = (bytes - lastBytes) * 1000 / elapsedMs;
      [lastMs, lastBytes] = [performance.now(), bytes];
      line.update(0, { passed: bytesText(bytes), rate: bytesText(Math.round(rate)) });
    },
    [Symbol.dispose]: () => line.stop(),
  };
}
