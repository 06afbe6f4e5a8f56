/**
 * The table of feature bits in `features.md`, out of the code: `deno task docs:features` writes it between its marks, a test fails when it is stale.
 *
 * @module
 */
import { BLK_WISHES } from "../drivers/blk/features.ts";
import { consoleWishes } from "../drivers/console/config.ts";
import { ismWishes } from "../drivers/ism/config.ts";
import { netWishes } from "../drivers/net/virtio/features.ts";
import { O, OwnedFd, readText, writeAll } from "../ffi/mod.ts";
import type { BehaviourOptions } from "../lib/emulation/mod.ts";
import { createVirtioModels } from "../lib/emulation/virtio/models.ts";
import type { DeviceKind } from "../lib/emulation/device_kind.ts";
import type { TopologyProfile } from "../lib/emulation/function_topology.ts";
import { VIRTIO_KINDS } from "../lib/emulation/virtio/kinds.ts";
import { PciView } from "../lib/emulation/virtio/views/pci/view.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { DEVICE_ID, FEATURE, featureName, type FeatureWishes, type Profile } from "../lib/virtio/mod.ts";
import { chooseFeatures } from "../lib/virtio/features.ts";
import { DRAFT_FEATURE, DRAFT_FEATURE_BIT } from "../lib/virtio/spec/features.ts";

const BEGIN = "<!-- features: written by deno task docs:features -->";
const END = "<!-- /features -->";
const ALL = (1n << 64n) - 1n;
/** Set by profile alone. */
const QUEUE_STATE_BIT = 40;
const RESERVED_BITS = [24, 27, 28, 29, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 43];
const LEGACY_BITS = [24, 27];
/** What drives the queues of bit 41 is a driver of its own, for a PF of any type. */
const ADMIN_BIT = 41;

/** What a driver wishes for, and topologies whose functions offer, all together, everything that the model can. */
interface Row {
  readonly wishes: FeatureWishes;
  /** With all options that add features. */
  readonly onDemand?: FeatureWishes;
  readonly topologies?: readonly Partial<BehaviourOptions>[];
}

const ROWS: Readonly<Record<string, Row>> = {
  "virtio-net": {
    wishes: netWishes({}),
    onDemand: netWishes({ admin: true }),
    topologies: [{ mac: "52:54:00:00:00:01" }],
  },
  "virtio-blk": {
    wishes: BLK_WISHES,
    topologies: [
      { sizeBytes: 1 << 20, queues: 2, blockSize: 512, sizeMax: 4096, segMax: 4 },
      { sizeBytes: 1 << 20, readOnly: true },
    ],
  },
  "virtio-console": { wishes: consoleWishes({}), topologies: [{ ports: 2, cols: 80, rows: 25 }, {}] },
  "virtio-rng": { wishes: {} },
  "virtio-ism": { wishes: ismWishes({}) },
  "virtio-management": { wishes: { required: DRAFT_FEATURE.TRANSPT_VQ | DRAFT_FEATURE.TRANSPT_VQ_MDEV } },
};

interface Kind extends Required<Row> {
  readonly kind: string;
  /** In the table. */
  readonly name: string;
  readonly deviceId: number;
  /** What its PFs and VFs have of administration. */
  readonly admin: DeviceKind["admin"] | undefined;
}

const KINDS: readonly Kind[] = ["net", "blk", "console", "rng", "ism"].map(kindOf);
/** Only its own two bits are looked at: they mean nothing elsewhere. */
const MANAGEMENT = kindOf("management");

function kindOf(name: string): Kind {
  const { name: kind, type, admin } = VIRTIO_KINDS.find((one) => one.name === `virtio-${name}`)!;
  const { wishes, onDemand = wishes, topologies = [{}] } = ROWS[kind]!;
  return { kind, name, deviceId: type.id, admin, wishes, onDemand, topologies };
}

/** What the modern PCI transport has by itself (`PciModernTransport.ownFeatures`). */
const PCI_FEATURES = FEATURE.SR_IOV | FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA;

/** What each kind's driver accepts of a device that offers everything. */
function accepted({ deviceId }: Kind, wishes: FeatureWishes, profile: Profile): bigint {
  return chooseFeatures({ profile, name: "table", deviceId, ownFeatures: PCI_FEATURES }, ALL, wishes);
}

/** What functions of the embedded host offer unasked, and what they can be told to. */
function offered(
  { kind, admin, topologies }: Kind,
  profile: TopologyProfile,
): { always: bigint; asked: bigint } {
  const models = createVirtioModels();
  const offer = (more: Partial<BehaviourOptions>): bigint => {
    const front = models.createBehaviour(kind, { address: "0000:01:00.0", profile, ...more });
    if (!(front instanceof PciView)) throw new UsageError(`${kind} is no honest function`);
    const { offered } = front.core;
    front.close();
    return offered;
  };
  const each = topologies.map(offer);
  const asked = topologies.map((one) =>
    offer({
      ...one,
      // A management function has none.
      ...(profile === "transport-vq" ? {} : { totalVfs: 1 }),
      // Whoever has VFs can have administration queues.
      ...(admin === undefined ? {} : { admin: { queues: 1, legacyVfs: false, legacyNotify: "member" } }),
      featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"],
    })
  );
  const all = (sets: bigint[]) => sets.reduce((sum, one) => sum | one, 0n);
  return { always: each.reduce((common, one) => common & one), asked: all([...each, ...asked]) };
}

