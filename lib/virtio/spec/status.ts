/**
 * Bits of `device_status` (virtio 1.2 §2.1; reference 1.1).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";

/** Bit values of `device_status`: 8 bits on PCI, 32 on MMIO. */
export const STATUS = {
  /** Writing 0 asks for a reset; reading 0 says that it is done. */
  reset: 0,
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  /** Only with VIRTIO_F_SUSPEND (bit 43). */
  suspend: 16,
  deviceNeedsReset: 64,
  failed: 128,
} as const;

const NAMES: readonly (readonly [number, string])[] = [
  [STATUS.acknowledge, "ACKNOWLEDGE"],
  [STATUS.driver, "DRIVER"],
  [STATUS.driverOk, "DRIVER_OK"],
  [STATUS.featuresOk, "FEATURES_OK"],
  [STATUS.suspend, "SUSPEND"],
  [STATUS.deviceNeedsReset, "DEVICE_NEEDS_RESET"],
  [STATUS.failed, "FAILED"],
];

/** Names of the set bits, lowest first; a bit that the standard does not define is `0x20`. Empty for 0. */
export function statusNames(status: number): string[] {
  requireType(status, "number", "statusNames: status");
  const names: string[] = [];
  for (let bit = 1; bit <= 0x80; bit <<= 1) {
    if ((status & bit) === 0) continue;
    names.push(NAMES.find(([value]) => value === bit)?.[1] ?? `0x${bit.toString(16)}`);
  }
  return names;
}

/** `ACKNOWLEDGE | DRIVER (0x3)`, for messages. */
export function describeStatus(status: number): string {
  requireType(status, "number", "describeStatus: status");
  const hex = `0x${status.toString(16)}`;
  return status === 0 ? `reset (${hex})` : `${statusNames(status).join(" | ")} (${hex})`;
}
