/** A guest with a script of ours in it, which drives functions that the embedded host serves, or others. */
import { cacheForGuest, denoEnvironment, denoForGuest } from "../rig/deno_in_guest.ts";
import { bootGuest, type GuestOptions } from "../rig/guest.ts";
import { inGuest } from "../rig/in_guest.ts";
import { hasKernel, preparedKernel } from "../rig/kernel.ts";
import { type Architecture, MACHINES } from "../rig/machines.ts";
import { DEFAULT_MODULES } from "../rig/modules.ts";
import { exists, SYSROOT_LOADER } from "../rig/paths.ts";

/** What to boot. */
export interface JobGuest {
  /** Path of the script. Each line that it begins with `REPORT` is a report of it. */
  readonly job: string;
  /** Its only argument, as JSON. */
  readonly task: unknown;
  /** Sockets of the functions, which are on buses 1, 2, … in the guest. */
  readonly sockets?: readonly string[];
  /** What is not as `bootJob` has it: another machine, devices, modules. */
  readonly guest?: Omit<GuestOptions, "command" | "script" | "files" | "signal" | "onConsole">;
  /** Told of each report as it comes. */
  readonly onReport?: (report: unknown) => void;
  /** Kills the guest: then `bootJob` throws the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How a guest ended. */
export interface JobResult {
  readonly exitCode: number;
  readonly console: string;
}

/** Begins the line of a report; the rest is JSON. */
export const REPORT = "report: ";

/** Writes a report. For the script, in the guest. */
export function report(what: unknown): void {
  console.log(REPORT + JSON.stringify(what));
}

/** What the guest's kernel has to say of DMA that was refused, or of itself. For the script, in the guest. */
export function kernelComplaints(): string[] {
  const { stdout } = new Deno.Command("dmesg").outputSync();
  return new TextDecoder().decode(stdout).split("\n").filter((line) =>
    /\b(faults?|bug:|warning:|call trace)/i.test(line)
  );
}

/** Why there can be no such guest; undefined when there can. */
export function whyNoGuest(architecture: Architecture = "x86_64"): string | undefined {
  if (inGuest()) return "boots a guest of its own";
  if (!exists(SYSROOT_LOADER) || !hasKernel("x86_64")) {
    return "the guest rig is not set up: deno task guest:setup";
  }
  return hasKernel(architecture)
    ? undefined
    : "no ready AArch64 kernel (RINGSIDE_GUEST_KERNEL_AARCH64): Debian's has no VFIO for platform devices";
}

/** The kernel's ways to a function. */
export function kernelPaths(): ("group" | "cdev")[] {
  return preparedKernel().builtin.includes("iommufd") ? ["group", "cdev"] : ["group"];
}

/**
 * Boots it, behind an IOMMU, and waits for its end.
 *
 * Functions that no one has open stay in D0: a VF is in D0 after each reset of its PF, which QEMU, to whom they are unrelated, does not hear of. It would
 * keep the BARs of one that was in D3hot unmapped, since the kernel does not write D0 to a function that says it is there.
 */
export async function bootJob(guest: JobGuest): Promise<JobResult> {
  const { architecture } = MACHINES[guest.guest?.machine ?? "q35"];
  await cacheForGuest([guest.job], architecture);
  let console = "";
  const { exitCode } = await bootGuest({
    command: [
      await denoForGuest(architecture),
      ...["run", "--no-check", "--cached-only", "-A", guest.job, JSON.stringify(guest.task)],
    ],
    env: denoEnvironment(architecture),
    devices: (guest.sockets ?? []).map((socket) => ({ kind: "vfio-user", socket })),
    modules: DEFAULT_MODULES.map((load) =>
      load.name === "vfio_pci" ? { ...load, parameters: `${load.parameters} disable_idle_d3=1` } : load
    ),
    timeoutMs: 400_000,
    ...guest.guest,
    ...(guest.signal === undefined ? {} : { signal: guest.signal }),
    onConsole: (lines) => {
      console += lines;
      for (const line of lines.split("\n")) {
        if (line.startsWith(REPORT)) guest.onReport?.(JSON.parse(line.slice(REPORT.length)));
      }
    },
  });
  return { exitCode, console };
}
