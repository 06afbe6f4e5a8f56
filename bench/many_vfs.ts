/**
 * As many VFs as real PFs have: what each costs when there are many of them, beside what it costs when there are few.
 *
 * @module
 */
import { readText } from "../ffi/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { REGION, type VfioDevice } from "../lib/vfio/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { requireRestored, usePf } from "./opened_functions.ts";
import { useEmulatedHost } from "./processes.ts";
import { compare, type Figure, rounds, type Section, single } from "./report.ts";
import { Stopwatch } from "./stopwatch.ts";

const FEW = 10;
const MANY = 1000;
const MANY_SHORT = 100;
const READS = 200;
const PHASES = ["enabled", "listed", "opened", "read", "closed", "removed"] as const;
type Phase = typeof PHASES[number];
const WHAT: Readonly<Record<Phase, string>> = {
  enabled: "VF Enable, sysfs entries, vfio-pci, a socket each; journal written first",
  listed: "every attribute of every function",
  opened: "locked, connected, regions and interrupts asked for",
  read: "a read of config space at one VF, the others open and idle",
  closed: "connection closed, lock let go",
  removed: "VF Enable cleared, sockets and sysfs entries gone; journal written first",
};

/** Measures few and many VFs of one PF on vfio-pci in turn; a figure is the time a VF (of `read`: a read). */
export async function benchManyVfs(run: BenchRun): Promise<Section> {
  await using stack = new AsyncDisposableStack();
  const many = run.pick(MANY, MANY_SHORT);
  const emulated = await useEmulatedHost(stack, run, many);
  const { host, pf } = usePf(stack, emulated.directory);
  const took = [FEW, many].map((): Stopwatch<Phase>["took"][] => []);
  const residentBytes = () =>
    Number(/VmRSS:\s+(\d+)/.exec(readText(`/proc/${emulated.pid}/status`))![1]) * 1024;
  const bare = residentBytes();
  let grown = bare;
  for (const count of [FEW, many]) cycle(host, pf, count);
  for (let round = 0; round < run.pick(5, 3); round++) {
    for (const [i, count] of [FEW, many].entries()) {
      took[i]!.push(cycle(host, pf, count, () => grown = Math.max(grown, residentBytes())));
      await run.turn();
    }
  }
  requireRestored(host, host.restore(pf));
  const figures = PHASES.map((phase): Figure => {
    const [few, value] = took.map((rows) => rounds("microseconds", rows.map((one) => 1000 * one[phase])));
    return { name: phase, value: value!, beside: [compare(value!, `with ${FEW}`, few!)], note: WHAT[phase] };
  });
  const memory = single("bytes", (grown - bare) / many);
  const process = single("bytes", bare);
  figures.push({
    name: "memory of the host's process",
    value: memory,
    beside: [compare(memory, "the process without VFs", process)],
  });
  return {
    title: `Many VFs on one PF: each of ${many}`,
    figures,
    notes: [`a ratio near 1: ${many} VFs cost each no more than ${FEW}`],
  };
}

function cycle(
  host: Host,
  pf: string,
  count: number,
  whileOpen = (): void => {},
): Stopwatch<Phase>["took"] {
  const watch = new Stopwatch(PHASES);
  const vfs = host.setVfCount(pf, count);
  watch.done("enabled", count);
  host.list();
  watch.done("listed", count);
  {
    using devices = new DisposableStack();
    let last: VfioDevice | undefined;
    for (const vf of vfs) last = devices.use(host.open(vf));
    watch.done("opened", count);
    const bytes = new Uint8Array(4);
    for (let i = 0; i < READS; i++) last!.readRegion(REGION.config, 0, bytes);
    watch.done("read", READS);
    whileOpen();
    watch.skip();
    devices.dispose();
    watch.done("closed", count);
  }
  host.setVfCount(pf, 0);
  watch.done("removed", count);
  return watch.took;
}
