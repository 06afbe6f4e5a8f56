/**
 * Debug Port, ID 0x0a (USB 2.0 Debug Device Specification; EHCI 1.0 appendix C): where a host controller has its debug port.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";

/** Debug Port. */
export const DEBUG_PORT = {
  list: "standard",
  id: 0x0a,
  kind: "debug-port",
  title: "Debug port",
  heading: "Debug port: BAR={place.bar} offset={place.offset:4}",
  lengthBytes: 4,
  registers: {
    /** Where the debug port's registers are. */
    place: {
      offset: 2,
      width: 2,
      fields: {
        /** Bytes from the start of the BAR. */
        offset: { bits: [12, 0], access: "RO" },
        /** One more than the BAR's index. */
        bar: { bits: [15, 13], access: "RO" },
      },
    },
  },
} as const satisfies CapabilityDeclaration;
