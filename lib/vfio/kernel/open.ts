/**
 * Opening a function through kernel VFIO.
 *
 * @module
 */
import { isErrno } from "../../../ffi/mod.ts";
import {
  NotFoundError,
  RefusedError,
  RemovalRequestedError,
  UnsupportedError,
  UsageError,
} from "../../errors/mod.ts";
import { busOf, PCI, sysfsDirectory } from "../bus.ts";
import type { VfioDevice } from "../device.ts";
import { formatVfToken, parseVfToken } from "../uuid.ts";
import { bindByCdev, bindByGroup, CDEV_NODES, type IommuBinding } from "./binding.ts";
import { type FunctionFacts, readFunctionFacts } from "./function_facts.ts";
import { IOMMU_NODE } from "./iommufd.ts";
import { type KernelCalls, runningKernel } from "./kernel_calls.ts";
import { KernelDevice } from "./kernel_device.ts";
import { KernelPciDevice } from "./kernel_pci_device.ts";

/** How to open. */
export interface KernelOpenOptions {
  /** Default: `cdev` when the function's node exists and `/dev/iommu` can be opened, else `group`. */
  readonly path?: "group" | "cdev";
  /** UUID text; sent only to a function that has to do with SR-IOV, since others refuse it. */
  readonly vfToken?: string;
  /** Whether the function is a PF with SR-IOV or a VF; default: what sysfs says. */
  readonly isSriov?: boolean;
  /** Opens without an IOMMU: the device reaches all memory. The full name is the consent. */
  readonly enableUnsafeNoIommuMode?: boolean;
  /** Called once, when the device has been closed. */
  readonly onClosed?: () => void;
}

/**
 * Opens a function that is bound to a VFIO driver.
 *
 * @param address `0000:01:00.0` or `01:00.0`, which give a `VfioPciDevice`; `a003e00.virtio_mmio`.
 * @throws NotFoundError (no such function), UsageError (not on a VFIO driver, malformed token), RefusedError (group not viable,
 * VF token missing or wrong), RemovalRequestedError (it is being taken away), UnsupportedError (no IOMMU, no VFIO, no such path), SyscallError
 */
export function openKernelDevice(address: string, options: KernelOpenOptions = {}): VfioDevice {
  return openOn(runningKernel, address, options);
}

/** As `openKernelDevice`, on a kernel that need not be the running one. */
export function openOn(kernel: KernelCalls, address: string, options: KernelOpenOptions): VfioDevice {
  const facts = readFunctionFacts(kernel, address);
  // Read before there is anything to be let go of: reading it may throw.
  const { onClosed } = options;
  const token = options.vfToken === undefined ? undefined : parseVfToken(options.vfToken);
  requireVfio(kernel, facts);
  try {
    return openVfio(kernel, facts, options, token, onClosed);
  } catch (error) {
    throw leftMeanwhile(kernel, facts, error);
  }
}

function openVfio(
  kernel: KernelCalls,
  facts: FunctionFacts,
  options: KernelOpenOptions,
  token: Uint8Array<ArrayBuffer> | undefined,
  onClosed: (() => void) | undefined,
): VfioDevice {
  if (facts.group === undefined) throw noIommu(facts);
  const sent = options.isSriov ?? facts.isSriov ? token : undefined;
  const path = choosePath(kernel, facts, options);
  const binding = explainingToken(facts, sent !== undefined, path, () => {
    return path === "cdev"
      ? bindByCdev(kernel, facts.cdev!, facts.group!, facts.address, sent)
      : byGroup(kernel, facts, facts.group!, sent, options.enableUnsafeNoIommuMode ?? false);
  });
  const { address: name } = facts;
  const device = busOf(name) === PCI
    ? new KernelPciDevice(kernel, name, binding, onClosed)
    : new KernelDevice(kernel, name, binding, "platform", onClosed);
  // The kernel takes this away before it asks for the function for the first time. So either it is gone by now, or the device hears of the first request.
  if (facts.cdev !== undefined && !kernel.exists(`${sysfsDirectory(name)}/vfio-dev/${facts.cdev}`)) {
    device.close();
    throw new RemovalRequestedError(
      `${name}: the kernel asks for the function back: it is being removed, or unbound from its driver`,
      { hint: "it was opened just now, and closed at once; bind it again to use it" },
    );
  }
  return device;
}

/** What the kernel said of a function that was taken away under whoever opened it says nothing of that: nodes are missing, names unknown. */
function leftMeanwhile(kernel: KernelCalls, facts: FunctionFacts, error: unknown): unknown {
  const { address, group, cdev } = facts;
  if (error instanceof RemovalRequestedError) return error;
  let now: FunctionFacts | undefined;
  try {
    now = readFunctionFacts(kernel, address);
  } catch (second) {
    if (!(second instanceof NotFoundError)) return error;
  }
  // VFIO forgets it, and gives it to nobody any more, before it waits for whoever has it, and before the driver's link goes.
  const forgotten = isErrno(error, "ENODEV") && TOKEN_CALLS.includes(error.call);
  if (now?.onVfio && now.group === group && now.cdev === cdev && !forgotten) return error;
  const what = now === undefined ? "removed" : "unbound from its VFIO driver";
  return new RemovalRequestedError(`${address} was not opened: it was ${what} meanwhile`, {
    hint: now === undefined
      ? "bind it again when it is back"
      : `to use it, bind it again: ringside bind ${address}`,
    cause: error,
  });
}

