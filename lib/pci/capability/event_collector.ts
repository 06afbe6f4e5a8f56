/**
 * Root Complex Event Collector Endpoint Association, extended ID 0x0007 (PCIe 6.0 §7.9.10): whose errors and PMEs an event collector signals.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What an event collector is associated with. */
export interface EventCollectorFacts {
  /** Numbers of the devices on the collector's own bus. */
  readonly devices: readonly number[];
  /** Further buses, both ends inclusive. Version 1 of the structure does not say; none where `first` is above `last`. */
  readonly buses?: { readonly first: number; readonly last: number };
}

const WITH_BUSES_VERSION = 2;

/** Root Complex Event Collector Endpoint Association. */
export const EVENT_COLLECTOR = {
  list: "extended",
  id: 0x0007,
  kind: "event-collector",
  title: "Root Complex Event Collector Endpoint Association",
  lengthBytes: (window: CapabilityWindow): number => window.header.version >= WITH_BUSES_VERSION ? 12 : 8,
  registers: {
    /** Bit n: the integrated endpoint with device number n. */
    endpointBitmap: { offset: 4, width: 4 },
  },
  derive: (window: CapabilityWindow): EventCollectorFacts => {
    const bitmap = window.register(EVENT_COLLECTOR.registers.endpointBitmap);
    const devices = Array.from({ length: 32 }, (_, device) => device).filter((bit) => (bitmap >>> bit) & 1);
    if (window.header.version < WITH_BUSES_VERSION) return { devices };
    return { devices, buses: { first: window.read(9, 1), last: window.read(10, 1) } };
  },
} as const satisfies CapabilityDeclaration;
