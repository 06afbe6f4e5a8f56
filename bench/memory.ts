/**
 * Memory of a driver process and of its device before and after a million frames: does anything stay behind?
 *
 * @module
 */
import { DeviceError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import type { MemoryReport } from "./memory_child.ts";
import { endProcess, startScript, useEmulatedHost } from "./processes.ts";
import { compare, type Figure, type Section, single } from "./report.ts";

/** Runs the frames in a process of their own, since this one has a heap made for measuring. */
export async function benchMemory(run: BenchRun): Promise<Section[]> {
  const warmUp = run.pick(200_000, 40_000);
  const frames = run.pick(1_000_000, 100_000);
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, 2);
  const child = startScript("./memory_child.ts", {
    args: [emulated.directory, String(warmUp), String(frames), String(emulated.pid)],
    flags: ["--allow-ffi", "--v8-flags=--expose-gc"],
    output: "piped",
  });
  stack.defer(() => endProcess(child));
  const line = await new Response(child.stdout).text();
  await run.turn();
  if (!(await child.status).success || line === "") throw new DeviceError("the driver process failed");
  const report = JSON.parse(line) as MemoryReport;
  const figure = (name: string, after: number, before: number): Figure => ({
    name,
    value: single("bytes", after),
    beside: [compare(single("bytes", after), "before", single("bytes", before))],
    note: `${((after - before) / frames).toFixed(2)} bytes a frame`,
  });
  return [{
    title: `Memory after ${frames} frames, VF to VF, two processes`,
    figures: [
      figure("driver process, live heap", report.after.heapBytes, report.before.heapBytes),
      figure("driver process, private pages", report.after.privateBytes, report.before.privateBytes),
      figure("emulated host, private pages", report.deviceAfter, report.deviceBefore),
    ],
    notes: [
      `before: after ${warmUp} frames to warm up; live heap: after a forced collection; private pages: RssAnon`,
    ],
  }];
}
