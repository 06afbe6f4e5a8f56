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
import {
  DEVICE_FEATURE,
  type Host,
  isPciDevice,
  openHost,
  openTransport,
  UnsupportedError,
  VirtioAdmin,
  VirtioNet,
} from "@ringside/ringside";
import { adminOpcodeName } from "@ringside/ringside/drivers/virtio-admin";
import { type LegacyVfIdentity, readLegacyVfIdentity } from "@ringside/ringside/drivers/virtio-net";
import {
  exchangeByInterrupt,
  exchangePolled,
  type ExchangeResult,
  TestFrames,
} from "@ringside/ringside/drivers/virtio-net-exchange";
import {
  DEVICE_ID,
  deviceTypeName,
  featureNames,
  LEGACY_CFG_BYTES,
  LegacyIoBar,
  transitionalIdentity,
} from "@ringside/ringside/virtio";

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
  /** Ends it early: the host is put back, and the reason thrown. */
  readonly signal?: AbortSignal;
  /** Told of each step, and what it showed. */
  readonly step: (what: string, found: string) => void;
}

/** What it found. */
export interface LegacyVfResult {
  /** Of each VF, in their order. */
  readonly identities: readonly LegacyVfIdentity[];
  /** From the legacy VF to the modern one, and back. */
  readonly polled: readonly ExchangeResult[];
  /** As `polled`. */
  readonly byInterrupt: readonly ExchangeResult[];
  /** Interrupts that the legacy VF's driver took during the exchanges by interrupt. */
  readonly interrupts: number;
  /** Frames of commands sent to the PF during the exchanges. */
  readonly commandsForFrames: number;
}

/** Does it. Whatever happens, the host is put back. @throws what its steps throw */
export async function legacyVf(host: Host, options: LegacyVfOptions): Promise<LegacyVfResult> {
  const { address: pf, deviceName } = host.describe(options.pf);
  options.step("PF", `${pf} ${deviceName}`);
  try {
    return await onPf(host, pf, options);
  } finally {
    const { done, failed } = host.restore(pf);
    for (const { entry, error } of failed) options.step("restore", `${entry.function}: ${error.message}`);
    options.step("restore", `${done.length} changes undone; ${pf} is on ${host.describe(pf).driver}`);
  }
}