/** Types that drive the legacy interface; the other drivers refuse it. */
const LEGACY_KINDS = KINDS.filter(({ admin }) => admin === "legacy");

/** A bit that only the legacy interface has: reached by a PF's administration queue. */
function legacyRow(bit: number): string[] {
  const has = (bits: bigint) => (bits >> BigInt(bit) & 1n) === 1n;
  const drivers = LEGACY_KINDS.filter(({ deviceId, wishes }) => {
    const transport = { legacy: true, name: "table", deviceId, profile: "spec" } as const;
    return has(chooseFeatures(transport, ALL & 0xffff_ffffn, wishes));
  });
  const device = LEGACY_KINDS.filter(({ kind, topologies: [one] }) => {
    const admin = { queues: 1, legacyVfs: true, legacyNotify: "member" } as const;
    const front = createVirtioModels().createBehaviour(kind, {
      address: "0000:01:00.1",
      vfIndex: 0,
      admin,
      ...one,
    });
    if (!(front instanceof PciView)) throw new UsageError(`${kind} is no honest function`);
    const offered = front.memberLegacy?.driver.offered ?? 0n;
    front.close();
    return has(offered);
  });
  const names = (list: readonly Kind[]) => list.length === 0 ? "–" : list.map(({ name }) => name).join(", ");
  return [
    `${bit}`,
    `\`${featureName(bit, DEVICE_ID.net)}\` (legacy interface)`,
    names(drivers),
    names(device),
    drivers.length === 0 ? "missing" : "",
  ];
}

function row(bit: number, kinds: readonly Kind[], profile: TopologyProfile = "spec"): string[] {
  const has = (bits: bigint) => (bits >> BigInt(bit) & 1n) === 1n;
  const drivers = kinds.filter((kind) => has(accepted(kind, kind.onDemand, profile)));
  const unasked = drivers.every((kind) => has(accepted(kind, kind.wishes, profile)));
  const device = kinds.filter((kind) => has(offered(kind, profile).asked));
  const always = device.every((kind) => has(offered(kind, profile).always));
  const names = (list: readonly Kind[]) =>
    list.length === 0 ? "–" : list.length === KINDS.length ? "all" : list.map(({ name }) => name).join(", ");
  const gap = drivers.length === 0 && device.length === 0
    ? "missing"
    : drivers.length === 0
    ? "no driver"
    : device.length === 0
    ? "not on the embedded host"
    : "";
  const where = profile === "spec" ? "" : ` (profile ${profile})`;
  return [
    `${bit}`,
    `\`${featureName(bit, kinds[0]!.deviceId, profile)}\`${where}`,
    bit === ADMIN_BIT
      ? `admin; ${names(drivers)}: by option`
      : unasked
      ? names(drivers)
      : `${names(drivers)}: by option`,
    device.length === 0 || always ? names(device) : `${names(device)}: by topology`,
    gap,
  ];
}

/** The table, as Markdown that the formatter leaves as it is. */
export function featureTable(): string {
  const rows = [["bit", "feature", "drivers accept", "embedded host offers", "gap"]];
  for (const bit of RESERVED_BITS) {
    rows.push(LEGACY_BITS.includes(bit) ? legacyRow(bit) : row(bit, KINDS));
    if (bit === QUEUE_STATE_BIT) rows.push(row(bit, KINDS, "queue-state"));
  }
  const { TRANSPT_VQ, TRANSPT_VQ_MDEV } = DRAFT_FEATURE_BIT;
  for (const bit of [TRANSPT_VQ, TRANSPT_VQ_MDEV]) rows.push(row(bit, [MANAGEMENT], "transport-vq"));
  for (const kind of KINDS) {
    for (let bit = 0; bit < 64; bit++) {
      const ofType = bit < 24 || bit >= 50;
      if (ofType && featureName(bit, kind.deviceId) !== `bit ${bit}`) rows.push(row(bit, [kind]));
    }
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((one) => one[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...body] = rows.map(line);
  return [head, line(widths.map((width) => "-".repeat(width))), ...body].join("\n");
}

/** A page with the table between its marks. @throws UsageError when there are none */
export function withFeatureTable(page: string): string {
  const from = page.indexOf(BEGIN);
  const to = page.indexOf(END);
  if (from < 0 || to < from) throw new UsageError(`the page has no ${BEGIN} … ${END}`);
  return `${page.slice(0, from + BEGIN.length)}\n\n${featureTable()}\n\n${page.slice(to)}`;
}

if (import.meta.main) {
  const path = new URL("./features.md", import.meta.url).pathname;
  const page = withFeatureTable(readText(path));
  using file = OwnedFd.open(path, O.WRONLY | O.TRUNC);
  writeAll(file, new TextEncoder().encode(page));
}
