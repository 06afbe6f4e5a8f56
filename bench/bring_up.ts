/**
 * Bring-up time: from a PF on its kernel driver to VFs that receive frames, and back.
 *
 * @module
 */
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { benchManyVfs } from "./many_vfs.ts";
import { findPf, requireRestored } from "./opened_functions.ts";
import { endProcess, startScript, useEmulatedHost } from "./processes.ts";
import { compare, type Figure, rounds, type Section } from "./report.ts";
import { Stopwatch } from "./stopwatch.ts";

const VF_COUNTS = [1, 4];
const PHASES = ["bind", "VFs", "open", "negotiate", "close", "restore"] as const;
type Phase = typeof PHASES[number];
const WHAT: Readonly<Record<Phase, string>> = {
  bind: "PF to vfio-pci, journal written first",
  VFs: "PF opened, VF Enable, VFs to vfio-pci",
  open: "VFs opened, registers found",
  negotiate: "reset, features, queues, buffers, DRIVER_OK",
  close: "devices reset and closed, memory unmapped",
  restore: "drivers, overrides and VF count put back",
};

/** Measures few VFs of which each is driven, and many. */
export async function benchBringUp(run: BenchRun): Promise<Section[]> {
  return [await benchDrivenVfs(run), await benchManyVfs(run)];
}

/** Measures 1 and 4 VFs, in turn with processes that do nothing. */
async function benchDrivenVfs(run: BenchRun): Promise<Section> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, Math.max(...VF_COUNTS));
  const host = stack.use(openHost(emulated.directory));
  const pf = findPf(host);
  const idle: number[] = [];
  const took = VF_COUNTS.map((): Stopwatch<Phase>["took"][] => []);
  for (const count of VF_COUNTS) await bringUp(host, pf, count);
  for (let round = 0; round < run.pick(20, 10); round++) {
    for (const [i, count] of VF_COUNTS.entries()) {
      took[i]!.push(await bringUp(host, pf, count));
      await run.turn();
    }
    idle.push(await startNothing());
    await run.turn();
  }
  const nothing = rounds("milliseconds", idle);
  const name = "a Deno process that does nothing";
  const figures = VF_COUNTS.flatMap((count, i): Figure[] => {
    const what = `${count} VF${count === 1 ? "" : "s"}`;
    const timesOf = (...phases: Phase[]) =>
      rounds("milliseconds", took[i]!.map((one) => phases.reduce((sum, phase) => sum + one[phase], 0)));
    const total = timesOf("bind", "VFs", "open", "negotiate");
    return [
      { name: `${what}: bind to negotiate`, value: total, beside: [compare(total, name, nothing)] },
      ...PHASES.map((phase): Figure => {
        const value = timesOf(phase);
        return { name: `  ${phase}`, value, beside: [compare(value, "all of it", total)], note: WHAT[phase] };
      }),
    ];
  });
  return {
    title: "Bring-up time on the emulated host",
    figures,
    notes: [
      `${run.pick(20, 10)} rounds; close and restore are not part of the sum`,
      "real hardware adds what its kernel takes: FLR alone may be 100 ms a function",
    ],
  };
}

async function bringUp(host: Host, pf: string, count: number): Promise<Stopwatch<Phase>["took"]> {
  const watch = new Stopwatch(PHASES);
  try {
    await using stack = new AsyncDisposableStack();
    host.bind(pf);
    watch.done("bind");
    stack.use(host.open(pf));
    const vfs = host.setVfCount(pf, count);
    watch.done("VFs");
    const transports = vfs.map((vf) => stack.use(openTransport(stack.use(host.open(vf)))));
    watch.done("open");
    for (const transport of transports) stack.use(await VirtioNet.open(transport, { interrupts: "msix" }));
    watch.done("negotiate");
    await stack.disposeAsync();
    watch.done("close");
  } catch (error) {
    host.restore(pf);
    throw error;
  }
  const restored = host.restore(pf);
  watch.done("restore");
  requireRestored(host, restored);
  return watch.took;
}

async function startNothing(): Promise<number> {
  const start = performance.now();
  const child = startScript("./nothing.ts");
  try {
    await child.status;
    return performance.now() - start;
  } finally {
    await endProcess(child);
  }
}
