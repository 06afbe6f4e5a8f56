/**
 * Latency of frames at a fixed rate for a minute, beside a loop in C on the same host: how far the slowest of ten thousand are from the rest, and what part
 * the garbage collector has in it.
 *
 * @module
 */
import { DeviceError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { compileC } from "./c_compiler.ts";
import type { LatencyReport, LatencyTask, LatencyTimes } from "./latency_child.ts";
import { endProcess, startScript, useDirectory, useEmulatedHost } from "./processes.ts";
import { compare, type Figure, type Section, single } from "./report.ts";

const FRAMES_PER_SECOND = 10_000;
/** Of each, in turns: what else the machine does meets both alike. */
const SECONDS = 60;
const TURN_SECONDS = 5;

/** Measures both. */
export async function benchLatency(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, 4);
  const path = `${useDirectory(stack)}/latency_loop.so`;
  const failure = await compileC("./latency_loop.c", path, ["-shared", "-fPIC"]);
  const task: LatencyTask = {
    directory: emulated.directory,
    ...(failure === undefined ? { library: path } : {}),
    framesPerSecond: FRAMES_PER_SECOND,
    turns: run.pick(SECONDS / TURN_SECONDS, 1),
    seconds: run.pick(TURN_SECONDS, 0.5),
  };
  const child = startScript("./latency_child.ts", {
    args: [JSON.stringify(task)],
    flags: ["--allow-ffi", "--v8-flags=--trace-gc"],
    output: "piped",
  });
  stack.defer(() => endProcess(child));
  const output = await new Response(child.stdout).text();
  await run.turn();
  const { code } = await child.status;
  // V8 prints by blocks: the report may stand in the midst of a line of it.
  const [found, line] = output.match(/\n(\{"ours":.*\})\n/) ?? [];
  if (code !== 0 || found === undefined) {
    throw new DeviceError(
      `the driver process ended with status ${code}, ${found ? "after" : "without"} its report`,
    );
  }
  const report = JSON.parse(line!) as LatencyReport;
  const names = { p50: "p50", p99: "p99", p9999: "p99.99", max: "longest" } as const;
  const figures = Object.entries(names).map(([key, name]): Figure => {
    const value = single("microseconds", report.ours[key as keyof LatencyTimes]);
    const other = report.c && single("microseconds", report.c[key as keyof LatencyTimes]);
    return { name, value, beside: other === undefined ? [] : [compare(value, "loop in C", other)] };
  });
  return [{
    title: `Latency of frames of 64 bytes, VF to VF, polled, ${FRAMES_PER_SECOND} a second`,
    figures,
    notes: [
      `${report.ours.samples} frames each, in turns of ${task.seconds} s; from when a frame was due until it was seen`,
      collectorText(output.replace(found, () => ""), report),
      ...(failure === undefined ? [] : [`without the loop in C: ${failure}`]),
    ],
  }];
}

/** The collector's share of the time in which this library's driver ran, by what V8 tells of each collection. */
function collectorText(output: string, { ourTurns }: LatencyReport): string {
  const pauses: number[] = [];
  for (
    const [, at, pause] of output.matchAll(/^\[\d+:0x\w+\]\s+(\d+) ms: .*?MB,.*? ([\d.]+) \/ [\d.]+ ms/gm)
  ) {
    if (ourTurns.some(([from, to]) => Number(at) >= from && Number(at) <= to)) pauses.push(Number(pause));
  }
  const sum = pauses.reduce((all, one) => all + one, 0);
  const time = ourTurns.reduce((all, [from, to]) => all + to - from, 0);
  const longest = Math.max(0, ...pauses);
  return `the collector ran ${pauses.length} times in it, ${sum.toFixed(1)} ms together (${
    (100 * sum / time).toFixed(4)
  } %), ${longest.toFixed(2)} ms at most`;
}
