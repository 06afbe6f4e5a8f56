/**
 * Which transport reaches an opened function.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import { VhostUserDevice } from "../../sockets/vhost_user/client/device.ts";
import { isPciDevice } from "../../vfio/pci_device.ts";
import type { LegacyRegisterAccess } from "../admin/legacy_access.ts";
import { openMmio } from "./mmio/open.ts";
import type { MmioOptions } from "./mmio/transport.ts";
import { platformWindow } from "./mmio/window.ts";
import { type LegacyAdminOptions, LegacyAdminTransport } from "./pci_legacy_admin.ts";
import { type PciModernOptions, PciModernTransport } from "./pci_modern.ts";
import { reachedOnce } from "./reached_once.ts";
import type { VirtioTransport } from "./transport.ts";
import { VhostUserTransport } from "./vhost_user/transport.ts";

/** How to open; what does not concern the transport that is chosen has no effect. */
export interface TransportOptions extends PciModernOptions, LegacyAdminOptions, MmioOptions {
  /** Drive a VF by its legacy registers, which its owner reaches (`MemberLegacyRegisters`), instead of its own modern ones. */
  readonly legacy?: LegacyRegisterAccess;
}

/**
 * Reaches the virtio device of an opened function: of PCI by its modern interface, unless `legacy` is given, of a platform device by its register
 * window, and of a vhost-user socket by messages. The function stays its owner's; closing the transport resets the device.
 * @throws UnsupportedError (no virtio function, one with the legacy interface only, a register window of another Version than the profile's),
 * NotFoundError (a register window without a device), RefusedError (another transport reaches it already), UsageError (a profile of another kind of function), DeviceError (registers that cannot be),
 * ClosedError, and what the device throws
 */
export function openTransport(
  device: VfioDevice | VhostUserDevice,
  options: TransportOptions = {},
): VirtioTransport {
  requireType(device, "object", "openTransport: device", "name", "dma");
  requireType(options, "object", "openTransport: options");
  if (device instanceof VhostUserDevice) return openVhostUser(device, options);
  requireType(device, "object", "openTransport: device", "info", "regionInfo");
  if (!isPciDevice(device)) return openPlatform(device, options);
  const { legacy, profile } = options;
  if (profile === "mmio-v3" || profile === "mmio-msi-v2") {
    throw new UsageError(`${device.name} is a PCI function; profile "${profile}" is of register windows`);
  }
  return legacy === undefined
    ? PciModernTransport.open(device, options)
    : LegacyAdminTransport.open(device, legacy, options);
}

/** @throws UsageError for a profile that is of registers */
function openVhostUser(device: VhostUserDevice, { profile, legacy }: TransportOptions): VirtioTransport {
  if (legacy === undefined && (profile ?? "spec") === "spec") {
    return reachedOnce(device, () => new VhostUserTransport(device));
  }
  const what = legacy === undefined ? `profile "${profile}"` : "a legacy interface";
  throw new UsageError(`${device.name} is a vhost-user socket; ${what} is of devices with registers`);
}

function openPlatform(device: VfioDevice, options: MmioOptions): VirtioTransport {
  return reachedOnce(device, () => {
    const window = platformWindow(device);
    try {
      return openMmio(window, options);
    } catch (error) {
      window.close();
      throw error;
    }
  });
}