async function onPf(host: Host, pf: string, options: LegacyVfOptions): Promise<LegacyVfResult> {
  const { step, signal } = options;
  await using stack = new AsyncDisposableStack();
  host.bind(pf);
  const owner = stack.use(host.open(pf));
  const vfToken = crypto.randomUUID();
  if (isPciDevice(owner) && owner.probeFeature(DEVICE_FEATURE.pciVfToken, "set")) owner.setVfToken(vfToken);
  const transport = stack.use(openTransport(owner));
  if (transport.deviceId !== DEVICE_ID.net) {
    throw new UnsupportedError(`${pf} is a ${deviceTypeName(transport.deviceId)}, not a network device`);
  }
  let vfs: string[] = [];
  const pfDriver = stack.use(
    await VirtioAdmin.open(transport, {
      memberName: (vf) => vfs[vf] ?? `VF ${vf}`,
      vfCount: () => vfs.length,
    }),
  );
  const { admin, sriov } = pfDriver;
  step("PF opened", `administration queues ${pfDriver.queueNumbers.join(", ")}`);
  // N-3.7: the number of VFs changes while no command is under way.
  await admin.quiet(() => {
    vfs = host.setVfCount(pf, options.vfs);
  });
  for (const vf of vfs) host.bind(vf);
  step("VFs", vfs.join(", "));
  await sriov.start();
  step("commands", [...sriov.used!].map(adminOpcodeName).join(" "));

  // Of all VFs at once: the commands of one follow each other, those of different VFs do not wait.
  const identities = await Promise.all(
    vfs.map((_, vf) => readLegacyVfIdentity(admin.member(vf).legacyAsync)),
  );
  const ids = transitionalIdentity(DEVICE_ID.net);
  step(
    "legacy ids",
    `${hex(ids.vendorId, 4)}:${hex(ids.deviceId, 4)} revision ${ids.revisionId}, subsystem ${
      hex(ids.subsystemVendorId, 4)
    }:${hex(ids.subsystemId, 4)}, BAR 0 of ${ids.bar0SizeBytes} bytes of I/O space`,
  );
  identities.forEach((one, vf) => step(`VF ${vf}`, `${vfs[vf]} ${identityText(one)}`));
  const { legacy: registers } = admin.member(0);
  step("I/O BAR", ioBarText(new LegacyIoBar(registers, { deviceId: DEVICE_ID.net })));

  const legacyDevice = stack.use(host.open(vfs[0]!, { vfToken }));
  const modernDevice = stack.use(host.open(vfs[1]!, { vfToken }));
  const legacyTransport = stack.use(openTransport(legacyDevice, { legacy: registers, owner }));
  const modernTransport = stack.use(openTransport(modernDevice));
  const { notifyPlace: place } = legacyTransport;
  step(
    "open",
    `${vfs[0]} by its legacy registers, notified ${
      place == null ? "by command" : `in BAR ${place.bar} of ${place.whose === "owner" ? pf : vfs[0]}`
    }; ${vfs[1]} by the modern transport`,
  );
  // Without `eventfd` a wait would spin first, and a fast device would never be slept for.
  const wait = { interrupts: "auto", wait: "eventfd" } as const;
  const legacy = stack.use(await VirtioNet.open(legacyTransport, wait));
  const modern = stack.use(await VirtioNet.open(modernTransport, wait));
  step("legacy", `MAC ${legacy.macText}, ${legacy.interruptKind}, ${legacy.featureNames.join(" ")}`);
  step("modern", `MAC ${modern.macText}, ${modern.interruptKind}, ${modern.featureNames.join(" ")}`);

  const bothWays = async (label: string, count: number, exchange: typeof exchangePolled) => {
    const results: ExchangeResult[] = [];
    for (const [from, to, way] of [[legacy, modern, "modern"], [modern, legacy, "legacy"]] as const) {
      const longest = Math.min(from.maxFrameBytes, to.maxFrameBytes, 1514);
      const stream = new TestFrames(to.mac, from.mac, 60, longest);
      const result = await exchange(from, to, stream, count, signal && { signal });
      const { frames, bytes, framesPerSecond: rate } = result;
      step(label, `to the ${way} VF: ${frames} frames, ${bytes} bytes, all as sent; ${rate} frames/s`);
      results.push(result);
    }
    return results;
  };
  const commandsBefore = admin.statistics.sent;
  const polled = await bothWays("polling", options.frames, exchangePolled);
  const interruptsBefore = legacy.statistics().interrupts;
  const byInterrupt = await bothWays("interrupts", options.interruptFrames, exchangeByInterrupt);
  const interrupts = legacy.statistics().interrupts - interruptsBefore;
  const { sent, failed } = admin.statistics;
  const commandsForFrames = sent - commandsBefore;
  step("commands", `${sent} in all, ${failed} failed; ${commandsForFrames} while frames went to and fro`);
  return { identities, polled, byInterrupt, interrupts, commandsForFrames };
}

function identityText({ features, mac, mtu, maxQueuePairs, queueSizes }: LegacyVfIdentity): string {
  const queues = new Set(queueSizes).size === 1
    ? `${queueSizes.length} queues of ${queueSizes[0]}`
    : `queues of ${queueSizes.join(", ")}`;
  const pairs = `${maxQueuePairs} pair${maxQueuePairs === 1 ? "" : "s"}`;
  const names = featureNames(features, DEVICE_ID.net).join(" ");
  return `MAC ${mac ?? "none"}, MTU ${mtu ?? "not said"}, ${queues}, ${pairs}, features ${names}`;
}

/** What a hypervisor answers a guest's accesses to BAR 0 with. */
function ioBarText(bar: LegacyIoBar): string {
  // Status, ISR, and what is behind them: the MAC address, while MSI-X is off. Neither aligned nor one register.
  const bytes = new Uint8Array(8);
  bar.read(LEGACY_CFG_BYTES.plain - 2, bytes);
  const text = [...bytes].map((one) => hex(one, 2)).join(" ");
  return `inl(0) is ${hex(bar.readValue(0, 4), 8)}; 8 bytes at 18: ${text}`;
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
  const step = (what: string, found: string) => console.log(`${what.padEnd(11)} ${found}`);
  await legacyVf(host, { pf, vfs: 4, frames: 50_000, interruptFrames: 1000, step });
}
