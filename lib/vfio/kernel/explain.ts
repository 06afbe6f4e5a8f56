/**
 * Kernel errors with what they mean for VFIO.
 *
 * @module
 */
import { SyscallError } from "../../../ffi/mod.ts";

/**
 * Runs `call`; a failed system call with one of the named errors is thrown again with that hint.
 * @throws whatever `call` throws
 */
export function explaining<T>(hints: Readonly<Record<string, string>>, call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    const hint = hints[error.code];
    if (hint === undefined) throw error;
    throw new SyscallError(error.call, error.target, error.errno, { hint, cause: error });
  }
}

/** Why a DMA mapping fails. */
export const MAP_HINTS: Readonly<Record<string, string>> = {
  ENOMEM: "the kernel counts mapped memory as locked: raise the limit (ulimit -l unlimited), or run as root",
  ENOSPC:
    "the container's limit on mappings is reached (vfio_iommu_type1.dma_entry_limit): map fewer, larger ranges",
  EEXIST: "a part of this IOVA range is mapped already",
  EINVAL: "the IOVA range is outside what the IOMMU translates, or not aligned to its pages",
};

/** Why a device node cannot be opened. */
export const NODE_HINTS: Readonly<Record<string, string>> = {
  EACCES: "run as root, or give this user the node (chown, or a udev rule)",
  EPERM: "run as root, or give this user the node (chown, or a udev rule)",
  EBUSY: "another process has it open: end that one first (fuser -v shows it)",
  ENOENT: "load the module (modprobe vfio-pci, or vfio-platform)",
  ENODEV: "load the module (modprobe vfio-pci, or vfio-platform)",
};
