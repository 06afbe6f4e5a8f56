/**
 * Page Request Interface, extended ID 0x0013 (PCIe 6.0 §10.5.2): the function asks for pages that are not present.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Page Request Interface. */
export const PAGE_REQUEST = {
  list: "extended",
  id: 0x0013,
  kind: "page-request",
  title: "Page Request Interface (PRI)",
  lengthBytes: 16,
  registers: {
    /** Page Request Control. */
    control: {
      offset: 4,
      width: 2,
      text: "PRICtl: Enable± Reset±",
      fields: {
        enable: { bits: 0, access: "RW", label: "Enable" },
        reset: { bits: 1, access: "RWZ", label: "Reset" },
      },
    },
    /** Page Request Status. */
    status: {
      offset: 6,
      width: 2,
      text: "PRISta: RF± UPRGI± Stopped±",
      fields: {
        responseFailure: { bits: 0, access: "RW1C", label: "RF" },
        unexpectedGroupIndex: { bits: 1, access: "RW1C", label: "UPRGI" },
        stopped: { bits: 8, access: "RO", label: "Stopped" },
        responsePasidRequired: { bits: 15, access: "RO", label: "PASID" },
      },
    },
    /** Outstanding requests that the function can have. */
    capacity: {
      offset: 8,
      width: 4,
      text: "Page Request Capacity: {capacity:8}, Page Request Allocation: {allocation:8}",
    },
    /** Outstanding requests that software allows. */
    allocation: { offset: 12, width: 4, access: "RW" },
  },
} as const satisfies CapabilityDeclaration;
