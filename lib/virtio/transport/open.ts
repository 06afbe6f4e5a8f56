/**
 * Which transport reaches an opened function.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import type { LegacyRegisterAccess } from "../admin/legacy_access.ts";
import { type LegacyAdminOptions, LegacyAdminTransport } from "./pci_legacy_admin.ts";
import { type PciModernOptions, PciModernTransport } from "./pci_modern.ts";
import type { VirtioTransport } from "./transport.ts";

/** How to open; what does not concern the transport that is chosen has no effect. */
export interface TransportOptions extends PciModernOptions, LegacyAdminOptions {
  /** Drive a VF by its legacy registers, which its owner reaches (`MemberLegacyRegisters`), instead of its own modern ones. */
  readonly legacy?: LegacyRegisterAccess;
}

/**
 * Reaches the virtio device of an opened function. The function stays its owner's; closing the transport resets the device.
 * @throws UnsupportedError (no virtio function, or one with the legacy interface only), DeviceError (registers that cannot be), ClosedError, and what the
 * device throws
 */
export function openTransport(device: VfioDevice, options: TransportOptions = {}): VirtioTransport {
  requireType(device, "object", "openTransport: device", "name", "regionInfo");
  requireType(options, "object", "openTransport: options");
  const { legacy } = options;
  return legacy === undefined
    ? PciModernTransport.open(device, options)
    : LegacyAdminTransport.open(device, legacy, options);
}
