/**
 * Frames per second between two managed network devices, and between two VFs of the same host: what carries frames is the same, only control goes another
 * way.
 *
 * @module
 */
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { DEVICE_ID, FEATURE, openTransport, type VirtioTransport } from "../lib/virtio/mod.ts";
import { type BenchRun, rate } from "./bench_run.ts";
import { FramePair } from "./frame_pair.ts";
import { beside } from "./in_turn.ts";
import { managementFunction, useManagementFunction } from "./management_function.ts";
import { usePf } from "./opened_functions.ts";
import { useEmulatedHost } from "./processes.ts";
import type { Figure, Section } from "./report.ts";

const SIZES = [64, 1514];
const POLLING = { interrupts: "none", wait: "poll" } as const;
const WARM_UPS = 3;
const SWITCH = "s0";

/** Measures both sizes, one way and out and back. */
export async function benchManagedFrames(run: BenchRun): Promise<Section> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, [
    { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 2, queuePairs: 1, switch: SWITCH },
    { ...managementFunction(2, 3), switch: SWITCH },
  ]);
  const { host, pf } = usePf(stack, emulated.directory);
  stack.use(host.open(pf));
  const vfs: VirtioNet[] = [], managed: VirtioNet[] = [];
  const open = async (into: VirtioNet[], transport: VirtioTransport) => {
    into.push(stack.use(await VirtioNet.open(transport, POLLING)));
  };
  for (const vf of host.setVfCount(pf, 2)) {
    await open(vfs, stack.use(openTransport(stack.use(host.open(vf)))));
  }
  const features = vfs[0]!.transport.driverFeatures;
  const management = stack.use(await useManagementFunction(stack, host)(POLLING));
  for (let i = 0; i < 2; i++) {
    const { id } = await management.create({ type: DEVICE_ID.net, features });
    await open(managed, stack.use(management.openTransport(id)));
  }
  // Where in a BAR a queue is notified means nothing without one.
  const alike = [...vfs, ...managed].every(({ transport }) =>
    ((transport.driverFeatures ^ features) & ~FEATURE.NOTIF_CONFIG_DATA) === 0n
  );
  if (!alike) throw new DeviceError("managed devices and VFs did not negotiate the same features");
  const pairs = [managed, vfs].map(([first, second]) => new FramePair(first!, second!));
  const frames = run.pick(50_000, 5000);
  const how = { count: run.pick(15, 3), warmUps: WARM_UPS };
  const figures: Figure[] = [];
  for (const size of SIZES) {
    const templates = pairs.map((pair) => pair.template(size));
    for (const way of ["oneWay", "outAndBack"] as const) {
      const move = (at: number) => () => rate(frames, () => pairs[at]![way](templates[at]!, frames));
      const name = `${size} bytes, ${way === "oneWay" ? "one way" : "out and back"}`;
      figures.push(await beside(run, name, "per second", { managed: move(0), "VF to VF": move(1) }, how));
    }
  }
  const violations = emulated.violations();
  if (violations.length > 0) throw new DeviceError(`the devices report: ${violations.join("; ")}`);
  return {
    title: "Frames per second, managed device to managed device by polling, over two processes",
    figures,
    notes: [
      "the same features, drivers, switch and host as VF to VF, in turn with it; a ratio of 1 is the goal",
    ],
  };
}
