/**
 * What an opened PCI function has beside what a function of any bus has.
 *
 * @module
 */
import type { VfioDevice } from "./device.ts";

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
}
