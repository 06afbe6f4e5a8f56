/**
 * Vendor-specific capability, ID 0x09 (PCIe 6.0 §7.9.4): a length, and whatever the vendor likes. Red Hat's, which
 * describe virtio structures, are decoded further in `virtio.ts`.
 *
 * @module
 */

import { decodeVirtio, VIRTIO_VENDOR_ID, type VirtioCapability } from "./virtio.ts";
import { type CapabilityHeader, type CapabilityWindow, WindowOverrun } from "./window.ts";

/** Decoded vendor-specific capability that is not virtio's. */
export interface VendorSpecificCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "vendor-specific";
  /** Length as the capability states it, header included. */
  readonly lengthBytes: number;
  /** Everything after the three header bytes. */
  readonly data: Uint8Array;
}

/** Decodes a vendor-specific capability, as virtio's when the function has virtio's vendor ID. */
export function decodeVendorSpecific(window: CapabilityWindow): VendorSpecificCapability | VirtioCapability {
  const lengthBytes = window.read8(2);
  // The length counts the header; some old devices leave it 0 and mean "header only".
  window.require(Math.max(lengthBytes, 3));
  if (window.vendorId === VIRTIO_VENDOR_ID) {
    const virtio = decodeVirtio(window, lengthBytes);
    if (virtio !== undefined) return virtio;
    throw new WindowOverrun(16, lengthBytes);
  }
  return {
    ...window.header,
    kind: "vendor-specific",
    lengthBytes,
    data: window.copy(3, Math.max(lengthBytes - 3, 0)),
  };
}
