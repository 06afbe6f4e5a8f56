/**
 * The Linux host that this process runs on.
 *
 * @module
 */
import {
  accessible,
  canOpen,
  effectiveUserId,
  isErrno,
  readTextIfAny,
  resourceLimit,
  RLIMIT,
} from "../../ffi/mod.ts";
import { RefusedError } from "../errors/mod.ts";
import { openKernelDevice } from "../vfio/kernel/open.ts";
import type { StepHook } from "./sysfs/attributes.ts";
import { examineLinux, type Machine } from "./doctor.ts";
import { listenToKernelLog } from "./functions/kernel_log.ts";
import { KernelSysfs } from "./sysfs/kernel_sysfs.ts";
import { KernelUsage } from "./functions/kernel_usage.ts";
import { SysfsHost } from "./sysfs_host.ts";

/** Where root keeps the journal and the locks: gone with a reboot, as are the changes. */
const ROOT_DIRECTORY = "/run/ringside";

/** How to look at the Linux host. */
export interface LinuxHostOptions {
  /** Directory of the journal. Default `/run/ringside`. */
  readonly stateDirectory?: string;
  /** Directory of the functions' locks. Default `/run/ringside/locks`; for others than root `/run/user/<user id>/ringside/locks`. */
  readonly lockDirectory?: string;
  /** How this process is called where it holds a function. Default: its command line. */
  readonly holder?: string | undefined;
  /** For tests: see `StepHook`. */
  readonly onStep?: StepHook;
}

/** `Host` over the kernel's sysfs and kernel VFIO. Whoever is not root can look, and open what root gave to them. */
export class LinuxHost extends SysfsHost {
  /** Looks at the host that this process runs on; nothing is changed. */
  constructor(options: LinuxHostOptions = {}) {
    const user = effectiveUserId();
    const rootLocks = `${ROOT_DIRECTORY}/locks`;
    // Never below /tmp: somebody else could have made the directory, with links in it.
    const own = `/run/user/${user}`;
    const ownLocks = user !== 0 && accessible(own) ? `${own}/ringside/locks` : rootLocks;
    const lockDirectory = options.lockDirectory ?? ownLocks;
    super({
      name: "linux",
      sysfs: new KernelSysfs(),
      stateDirectory: options.stateDirectory ?? ROOT_DIRECTORY,
      lockDirectory,
      otherLockDirectories: lockDirectory === rootLocks ? [] : [rootLocks],
      opener: ({ address, info, options, onClosed }) => {
        const isSriov = info.sriov !== undefined || info.physicalFunction !== undefined;
        return openKernelDevice(address, { ...options, isSriov, onClosed });
      },
      usage: (attributes) => new KernelUsage(attributes),
      examine: (host, attributes) => examineLinux(host, attributes, THIS_MACHINE),
      checkMayChange,
      kernelLog: () => listenToKernelLog(),
      holder: options.holder,
      onStep: options.onStep,
    });
  }
}

function checkMayChange(): void {
  if (effectiveUserId() === 0) return;
  throw new RefusedError("only root may change drivers and VF counts", {
    hint: "run as root, for example with sudo",
  });
}

const THIS_MACHINE: Machine = {
  readText(path: string): string | undefined {
    try {
      return readTextIfAny(path);
    } catch (error) {
      if (isErrno(error, "EACCES", "EPERM")) return undefined;
      throw error;
    }
  },
  canOpen,
  exists: accessible,
  effectiveUserId,
  lockedMemoryBytes: () => resourceLimit(RLIMIT.lockedMemory).soft,
  openFiles: () => resourceLimit(RLIMIT.openFiles).soft,
};
