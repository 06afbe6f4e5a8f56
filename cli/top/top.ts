/**
 * `ringside top`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { interruption } from "../interruption.ts";
import {
  countText,
  jsonText,
  painted,
  print,
  printJson,
  redrawable,
  terminalColumns,
  terminalRows,
} from "../output.ts";
import type { Of } from "../parser.ts";
import { type Sample, takeSample } from "./sample.ts";
import { cut, topHead, topLines } from "./table.ts";

/** Shows what functions do, until it is interrupted. */
export async function top(host: Host, options: Of<"top">): Promise<void> {
  if (options.once) {
    const sample = takeSample(host);
    return options.json ? printJson(asJson(host, sample)) : show(host, sample, undefined, false);
  }
  using stop = interruption();
  let before: Sample | undefined;
  while (!stop.signal.aborted) {
    const now = takeSample(host);
    if (options.json) print(jsonText(asJson(host, now), 0));
    else show(host, now, before, redrawable());
    before = now;
    await aWhile(options.seconds * 1000, stop.signal);
  }
}

function asJson(host: Host, { time, functions }: Sample): unknown {
  return { host: host.name, time: new Date(time).toISOString(), functions };
}

function show(host: Host, now: Sample, before: Sample | undefined, again: boolean): void {
  const lines = topLines(now, before, terminalColumns());
  const held = now.functions.filter((one) => one.holder !== null).length;
  const time = new Date(now.time).toISOString().slice(11, 19);
  const room = again ? Math.max(1, terminalRows() - 4) : Infinity;
  const shown = lines.slice(0, room);
  const head = `${time} UTC  ${countText(now.functions.length, "function")}, ${held} held  ${host.name}`;
  const text = [
    cut(head, terminalColumns()),
    painted(topHead(), "bold"),
    ...shown.map((one) => (one.kind === "function" ? painted(one.text, "cyan") : one.text)),
    ...(shown.length < lines.length
      ? [`… and ${lines.length - shown.length} lines more: ringside top --once`]
      : []),
    ...(now.functions.length === 0 ? ["nothing is on a VFIO driver, and nothing was changed"] : []),
  ];
  if (again) print(`\x1b[H\x1b[J${text.join("\n")}`);
  else {
    if (before !== undefined) print();
    for (const line of text) print(line);
  }
}

async function aWhile(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const end = () => resolve();
  signal.addEventListener("abort", end);
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", end);
}
