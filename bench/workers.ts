/**
 * Several processors: two queue pairs with a Worker each, beside one.
 *
 * @module
 */
import { DeviceError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { beside } from "./in_turn.ts";
import { endProcess, startScript, useEmulatedHost } from "./processes.ts";
import type { Section } from "./report.ts";
import type { WorkersRun } from "./workers_child.ts";

/** Measures rings alone, and frames through an emulated host. */
export async function benchWorkers(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, 2);
  const { directory } = emulated;
  const milliseconds = run.pick(1000, 100);
  const how = { count: run.pick(5, 1), warmUps: 0 };
  const figure = (name: string, task: Omit<WorkersRun, "workers">) => {
    const works = {
      "two Workers": () => measure({ ...task, workers: 2 }),
      "one Worker": () => measure({ ...task, workers: 1 }),
    };
    return beside(run, `${name}, two Workers`, "per second", works, how);
  };
  const figures = [
    await figure("ring operations", { milliseconds }),
    await figure("frames of 64 bytes, VF to VF", { milliseconds, directory }),
  ];
  const violations = emulated.violations();
  if (violations.length > 0) throw new DeviceError(`the device reports: ${violations.join("; ")}`);
  return [{
    title: `Two queue pairs with a Worker each, beside one, on ${navigator.hardwareConcurrency} processors`,
    figures,
    notes: [
      "ring operations: packed, burst 32, driver's and device's side of each ring in its Worker: what the Workers take from each other",
      "frames: each Worker has a pair of both VFs and polls; the emulated host, which serves all pairs with one thread, needs a processor of its own",
    ],
  }];
}

async function measure(task: WorkersRun): Promise<number> {
  const child = startScript("./workers_child.ts", {
    args: [JSON.stringify(task)],
    flags: ["--allow-ffi", "--allow-read"],
    output: "piped",
  });
  try {
    const rate = Number(await new Response(child.stdout).text());
    if (!(await child.status).success || !(rate > 0)) throw new DeviceError("the Workers' process failed");
    return rate;
  } finally {
    await endProcess(child);
  }
}
