/**
 * Giving a function to a driver: unbind, `driver_override`, probe, and a look at what came of it.
 *
 * @module
 */
import { isErrno } from "../../../ffi/mod.ts";
import { requireType } from "../../errors/doors.ts";
import {
  ExhaustedError,
  NotFoundError,
  RingsideError,
  UnsupportedError,
  UsageError,
} from "../../errors/mod.ts";
import { ConfigSpace } from "../../pci/config_space.ts";
import { HEADER_BYTES } from "../../pci/header.ts";
import { busOf, PCI, sysfsDirectory } from "../../vfio/bus.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";

/** What a function has for a driver that is only reached by a vfio-user socket. */
export const VFIO_USER = "vfio-user";
/** What a kernel without an IOMMU says yes to when a function shall be opened without one. */
export const NO_IOMMU_PARAMETER = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/**
 * Whether a driver is one of those that hand functions to userspace: `vfio-pci` and its variants (`virtio_vfio_pci`, …), `vfio-platform`, or
 * `vfio-user`, which is none of the kernel's.
 */
export function isVfioDriver(driver: string): boolean {
  requireType(driver, "string", "isVfioDriver: driver");
  return driver === VFIO_USER || /(^|[-_])vfio[-_](pci|platform)$/.test(driver);
}

/**
 * Looks before anything is changed whether a function can be given to a driver.
 * @throws UsageError, NotFoundError (driver not loaded, function gone), UnsupportedError (bridge, no IOMMU)
 */
export function checkBindable(attributes: FunctionAttributes, address: string, driver: string): void {
  if (!/^[\w.-]+$/.test(driver)) {
    throw new UsageError(`${JSON.stringify(driver)} is not the name of a driver`);
  }
  requireDriver(attributes, address, driver);
  if (!isVfioDriver(driver)) return;
  const directory = sysfsDirectory(address);
  if (busOf(address) === PCI) checkEndpoint(attributes, address, driver);
  const group = attributes.optionalLink(`${directory}/iommu_group`);
  if (
    group === undefined && attributes.optional(NO_IOMMU_PARAMETER) !== "Y" &&
    !mayGetGroup(attributes, address)
  ) {
    throw new UnsupportedError(`${address} has no IOMMU group, so ${driver} cannot take it`, {
      hint: busOf(address) === PCI
        ? "turn the IOMMU on in the firmware (VT-d, AMD-Vi, SMMU); on x86 boot with intel_iommu=on (Intel) or amd_iommu=on (AMD)"
        : "firmware describes no IOMMU in front of it; in no-IOMMU mode its registers and interrupts can be used, without DMA: " +
          `echo Y > ${NO_IOMMU_PARAMETER}`,
    });
  }
}

/**
 * Where a device tree says which IOMMU is in front of a function (Arm), Linux makes the group not before a driver probes it: one that no driver has
 * had yet is in no group, and the probe will tell.
 */
function mayGetGroup(attributes: FunctionAttributes, address: string): boolean {
  return attributes.driver(address) === "" && attributes.optionalList("/sys/class/iommu").length > 0;
}

/** @throws NotFoundError (it is gone), UnsupportedError (bridge) */
function checkEndpoint(attributes: FunctionAttributes, address: string, driver: string): void {
  const directory = sysfsDirectory(address), config = attributes.sysfs.readBytes(`${directory}/config`);
  // So short a file says nothing: the kernel's own answer will.
  if (config.length < HEADER_BYTES) return;
  const space = new ConfigSpace(config), current = attributes.driver(address);
  if (!space.isPresent) {
    const holder = current === "" ? "no driver has it" : `${current} still has it`;
    throw new NotFoundError(`${address} is gone: its configuration space reads as all ones; ${holder}`, {
      hint:
        "it was removed, has no power, or the link to it is down; the kernel forgets it and looks again by: " +
        `echo 1 > ${directory}/remove; echo 1 > /sys/bus/pci/rescan`,
    });
  }
  if (space.headerType === 0) return;
  const what = space.headerType <= 2 ? "is a bridge" : `has the reserved header type ${space.headerType}`;
  throw new UnsupportedError(`${address} ${what}, and ${driver} takes only endpoints`);
}

