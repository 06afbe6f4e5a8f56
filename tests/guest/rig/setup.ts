/**
 * Sets up the guest rig: `deno task guest:setup [--kernel ready|debian|both]`.
 *
 * Downloads QEMU and a few tools as Debian packages, unpacks them below `.rig/` without installing anything, and
 * prepares a kernel. Where there is a ready kernel for AArch64, too, it prepares for guests of that architecture: the distribution's own has no
 * VFIO for platform devices, which is what such a guest is for. It can be run again at any time and then does only what is missing.
 */
import { parseArgs } from "node:util";
import { hasAarch64Root, prepareAarch64Root } from "./aarch64.ts";
import { prepareApt } from "./apt.ts";
import { runCommand } from "./command.ts";
import { RigError, SetupError } from "./errors.ts";
import { hasDebianKernel, prepareDebianKernel, prepareReadyKernel, readyKernelFolder } from "./kernel.ts";
import { PATHS, sysrootCommand } from "./paths.ts";
import { fillSysroot } from "./sysroot.ts";
import { writeToolScripts } from "./tools.ts";

const PACKAGES = [
  ...["qemu-system-x86", "busybox-static", "pciutils", "iproute2"],
  ...["lvm2", "btrfs-progs", "e2fsprogs", "ethtool"],
];
/** It wants udev and systemd, which a guest has no use for. */
const ALONE = ["mdadm"];
/** For guests of the other architecture. */
const AARCH64_PACKAGES = ["qemu-system-arm"];
const MINIMUM_QEMU = 11;

/** Which kernels to prepare. */
export type KernelChoice = "auto" | "ready" | "debian" | "both";

/** Does every step of the set-up that has not been done. */
export async function setup(choice: KernelChoice, log: (line: string) => void): Promise<void> {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new SetupError(
      `the guest rig runs on x86-64 Linux only; this is ${Deno.build.os} on ${Deno.build.arch}`,
    );
  }
  const aarch64 = readyKernelFolder("aarch64");
  const packages = [...PACKAGES, ...(aarch64 === undefined ? [] : AARCH64_PACKAGES)];
  let aptReady = false;
  const needApt = async (): Promise<void> => {
    if (!aptReady) await prepareApt(log, aarch64 === undefined ? [] : ["arm64"]);
    aptReady = true;
  };

  if (!(await fillSysroot({ folder: PATHS.sysroot, packages, alone: ALONE }, needApt, log))) {
    log("QEMU and tools: already unpacked");
  }
  await writeToolScripts();
  log(`QEMU ${await qemuVersion()} works`);

  const ready = readyKernelFolder();
  if (choice === "ready" && ready === undefined) {
    throw new SetupError(
      "no ready kernel: name the folder of one (bzImage, modules.tar.zst) in RINGSIDE_GUEST_KERNEL, " +
        "or build one with tests/guest/rig/build_kernel.ts",
    );
  }
  if (ready !== undefined && choice !== "debian") {
    const done = await prepareReadyKernel(ready);
    log(`kernel "ready" (with VFIO character devices): ${done ? "prepared" : "already prepared"}`);
  }
  if (choice === "debian" || choice === "both" || ready === undefined) {
    if (!hasDebianKernel()) {
      await needApt();
      await prepareDebianKernel(log);
    }
    log('kernel "debian" (VFIO groups only, no IOMMUFD): prepared');
  }
  if (aarch64 === undefined) {
    log("AArch64: no ready kernel for it, so no guests");
  } else {
    await prepareReadyKernel(aarch64, "aarch64");
    const largePages = readyKernelFolder("aarch64-64k");
    if (largePages !== undefined) await prepareReadyKernel(largePages, "aarch64-64k");
    if (!hasAarch64Root()) {
      await needApt();
      await prepareAarch64Root(log);
    }
    log("AArch64: kernel and root are prepared");
  }
  log("the guest rig is ready: deno task test:guest");
}

async function qemuVersion(): Promise<string> {
  const text = await runCommand(sysrootCommand("/usr/bin/qemu-system-x86_64", ["--version"]));
  const version = /version (\d+)\.(\d+)\.(\d+)/.exec(text);
  if (version === null || Number(version[1]) < MINIMUM_QEMU) {
    throw new SetupError(`QEMU ${MINIMUM_QEMU} or newer is needed, but the packages hold: ${text.trim()}`);
  }
  return version[0].replace("version ", "");
}

function parseChoice(value: string): KernelChoice {
  if (value === "auto" || value === "ready" || value === "debian" || value === "both") return value;
  throw new SetupError(`--kernel is "${value}"; it can be auto, ready, debian or both`);
}

if (import.meta.main) {
  try {
    const { values } = parseArgs({
      args: Deno.args,
      options: { kernel: { type: "string", default: "auto" } },
    });
    await setup(parseChoice(values.kernel), (line) => console.log(`guest rig: ${line}`));
  } catch (error) {
    if (!(error instanceof RigError)) throw error;
    console.error(`guest rig: ${error.message}`);
    Deno.exit(1);
  }
}
