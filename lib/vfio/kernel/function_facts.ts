/**
 * What sysfs says of a function, as far as opening it depends on it.
 *
 * @module
 */
import { isErrno } from "../../../ffi/mod.ts";
import { NotFoundError, UsageError } from "../../errors/mod.ts";
import { busOf, parseAddress, sysfsDirectory } from "../bus.ts";
import type { KernelCalls } from "./kernel_calls.ts";

/** Facts about one function. */
export interface FunctionFacts {
  /** Full address. */
  readonly address: string;
  /** Driver that it is bound to. */
  readonly driver?: string;
  /** IOMMU group. */
  readonly group?: number;
  /** `vfioN` when the kernel registered it with VFIO's character devices; the node may be missing all the same. */
  readonly cdev?: string;
  /** Address of its PF; undefined unless it is a VF. */
  readonly physicalFunction?: string;
  /** It is a VF, or a PF with an SR-IOV capability. */
  readonly isSriov: boolean;
  /** Its driver is one of VFIO's. */
  readonly onVfio: boolean;
}

/** Reads the facts. @throws NotFoundError, UsageError when the text is no address, SyscallError */
export function readFunctionFacts(kernel: KernelCalls, text: string): FunctionFacts {
  const address = parseAddress(text);
  const directory = sysfsDirectory(address);
  if (!kernel.exists(directory)) {
    const { kind, devices } = busOf(address);
    throw new NotFoundError(`there is no ${kind} ${address}`, {
      hint: `ls ${devices} lists those that there are`,
    });
  }
  const driver = linkName(kernel, `${directory}/driver`);
  const group = linkName(kernel, `${directory}/iommu_group`);
  const cdev = entries(kernel, `${directory}/vfio-dev`).find((name) => name.startsWith("vfio"));
  const physicalFunction = linkName(kernel, `${directory}/physfn`);
  return {
    address,
    driver,
    group: group === undefined ? undefined : groupNumber(group, address),
    cdev,
    physicalFunction,
    isSriov: physicalFunction !== undefined || kernel.exists(`${directory}/sriov_totalvfs`),
    // Variant drivers carry vfio in their names (virtio_vfio_pci, mlx5-vfio-pci); the directory tells of any other.
    onVfio: driver !== undefined && (driver.includes("vfio") || cdev !== undefined),
  };
}

/** A function of an IOMMU group, and its driver. */
export interface GroupMember {
  /** Full address, of whatever bus. */
  readonly address: string;
  /** Driver that it is bound to. */
  readonly driver?: string;
}

/** The functions of an IOMMU group. @throws SyscallError */
export function readGroupMembers(kernel: KernelCalls, group: number): GroupMember[] {
  return entries(kernel, `/sys/kernel/iommu_groups/${group}/devices`).map((address) => {
    const driver = linkName(kernel, `${sysfsDirectory(address)}/driver`);
    return driver === undefined ? { address } : { address, driver };
  });
}

function linkName(kernel: KernelCalls, path: string): string | undefined {
  try {
    return kernel.readLink(path).split("/").at(-1);
  } catch (error) {
    if (isErrno(error, "ENOENT", "EINVAL", "ENOTDIR")) return undefined;
    throw error;
  }
}

function entries(kernel: KernelCalls, path: string): string[] {
  try {
    return kernel.list(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

function groupNumber(text: string, address: string): number {
  if (!/^\d+$/.test(text)) {
    throw new UsageError(`${address}: IOMMU group ${JSON.stringify(text)} is no number`);
  }
  return Number(text);
}