/**
 * Makes `target` the function's driver (empty: none) and `override` its `driver_override`. What is so already is left alone.
 * @throws NotFoundError before any change when the driver is not there; UnsupportedError when it did not take the function, which
 * then has no driver; SyscallError
 */
export function rebind(
  attributes: FunctionAttributes,
  address: string,
  target: string,
  override: string,
): void {
  const current = attributes.driver(address);
  if (current !== target) {
    if (target !== "") requireDriver(attributes, address, target);
    if (current !== "") attributes.unbind(address, current);
    if (target !== "") bindUnbound(attributes, address, target);
  }
  if (attributes.driverOverride(address) !== override) attributes.setDriverOverride(address, override);
}

function bindUnbound(attributes: FunctionAttributes, address: string, driver: string): void {
  // The override also lets a VF be probed whose PF has sriov_drivers_autoprobe off.
  if (attributes.driverOverride(address) !== driver) attributes.setDriverOverride(address, driver);
  let cause: unknown;
  try {
    attributes.probe(address);
  } catch (error) {
    if (isErrno(error, "EMFILE", "ENFILE")) {
      throw new ExhaustedError(`${address}: the emulated host cannot offer one more function`, {
        hint: error.hint,
        cause: error,
      });
    }
    if (!isErrno(error, "ENODEV", "EINVAL", "EIO", "EBUSY", "EPERM", "ENOMEM")) throw error;
    cause = error;
  }
  const now = attributes.driver(address);
  if (now === driver) return;
  throw new UnsupportedError(
    `${address}: ${driver} did not take the function, which is ${
      now === "" ? "left without a driver" : `bound to ${now}`
    }`,
    {
      hint: `the kernel's log (dmesg) says why; usual reasons: ${usualReasons(address, driver)}`,
      cause,
    },
  );
}

function usualReasons(address: string, driver: string): string {
  if (busOf(address) === PCI) {
    return "no IOMMU, a VF still enabled, a device on vfio-pci's deny list (modprobe vfio-pci disable_denylist=1), or a driver of another kind of device";
  }
  if (!isVfioDriver(driver)) return "a driver of another kind of device, or a place where no device is";
  return "no IOMMU, or a device that the kernel has no reset function for, which vfio-platform takes only when it is loaded so: " +
    "modprobe -r vfio-platform && modprobe vfio-platform reset_required=0";
}

/** @throws NotFoundError when a function's bus has no such driver */
export function requireDriver(attributes: FunctionAttributes, address: string, driver: string): void {
  if (!attributes.driverExists(address, driver)) throw driverMissing(attributes, address, driver);
}

/** A driver's name is not always its module's: `modprobe` takes both signs, the driver core only the right one. */
function driverMissing(attributes: FunctionAttributes, address: string, driver: string): NotFoundError {
  const bus = busOf(address);
  const plain = (name: string): string => name.replaceAll("_", "-");
  const similar = attributes.optionalList(bus.drivers).find((name) => plain(name) === plain(driver));
  return new NotFoundError(`the kernel has no ${bus.kind.split(" ")[0]} driver ${driver}`, {
    hint: similar === undefined
      ? `load its module: modprobe ${driver}`
      : `the driver's name is ${similar}; hyphens and underscores count`,
  });
}

/** An error that also says that taking a change back did not work. */
export function notTakenBack(error: unknown, undo: readonly Error[]): RingsideError {
  const message = error instanceof Error ? error.message : String(error);
  const reasons = undo.map((one) => one.message).join("; ");
  return new RingsideError(`${message}; and what was changed before could not all be put back: ${reasons}`, {
    hint: "ringside restore tries again",
    cause: error,
  });
}
