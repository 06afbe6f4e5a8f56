/**
 * Every driver over every transport with every ring layout, each with every kind of interrupt that there is, and the table of docs/drivers.md of what
 * came of it. `deno task docs:transports` writes the table, after it has run everything; a test fails when it is stale.
 *
 * @module
 */
import { VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { ManagementCommandError, VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { O, OwnedFd, readText, writeAll } from "../../../ffi/mod.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { RingsideError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { BLK_CONFIG } from "../../../lib/virtio/spec/blk.ts";
import { DEVICE_ID } from "../../../lib/virtio/spec/device_id.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import type { MmioForm } from "../../../lib/virtio/spec/mmio.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import type { Profile, VirtioTransport } from "../../../lib/virtio/transport/transport.ts";
import { type ReportedViolation, TopologyHost } from "../drivers/topology_host.ts";
import { BLK, NET, RINGS } from "../management/managed_types.ts";
import { type DriverName, DRIVERS, type Peers, runDriver } from "./traffic.ts";

const BEGIN = "<!-- transports: written by deno task docs:transports -->";
const END = "<!-- /transports -->";
const PAGE = new URL("../../../docs/drivers.md", import.meta.url).pathname;

/** Profile of each form of virtio-mmio. */
export const PROFILE_OF: Readonly<Record<MmioForm, Profile>> = {
  "modern": "spec",
  "legacy": "spec",
  "v3": "mmio-v3",
  "msi-v2": "mmio-msi-v2",
};
const LAYOUTS = ["split", "packed"] as const;
const KINDS = ["msix", "msi", "intx", "none"] as const;
const KIND_NAMES = { "msix": "MSI-X", "msi": "MSI", "intx": "line", "none": "polling" } as const;
const MANAGEMENT = "0000:06:00.0";
const PEERS = { net: "0000:01:00.0", ism: "0000:02:00.0" };
const LEGACY_PFS: Partial<Record<DriverName, string>> = { net: "0000:04:00.0", blk: "0000:05:00.0" };
/** What a device of each kind is made with, besides. */
const FIELDS: Readonly<Record<DriverName, Record<string, unknown>>> = {
  net: { switch: "s0" },
  blk: { sizeBytes: 1 << 20 },
  rng: {},
  console: {},
  ism: { chunkSize: 4096, chunks: 64 },
};
const FORMS = ["modern", "legacy", "v3", "msi-v2"] as const;

/** What came of a cell: the kinds of interrupt with which it ran, or why it cannot. */
export type Cell = { readonly kinds: readonly string[] } | { readonly reason: string };

/** Results, by row and driver. */
export type Results = ReadonlyMap<string, Readonly<Record<DriverName, Cell>>>;

function pciAddress(driver: DriverName): string {
  return `0000:03:0${DRIVERS.indexOf(driver)}.0`;
}

function mmioAddress(form: MmioForm, driver: DriverName): string {
  return `a${FORMS.indexOf(form)}${DRIVERS.indexOf(driver)}00000.virtio_mmio`;
}

function entry(driver: DriverName, address: string): Record<string, unknown> {
  return { address, kind: `virtio-${driver}`, ...FIELDS[driver] };
}

/** What the matrix runs on. */
class Rig implements AsyncDisposable {
  readonly peers: Peers;
  readonly #served: TopologyHost;
  readonly #management: VirtioManagement;
  readonly #owned: AsyncDisposableStack;

  private constructor(
    served: TopologyHost,
    peers: Peers,
    management: VirtioManagement,
    owned: AsyncDisposableStack,
  ) {
    this.#served = served;
    this.peers = peers;
    this.#management = management;
    this.#owned = owned;
  }

  static async start(): Promise<Rig> {
    const served = await TopologyHost.start([
      ...Object.entries(PEERS).map(([driver, address]) => entry(driver as DriverName, address)),
      ...DRIVERS.map((driver) => entry(driver, pciAddress(driver))),
      ...Object.entries(LEGACY_PFS).map(([driver, address]) => ({
        ...entry(driver as DriverName, address),
        totalVfs: 1,
      })),
      { address: MANAGEMENT, kind: "virtio-management", switch: "s0" },
      ...FORMS.flatMap((form) =>
        DRIVERS.filter((driver) => form !== "legacy" || driver !== "ism").map((driver) => ({
          ...entry(driver, mmioAddress(form, driver)),
          mmio: { form },
        }))
      ),
    ]);
    await using owned = new AsyncDisposableStack();
    owned.use(served);
    const net = owned.use(
      await VirtioNet.open(owned.use(served.reach(PEERS.net)).transport, { wait: "adaptive" }),
    );
    const ism = owned.use(
      await VirtioIsm.open(owned.use(served.reach(PEERS.ism)).transport, { wait: "adaptive" }),
    );
    const fn = owned.use(served.reach(MANAGEMENT, { profile: "transport-vq" }));
    const management = owned.use(await VirtioManagement.open(fn.transport, { function: fn.device }));
    return new Rig(served, { net, ism }, management, owned.move());
  }

  /** A device of each kind over PCI. */
  pci(driver: DriverName, owned: AsyncDisposableStack): VirtioTransport {
    return owned.use(this.#served.reach(pciAddress(driver))).transport;
  }

  /** A VF that its PF drives. @throws TopologyError for a kind without such VFs */
  async legacy(driver: DriverName, owned: AsyncDisposableStack): Promise<VirtioTransport> {
    const address = LEGACY_PFS[driver];
    if (address === undefined) {
      readTopology({
        functions: [{ ...entry(driver, "0000:04:00.0"), totalVfs: 1, legacyVfs: true }],
      });
      throw new UsageError(`the topology takes legacy VFs of ${driver}: give the matrix one`);
    }
    const { host } = this.#served;
    const { device: owner, transport } = owned.use(this.#served.reach(address));
    const [vf] = host.setVfCount(address, 1) as [string];
    owned.defer(() => void host.setVfCount(address, 0));
    const admin = owned.use(await VirtioAdmin.open(transport));
    host.bind(vf);
    const device = owned.use(host.open(vf));
    return owned.use(LegacyAdminTransport.open(device, admin.member(0).legacy, { owner }));
  }

  /** A managed device. @throws ManagementCommandError for a type that cannot be one */
  async managed(driver: DriverName, owned: AsyncDisposableStack): Promise<VirtioTransport> {
    const { id } = await this.#management.create(
      driver === "net"
        ? { type: DEVICE_ID.net, features: NET }
        : driver === "blk"
        ? { type: DEVICE_ID.block, features: BLK, config: BLK_CONFIG.encode({ capacity: 2048n }) }
        : { type: driver === "rng" ? DEVICE_ID.entropy : DEVICE_ID[driver], features: RINGS },
    );
    owned.defer(() => this.#management.destroy(id));
    return owned.use(this.#management.openTransport(id));
  }

  /** A register window. @throws UsageError for a kind that has no such form */
  mmio(form: MmioForm, driver: DriverName, owned: AsyncDisposableStack): VirtioTransport {
    const address = mmioAddress(form, driver);
    if (form === "legacy" && driver === "ism") {
      // The same that a topology would be refused for.
      createVirtioModels().createPlatformBehaviour!("virtio-ism", { address, mmio: { form } });
    }
    return owned.use(this.#served.open(address, { profile: PROFILE_OF[form] })).transport;
  }

  /** Ends it. @returns what the devices had to say about their drivers */
  async stop(): Promise<ReportedViolation[]> {
    await this.#owned.disposeAsync();
    return await this.#served.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

type Way = (
  rig: Rig,
  driver: DriverName,
  owned: AsyncDisposableStack,
) => VirtioTransport | Promise<VirtioTransport>;

const WAYS: Readonly<Record<string, Way>> = {
  "PCI": (rig, driver, owned) => rig.pci(driver, owned),
  "legacy, by commands of the PF": (rig, driver, owned) => rig.legacy(driver, owned),
  "transport virtqueue": (rig, driver, owned) => rig.managed(driver, owned),
  "MMIO version 2": (rig, driver, owned) => rig.mmio("modern", driver, owned),
  "MMIO version 1, legacy": (rig, driver, owned) => rig.mmio("legacy", driver, owned),
  "MMIO `mmio-v3`": (rig, driver, owned) => rig.mmio("v3", driver, owned),
  "MMIO `mmio-msi-v2`": (rig, driver, owned) => rig.mmio("msi-v2", driver, owned),
};

/** Runs all. @throws what is wrong with a cell that should run */
export async function runMatrix(): Promise<Results> {
  const rows = new Map(
    Object.keys(WAYS).flatMap((way) => LAYOUTS.map((layout) => [rowOf(way, layout), {}])),
  ) as Map<string, Record<DriverName, Cell>>;
  await using rig = await Rig.start();
  for (const [way, reach] of Object.entries(WAYS)) {
    for (const driver of DRIVERS) {
      await using owned = new AsyncDisposableStack();
      let transport: VirtioTransport | string;
      try {
        transport = await reach(rig, driver, owned);
      } catch (error) {
        transport = reasonOf(error);
      }
      for (const layout of LAYOUTS) {
        try {
          rows.get(rowOf(way, layout))![driver] = typeof transport === "string"
            ? { reason: transport }
            : await runCell(driver, transport, layout, rig.peers);
        } catch (error) {
          throw new Error(`${driver}, ${way}, ${layout}: ${error instanceof Error ? error.message : error}`, {
            cause: error,
          });
        }
      }
    }
  }
  // Creating what cannot be a managed device is one.
  const violations = (await rig.stop()).filter(({ rule }) => rule !== "A-4.14");
  if (violations.length > 0) throw new Error(`the devices complain: ${JSON.stringify(violations)}`);
  return rows;
}

function rowOf(way: string, layout: string): string {
  return `${way} | ${layout}`;
}

async function runCell(
  driver: DriverName,
  transport: VirtioTransport,
  layout: typeof LAYOUTS[number],
  peers: Peers,
): Promise<Cell> {
  const packed = layout === "packed";
  const polled = { interrupts: "none", packed } as const;
  try {
    await runDriver(driver, transport, polled, peers);
  } catch (error) {
    if (error instanceof UnsupportedError) return { reason: reasonOf(error) };
    // It can be had, but for what the ring would be.
    if (!packed || !transport.legacy) throw error;
    if (transport.readDeviceFeatures() < FEATURE.RING_PACKED) {
      return { reason: "legacy interfaces have feature bits 0 to 31, and VIRTIO_F_RING_PACKED is bit 34" };
    }
    throw error;
  }
  const kinds = ["polling"];
  for (const interrupts of KINDS.filter((one) => one !== "none").reverse()) {
    try {
      await runDriver(driver, transport, { interrupts, wait: "eventfd", packed }, peers);
      kinds.unshift(KIND_NAMES[interrupts]);
    } catch (error) {
      if (
        !(error instanceof UnsupportedError) || !/ has no (MSI-X|MSI|interrupt line)$/.test(error.message)
      ) {
        throw error;
      }
    }
  }
  return { kinds };
}

/** What an error says, without where it was. */
function reasonOf(error: unknown): string {
  if (error instanceof ManagementCommandError) {
    return `the embedded management device answers MDEV_CREATE of this type with ${error.ackName}`;
  }
  if (!(error instanceof RingsideError)) throw error;
  return error.message.slice(error.message.indexOf(": ") + 2);
}

/** The table, as Markdown that the formatter leaves as it is. */
export function transportTable(results: Results): string {
  const reasons: string[] = [];
  const cellText = (cell: Cell): string => {
    if ("kinds" in cell) return cell.kinds.join(", ");
    if (!reasons.includes(cell.reason)) reasons.push(cell.reason);
    return `– (${reasons.indexOf(cell.reason) + 1})`;
  };
  const rows = [["transport", "rings", ...DRIVERS]];
  for (const [row, cells] of results) {
    rows.push([...row.split(" | "), ...DRIVERS.map((driver) => cellText(cells[driver]))]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((one) => one[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...body] = rows.map(line);
  const notes = reasons.map((reason, at) => `${at + 1}. ${reason}`);
  return [head, line(widths.map((width) => "-".repeat(width))), ...body, "", ...notes].join("\n");
}

/** A page with the table between its marks. @throws UsageError when there are none */
export function withTransportTable(page: string, results: Results): string {
  const from = page.indexOf(BEGIN), to = page.indexOf(END);
  if (from < 0 || to < from) throw new UsageError(`the page has no ${BEGIN} … ${END}`);
  return `${page.slice(0, from + BEGIN.length)}\n\n${transportTable(results)}\n\n${page.slice(to)}`;
}

/** The page that has it. */
export function readPage(): string {
  return readText(PAGE);
}

if (import.meta.main) {
  const page = withTransportTable(readPage(), await runMatrix());
  using file = OwnedFd.open(PAGE, O.WRONLY | O.TRUNC);
  writeAll(file, new TextEncoder().encode(page));
}
