import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Architecture } from "./machines.ts";

const here = dirname(fileURLToPath(import.meta.url));

/** Root of the project checkout: the folder that holds `deno.json`. */
export const PROJECT_ROOT: string = resolve(here, "../../..");

/** Everything the rig downloads or makes lives below this git-ignored folder; deleting it undoes the set-up. */
export const RIG_DIR: string = `${PROJECT_ROOT}/.rig`;

/** The rig's places, all absolute. */
export const PATHS = {
  /** Private apt state: lists, cache, sources. */
  apt: `${RIG_DIR}/apt`,
  /** Downloaded packages. */
  debs: `${RIG_DIR}/debs`,
  /** Tree of unpacked packages: QEMU, busybox, lspci and the libraries they need. */
  sysroot: `${RIG_DIR}/sysroot`,
  /** Tree of unpacked packages of third-party peers: DPDK, QEMU's storage daemon, passt. */
  peers: `${RIG_DIR}/peers`,
  /** Tree of unpacked AArch64 packages: what Deno needs, and Deno. */
  aarch64: `${RIG_DIR}/aarch64`,
  /** One folder per prepared kernel, each with `bzImage` and `modules/`. */
  kernels: `${RIG_DIR}/kernels`,
  /** DENO_DIR of the guest, filled outside it; one for each architecture, since compiled code is kept there. */
  denoDir: `${RIG_DIR}/deno-dir`,
  /** Programs copied for the guest. */
  bin: `${RIG_DIR}/bin`,
  /** One folder per boot: initramfs, status channel, console log. */
  runs: `${RIG_DIR}/runs`,
  /** Kernel options for `build_kernel.ts`. */
  kernelFragment: `${here}/kernel.fragment`,
} as const;

/** Library folder below the sysroot, whose programs run on the host. */
export const SYSROOT_LIB: string = `${PATHS.sysroot}/usr/lib/x86_64-linux-gnu`;

/** The sysroot's own dynamic loader, so that its programs never meet the host's libraries. */
export const SYSROOT_LOADER: string = `${SYSROOT_LIB}/ld-linux-x86-64.so.2`;

/** What a guest of that architecture has for its root: the host's, or a tree of its own. */
export function guestRoot(architecture: Architecture): string {
  return architecture === "aarch64" ? PATHS.aarch64 : "/";
}

/** True when a file or folder exists. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Argument vector that starts a program of the sysroot through the sysroot's own loader and libraries. */
export function sysrootCommand(program: string, args: readonly string[]): string[] {
  return [SYSROOT_LOADER, "--library-path", SYSROOT_LIB, `${PATHS.sysroot}${program}`, ...args];
}
