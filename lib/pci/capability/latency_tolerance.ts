/**
 * Latency Tolerance Reporting, extended ID 0x0018 (PCIe 6.0 §7.8.2).
 *
 * @module
 */

import type { CapabilityHeader, CapabilityWindow } from "./window.ts";

/** Size of the structure in bytes. */
export const LATENCY_TOLERANCE_BYTES = 8;

/** Decoded LTR capability. */
export interface LatencyToleranceCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "latency-tolerance";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Longest latency that the function may ask for, in nanoseconds, for accesses that are snooped. */
  readonly maxSnoopLatencyNs: number;
  /** The same for accesses that are not snooped. */
  readonly maxNoSnoopLatencyNs: number;
}

/** Latency in nanoseconds of an LTR value (bits 9:0) and scale (bits 12:10); scales 6 and 7 are not permitted. */
export function ltrNanoseconds(raw: number): number {
  return (raw & 0x3ff) * 32 ** ((raw >>> 10) & 7);
}

/** Decodes an LTR capability. */
export function decodeLatencyTolerance(window: CapabilityWindow): LatencyToleranceCapability {
  window.require(LATENCY_TOLERANCE_BYTES);
  return {
    ...window.header,
    kind: "latency-tolerance",
    lengthBytes: LATENCY_TOLERANCE_BYTES,
    maxSnoopLatencyNs: ltrNanoseconds(window.read16(4)),
    maxNoSnoopLatencyNs: ltrNanoseconds(window.read16(6)),
  };
}
