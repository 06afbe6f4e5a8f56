/**
 * A PF gives its VFs a legacy interface: it reads who they are by administration commands, drives the first VF through its legacy registers while
 * the second is driven by the modern transport, exchanges checked frames between the two by polling and by interrupt, and shows the first VF as the
 * legacy I/O BAR that a hypervisor would present. The host is put back at the end.
 *
 * Run it: `deno run --allow-ffi examples/legacy_vf.ts HOST PF`, with HOST `linux` or an emulated host's directory, and a virtio-net PF that has
 * administration queues.
 *
 * @module
 */
import { type AdminMember, VirtioAdmin } from "../drivers/admin/virtio_admin.ts";
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import { UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import { type Host, openHost, type OpenOptions } from "../lib/host/mod.ts";
import type { VfioDevice } from "../lib/vfio/mod.ts";
import {
  adminOpcodeName,
  DEVICE_ID,
  deviceTypeName,
  featureNames,
  LEGACY_CFG_BYTES,
  LegacyIoBar,
  openTransport,
  transitionalIdentity,
} from "../lib/virtio/mod.ts";
import {
  exchangeByInterrupt,
  type ExchangeOptions,
  exchangePolled,
  type ExchangeResult,
} from "../drivers/net/virtio/exchange.ts";
import { type Observer, puttingBack, resultText, withToken } from "./host_steps.ts";
import { type LegacyVfIdentity, readLegacyVfIdentity } from "../drivers/net/virtio/legacy_vf_identity.ts";
import { stepText } from "./step_text.ts";
import { TestFrames } from "../drivers/net/virtio/test_frames.ts";

/** What to do. */
export interface LegacyVfOptions {
  /** PCI address of the PF. */
  readonly pf: string;
  /** VFs to enable, at least 2. */
  readonly vfs: number;
  /** Frames by polling, each way. */
  readonly frames: number;
  /** Frames by interrupt, each way. */
  readonly interruptFrames: number;
  /** How to open functions. A VF token is made up when the kernel wants one. */
  readonly open?: OpenOptions;
  /** Leave bindings and VFs as they are at the end. Default false: they are put back. */
  readonly keep?: boolean;
  /** Ends it early: the host is put back, and the reason thrown. */
  readonly signal?: AbortSignal;
  readonly observer: Observer;
}

/** What one kind of exchange found: from the legacy VF to the modern one, and back. */
export interface BothWays {
  readonly toModern: ExchangeResult;
  readonly toLegacy: ExchangeResult;
}

/** What it found. */
export interface LegacyVfResult {
  readonly vfs: readonly string[];
  /** Of each VF, in their order. */
  readonly identities: readonly LegacyVfIdentity[];
  readonly polled: BothWays;
  readonly byInterrupt: BothWays;
  /** Interrupts that the legacy VF's driver took during the exchanges by interrupt. */
  readonly interrupts: number;
  /** Frames of commands sent to the PF, in all, and during the exchanges. */
  readonly commands: number;
  readonly commandsForFrames: number;
}

/** Does it. Whatever happens, the host is put back (unless `keep`). @throws what its steps throw */
export async function legacyVf(host: Host, options: LegacyVfOptions): Promise<LegacyVfResult> {
  const { observer } = options;
  const before = host.describe(options.pf);
  const pf = before.address;
  if (before.sriov === undefined) throw new UnsupportedError(`${pf} has no SR-IOV capability`);
  if (options.vfs < 2) {
    throw new UsageError(`${options.vfs} VFs: two are needed to send from one to the other`);
  }
  observer.step("PF", `${pf} ${before.deviceName}, driver ${before.driver ?? "none"}`);
  return await puttingBack(host, pf, options, () => onPf(host, pf, options));
}

async function onPf(host: Host, pf: string, options: LegacyVfOptions): Promise<LegacyVfResult> {
  const { observer } = options;
  host.bind(pf);
  using device = host.open(pf, options.open);
  const open = withToken(device, options.open ?? {}, observer);
  using transport = openTransport(device);
  if (transport.deviceId !== DEVICE_ID.net) {
    throw new UnsupportedError(`${pf} is a ${deviceTypeName(transport.deviceId)}, not a network device`);
  }
  let vfs: string[] = [];
  await using admin = await VirtioAdmin.open(transport, {
    memberName: (vf) => vfs[vf] ?? `VF ${vf}`,
    vfCount: () => vfs.length,
  });
  const { queueNumbers } = admin;
  observer.step(
    "PF opened",
    `${queueNumbers.length} administration queue${queueNumbers.length === 1 ? "" : "s"} (${
      queueNumbers.join(", ")
    })`,
  );
  // N-3.7: the number of VFs changes while no command is under way.
  await admin.admin.quiet(() => {
    vfs = host.setVfCount(pf, options.vfs);
  });
  for (const vf of vfs) host.bind(vf);
  observer.step("VFs", vfs.join(", "));
  await admin.sriov.start();
  observer.step("commands", [...admin.sriov.used!].map(adminOpcodeName).join(" "));
  const identities = await readIdentities(admin, vfs, observer);
  const member = admin.member(0);
  observer.step("I/O BAR", ioBarText(member));
  const exchanged = await drive(host, { admin, owner: device, member, vfs, open }, options);
  const { sent, failed } = admin.admin.statistics;
  observer.step(
    "commands",
    `${sent} in all, ${failed} failed; ${exchanged.commandsForFrames} while frames went to and fro`,
  );
  return { vfs, identities, commands: sent, ...exchanged };
}

/** Of all VFs at once: the commands of one follow each other, those of different VFs do not wait. */
async function readIdentities(
  admin: VirtioAdmin,
  vfs: readonly string[],
  observer: Observer,
): Promise<LegacyVfIdentity[]> {
  const before = admin.admin.statistics.sent;
  const start = performance.now();
  const identities = await Promise.all(
    vfs.map((_, vf) => readLegacyVfIdentity(admin.member(vf).legacyAsync)),
  );
  const took = performance.now() - start;
  const ids = transitionalIdentity(DEVICE_ID.net);
  const pci = `${hex(ids.vendorId, 4)}:${hex(ids.deviceId, 4)} revision ${ids.revisionId}, subsystem ${
    hex(ids.subsystemVendorId, 4)
  }:${hex(ids.subsystemId, 4)}`;
  observer.step("legacy ids", `${pci}, BAR 0 of ${ids.bar0SizeBytes} bytes of I/O space`);
  const named = new Set<bigint>();
  identities.forEach((one, vf) => {
    observer.step(`VF ${vf}`, `${vfs[vf]} ${identityText(one)}`);
    if (!named.has(one.features)) {
      observer.step("features", `${hex(Number(one.features), 8)}: ${featuresText(one.features)}`);
    }
    named.add(one.features);
  });
  observer.step(
    "identities",
    `${vfs.length} VFs by ${admin.admin.statistics.sent - before} commands in ${took.toFixed(1)} ms`,
  );
  return identities;
}

function identityText({ features, mac, mtu, maxQueuePairs, queueSizes }: LegacyVfIdentity): string {
  const queues = new Set(queueSizes).size === 1
    ? `${queueSizes.length} queues of ${queueSizes[0]}`
    : `queues of ${queueSizes.join(", ")}`;
  return `MAC ${mac ?? "none"}, MTU ${mtu ?? "not said"}, ${queues}, ${maxQueuePairs} pair${
    maxQueuePairs === 1 ? "" : "s"
  }, features ${hex(Number(features), 8)}`;
}

function featuresText(features: bigint): string {
  return featureNames(features, DEVICE_ID.net).join(" ");
}

/** What a hypervisor answers a guest's accesses to BAR 0 with. */
function ioBarText(member: AdminMember): string {
  const bar = new LegacyIoBar(member.legacy, { deviceId: DEVICE_ID.net });
  const features = bar.readValue(0, 4);
  // Status, ISR, and what is behind them: the MAC address, while MSI-X is off. Neither aligned nor one register.
  const bytes = new Uint8Array(8);
  bar.read(LEGACY_CFG_BYTES.plain - 2, bytes);
  return `inl(0) is ${hex(features, 8)}; 8 bytes at 18: ${[...bytes].map((one) => hex(one, 2)).join(" ")}`;
}

interface Group {
  readonly admin: VirtioAdmin;
  /** The PF: a notify address may be in its BAR. */
  readonly owner: VfioDevice;
  /** VF 0. */
  readonly member: AdminMember;
  readonly vfs: readonly string[];
  readonly open: OpenOptions;
}

async function drive(
  host: Host,
  { admin, owner, member, vfs, open }: Group,
  options: LegacyVfOptions,
): Promise<Pick<LegacyVfResult, "polled" | "byInterrupt" | "interrupts" | "commandsForFrames">> {
  const { observer, signal } = options;
  using legacyDevice = host.open(vfs[0]!, open);
  using modernDevice = host.open(vfs[1]!, open);
  using legacyTransport = openTransport(legacyDevice, { legacy: member.legacy, owner });
  using modernTransport = openTransport(modernDevice);
  const { notifyPlace } = legacyTransport;
  observer.step(
    "open",
    `${vfs[0]} by its legacy registers, notified ${
      notifyPlace == null
        ? "by command"
        : `in BAR ${notifyPlace.bar} of ${notifyPlace.whose === "owner" ? owner.name : vfs[0]}`
    }; ${vfs[1]} by the modern transport`,
  );
  // Without `eventfd` a wait would spin first, and a fast device would never be slept for.
  const wait = { interrupts: "auto", wait: "eventfd" } as const;
  await using legacy = await VirtioNet.open(legacyTransport, wait);
  await using modern = await VirtioNet.open(modernTransport, wait);
  observer.step("legacy", `MAC ${legacy.macText}, ${legacy.interruptKind}, ${legacy.featureNames.join(" ")}`);
  observer.step("modern", `MAC ${modern.macText}, ${modern.interruptKind}, ${modern.featureNames.join(" ")}`);
  const watched = (label: string, total: number): ExchangeOptions => ({
    onProgress: (done) => observer.progress(label, done, total),
    ...(signal === undefined ? {} : { signal }),
  });
  const bothWays = async (
    label: string,
    count: number,
    exchange: typeof exchangePolled,
  ): Promise<BothWays> => {
    const one = async (from: VirtioNet, to: VirtioNet, way: string) => {
      const frames = new TestFrames(
        to.mac,
        from.mac,
        60,
        Math.min(from.maxFrameBytes, to.maxFrameBytes, 1514),
      );
      const result = await exchange(from, to, frames, count, watched(`${label}, to ${way}`, count));
      observer.step(label, `to ${way}: ${resultText(result)}`);
      return result;
    };
    return {
      toModern: await one(legacy, modern, "the modern VF"),
      toLegacy: await one(modern, legacy, "the legacy VF"),
    };
  };
  const before = admin.admin.statistics.sent;
  const polled = await bothWays("polling", options.frames, exchangePolled);
  const interruptsBefore = legacy.statistics().interrupts;
  const byInterrupt = await bothWays("interrupts", options.interruptFrames, exchangeByInterrupt);
  const interrupts = legacy.statistics().interrupts - interruptsBefore;
  return { polled, byInterrupt, interrupts, commandsForFrames: admin.admin.statistics.sent - before };
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

if (import.meta.main) {
  const [hostName, pf] = Deno.args;
  if (hostName === undefined || pf === undefined) {
    console.error("usage: legacy_vf.ts HOST PF   (HOST: linux, or an emulated host's directory)");
    Deno.exit(2);
  }
  using host = openHost(hostName);
  const observer: Observer = {
    step: (what, found) => console.log(stepText(what, found)),
    progress: () => {},
  };
  await legacyVf(host, { pf, vfs: 4, frames: 50_000, interruptFrames: 1000, observer });
}
