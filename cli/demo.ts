/**
 * `ringside demo`
 *
 * @module
 */
import { VirtioRng } from "../drivers/rng/virtio_rng.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { type Host, openHost } from "../lib/host/mod.ts";
import { virtioTypeOf } from "../lib/pci/virtio_ids.ts";
import { DEVICE_ID, openTransport } from "../lib/virtio/mod.ts";
import { type EmulatedProcess, startEmulatedHost } from "./emulated_process.ts";
import { interruption } from "./interruption.ts";
import { hexText, print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { progress } from "./progress.ts";
import { vfToVf } from "./vf_to_vf.ts";

const RANDOM_BYTES = 32;
const DEFAULT_TOTAL_VFS = 4;
const LABEL_COLUMNS = 11;
const LINE_COLUMNS = 100;

type Step = (what: string, found: string) => void;

/** The main job on an embedded host of its own. */
export async function demo(options: Of<"demo">): Promise<void> {
  const steps: { step: string; found: string }[] = [];
  const step: Step = (what, found) => {
    steps.push({ step: what, found });
    if (!options.json) print(stepText(what, found));
  };
  const start = performance.now();
  using stop = interruption();
  const emulated = await startEmulatedHost({
    totalVfs: Math.max(DEFAULT_TOTAL_VFS, options.vfs),
    signal: stop.signal,
  });
  try {
    await onHost(emulated, options, step, stop.signal);
  } finally {
    await emulated.stop();
  }
  const seconds = (performance.now() - start) / 1000;
  if (options.json) printJson({ ok: true, seconds, steps });
  else print(`done in ${seconds.toFixed(1)} s`);
}

async function onHost(
  emulated: EmulatedProcess,
  options: Of<"demo">,
  step: Step,
  signal: AbortSignal,
): Promise<void> {
  step("host", `process ${emulated.pid}, serving ${emulated.directory}`);
  using host = openHost(emulated.directory);
  const functions = host.list();
  const before = snapshot(host);
  for (const one of functions) {
    const vendor = one.bus === "pci" ? `${one.vendorName} ` : "";
    step("function", `${one.address} ${vendor}${one.deviceName}, driver ${one.driver ?? "none"}`);
  }
  const pf = functions.find((one) => one.sriov !== undefined);
  const random = functions.find((one) => one.bus === "pci" && virtioTypeOf(one) === DEVICE_ID.entropy);
  if (pf === undefined || random === undefined) {
    throw new DeviceError("the embedded host lacks its PF or its virtio-rng function");
  }
  await vfToVf(host, {
    pf: pf.address,
    vfs: options.vfs,
    frames: options.frames,
    interruptFrames: options.interruptFrames,
    signal,
    observer: { step, frames: (label, total) => progress(label, total, "frames", options.json) },
  });
  await readRandom(host, random.address, step);
  if (snapshot(host) !== before) throw new DeviceError("the host is not as it was before");
  step("host", "as it was: same drivers, overrides and VF counts, empty journal");
  const violations = emulated.violations();
  if (violations.length > 0) {
    throw new DeviceError(`the devices report violations: ${violations.join("; ")}`);
  }
  step("devices", "report no violation of the standard");
}

async function readRandom(host: Host, address: string, step: Step): Promise<void> {
  host.bind(address);
  try {
    using device = host.open(address);
    using transport = openTransport(device);
    await using entropy = VirtioRng.open(transport);
    step("virtio-rng", `${hexText(await entropy.read(RANDOM_BYTES))} by ${entropy.interruptKind}`);
  } finally {
    host.restore(address);
  }
}

/** All that a restore must bring back, as text. */
function snapshot(host: Host): string {
  const functions = host.list().map(({ address, driver, driverOverride, sriov }) => ({
    address,
    driver,
    driverOverride,
    sriov,
  }));
  return JSON.stringify({ functions, journal: host.journal() });
}

/** `bind        0000:01:00.0 to vfio-pci`: a label and what was found, folded at spaces, with the lines below one another. */
function stepText(what: string, found: string): string {
  const lines: string[] = [];
  let line = what.padEnd(LABEL_COLUMNS);
  for (const word of found.split(" ")) {
    if (line.trimEnd().length > LABEL_COLUMNS && line.length + 1 + word.length > LINE_COLUMNS) {
      lines.push(line);
      line = " ".repeat(LABEL_COLUMNS);
    }
    line += ` ${word}`;
  }
  return [...lines, line].join("\n");
}
