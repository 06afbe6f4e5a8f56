/**
 * What a transitional virtio function looks like to a legacy driver (SPEC "Legacy Interfaces: A Note on PCI Device Discovery"; reference 2, 3.7).
 *
 * @module
 */
import { UnsupportedError } from "../../errors/mod.ts";
import { VIRTIO_TRANSITIONAL_IDS, VIRTIO_VENDOR_ID } from "../../pci/virtio_ids.ts";
import { deviceTypeName } from "../spec/device_types.ts";
import { LEGACY_CFG_BYTES } from "../spec/legacy.ts";
import { legacyConfigBytes } from "./legacy_config.ts";

/** Configuration space fields of a transitional function, and its BAR 0. */
export interface TransitionalIdentity {
  /** 0x1af4. */
  readonly vendorId: number;
  /** 0x1000 to 0x103f. */
  readonly deviceId: number;
  /** 0: what a legacy driver asks for. */
  readonly revisionId: number;
  /** 0x1af4. */
  readonly subsystemVendorId: number;
  /** The virtio device id. */
  readonly subsystemId: number;
  /** Bytes of the I/O BAR: a power of two with room for the common part, vectors included, and the device-specific one. */
  readonly bar0SizeBytes: number;
  /** What BAR 0 reads after all ones were written to it: the size, and bit 0 for I/O space. */
  readonly bar0SizeMask: number;
}

const IO_SPACE = 1;

/** What to show for a virtio device type. @throws UnsupportedError for a type without transitional id */
export function transitionalIdentity(virtioDeviceId: number): TransitionalIdentity {
  const deviceId = VIRTIO_TRANSITIONAL_IDS.get(virtioDeviceId);
  if (deviceId === undefined) {
    throw new UnsupportedError(`a ${deviceTypeName(virtioDeviceId)} has no transitional PCI device id`);
  }
  const bar0SizeBytes = legacyIoBarBytes(virtioDeviceId);
  return {
    vendorId: VIRTIO_VENDOR_ID,
    deviceId,
    revisionId: 0,
    subsystemVendorId: VIRTIO_VENDOR_ID,
    subsystemId: virtioDeviceId,
    bar0SizeBytes,
    bar0SizeMask: (~(bar0SizeBytes - 1) | IO_SPACE) >>> 0,
  };
}

/** Bytes of a device type's legacy I/O BAR. */
export function legacyIoBarBytes(virtioDeviceId: number): number {
  return 2 ** Math.ceil(Math.log2(LEGACY_CFG_BYTES.msix + legacyConfigBytes(virtioDeviceId)));
}
