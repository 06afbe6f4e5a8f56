/**
 * Lives of managed devices: what creating one and bringing it up takes, beside a VF; and what each takes when there are many.
 *
 * @module
 */
import type { VirtioManagement } from "../drivers/management/virtio_management.ts";
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import { VirtioRng } from "../drivers/rng/virtio_rng.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import { DEVICE_ID, NET_FEATURE, openTransport, type VirtioTransport } from "../lib/virtio/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { anonymousBytes, liveHeapBytes } from "./heap.ts";
import { createDevices, managementFunction, RINGS, useManagementFunction } from "./management_function.ts";
import { usePf } from "./opened_functions.ts";
import { useEmulatedHost } from "./processes.ts";
import { compare, type Figure, rounds, type Section, single, type Statistic } from "./report.ts";
import { Stopwatch } from "./stopwatch.ts";

const POLLING = { interrupts: "none", wait: "poll" } as const;
const PHASES = ["made", "negotiated", "closed", "gone"] as const;
type Phase = typeof PHASES[number];
const WHAT: Readonly<Record<Phase, string>> = {
  made: "MDEV_CREATE; a VF: locked, connected, registers found",
  negotiated: "reset, features, queues, buffers, DRIVER_OK",
  closed: "reset, memory unmapped",
  gone: "MDEV_DESTROY; a VF: connection closed, lock let go",
};
const COUNTS = [100, 300, 1000];
const COUNTS_SHORT = [10, 30, 100];
const WARM_UPS = 10;
/** Memory grows by pages, and by one at least. */
const PAGE_BYTES = 4096;

/** Measures one device at a time, and many. */
export async function benchManagedLives(run: BenchRun): Promise<Section[]> {
  return [await benchOne(run), await benchMany(run)];
}

async function benchOne(run: BenchRun): Promise<Section> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, [
    { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 1, queuePairs: 1 },
    managementFunction(1, 3),
  ]);
  const { host, pf } = usePf(stack, emulated.directory);
  stack.use(host.open(pf));
  const [vf] = host.setVfCount(pf, 1);
  const management = stack.use(await useManagementFunction(stack, host)(POLLING));
  const managed: Stopwatch<Phase>["took"][] = [], functions: Stopwatch<Phase>["took"][] = [];
  let commands = 0;
  for (let round = -5; round < run.pick(50, 10); round++) {
    const before = management.statistics.sent;
    const rows = [await managedLife(management), await functionLife(host, vf!)];
    commands = management.statistics.sent - before;
    if (round >= 0) [managed, functions].forEach((into, at) => into.push(rows[at]!));
    await run.turn();
  }
  const figure = (name: string, phases: readonly Phase[], note: string): Figure => {
    const [mine, other] = [managed, functions].map((rows) =>
      rounds("milliseconds", rows.map((one) => phases.reduce((sum, phase) => sum + one[phase], 0)))
    );
    return { name, value: mine!, beside: [compare(mine!, "a VF", other!)], note };
  };
  return {
    title: "A managed network device, from nothing to running and back",
    figures: [
      figure("made and negotiated", ["made", "negotiated"], ""),
      ...PHASES.map((phase) => figure(`  ${phase}`, [phase], WHAT[phase])),
    ],
    notes: [
      `${commands} commands in all, one by one; a VF of the same host is opened and driven in turn with it`,
    ],
  };
}

async function managedLife(management: VirtioManagement): Promise<Stopwatch<Phase>["took"]> {
  const { MAC, STATUS, MRG_RXBUF } = NET_FEATURE;
  const features = RINGS | MAC | STATUS | MRG_RXBUF;
  const watch = new Stopwatch(PHASES);
  const { id } = await management.create({ type: DEVICE_ID.net, features });
  watch.done("made");
  {
    using transport = management.openTransport(id);
    await drive(transport, watch);
  }
  watch.done("closed");
  await management.destroy(id);
  watch.done("gone");
  return watch.took;
}

async function functionLife(host: Host, vf: string): Promise<Stopwatch<Phase>["took"]> {
  const watch = new Stopwatch(PHASES);
  {
    using device = host.open(vf);
    {
      using transport = openTransport(device);
      watch.done("made");
      await drive(transport, watch);
    }
    watch.done("closed");
  }
  watch.done("gone");
  return watch.took;
}

