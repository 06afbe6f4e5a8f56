/**
 * Latency Tolerance Reporting, extended ID 0x0018 (PCIe 6.0 §7.8.2).
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** What the registers of Latency Tolerance Reporting say in nanoseconds. */
export interface LatencyLimits {
  /** Longest latency that the function may ask for, in nanoseconds, for accesses that are snooped. */
  readonly maxSnoopLatencyNs: number;
  /** The same for accesses that are not snooped. */
  readonly maxNoSnoopLatencyNs: number;
}

/** Latency Tolerance Reporting. */
export const LATENCY_TOLERANCE = {
  list: "extended",
  id: 0x0018,
  kind: "latency-tolerance",
  title: "Latency Tolerance Reporting",
  lengthBytes: 8,
  registers: {
    /** Max Snoop Latency: value and scale. */
    maxSnoopLatencyNs: {
      offset: 4,
      width: 2,
      access: "RW",
      text: "Max snoop latency: {maxSnoopLatencyNs}ns",
    },
    /** Max No-Snoop Latency: value and scale. */
    maxNoSnoopLatencyNs: {
      offset: 6,
      width: 2,
      access: "RW",
      text: "Max no snoop latency: {maxNoSnoopLatencyNs}ns",
    },
  },
  derive: (window: CapabilityWindow): LatencyLimits => {
    const { maxSnoopLatencyNs, maxNoSnoopLatencyNs } = window.registers(LATENCY_TOLERANCE.registers);
    return {
      maxSnoopLatencyNs: ltrNanoseconds(maxSnoopLatencyNs),
      maxNoSnoopLatencyNs: ltrNanoseconds(maxNoSnoopLatencyNs),
    };
  },
} as const satisfies CapabilityDeclaration;

/** Latency in nanoseconds of an LTR value (bits 9:0) and scale (bits 12:10); scales 6 and 7 are not permitted. */
function ltrNanoseconds(raw: number): number {
  return (raw & 0x3ff) * 32 ** ((raw >>> 10) & 7);
}
