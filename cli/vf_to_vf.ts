/**
 * The main job of `ringside demo`: give a virtio-net PF to vfio-pci, enable VFs, open two of them, send checked frames from one to the other
 * by polling and by interrupt, and put the host back.
 *
 * @module
 */
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import { UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import type { Host, OpenOptions } from "../lib/host/mod.ts";
import { DEVICE_FEATURE, isPciDevice, type VfioDevice } from "../lib/vfio/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import { exchangeByInterrupt, exchangePolled, type ExchangeResult } from "../drivers/net/virtio/exchange.ts";
import { MarkedFrames, TestFrames } from "../drivers/net/virtio/test_frames.ts";
import type { Progress } from "./progress.ts";

/** Frames of a round in which speed is measured, and how long there are rounds. */
const SPEED_FRAMES = 40_000;
const SPEED_MS = 1200;

/** Who watches. */
export interface Observer {
  /** A step is done; `found` says what it showed. */
  step(what: string, found: string): void;
  /** Frames begin to be exchanged; disposed of when they have been. */
  frames(label: string, total: number): Progress | Promise<Progress>;
}

/** What to do. */
export interface VfToVfOptions {
  /** PCI address of the PF. */
  readonly pf: string;
  /** VFs to enable, at least 2. */
  readonly vfs: number;
  /** Frames by polling. */
  readonly frames: number;
  /** Frames by interrupt. */
  readonly interruptFrames: number;
  /** How to open functions. A VF token is made up when the kernel wants one. */
  readonly open?: OpenOptions;
  /** Ends it early: the host is put back, and the reason thrown. */
  readonly signal?: AbortSignal;
  readonly observer: Observer;
}

/** What it found. */
export interface VfToVfResult {
  readonly vfs: readonly string[];
  readonly polled: ExchangeResult;
  readonly byInterrupt: ExchangeResult;
  /** Interrupts that the receiving side took during the exchange by interrupt. */
  readonly interrupts: number;
}

/** Does it. Whatever happens, the host is put back. @throws what its steps throw */
export async function vfToVf(host: Host, options: VfToVfOptions): Promise<VfToVfResult> {
  const { observer } = options;
  const before = host.describe(options.pf);
  const pf = before.address;
  if (before.sriov === undefined) throw new UnsupportedError(`${pf} has no SR-IOV capability`);
  if (options.vfs < 2) {
    throw new UsageError(`${options.vfs} VFs: two are needed to send from one to the other`);
  }
  observer.step(
    "PF",
    `${pf} ${before.deviceName}, driver ${before.driver ?? "none"}, up to ${before.sriov.totalVfs} VFs`,
  );
  let result: VfToVfResult;
  try {
    result = await onVfs(host, pf, options);
  } catch (error) {
    // The first error is the one to tell; `restore` says again what could not be put back.
    try {
      putBack(host, pf, observer);
    } catch (second) {
      observer.step("restore", `failed: ${second instanceof Error ? second.message : second}`);
    }
    throw error;
  }
  putBack(host, pf, observer);
  return result;
}

function putBack(host: Host, pf: string, observer: Observer): void {
  const { done, failed } = host.restore(pf);
  if (failed.length > 0) throw failed[0]!.error;
  observer.step(
    "restore",
    `${done.length} changes undone; ${pf} is on ${host.describe(pf).driver ?? "no driver"}`,
  );
}

async function onVfs(host: Host, pf: string, options: VfToVfOptions): Promise<VfToVfResult> {
  const { observer } = options;
  host.bind(pf);
  observer.step("bind", `${pf} to ${host.describe(pf).driver}`);
  // The PF stays open while its VFs are used: it holds the VF token, and closing it resets it.
  using device = host.open(pf, options.open);
  const vfOpen = withToken(device, options.open ?? {}, observer);
  const vfs = host.setVfCount(pf, options.vfs);
  observer.step("VFs", vfs.join(", "));
  return await drive(host, vfs, vfOpen, options);
}

async function drive(
  host: Host,
  vfs: readonly string[],
  open: OpenOptions,
  options: VfToVfOptions,
): Promise<VfToVfResult> {
  const { observer, signal } = options;
  for (const vf of vfs) host.bind(vf);
  using senderDevice = host.open(vfs[0]!, open);
  using receiverDevice = host.open(vfs[1]!, open);
  observer.step("open", `${vfs[0]} and ${vfs[1]} by ${senderDevice.path}`);
  using senderTransport = openTransport(senderDevice);
  using receiverTransport = openTransport(receiverDevice);
  // Without `eventfd` a wait would spin first, and a fast device would never be slept for.
  await using sender = await VirtioNet.open(senderTransport, { interrupts: "auto", wait: "eventfd" });
  await using receiver = await VirtioNet.open(receiverTransport, { interrupts: "auto", wait: "eventfd" });
  const macs = `MAC ${sender.macText} and ${receiver.macText}`;
  const link = `link ${receiver.linkUp ? "up" : "down"}`;
  observer.step("virtio-net", `${macs}, MTU ${sender.mtu}, ${link}, ${receiver.interruptKind}`);
  observer.step("features", receiver.featureNames.join(" "));
  const frames = new TestFrames(receiver.mac, sender.mac, 64, Math.min(sender.maxFrameBytes, 1514));
  const exchanged = async (label: string, exchange: typeof exchangePolled, count: number) => {
    using bar = await observer.frames(label, count);
    return await exchange(sender, receiver, frames, count, {
      onProgress: (done) => bar.update(done),
      signal,
    });
  };
  const polled = await exchanged("polling", exchangePolled, options.frames);
  observer.step("polling", resultText(polled));
  observer.step("speed", await speedText(sender, receiver, options.frames, signal));
  const interruptsBefore = receiver.statistics().interrupts;
  const byInterrupt = await exchanged("interrupts", exchangeByInterrupt, options.interruptFrames);
  const interrupts = receiver.statistics().interrupts - interruptsBefore;
  observer.step(
    "interrupts",
    `${resultText(byInterrupt)}, ${interrupts} interrupts by ${receiver.interruptKind}`,
  );
  return { vfs, polled, byInterrupt, interrupts };
}

/** How to open the VFs of an opened PF: with a token, made up if need be, where the kernel wants one. */
function withToken(pf: VfioDevice, open: OpenOptions, observer: Observer): OpenOptions {
  if (!isPciDevice(pf) || !pf.probeFeature(DEVICE_FEATURE.pciVfToken, "set")) return open;
  const vfToken = open.vfToken ?? crypto.randomUUID();
  pf.setVfToken(vfToken);
  observer.step("VF token", vfToken);
  return { ...open, vfToken };
}

/** `64 bytes 3.1 million frames/s, 1.6 Gbit/s; 1514 bytes …`: of the shortest frames and the longest, numbered; medians of rounds. */
async function speedText(
  sender: VirtioNet,
  receiver: VirtioNet,
  frames: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  const texts: string[] = [];
  const aRound = Math.min(frames, SPEED_FRAMES);
  for (const lengthBytes of [64, Math.min(sender.maxFrameBytes, 1514)]) {
    const stream = new MarkedFrames(receiver.mac, sender.mac, lengthBytes);
    const rates: number[] = [];
    const start = performance.now();
    while (rates.length < 6 || (aRound === SPEED_FRAMES && performance.now() - start < SPEED_MS)) {
      const { framesPerSecond } = await exchangePolled(sender, receiver, stream, aRound, { signal });
      rates.push(framesPerSecond);
    }
    // The first third is for the compiler, which works beside both processes.
    const counted = rates.slice(Math.floor(rates.length / 3)).sort((a, b) => a - b);
    const rate = counted[counted.length >> 1]!;
    const bits = rate * lengthBytes * 8;
    texts.push(
      `${lengthBytes} bytes ${(rate / 1e6).toFixed(2)} million frames/s, ${(bits / 1e9).toFixed(1)} Gbit/s`,
    );
  }
  return texts.join("; ");
}

/** `100000 frames, 8000000 bytes, all as sent; 90000 frames/s` */
function resultText({ frames, bytes, framesPerSecond }: ExchangeResult): string {
  return `${frames} frames, ${bytes} bytes, all as sent; ${framesPerSecond} frames/s`;
}
