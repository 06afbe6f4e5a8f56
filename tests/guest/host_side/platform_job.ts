/**
 * In an AArch64 guest: QEMU's virtio-mmio devices by kernel VFIO for platform devices, without an IOMMU in front of them. Started by
 * `platform_test.ts` without arguments.
 */
import { Epoll, readDirectory, readLink } from "../../../ffi/mod.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";
import type { FunctionInfo, PlatformDeviceInfo } from "../../../lib/host/host.ts";
import { type IrqInfo, PLATFORM_IRQ, type RegionInfo, type VfioDevice } from "../../../lib/vfio/device.ts";
import { InterruptSet } from "../../../lib/vfio/interrupts.ts";
import { isPciDevice } from "../../../lib/vfio/pci_device.ts";
import { openTransport, VirtioDevice, type VirtioTransport } from "../../../lib/virtio/mod.ts";
import { report } from "./job_guest.ts";

const DEVICES = "/sys/bus/platform/devices";

/** The devices that the machine was given, at the last of its windows. */
export const ADDRESS = {
  rng: "a003e00.virtio_mmio",
  net: "a003c00.virtio_mmio",
  blk: "a003a00.virtio_mmio",
} as const;

/** How often the link of the network device is to change. */
export const LINK_CHANGES = 4;
/** Where its status is in its configuration. */
const NET_STATUS_AT = 6;

/** What a call threw. */
export interface Refusal {
  readonly error: string;
  readonly message: string;
}

/** Before anything is changed. */
export interface ListReport {
  readonly what: "list";
  /** Addresses of virtio-mmio devices that `list` shows, and all that the kernel has. */
  readonly listed: readonly string[];
  readonly windows: number;
  readonly infos: Readonly<Record<keyof typeof ADDRESS, PlatformDeviceInfo>>;
  /** Of `bind` while the interface has an address, and of `open` before `bind`. */
  readonly refused: { readonly inUse: Refusal; readonly notBound: Refusal };
}

/** After `bind`, for one device. */
export interface OpenReport {
  readonly what: "open";
  readonly name: keyof typeof ADDRESS;
  readonly info: PlatformDeviceInfo;
  /** Of `open` without the unsafe mode, and by character device. */
  readonly refused: { readonly safe: Refusal; readonly cdev: Refusal };
  readonly device: { readonly path: string; readonly flags: number; readonly pci: boolean };
  readonly counts: { readonly regions: number; readonly irqs: number };
  readonly region: RegionInfo;
  readonly irq: IrqInfo;
  /** The first four registers, by VFIO's region. */
  readonly identity: readonly number[];
  /** Of mapping the window, of reading past its end, of a reset of the device, and of DMA memory. */
  readonly lacks: {
    readonly map: Refusal;
    readonly past: Refusal;
    readonly reset: Refusal;
    readonly dma: Refusal;
  };
}

/** The transport, up to FEATURES_OK. */
export interface TransportReport {
  readonly what: "transport";
  readonly name: keyof typeof ADDRESS;
  readonly kind: string;
  readonly deviceId: number;
  readonly legacy: boolean;
  readonly queueSizes: readonly number[];
  /** The first bytes. */
  readonly config: readonly number[];
  readonly offered: string;
  readonly accepted: string;
  readonly status: number;
  readonly vectors: { readonly line: number; readonly messages: number };
  /** Why there are no messages. */
  readonly noMessages: string;
}

/** The line, before its first interrupt. */
export interface WaitingReport {
  readonly what: "waiting";
  readonly round: number;
}

/** One configuration change. */
export interface LineReport {
  readonly what: "line";
  readonly round: number;
  /** Of the eventfd. */
  readonly count: number;
  readonly interruptStatus: number;
  /** Read again after it was acknowledged. */
  readonly after: number;
  readonly linkUp: boolean;
  readonly generationChanged: boolean;
}

