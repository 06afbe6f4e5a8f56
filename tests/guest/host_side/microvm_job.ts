/**
 * In a microvm: looks at QEMU's own virtio-mmio devices, which no driver of the kernel has, by a mapping of `/dev/mem`, and brings them up. Started by
 * `microvm_test.ts` with a `MicrovmTask` as its only argument.
 */
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { accessible, readText, sleepBlocking } from "../../../ffi/mod.ts";
import { DeviceError, UnsupportedError } from "../../../lib/errors/mod.ts";
import { FEATURE, openMmio, usedBurst, VirtioDevice, type VirtioTransport } from "../../../lib/virtio/mod.ts";
import { queueOf, readPart, writeAll } from "../disk_driving.ts";
import { sha256 } from "../disk_writes.ts";
import { PhysicalDma, PhysicalWindow } from "../physical_memory.ts";
import { writesOf } from "./disk_job.ts";
import { type EchoTask, IcmpPeer } from "./icmp_peer.ts";
import { report } from "./job_guest.ts";

/** What the kernel calls a virtio-mmio device that ACPI describes. */
const ACPI_DEVICE = /^([0-9a-f]+)-([0-9a-f]+) : (LNRO0005:\d+)$/gm;

/** Where the device's configuration begins; before it all registers have 32 bits. */
const CONFIG = 0x100;

/** A register window as the machine describes it. */
export interface WindowReport {
  readonly what: "window";
  /** The kernel's name for the device. */
  readonly name: string;
  readonly physical: number;
  readonly sizeBytes: number;
  /** It has a driver of the kernel. */
  readonly driven: boolean;
}

/** What registers of one device read, by raw accesses. */
export interface MapReport {
  readonly what: "map";
  readonly physical: number;
  /** Every 32 bits before the configuration after a reset, by offset in hexadecimal, without those that read 0. */
  readonly registers: Readonly<Record<string, number>>;
  /** The first bytes of the configuration, each read alone. */
  readonly config: readonly number[];
  /** The same bytes by 16 bits at a time. */
  readonly configBy16: readonly number[];
  /** DeviceFeatures for DeviceFeaturesSel 0 and 1. */
  readonly features: readonly number[];
  /** QueueSizeMax of the first queues. */
  readonly queueSizes: readonly number[];
  /** Status as read back after ACKNOWLEDGE, DRIVER, all features and FEATURES_OK, VERSION_1 alone and FEATURES_OK, and after a reset. */
  readonly statuses: readonly number[];
  /** QueueReady of queue 0 as read back after 1, and after 0; or QueuePFN after page number 5, and after 0. */
  readonly queue: readonly number[];
  /** SHMLen and SHMBase of region 0, low and high halves. */
  readonly sharedMemory: readonly number[];
}

/** What a driver of ours did with a device. */
export interface DriveReport {
  readonly what: "drive";
  readonly physical: number;
  readonly kind: string;
  readonly legacy: boolean;
  readonly deviceId: number;
  readonly queueSizes: readonly number[];
  /** Of what was negotiated. */
  readonly features: readonly string[];
}

/** The entropy device, by hand and by its driver. */
export interface RngReport extends DriveReport {
  /** InterruptStatus once a buffer was used, and once it was acknowledged. */
  readonly interruptStatus: readonly number[];
  /** What the reset of one queue threw; undefined where it went well, or where there is none. */
  readonly queueReset?: string;
  /** How many different bytes were among 5000 that were had by hand. */
  readonly different: number;
  /** The same of 10000 that the driver read; what it threw where it does not drive the legacy interface, whose used lengths it does not trust. */
  readonly driver: number | string;
}

/** The network function. */
export interface NetReport extends DriveReport {
  readonly mac: string;
  /** Echo requests answered, byte for byte. */
  readonly echoes: number;
  readonly transmitted: number;
  readonly received: number;
}

/** The disk. */
export interface BlkReport extends DriveReport {
  readonly capacitySectors: number;
  /** Most requests in flight at once. */
  readonly depth: number;
  /** SHA-256 of all the disk, read back. */
  readonly readBack: string;
}

