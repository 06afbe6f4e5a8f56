/**
 * One management function, nine devices: it creates eight network devices and a block device, drives them with the drivers that drive PCI functions,
 * sends checked frames around the ring of the eight by polling and by interrupt while sectors are written and read back, and prints what each has done.
 * Then the devices are destroyed, their resources are there again, and the host is put back.
 *
 * Run it: `deno run --allow-ffi examples/managed_devices.ts HOST FUNCTION`, with HOST `linux` or an emulated host's directory, and a management function.
 *
 * @module
 */
import { FEATURE, type Host, openHost, openTransport, VirtioBlk, VirtioNet } from "@ringside/ringside";
import {
  exchangeByInterrupt,
  exchangePolled,
  type ExchangeResult,
  TestFrames,
} from "@ringside/ringside/drivers/virtio-net-exchange";
import { type ManagementResources, VirtioManagement } from "@ringside/ringside/management";
import { DEVICE_ID, NET_FEATURE } from "@ringside/ringside/virtio";

const NICS = 8;
const SECTORS = 2048;
const SECTOR_BYTES = 512;
const COPIED = 128;

/** What to do. */
export interface ManagedDevicesOptions {
  /** PCI address of the management function. */
  readonly function: string;
  /** Frames by polling, from each network device to the next. */
  readonly frames: number;
  /** Frames by interrupt, likewise. */
  readonly interruptFrames: number;
  /** Told of each step, and what it showed. */
  readonly step: (what: string, found: string) => void;
}

/** What one device did. */
export interface ManagedDeviceWork {
  /** `0000:03:00.0/1`. */
  readonly device: string;
  /** MAC address, or size. */
  readonly about: string;
  /** Frames that arrived at it, or sectors that were read back. */
  readonly done: number;
  /** Interrupts that its driver took. */
  readonly interrupts: number;
}

/** What it found. */
export interface ManagedDevicesResult {
  /** Before, with all devices, and after. */
  readonly resources: readonly [ManagementResources, ManagementResources, ManagementResources];
  /** The network devices in the order of their ring, and the block device. */
  readonly work: readonly ManagedDeviceWork[];
}

/** Does it. Whatever happens, the host is put back. @throws what its steps throw */
export async function managedDevices(
  host: Host,
  options: ManagedDevicesOptions,
): Promise<ManagedDevicesResult> {
  const { address } = host.describe(options.function);
  host.bind(address);
  try {
    return await onFunction(host, address, options);
  } finally {
    host.restore(address);
  }
}

