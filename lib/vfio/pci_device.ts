/**
 * What an opened PCI function has beside what a function of any bus has.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UnsupportedError } from "../errors/mod.ts";
import { DEVICE_FLAG, type VfioDevice } from "./device.ts";

/** A function that a hot reset would also reset. */
export interface HotResetDependent {
  /** PCI address. */
  readonly function: string;
  /** IOMMU group (group path). */
  readonly group?: number;
  /** Device id in our iommufd (cdev path); undefined when it is not opened by us. */
  readonly deviceId?: number;
  /** This process may reset it along. */
  readonly owned: boolean;
}

/** Answer to VFIO_DEVICE_GET_PCI_HOT_RESET_INFO. */
export interface HotResetInfo {
  /** Functions that a hot reset would reset, this one among them. */
  readonly dependents: readonly HotResetDependent[];
  /** All dependents are ours, so `hotReset` can work. */
  readonly possible: boolean;
}

/** An opened PCI function; its configuration space is the region `REGION.config`. Errors as of `VfioDevice`. */
export interface VfioPciDevice extends VfioDevice {
  /** Which functions `hotReset` would reset, and whether it may. */
  hotResetInfo(): HotResetInfo;
  /** Resets the bus or slot with all dependents. */
  hotReset(): void;
  /** Sets the VF token of a PF, as the text of a UUID; VFs then open with this token only. */
  setVfToken(token: string): void;
  /**
   * Calls `handler` once when the function is to be given back: it is being removed, or unbound from its driver, by somebody who waits until it is closed
   * (VFIO_PCI_REQ_IRQ_INDEX). From then on its lifeline has ended with a `RemovalRequestedError`: waits end with it, and drivers throw it.
   *
   * A program whose event loop turns is told within 50 ms, and so is one that comes when it has been asked for already. One that never lets it turn asks
   * `lifeline.check()` now and then, as queues do that are found empty again and again.
   * @returns forgets it
   */
  onRemovalRequested(handler: () => void): () => void;
  /**
   * Calls `handler` each time that an uncorrectable error of the function is reported (AER; VFIO_PCI_ERR_IRQ_INDEX). From then on its lifeline has ended
   * with a `DeviceError`, until `reset` or `hotReset`.
   * @returns forgets it
   */
  onDeviceError(handler: () => void): () => void;
}

/** Whether an opened function is one of PCI: it says so itself (VFIO_DEVICE_FLAGS_PCI). */
export function isPciDevice(device: VfioDevice): device is VfioPciDevice {
  requireType(device, "object", "isPciDevice: device", "info");
  requireType(device.info, "object", "isPciDevice: device.info", "flags");
  return (device.info.flags & DEVICE_FLAG.pci) !== 0;
}

/**
 * The same device, where it must be a PCI function.
 * @param what is needed of it and PCI's alone, such as `configuration space`: for the message
 * @throws UnsupportedError when it is on another bus
 */
export function requirePciDevice(device: VfioDevice, what: string): VfioPciDevice {
  if (isPciDevice(device)) return device;
  const bus = (device.info.flags & DEVICE_FLAG.platform) !== 0 ? "a platform device" : "no PCI function";
  throw new UnsupportedError(`${device.name} is ${bus}, which has no ${what}`, {
    hint: "only a PCI function has it",
  });
}