/** A line of the job's. */
export type MicrovmReport = WindowReport | MapReport | RngReport | NetReport | BlkReport;

/** What to do. */
export interface MicrovmTask {
  /** Of what is written to each disk. */
  readonly seeds: readonly number[];
  /** Echo requests for each network function. */
  readonly pings: number;
}

const ENDS = { from: "10.0.2.15", to: "10.0.2.2" } as const;
const DEPTH = 32;

/** Maps all windows that the kernel knows. */
function windows(): WindowReport[] {
  return [...readText("/proc/iomem").matchAll(ACPI_DEVICE)].map(([, first = "", last = "", name = ""]) => ({
    what: "window",
    name,
    physical: parseInt(first, 16),
    sizeBytes: parseInt(last, 16) - parseInt(first, 16) + 1,
    driven: accessible(`/sys/bus/platform/devices/${name}/driver`),
  }));
}

/** Reads and writes registers by their numbers, and leaves the device reset. */
function mapOf(registers: PhysicalWindow, physical: number): MapReport {
  const read = (offset: number): number => registers.read(offset, 4);
  const write = (offset: number, value: number): void => registers.write(offset, 4, value);
  const status = (...bits: number[]): number[] =>
    bits.map((value) => {
      write(0x070, value);
      return read(0x070);
    });
  // The firmware may have driven it.
  write(0x070, 0);
  write(0x014, 0);
  write(0x030, 0);
  const all = Array.from({ length: CONFIG / 4 }, (_, index) => [(4 * index).toString(16), read(4 * index)]);
  const features = [0, 1].map((select) => {
    write(0x014, select);
    return read(0x010);
  });
  const queueSizes = [0, 1, 2, 3].map((queue) => {
    write(0x030, queue);
    return read(0x034);
  });
  write(0x030, 0);
  const accept = (low: number, high: number): void => {
    write(0x024, 0);
    write(0x020, low);
    write(0x024, 1);
    write(0x020, high);
  };
  const statuses = status(1, 3);
  accept(0xffff_ffff, 0xffff_ffff);
  statuses.push(...status(11));
  write(0x070, 0);
  status(1, 3);
  accept(0, 1);
  statuses.push(...status(11));
  const legacy = read(0x004) === 1;
  let queue: number[];
  if (legacy) {
    write(0x028, 4096);
    write(0x038, 4);
    write(0x03c, 4096);
    // Nothing is there: the ring is not looked at before a notification.
    queue = [5, 0].map((page) => {
      write(0x040, page);
      return read(0x040);
    });
  } else {
    write(0x038, 4);
    queue = [1, 0].map((ready) => {
      write(0x044, ready);
      return read(0x044);
    });
  }
  statuses.push(...status(0));
  write(0x0ac, 0);
  return {
    what: "map",
    physical,
    registers: Object.fromEntries(all.filter(([, value]) => value !== 0)),
    config: Array.from({ length: 12 }, (_, index) => registers.read(CONFIG + index, 1)),
    configBy16: Array.from({ length: 6 }, (_, index) => registers.read(CONFIG + 2 * index, 2)),
    features,
    queueSizes,
    statuses,
    queue,
    sharedMemory: [0x0b0, 0x0b4, 0x0b8, 0x0bc].map(read),
  };
}

function driven(
  transport: VirtioTransport,
  physical: number,
  driver: { readonly featureNames: readonly string[] },
): DriveReport {
  const { kind, legacy, deviceId } = transport;
  return {
    what: "drive",
    physical,
    kind,
    legacy,
    deviceId,
    queueSizes: Array.from({ length: transport.queueCount }, (_, queue) => transport.queueMaxSize(queue)),
    features: driver.featureNames,
  };
}