async function onFunction(
  host: Host,
  address: string,
  options: ManagedDevicesOptions,
): Promise<ManagedDevicesResult> {
  const { step } = options;
  using device = host.open(address);
  using transport = openTransport(device, { profile: "transport-vq" });
  await using management = await VirtioManagement.open(transport, { function: device });
  const before = await management.resources();
  step("before", resourcesText(before));
  let during: ManagementResources;
  let work: ManagedDeviceWork[];
  {
    // Drivers are closed before their devices are destroyed.
    await using drivers = new AsyncDisposableStack();
    const rings = FEATURE.VERSION_1 | FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC | FEATURE.RING_PACKED;
    // As far as the management device offers them, too.
    const features = transport.readDeviceFeatures() & (rings | FEATURE.ACCESS_PLATFORM);
    const reach = async (type: number, own: bigint, config = new Uint8Array()) => {
      const { id } = await management.create({ type, features: features | own, config });
      return drivers.use(management.openTransport(id));
    };
    const { MAC, STATUS, MRG_RXBUF } = NET_FEATURE;
    // All at once: commands for one device follow each other, those for several do not wait.
    const nets = await Promise.all(
      Array.from({ length: NICS }, async () => {
        const reached = await reach(DEVICE_ID.net, MAC | STATUS | MRG_RXBUF);
        // With interrupts a wait would spin first, and a fast device would never be slept for.
        const wait = reached.interruptCount("msix") > 0 ? "eventfd" : "poll";
        return drivers.use(await VirtioNet.open(reached, { wait }));
      }),
    );
    // Its config space begins with the capacity, as 64 bits.
    const capacity = new Uint8Array(BigUint64Array.of(BigInt(SECTORS)).buffer);
    const blk = drivers.use(await VirtioBlk.open(await reach(DEVICE_ID.block, 0n, capacity)));
    during = await management.resources();
    step("created", `${management.devices.length} devices; ${resourcesText(during)}`);

    const [polled] = await Promise.all([around(nets, options.frames, exchangePolled), copy(blk)]);
    step("polling", ringText(polled));
    // Devices without interrupts are polled: kernel VFIO has no address for their messages.
    const interrupts = nets[0]!.interruptKind !== "none";
    const awaited = interrupts ? await around(nets, options.interruptFrames, exchangeByInterrupt) : [];
    step("interrupts", interrupts ? ringText(awaited) : "none can be had here");
    const arrived = (at: number) => (polled[at]?.frames ?? 0) + (awaited[at]?.frames ?? 0);
    work = nets.map((net, at) => ({
      device: net.transport.name,
      about: net.macText,
      // What the one before sent.
      done: arrived((at + NICS - 1) % NICS),
      interrupts: net.interrupts,
    }));
    const about = `${blk.capacitySectors} sectors`;
    work.push({ device: blk.transport.name, about, done: COPIED, interrupts: blk.interrupts });
  }
  for (const { id } of management.devices) await management.destroy(id);
  const after = await management.resources();
  step("destroyed", resourcesText(after));
  return { resources: [before, during, after], work };
}

/** From each to the next, and from the last to the first, at the same time. */
async function around(
  nets: readonly VirtioNet[],
  count: number,
  exchange: typeof exchangePolled,
): Promise<ExchangeResult[]> {
  return await Promise.all(nets.map((from, at) => {
    const to = nets[(at + 1) % nets.length]!;
    return exchange(from, to, new TestFrames(to.mac, from.mac, 60, 1514), count);
  }));
}

/** Writes random sectors and reads them back. */
async function copy(blk: VirtioBlk): Promise<void> {
  const bytes = crypto.getRandomValues(new Uint8Array(COPIED * SECTOR_BYTES));
  await blk.write(0, bytes);
  const back = await blk.read(0, COPIED);
  if (bytes.some((byte, at) => byte !== back[at])) {
    throw new Error("sectors do not read as they were written");
  }
}

function resourcesText({ queues, devices }: ManagementResources): string {
  return `${queues} virtqueues left, room for ${devices} devices`;
}

function ringText(results: readonly ExchangeResult[]): string {
  const frames = results.reduce((sum, one) => sum + one.frames, 0);
  const bytes = results.reduce((sum, one) => sum + one.bytes, 0);
  return `${frames} frames, ${bytes} bytes, all as sent, on ${results.length} ways at once`;
}

if (import.meta.main) {
  const [hostName, name] = Deno.args;
  if (hostName === undefined || name === undefined) {
    console.error("usage: managed_devices.ts HOST FUNCTION   (HOST: linux, or an emulated host's directory)");
    Deno.exit(2);
  }
  using host = openHost(hostName);
  const step = (what: string, found: string) => console.log(`${what.padEnd(11)} ${found}`);
  const { work } = await managedDevices(host, {
    function: name,
    frames: 5000,
    interruptFrames: 200,
    step,
  });
  console.log(
    `${"DEVICE".padEnd(16)} ${"ABOUT".padEnd(18)} ${"DONE".padStart(6)} ${"INTERRUPTS".padStart(11)}`,
  );
  for (const { device, about, done, interrupts } of work) {
    console.log(
      `${device.padEnd(16)} ${about.padEnd(18)} ${`${done}`.padStart(6)} ${`${interrupts}`.padStart(11)}`,
    );
  }
}
