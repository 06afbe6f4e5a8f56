/**
 * How far long work has come: a line on standard error, where that is a terminal. What draws it is loaded there.
 *
 * @module
 */
// @ts-types="@types/cli-progress"
import type { SingleBar } from "cli-progress";
import { bytesText, saysProgress } from "./output.ts";

/** Work that says how much is done. */
export interface Progress extends Disposable {
  update(done: number): void;
}

const EVERY_MS = 250;

/** A bar for work whose size is known; nothing where standard error is no terminal, or when it is to be quiet. */
export async function progress(
  label: string,
  total: number,
  unit: string,
  quiet: boolean,
): Promise<Progress> {
  const format = `${label} [{bar}] {percentage}% {value}/{total} ${unit} {duration_formatted}`;
  return await shown(format, quiet, total, {}, (line) => (done) => line.update(done));
}

/** Bytes and bytes a second, for a stream of unknown length. */
export async function meter(label: string, quiet: boolean): Promise<Progress> {
  const none = { passed: bytesText(0), rate: bytesText(0) };
  return await shown(`${label} {passed}  {rate}/s  {duration_formatted}`, quiet, 1, none, (line) => {
    let [lastMs, lastBytes] = [performance.now(), 0];
    return (bytes) => {
      const elapsedMs = performance.now() - lastMs;
      if (elapsedMs < EVERY_MS) return;
      const rate = (bytes - lastBytes) * 1000 / elapsedMs;
      [lastMs, lastBytes] = [performance.now(), bytes];
      line.update(0, { passed: bytesText(bytes), rate: bytesText(Math.round(rate)) });
    };
  });
}

async function shown(
  format: string,
  quiet: boolean,
  total: number,
  first: Record<string, string>,
  updater: (line: SingleBar) => Progress["update"],
): Promise<Progress> {
  if (quiet || !saysProgress()) return { update: () => {}, [Symbol.dispose]: () => {} };
  const { Presets, SingleBar } = await import("cli-progress");
  const line = new SingleBar({ format, clearOnComplete: true, hideCursor: true }, Presets.legacy);
  line.start(total, 0, first);
  return { update: updater(line), [Symbol.dispose]: () => line.stop() };
}
