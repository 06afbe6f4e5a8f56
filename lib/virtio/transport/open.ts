/**
 * Which transport reaches an opened function.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import { isPciDevice } from "../../vfio/pci_device.ts";
import type { LegacyRegisterAccess } from "../admin/legacy_access.ts";
import { openMmio } from "./mmio/open.ts";
import type { MmioOptions } from "./mmio/transport.ts";
import { platformWindow } from "./mmio/window.ts";
import { type LegacyAdminOptions, LegacyAdminTransport } from "./pci_legacy_admin.ts";
import { type PciModernOptions, PciModernTransport } from "./pci_modern.ts";
import type { VirtioTransport } from "./transport.ts";

/** How to open; what does not concern the transport that is chosen has no effect. */
export interface TransportOptions extends PciModernOptions, LegacyAdminOptions, MmioOptions {
  /** Drive a VF by its legacy registers, which its owner reaches (`MemberLegacyRegisters`), instead of its own modern ones. */
  readonly legacy?: LegacyRegisterAccess;
}

/**
 * Reaches the virtio device of an opened function: of PCI by its modern interface, unless `legacy` is given, and of a platform device by its register
 * window. The function stays its owner's; closing the transport resets the device.
 * @throws UnsupportedError (no virtio function, one with the legacy interface only, a register window of another Version than the profile's),
 * NotFoundError (a register window without a device), UsageError (a profile of another kind of function), DeviceError (registers that cannot be),
 * ClosedError, and what the device throws
 */
export function openTransport(device: VfioDevice, options: TransportOptions = {}): VirtioTransport {
  requireType(device, "object", "openTransport: device", "name", "info", "regionInfo");
  requireType(options, "object", "openTransport: options");
  if (!isPciDevice(device)) return openPlatform(device, options);
  const { legacy, profile } = options;
  if (profile === "mmio-v3" || profile === "mmio-msi-v2") {
    throw new UsageError(`${device.name} is a PCI function; profile "${profile}" is of register windows`);
  }
  return legacy === undefined
    ? PciModernTransport.open(device, options)
    : LegacyAdminTransport.open(device, legacy, options);
}

function openPlatform(device: VfioDevice, options: MmioOptions): VirtioTransport {
  const window = platformWindow(device);
  try {
    return openMmio(window, options);
  } catch (error) {
    window.close();
    throw error;
  }
}
