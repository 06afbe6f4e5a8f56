/**
 * Device 3, extended ID 0x002f (PCIe 6.1 §7.7.9): the third set of device registers.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Device 3. */
export const DEVICE_3 = {
  list: "extended",
  id: 0x002f,
  kind: "device-3",
  title: "Device 3",
  lengthBytes: 0x10,
  registers: {
    /** Device Capabilities 3. */
    capabilities: {
      offset: 4,
      width: 4,
      fields: {
        deferrableMemoryWrite: { bits: 0, access: "HwInit" },
        tag14BitCompleter: { bits: 1, access: "HwInit" },
        tag14BitRequester: { bits: 2, access: "HwInit" },
        l0p: { bits: 3, access: "HwInit", label: "L0p" },
        /** 0: less than 1 µs, 1: less than 2 µs, doubling up to 6; 7: more than 64 µs. */
        portL0pExitLatency: { bits: [6, 4], access: "HwInit" },
        /** As that of the port. */
        retimerL0pExitLatency: { bits: [9, 7], access: "HwInit" },
        uioCompleter: { bits: 10, access: "HwInit" },
        uioRequester: { bits: 11, access: "HwInit" },
      },
    },
    /** Device Control 3. */
    control: {
      offset: 8,
      width: 4,
      fields: {
        deferrableMemoryWriteRequester: { bits: 0, access: "RW" },
        deferrableMemoryWriteEgressBlocking: { bits: 1, access: "RW" },
        tag14BitRequester: { bits: 2, access: "RW" },
        l0p: { bits: 3, access: "RW", label: "L0p" },
        /** Width that L0p is to reach: 2^value lanes, 7 for any. */
        targetLinkWidth: { bits: [6, 4], access: "RW" },
        uioRequester: { bits: 7, access: "RW" },
        /** A UIO request may not cross 256 bytes while this is clear. */
        uio256BoundaryDisable: { bits: 8, access: "RW" },
      },
    },
    /** Device Status 3. */
    status: {
      offset: 0x0c,
      width: 4,
      fields: {
        /** 2^value lanes. */
        initialLinkWidth: { bits: [2, 0], access: "RO" },
        segmentCaptured: { bits: 3, access: "RW1C" },
        remoteL0p: { bits: 4, access: "RO" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
