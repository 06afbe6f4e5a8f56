/**
 * virtio-mmio beside PCI: what a register read and a doorbell take, how soon a sleeping driver wakes by the line and by a message, and how many frames
 * go from device to device. All on one emulated host and one switch, in turn.
 *
 * @module
 */
import { VirtioNet, type VirtioNetOptions } from "../drivers/net/virtio_net.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import { FEATURE, openTransport, type Profile } from "../lib/virtio/mod.ts";
import { type BenchRun, rate } from "./bench_run.ts";
import { FramePair } from "./frame_pair.ts";
import { beside, withNanoseconds } from "./in_turn.ts";
import { useEmulatedHost } from "./processes.ts";
import { compare, type Figure, samples, type Section } from "./report.ts";
import { FrameProbe, measureWakes } from "./wake.ts";

const SIZES = [64, 1514];
const POLLING = { interrupts: "none", wait: "poll" } as const;
const WARM_UPS = 3;
/** Two that are driven by polling, and one that sleeps. */
const NETS = 3;

/** One way to reach a network device, and how the one that sleeps is woken. */
interface Way {
  readonly name: string;
  readonly profile: Profile;
  readonly interrupts: "msix" | "intx" | "msi";
  readonly address: (index: number) => string;
  readonly mmio?: { readonly form: string };
}

/** The one that the others stand beside is the first. */
const WAYS: readonly Way[] = [
  { name: "PCI", profile: "spec", interrupts: "msix", address: (i) => `0000:0${1 + i}:00.0` },
  {
    name: "version 2",
    profile: "spec",
    interrupts: "intx",
    address: (i) => `a00${i}000.virtio_mmio`,
    mmio: { form: "modern" },
  },
  {
    name: "mmio-v3",
    profile: "mmio-v3",
    interrupts: "msi",
    address: (i) => `a00${i}800.virtio_mmio`,
    mmio: { form: "v3" },
  },
];

/** Measures registers, wake-ups and frames. */
export async function benchMmio(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const functions = WAYS.flatMap(({ address, mmio }) =>
    Array.from({ length: NETS }, (_, i) => ({
      address: address(i),
      kind: "virtio-net",
      queuePairs: 1,
      switch: "s0",
      ...(mmio === undefined ? { totalVfs: 0 } : { mmio }),
    }))
  );
  const emulated = await useEmulatedHost(stack, run, functions);
  const host = stack.use(openHost(emulated.directory));
  stack.defer(() => void host.restore());
  const nets: VirtioNet[][] = [];
  for (const way of WAYS) {
    const sleeping: VirtioNetOptions = { interrupts: way.interrupts, wait: "eventfd" };
    nets.push([
      await useNet(stack, host, way, 0, POLLING),
      await useNet(stack, host, way, 1, POLLING),
      await useNet(stack, host, way, 2, sleeping),
    ]);
  }
  requireAlike(nets);
  const sections = [
    await accesses(run, nets.map(([first]) => first!)),
    await wakes(run, nets),
    await frames(run, nets),
  ];
  const violations = emulated.violations();
  if (violations.length > 0) throw new DeviceError(`the devices report: ${violations.join("; ")}`);
  return sections;
}

async function useNet(
  stack: AsyncDisposableStack,
  host: Host,
  { address, profile }: Way,
  index: number,
  options: VirtioNetOptions,
): Promise<VirtioNet> {
  host.bind(address(index));
  const device = stack.use(host.open(address(index)));
  return stack.use(await VirtioNet.open(stack.use(openTransport(device, { profile })), options));
}

/** What belongs to a transport may differ; what rings and frames are by may not. */
function requireAlike(nets: readonly (readonly VirtioNet[])[]): void {
  const ofTransports = FEATURE.NOTIF_CONFIG_DATA | FEATURE.RING_RESET;
  const [first, ...others] = nets.flat().map(({ transport }) => transport.driverFeatures & ~ofTransports);
  if (others.every((one) => one === first)) return;
  throw new DeviceError("virtio-mmio devices and PCI functions did not negotiate the same features");
}

/** The second and third way, each beside PCI. */
async function eachBesidePci(
  measure: (mine: number, name: string) => Promise<Figure>,
): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (let at = 1; at < WAYS.length; at++) figures.push(await measure(at, WAYS[at]!.name));
  return figures;
}

async function accesses(run: BenchRun, nets: readonly VirtioNet[]): Promise<Section> {
  const how = { count: run.pick(9, 3), warmUps: 1 };
  const count = run.pick(5000, 500);
  const reads = nets.map(({ transport }) => () =>
    rate(count, () => {
      for (let i = 0; i < count; i++) transport.readStatus();
    })
  );
  // A notification that brings nothing: the device looks, and finds the ring as it was.
  const rings = nets.map(({ transport }) => {
    const doorbell = transport.doorbell(1);
    return () =>
      rate(10 * count, () => {
        for (let i = 0; i < 10 * count; i++) doorbell.ring(0, 0);
      });
  });
  const figures = await eachBesidePci(async (at, name) =>
    withNanoseconds(
      await beside(run, `${name}, Status`, "per second", { mine: reads[at]!, PCI: reads[0]! }, how),
    )
  );
  figures.push(
    ...await eachBesidePci(async (at, name) =>
      withNanoseconds(
        await beside(run, `${name}, doorbell`, "per second", { mine: rings[at]!, PCI: rings[0]! }, how),
      )
    ),
  );
  return {
    title: "Register reads and doorbells of virtio-mmio, over two processes (driver | emulated host)",
    figures,
    notes: [
      "Status: a message to the device's process and its answer; doorbell: an eventfd",
    ],
  };
}

async function wakes(run: BenchRun, nets: readonly (readonly VirtioNet[])[]): Promise<Section> {
  const sender = nets[0]![0]!;
  const probes = nets.map(([, , sleeping]) => new FrameProbe(sender, sleeping!, "eventfd", false));
  const measured = await measureWakes(run, probes, true);
  const values = measured.map(({ microseconds }) => samples("microseconds", microseconds));
  const figures = await eachBesidePci((at, name) =>
    Promise.resolve({
      name: `${name}, ${WAYS[at]!.interrupts === "msi" ? "MSI" : "line"}`,
      value: values[at]!,
      beside: [compare(values[at]!, "PCI, MSI-X", values[0]!)],
      note: `${measured[at]!.byInterrupt} % ended by interrupt`,
    })
  );
  return {
    title: "Interrupt wake latency of virtio-mmio, round trip, device asleep, blocking",
    figures,
    notes: ["as in the wake section: a frame from one PCI function to the device that sleeps"],
  };
}

async function frames(run: BenchRun, nets: readonly (readonly VirtioNet[])[]): Promise<Section> {
  const pairs = nets.map(([first, second]) => new FramePair(first!, second!));
  const count = run.pick(50_000, 5000);
  const how = { count: run.pick(15, 3), warmUps: WARM_UPS };
  const figures: Figure[] = [];
  for (const size of SIZES) {
    const moves = pairs.map((pair) => {
      const template = pair.template(size);
      return () => rate(count, () => pair.oneWay(template, count));
    });
    figures.push(
      ...await eachBesidePci((at, name) =>
        beside(run, `${name}, ${size} bytes`, "per second", { mine: moves[at]!, PCI: moves[0]! }, how)
      ),
    );
  }
  return {
    title: "Frames per second, virtio-mmio to virtio-mmio by polling, over two processes",
    figures,
    notes: ["the same features, drivers, switch and host as PCI, in turn with it; a ratio of 1 is the goal"],
  };
}
