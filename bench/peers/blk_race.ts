/**
 * The race of block drivers: libblkio's and this library's, in turn on the same vhost-user device, that of QEMU's storage daemon, before a disk that takes no
 * time. Each is pinned to one processor, the device to another.
 *
 * @module
 */
import type { BenchRun } from "../bench_run.ts";
import { compileC } from "../c_compiler.ts";
import { inTurn } from "../in_turn.ts";
import { useDirectory } from "../processes.ts";
import { compare, type Figure, rounds, type Section, type Unit } from "../report.ts";
import { type Command, Peer } from "../../tests/peers/rig/peer.ts";
import { findProgram, libblkio } from "../../tests/peers/rig/programs.ts";
import { startStorageDaemon } from "../../tests/peers/rig/qemu.ts";
import { type BlkFront, type BlkResult, REQUEST_BYTES } from "./blk_front.ts";
import { frontCommand } from "./front.ts";

const DEVICE_CPU = 0;
const DRIVER_CPU = 1;
const DISK_BYTES = 8 * 2 ** 30;
const DEPTHS = [1, 64];
const WARM_UP_MS = 100;
const TITLE =
  `Random reads of ${REQUEST_BYTES} bytes: drivers in turn on one vhost-user device, QEMU's storage daemon`;

/** Races polled and blocking, at depth 1 and 64. */
export async function benchBlkRace(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const folder = useDirectory(stack);
  const driver = await compileDriver(folder);
  if (typeof driver === "string") return [{ title: TITLE, figures: [], notes: [`skipped: ${driver}`] }];
  const figures: Figure[] = [];
  for (const way of ["polled", "blocking"] as const) {
    // A device that sleeps has to be woken, which is the same work for all its drivers.
    const polling = way === "polled" ? { pollNs: 1e9 } : {};
    const socket = `${folder}/${way}.sock`;
    await using _device = await startStorageDaemon({
      socket,
      disk: { nullBytes: DISK_BYTES },
      cpu: DEVICE_CPU,
      ...polling,
    });
    for (const depth of DEPTHS) {
      const front = { socket, depth, way, milliseconds: run.pick(1000, 200) };
      figures.push(...await race(run, driver, front));
    }
  }
  return [{
    title: TITLE,
    figures,
    notes: [
      `device on processor ${DEVICE_CPU}, drivers on processor ${DRIVER_CPU}; a disk that stores nothing; ours checks all that the device writes`,
      "polled: driver and device look all the time; blocking: the driver sleeps until an interrupt, the device as QEMU has it",
    ],
  }];
}

/** @returns where it cannot be, the reason */
async function compileDriver(folder: string): Promise<Command | string> {
  const library = libblkio();
  if (findProgram("qemu-storage-daemon") === undefined || library === undefined) {
    return "no qemu-storage-daemon or no libblkio here; run: deno task peers:setup";
  }
  if (navigator.hardwareConcurrency < 2) return "a race needs two processors, one for the device";
  const path = `${folder}/libblkio_driver`;
  const failure = await compileC("./peers/libblkio_driver.c", path, library.compile);
  return failure ?? { name: "libblkio_driver", argv: [...library.run, path] };
}

async function race(run: BenchRun, driver: Command, front: BlkFront): Promise<Figure[]> {
  const { socket, depth, way, milliseconds } = front;
  const c = [socket, String(depth), way, String(WARM_UP_MS), String(milliseconds)];
  const results: Record<string, BlkResult[]> = { ours: [], libblkio: [] };
  const works = {
    ours: () => drive(frontCommand("./blk_front.ts"), [JSON.stringify(front)], results.ours!),
    libblkio: () => drive(driver, c, results.libblkio!),
  };
  await inTurn(run, works, { count: run.pick(7, 1), warmUps: 0 });
  const figure = (name: string, unit: Unit, of: (result: BlkResult) => number): Figure => {
    const [ours, theirs] = [results.ours!, results.libblkio!].map((all) => rounds(unit, all.map(of)));
    const value = ours!;
    return {
      name: `${way}, depth ${depth}, ${name}`,
      value,
      beside: [compare(value, "libblkio", theirs!)],
    };
  };
  return [
    figure("requests", "per second", ({ requests, seconds }) => requests / seconds),
    figure("p50", "nanoseconds", ({ p50Ns }) => p50Ns),
    figure("p99", "nanoseconds", ({ p99Ns }) => p99Ns),
  ];
}

async function drive(command: Command, args: readonly string[], into: BlkResult[]): Promise<number> {
  await using peer = new Peer(command, args, { cpu: DRIVER_CPU });
  into.push(JSON.parse(await peer.finished()) as BlkResult);
  return 0;
}