/** Buffers without a driver, whose interrupts are only in InterruptStatus; then the queue alone is reset. */
function byHand(transport: VirtioTransport): Pick<RngReport, "interruptStatus" | "different" | "queueReset"> {
  using virtio = new VirtioDevice(transport);
  virtio.negotiate({ wanted: FEATURE.RING_RESET });
  const queue = virtio.createQueue(0);
  using buffer = transport.dma.allocate(4096);
  virtio.driverOk();
  const used = usedBurst(1);
  const seen = new Set<number>();
  const interruptStatus: number[] = [];
  const deadline = performance.now() + 10_000;
  for (let had = 0; had < 5000; had += used.lengths[0]!) {
    queue.addSingle(buffer.iovaLo, buffer.iovaHi, 1000, true);
    queue.flush();
    while (queue.takeUsed(used) === 0) {
      if (performance.now() > deadline) throw new Error("no entropy came");
      sleepBlocking(1);
    }
    for (const byte of buffer.bytes(0, used.lengths[0])) seen.add(byte);
    if (had === 0) interruptStatus.push(transport.readInterruptStatus(), transport.readInterruptStatus());
  }
  const found = { interruptStatus, different: seen.size };
  if (!virtio.has(FEATURE.RING_RESET)) return found;
  try {
    virtio.resetQueue(0);
    return found;
  } catch (error) {
    if (error instanceof DeviceError) return { ...found, queueReset: error.message };
    throw error;
  }
}

async function driveRng(transport: VirtioTransport, physical: number): Promise<RngReport> {
  const hand = byHand(transport);
  try {
    await using rng = VirtioRng.open(transport);
    const driver = new Set(await rng.read(10_000)).size;
    return { ...driven(transport, physical, rng), ...hand, driver };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { ...driven(transport, physical, { featureNames: [] }), ...hand, driver: error.message };
  }
}

async function driveNet(transport: VirtioTransport, physical: number, pings: number): Promise<NetReport> {
  await using net = await VirtioNet.open(transport);
  const payloads = Array.from({ length: pings }, (_, index) => new Uint8Array(index * 73 % 1473).fill(index));
  const task: EchoTask = { ...ENDS, payloads };
  const peer = new IcmpPeer(net, [task], 0);
  const stop = new AbortController();
  const deadline = setTimeout(() => stop.abort(), 20_000);
  const watch = setInterval(() => {
    if (peer.echoes[0] === pings) stop.abort();
  }, 20);
  await peer.run(stop.signal);
  clearTimeout(deadline);
  clearInterval(watch);
  const { transmitted, received } = net.statistics();
  return {
    ...driven(transport, physical, net),
    mac: Array.from(net.mac, (byte) => byte.toString(16).padStart(2, "0")).join(":"),
    echoes: peer.echoes[0]!,
    transmitted: transmitted.frames,
    received: received.frames,
  };
}

async function driveBlk(transport: VirtioTransport, physical: number, seed: number): Promise<BlkReport> {
  await using blk = await VirtioBlk.open(transport, { requestBytes: 16384, segmentBytes: 8192 });
  const { capacitySectors } = blk;
  const { one, many } = writesOf(seed, capacitySectors);
  const queue = queueOf(blk, 0);
  await writeAll(queue, one, 1);
  const depth = await writeAll(queue, many, DEPTH);
  await blk.flush();
  const readBack = await sha256(await readPart(queue, { first: 0, sectors: capacitySectors }, DEPTH));
  return { ...driven(transport, physical, blk), capacitySectors, depth, readBack };
}

if (import.meta.main) {
  const { seeds, pings } = JSON.parse(Deno.args[0]!) as MicrovmTask;
  using dma = new PhysicalDma("physical memory");
  let disk = 0;
  for (const one of windows()) {
    report(one);
    const { name, physical, sizeBytes } = one;
    const window = new PhysicalWindow(name, physical, sizeBytes, dma);
    report(mapOf(window, physical));
    using transport = openMmio(window);
    switch (transport.deviceId) {
      case 4:
        report(await driveRng(transport, physical));
        break;
      case 1:
        report(await driveNet(transport, physical, pings));
        break;
      default:
        report(await driveBlk(transport, physical, seeds[disk++]!));
    }
  }
}