/** At the end. */
export interface EndReport {
  readonly what: "end";
  /** Of the eventfd, after the line was raised by software. */
  readonly fired: number;
  readonly failed: number;
  readonly journalBefore: number;
  readonly journalAfter: number;
  /** Drivers and overrides of the devices, before and after. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly interfaces: readonly string[];
}

export type PlatformReport =
  | ListReport
  | OpenReport
  | TransportReport
  | WaitingReport
  | LineReport
  | EndReport;

function refusal(call: () => unknown): Refusal {
  try {
    call();
  } catch (error) {
    if (error instanceof Error) {
      return {
        error: error.name,
        message: `${error.message} ${(error as { hint?: string }).hint ?? ""}`,
      };
    }
  }
  return { error: "", message: "nothing was thrown" };
}

function busybox(...args: string[]): void {
  const { success, stderr } = new Deno.Command("/usr/bin/busybox", { args }).outputSync();
  if (!success) throw new Error(`${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

/** Who has each device, by the kernel's own words. */
function ownership(): string[] {
  return readDirectory(DEVICES).map(({ name }) => name).filter((name) => name.endsWith(".virtio_mmio")).sort()
    .map((name) => {
      const link = `${DEVICES}/${name}/driver`;
      let driver = "none";
      try {
        driver = readLink(link).split("/").at(-1)!;
      } catch {
        // It has none.
      }
      return `${name} ${driver} ${Deno.readTextFileSync(`${DEVICES}/${name}/driver_override`).trim()}`;
    });
}

function platformInfo(info: FunctionInfo): PlatformDeviceInfo {
  if (info.bus === "platform") return info;
  throw new Error(`${info.address} is no platform device`);
}

function list(host: LinuxHost): ListReport {
  const info = (name: keyof typeof ADDRESS): PlatformDeviceInfo => platformInfo(host.describe(ADDRESS[name]));
  const infos = { rng: info("rng"), net: info("net"), blk: info("blk") };
  const [link = ""] = infos.net.netInterfaces;
  busybox("ip", "addr", "add", "192.0.2.1/24", "dev", link);
  const inUse = refusal(() => host.bind(ADDRESS.net));
  busybox("ip", "addr", "flush", "dev", link);
  return {
    what: "list",
    listed: host.list().map(({ address }) => address).filter((address) => address.endsWith(".virtio_mmio")),
    windows: ownership().length,
    infos,
    refused: { inUse, notBound: refusal(() => host.open(ADDRESS.rng)) },
  };
}

function read(device: VfioDevice, offset: number): number {
  const word = new Uint32Array(1);
  device.readRegion(0, offset, new Uint8Array(word.buffer));
  return word[0]!;
}

function lookAt(
  host: LinuxHost,
  name: keyof typeof ADDRESS,
  device: VfioDevice,
  refused: OpenReport["refused"],
): void {
  const { info } = device;
  report(
    {
      what: "open",
      name,
      info: platformInfo(host.describe(ADDRESS[name])),
      refused,
      device: { path: device.path, flags: info.flags, pci: isPciDevice(device) },
      counts: { regions: info.numRegions, irqs: info.numIrqs },
      region: device.regionInfo(0),
      irq: device.irqInfo(PLATFORM_IRQ.line),
      identity: [0, 4, 8, 12].map((offset) => read(device, offset)),
      lacks: {
        map: refusal(() => device.mapRegion(0, { offset: 0, sizeBytes: 4096 }, { writable: true })),
        past: refusal(() => read(device, 0x200)),
        reset: refusal(() => device.reset()),
        dma: refusal(() => device.dma.allocate(4096)),
      },
    } satisfies OpenReport,
  );
}

function drive(name: keyof typeof ADDRESS, device: VfioDevice): void {
  using transport = openTransport(device);
  using virtio = new VirtioDevice(transport);
  const offered = transport.readDeviceFeatures();
  const accepted = virtio.negotiate({ wanted: offered });
  const { configSizeBytes } = transport;
  report(
    {
      what: "transport",
      name,
      kind: transport.kind,
      deviceId: transport.deviceId,
      legacy: transport.legacy,
      queueSizes: Array.from({ length: transport.queueCount }, (_, queue) => transport.queueMaxSize(queue)),
      config: Array.from({ length: Math.min(configSizeBytes, 8) }, (_, at) => transport.readConfig(at, 1)),
      offered: `0x${offered.toString(16)}`,
      accepted: `0x${accepted.toString(16)}`,
      status: transport.readStatus(),
      vectors: { line: transport.interruptCount("intx"), messages: transport.interruptCount("msi") },
      noMessages: transport.interruptLack ?? "",
    } satisfies TransportReport,
  );
  if (name === "net") watchLink(transport, virtio);
}

/** Nothing needs memory for that: the device says itself that its configuration changed. */
function watchLink(transport: VirtioTransport, virtio: VirtioDevice): void {
  const [vector] = transport.enableInterrupts("intx", 1);
  const { eventFd } = vector!;
  using epoll = new Epoll();
  epoll.add(eventFd.fd, 1);
  virtio.driverOk();
  for (let round = 0; round < LINK_CHANGES; round++) {
    const before = transport.configGeneration();
    // Whoever reads this changes the link.
    report({ what: "waiting", round } satisfies WaitingReport);
    epoll.waitBlocking(20_000);
    const count = eventFd.take();
    report(
      {
        what: "line",
        round,
        count,
        interruptStatus: vector!.acknowledge(),
        after: transport.readInterruptStatus(),
        linkUp: (transport.readConfig(NET_STATUS_AT, 2) & 1) === 1,
        generationChanged: transport.configGeneration() !== before,
      } satisfies LineReport,
    );
  }
}

if (import.meta.main) {
  using host = new LinuxHost();
  const before = ownership();
  report(list(host));
  const unsafe = { enableUnsafeNoIommuMode: true } as const;
  for (const name of ["rng", "net", "blk"] as const) {
    const address = ADDRESS[name];
    host.bind(address);
    const refused = {
      safe: refusal(() => host.open(address)),
      cdev: refusal(() => host.open(address, { path: "cdev", ...unsafe })),
    };
    using device = host.open(address, unsafe);
    lookAt(host, name, device, refused);
    drive(name, device);
  }
  let fired = 0;
  {
    using device = host.open(ADDRESS.rng, unsafe);
    using interrupts = new InterruptSet(device);
    const [eventFd] = interrupts.enable("intx", 1);
    interrupts.fire();
    fired = eventFd!.take();
    interrupts.rearm();
  }
  const journalBefore = host.journal().length;
  const { failed } = host.restore();
  report(
    {
      what: "end",
      fired,
      failed: failed.length,
      journalBefore,
      journalAfter: host.journal().length,
      before,
      after: ownership(),
      interfaces: platformInfo(host.describe(ADDRESS.net)).netInterfaces,
    } satisfies EndReport,
  );
}
