/**
 * Commands of a transport virtqueue, and the managed devices behind them, over two processes. Commands of administration queues are measured in turn
 * with them: the same engine sends both.
 *
 * @module
 */
import type { ManagedDevice } from "../drivers/management/virtio_management.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { DEVICE_ID, LEGACY_CFG } from "../lib/virtio/mod.ts";
import { useGroup } from "./admin_group.ts";
import { type BenchRun, inFlight, perSecond } from "./bench_run.ts";
import { beside } from "./in_turn.ts";
import { benchManagedFrames } from "./managed_frames.ts";
import { benchManagedLives } from "./managed_lives.ts";
import { createDevices, managementFunction, RINGS, useManagementFunction } from "./management_function.ts";
import type { Figure, Section } from "./report.ts";

/** Commands in flight, each to a device of its own: those to one device wait for each other. */
const DEPTH = 16;
const INTERRUPTS = { interrupts: "msix", wait: "adaptive" } as const;
const POLLING = { interrupts: "none", wait: "poll" } as const;
const WAYS = [
  { name: "synchronous, one by one", options: INTERRUPTS, depth: 0 },
  { name: "depth 1, interrupts", options: INTERRUPTS, depth: 1 },
  { name: "depth 1, polling", options: POLLING, depth: 1 },
  { name: `depth ${DEPTH}, interrupts`, options: INTERRUPTS, depth: DEPTH },
  { name: `depth ${DEPTH}, polling`, options: POLLING, depth: DEPTH },
] as const;
const CONFIG_BYTES = 4;

/** Measures commands, lives of devices, and what a device carries. */
export async function benchManagement(run: BenchRun): Promise<Section[]> {
  return [await benchCommands(run), ...await benchManagedLives(run), await benchManagedFrames(run)];
}

async function benchCommands(run: BenchRun): Promise<Section> {
  await using stack = new AsyncDisposableStack();
  const { host, open } = await useGroup(stack, run, DEPTH, [managementFunction(DEPTH, 2)]);
  const openManagement = useManagementFunction(stack, host);
  const count = run.pick(5000, 1000);
  const figures: Figure[] = [];
  for (const { name, options, depth } of WAYS) {
    await using management = await openManagement(options);
    await using admin = await open({ ...options, adminQueues: 1 });
    const devices = await createDevices(management, DEPTH, { type: DEVICE_ID.net, features: RINGS });
    const { offset, width } = LEGACY_CFG.device_features;
    const works = {
      commands: () => perSecond(count, () => sendAll(devices, count, depth)),
      "administration commands": () =>
        perSecond(count, async () => {
          const { legacy } = admin.member(0);
          if (depth === 0) { for (let i = 0; i < count; i++) legacy.readCommon(offset, width); }
          else {
            await inFlight(
              count,
              depth,
              async (vf) => void await admin.member(vf).legacyAsync.readCommon(offset, width),
            );
          }
        }),
    };
    figures.push(await beside(run, name, "per second", works, { count: run.pick(5, 3), warmUps: 1 }));
  }
  return {
    title: "Management commands per second, over two processes (driver | emulated host)",
    figures,
    notes: [
      `a command reads ${CONFIG_BYTES} bytes of the config space of a managed network device; an administration command as many of a VF's legacy registers`,
      `depth ${DEPTH}: to ${DEPTH} devices at once, since commands to one device keep their order`,
    ],
  };
}

async function sendAll(devices: readonly ManagedDevice[], count: number, depth: number): Promise<void> {
  if (depth === 0) {
    const { now } = devices[0]!;
    for (let i = 0; i < count; i++) check(now.readConfig(0, CONFIG_BYTES));
  } else await inFlight(count, depth, async (at) => check(await devices[at]!.readConfig(0, CONFIG_BYTES)));
}

/** A MAC address begins there, which is not 0. */
function check({ length, [0]: first }: Uint8Array): void {
  if (length !== CONFIG_BYTES || first === 0) throw new DeviceError("a MAC address is not there");
}
