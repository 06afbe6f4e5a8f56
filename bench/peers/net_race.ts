/**
 * The race of network drivers: DPDK's, in each of its modes, and this library's, in turn on the same vhost-user device (DPDK's), each pinned to one processor,
 * the device to another. What counts is what the device counts.
 *
 * @module
 */
import { type BenchRun, PATIENCE_MS } from "../bench_run.ts";
import { inTurn } from "../in_turn.ts";
import { useDirectory } from "../processes.ts";
import { compare, type Figure, rounds, type Section } from "../report.ts";
import { DeviceError } from "../../lib/errors/mod.ts";
import { findProgram } from "../../tests/peers/rig/programs.ts";
import { type PortCounters, Testpmd, type VirtioUserOptions } from "../../tests/peers/rig/testpmd.ts";
import type { Direction, NetFront } from "./net_front.ts";
import { startFront } from "./front.ts";

/** What is moved: the shortest frames, and, out and back, long ones, too. */
const SHORT_BYTES = 64, LONG_BYTES = 1500;
const DEVICE_CPU = 0;
const DRIVER_CPU = 1;
/** Bursts of 32 that go around, out and back: fewer frames than a queue holds, so that none is dropped. */
const CIRCLING = 4;
/** testpmd needs none; compiled code does. */
const WARM_UP_MS = { dpdk: 150, ours: 600 };
/** Long beside the two looks at the device's counters, which take a millisecond. */
const WINDOW_MS = 500;

/** One comparison: what all do alike. */
interface Course {
  readonly packed: boolean;
  readonly mergeable: boolean;
  readonly direction: Direction;
  readonly frameBytes: number;
}

/** What DPDK's driver can do besides: the same work in other loops. */
const DPDK_MODES: Readonly<Record<string, (course: Course) => Partial<VirtioUserOptions> | undefined>> = {
  "DPDK, scalar": () => ({ inOrder: false }),
  "DPDK, in order": () => ({ inOrder: true }),
  // Its vector loops are for what is not mergeable; those for packed rings are for 512 bits, and want them in order.
  "DPDK, vectorised": ({ packed, mergeable }) =>
    mergeable ? undefined : { vectorized: true, inOrder: packed, ...(packed ? { simdBits: 512 } : {}) },
};

/** Races on every course; in a short run on two. */
export async function benchNetRace(run: BenchRun): Promise<Section[]> {
  const title = `Frames of ${SHORT_BYTES} bytes per second: drivers in turn on one vhost-user device, DPDK's`;
  const why = whyNot();
  if (why !== undefined) return [{ title, figures: [], notes: [`skipped: ${why}`] }];
  const figures: Figure[] = [];
  await using stack = new AsyncDisposableStack();
  const socket = `${useDirectory(stack)}/race.sock`;
  await using device = await Testpmd.device({ socket, cpu: DEVICE_CPU });
  for (const course of run.short ? COURSES.filter(isShort) : COURSES) {
    figures.push(await race(run, device, socket, course));
  }
  return [{
    title,
    figures,
    notes: [
      `counted by the device, testpmd with net_vhost on processor ${DEVICE_CPU}; drivers on processor ${DRIVER_CPU}; queues of 256, bursts of 32`,
      `out and back: ${
        32 * CIRCLING
      } frames go around; both drivers send each from the buffer that it came in`,
      "ours checks all that the device writes, counts frames and bytes, and has the event index where the device has it",
    ],
  }];
}

const COURSES: readonly Course[] = [false, true].flatMap((mergeable) =>
  [false, true].flatMap((packed) =>
    ([
      ["transmit", SHORT_BYTES],
      ["receive", SHORT_BYTES],
      ["out and back", SHORT_BYTES],
      ["out and back", LONG_BYTES],
    ] as const).map(([direction, frameBytes]) => ({ packed, mergeable, direction, frameBytes }))
  )
);

function isShort({ mergeable, direction }: Course): boolean {
  return !mergeable && direction === "transmit";
}

function whyNot(): string | undefined {
  if (findProgram("dpdk-testpmd") === undefined) return "no dpdk-testpmd here; run: deno task peers:setup";
  if (navigator.hardwareConcurrency < 2) return "a race needs two processors, one for the device";
  return undefined;
}

async function race(run: BenchRun, device: Testpmd, socket: string, course: Course): Promise<Figure> {
  const { packed, mergeable, direction, frameBytes } = course;
  const dpdk = Object.entries(DPDK_MODES).flatMap(([name, mode]) => {
    const options = mode(course);
    if (options === undefined) return [];
    const drive = () => dpdkRate(run, device, course, { socket, packed, mergeable, ...options });
    return [[name, drive] as const];
  });
  const front = { socket, ...course };
  const works = {
    ours: () => ourRate(run, device, { ...front, inOrder: false }),
    "ours, in order": () => ourRate(run, device, { ...front, inOrder: true }),
    ...Object.fromEntries(dpdk),
  };
  const measured = Object.entries(await inTurn(run, works, { count: run.pick(7, 1), warmUps: 0 }))
    .map(([name, values]) => ({ name, value: rounds("per second", values) }));
  const [mine, ...others] = measured;
  return {
    name: `${packed ? "packed" : "split"}, ${mergeable ? "" : "not "}mergeable, ${direction}${
      frameBytes === SHORT_BYTES ? "" : `, ${frameBytes} bytes`
    }`,
    value: mine!.value,
    beside: others.map(({ name, value }) => compare(mine!.value, name, value)),
  };
}

async function dpdkRate(
  run: BenchRun,
  device: Testpmd,
  { direction, frameBytes }: Course,
  options: VirtioUserOptions,
): Promise<number> {
  await prepare(device, direction, frameBytes);
  await using driver = await Testpmd.driver({ ...options, cpu: DRIVER_CPU });
  const mode = ({ transmit: "txonly", receive: "rxonly", "out and back": "io" } as const)[direction];
  await driver.forward(mode, { frameBytes });
  return await deviceRate(run, device, { direction, frameBytes }, WARM_UP_MS.dpdk);
}

async function ourRate(run: BenchRun, device: Testpmd, front: NetFront): Promise<number> {
  await prepare(device, front.direction, front.frameBytes);
  await using _driver = await startFront("./net_front.ts", front, DRIVER_CPU);
  return await deviceRate(run, device, front, WARM_UP_MS.ours);
}

/** The device drops what comes, or sends for all it is worth; what goes around is sent when the driver is there. */
async function prepare(device: Testpmd, direction: Direction, frameBytes: number): Promise<void> {
  await device.halt();
  if (direction !== "out and back") {
    await device.forward(direction === "transmit" ? "rxonly" : "txonly", { frameBytes });
  }
}

async function deviceRate(
  run: BenchRun,
  device: Testpmd,
  { direction, frameBytes }: Pick<Course, "direction" | "frameBytes">,
  warmUpMs: number,
): Promise<number> {
  const count: keyof PortCounters = direction === "receive" ? "txPackets" : "rxPackets";
  if (direction === "out and back") {
    await device.forward("io", { frameBytes, burst32: CIRCLING });
  }
  await pause(run.pick(warmUpMs, warmUpMs / 2));
  const before = (await device.counters())[count], start = performance.now();
  for (;;) {
    await pause(run.pick(WINDOW_MS, 200));
    const after = (await device.counters())[count], ms = performance.now() - start;
    // On a busy machine one of the two may have had no turn yet.
    if (after > before) return 1000 * (after - before) / ms;
    if (ms > PATIENCE_MS) throw new DeviceError(`no frame moved in ${(ms / 1000).toFixed(1)} s`);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
