/**
 * Page Request Interface, extended ID 0x0013 (PCIe 6.0 §10.5.2): the function asks for pages that are not present.
 *
 * @module
 */

import type { RegisterValue } from "../../registers/declaration.ts";
import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const PAGE_REQUEST_BYTES = 16;

/** Page Request Control, offset 4. */
export const PAGE_REQUEST_CONTROL = {
  name: "Page Request Control",
  offset: 4,
  width: 2,
  fields: {
    enable: { bits: 0, access: "RW", label: "Enable" },
    reset: { bits: 1, access: "RWZ", label: "Reset" },
  },
} as const;

/** Page Request Status, offset 6. */
export const PAGE_REQUEST_STATUS = {
  name: "Page Request Status",
  offset: 6,
  width: 2,
  fields: {
    responseFailure: { bits: 0, access: "RW1C", label: "RF" },
    unexpectedGroupIndex: { bits: 1, access: "RW1C", label: "UPRGI" },
    stopped: { bits: 8, access: "RO", label: "Stopped" },
    responsePasidRequired: { bits: 15, access: "RO", label: "PASID" },
  },
} as const;

/** Decoded PRI capability. */
export interface PageRequestCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "page-request";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Control. */
  readonly control: RegisterValue<typeof PAGE_REQUEST_CONTROL>;
  /** Status. */
  readonly status: RegisterValue<typeof PAGE_REQUEST_STATUS>;
  /** Outstanding requests that the function can have. */
  readonly capacity: number;
  /** Outstanding requests that software allows. */
  readonly allocation: number;
}

/** Decodes a PRI capability. */
export function decodePageRequest(window: CapabilityWindow): PageRequestCapability {
  window.require(PAGE_REQUEST_BYTES);
  return {
    ...window.header,
    kind: "page-request",
    lengthBytes: PAGE_REQUEST_BYTES,
    control: window.register(PAGE_REQUEST_CONTROL),
    status: window.register(PAGE_REQUEST_STATUS),
    capacity: window.read32(8),
    allocation: window.read32(12),
  };
}