function requireVfio(kernel: KernelCalls, facts: FunctionFacts): void {
  if (facts.onVfio) return;
  const { address, driver } = facts;
  const state = driver === undefined ? "bound to no driver" : `bound to ${driver}`;
  const module = busOf(address).vfioDriver;
  const loaded = kernel.exists("/dev/vfio") ? "" : ` (VFIO is not loaded: modprobe ${module} first)`;
  throw new UsageError(`${address} is ${state}, not to a VFIO driver`, {
    hint: `ringside bind ${address}${loaded}`,
  });
}

function noIommu(facts: FunctionFacts): UnsupportedError {
  const { address } = facts;
  if (busOf(address) !== PCI) {
    return new UnsupportedError(
      `${address} is in no IOMMU group: firmware describes no IOMMU in front of it`,
      {
        hint: "without one only no-IOMMU mode is left, in which the device has no DMA: see ringside doctor",
      },
    );
  }
  return new UnsupportedError(`${address} is in no IOMMU group: the host's IOMMU is off`, {
    hint: "switch it on in the firmware (VT-d, AMD-Vi, SMMU) and, on Intel, boot with intel_iommu=on",
  });
}

function choosePath(kernel: KernelCalls, facts: FunctionFacts, options: KernelOpenOptions): "group" | "cdev" {
  if (options.path === "group") return "group";
  if (options.enableUnsafeNoIommuMode) {
    if (options.path === undefined) return "group";
    throw new UnsupportedError(`${facts.address}: no-IOMMU mode works by the group path only`);
  }
  // The directory in sysfs alone says nothing: it exists on kernels that make no nodes.
  const missing = facts.cdev === undefined
    ? `the kernel registered no character device for it`
    : !kernel.exists(`${CDEV_NODES}/${facts.cdev}`)
    ? `there is no node ${CDEV_NODES}/${facts.cdev}`
    : undefined;
  if (options.path === "cdev") {
    if (missing === undefined) return "cdev";
    throw new UnsupportedError(`${facts.address} cannot be opened by cdev: ${missing}`, {
      hint:
        "this takes a kernel with CONFIG_VFIO_DEVICE_CDEV and CONFIG_IOMMUFD; the group path works without",
    });
  }
  return missing === undefined && canOpenIommufd(kernel) ? "cdev" : "group";
}

function canOpenIommufd(kernel: KernelCalls): boolean {
  try {
    kernel.openNode(IOMMU_NODE).close();
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENODEV", "ENXIO", "EACCES", "EPERM")) return false;
    throw error;
  }
}

function byGroup(
  kernel: KernelCalls,
  facts: FunctionFacts,
  group: number,
  token: Uint8Array<ArrayBuffer> | undefined,
  unsafe: boolean,
): IommuBinding {
  const unsafeNode = `/dev/vfio/noiommu-${group}`;
  const isUnsafe = kernel.exists(unsafeNode);
  if (isUnsafe && !unsafe) {
    throw new RefusedError(`${facts.address} has no IOMMU in front of it: only ${unsafeNode} exists`, {
      hint: "switch the host's IOMMU on; or, giving the device all of memory, set enableUnsafeNoIommuMode",
    });
  }
  if (unsafe && !isUnsafe) {
    throw new UnsupportedError(`${facts.address}: there is no ${unsafeNode}`, {
      hint: kernel.exists(`/dev/vfio/${group}`)
        ? "the function is behind an IOMMU: open it without enableUnsafeNoIommuMode"
        : "echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode, then bind the function again",
    });
  }
  const name = token === undefined ? facts.address : `${facts.address} vf_token=${formatVfToken(token)}`;
  return bindByGroup(kernel, group, name, facts.address, unsafe);
}

/** Requests that carry the token, by the name in their errors. */
const TOKEN_CALLS: readonly string[] = ["ioctl VFIO_GROUP_GET_DEVICE_FD", "ioctl VFIO_DEVICE_BIND_IOMMUFD"];

function explainingToken<T>(facts: FunctionFacts, sent: boolean, path: "group" | "cdev", call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { address, physicalFunction } = facts;
    if (!isErrno(error, "EACCES", "EINVAL") || !TOKEN_CALLS.includes(error.call)) throw error;
    const owner = physicalFunction === undefined ? address : physicalFunction;
    if (error.code === "EACCES" && facts.isSriov) {
      const what = sent
        ? "the VF token is not the one"
        : "a VF token is needed and none was given: it is the one";
      throw new RefusedError(`${address} was not opened: ${what} that its PF ${owner} was opened with`, {
        hint:
          `pass the UUID that ${owner} was opened with or set to (option vfToken, or --vf-token on the command line)`,
        cause: error,
      });
    }
    if (error.code === "EINVAL" && sent) {
      const old = path === "cdev"
        ? "; or this kernel takes no token by cdev (before Linux 6.17): use the group path"
        : "";
      throw new RefusedError(`${address} was not opened: the kernel takes no VF token for it`, {
        hint: `open it without a token: its PF ${owner} is not on a VFIO driver with SR-IOV enabled${old}`,
        cause: error,
      });
    }
    throw error;
  }
}