async function drive(transport: VirtioTransport, watch: Stopwatch<Phase>): Promise<void> {
  await using _net = await VirtioNet.open(transport, POLLING);
  watch.done("negotiated");
}

/** What each of so many took. */
interface Cost {
  readonly life: Statistic;
  readonly commands: Statistic;
  readonly hostBytes: Statistic;
  readonly ownBytes: Statistic;
}

async function benchMany(run: BenchRun): Promise<Section> {
  const counts = run.short ? COUNTS_SHORT : COUNTS;
  const costs: Cost[] = [];
  for (const count of counts) costs.push(await costOf(run, count));
  const [few] = costs;
  const figures = (Object.keys(WHAT_OF_EACH) as (keyof Cost)[]).flatMap((what) =>
    counts.slice(1).map((count, at): Figure => {
      const value = costs[at + 1]![what];
      return {
        name: `${WHAT_OF_EACH[what]}, of ${count}`,
        value,
        beside: [compare(value, `of ${counts[0]}`, few![what])],
      };
    })
  );
  return {
    title: `Managed devices at once: what each of ${counts.slice(1).join(" and ")} takes`,
    figures,
    notes: [
      "entropy devices: all created and brought up, each read once, all closed and destroyed",
      `a ratio near 1: each takes no more than with ${counts[0]}; a host of its own for each number`,
    ],
  };
}

const WHAT_OF_EACH: Readonly<Record<keyof Cost, string>> = {
  life: "time",
  commands: "commands",
  hostBytes: "memory of the host's process",
  ownBytes: "live heap of the driver's process",
};

async function costOf(run: BenchRun, count: number): Promise<Cost> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, [managementFunction(count, 1)]);
  const host = stack.use(openHost(emulated.directory));
  const management = stack.use(await useManagementFunction(stack, host)(POLLING));
  const start = await management.resources();
  // Both processes have compiled what they need before their memory is measured, and have had few devices.
  for (let round = 0; round < WARM_UPS; round++) await lives(run, management, COUNTS_SHORT[0]!);
  const [hostBefore, ownBefore] = [anonymousBytes(emulated.pid), liveHeapBytes()];
  let hostGrown = PAGE_BYTES, ownGrown = 0;
  const took: number[] = [];
  const before = management.statistics.sent;
  const cycles = run.pick(3, 1);
  for (let cycle = 0; cycle < cycles; cycle++) {
    took.push(
      await lives(run, management, count, () => {
        hostGrown = Math.max(hostGrown, anonymousBytes(emulated.pid) - hostBefore);
        ownGrown = Math.max(ownGrown, liveHeapBytes() - ownBefore);
      }),
    );
  }
  const commands = (management.statistics.sent - before) / cycles / count;
  const end = await management.resources();
  if (end.devices !== start.devices || end.queues !== start.queues) {
    throw new DeviceError(`${end.devices} of ${start.devices} devices are left after all were destroyed`);
  }
  return {
    life: rounds("microseconds", took.map((one) => 1000 * one / count)),
    commands: single("commands", commands),
    hostBytes: single("bytes", hostGrown / count),
    ownBytes: single("bytes", ownGrown / count),
  };
}

/** @param whileUp called when all are there @returns milliseconds, without that */
async function lives(
  run: BenchRun,
  management: VirtioManagement,
  count: number,
  whileUp: () => void = () => {},
): Promise<number> {
  let start = performance.now();
  const devices = await createDevices(management, count, { type: DEVICE_ID.entropy, features: RINGS });
  const transports: VirtioTransport[] = [], drivers: VirtioRng[] = [];
  for (const [at, { id }] of devices.entries()) {
    transports.push(management.openTransport(id));
    drivers.push(await VirtioRng.open(transports[at]!, { ...POLLING, bufferBytes: 64 }));
    if ((await drivers[at]!.read(16)).length !== 16) throw new DeviceError("an entropy device gave nothing");
    if (at % 100 === 99) await run.turn();
  }
  let took = performance.now() - start;
  whileUp();
  start = performance.now();
  for (const [at, { id }] of devices.entries()) {
    drivers[at]!.close();
    transports[at]!.close();
    await management.destroy(id);
    if (at % 100 === 99) await run.turn();
  }
  took += performance.now() - start;
  for (const driver of drivers) await driver.settled;
  return took;
}
