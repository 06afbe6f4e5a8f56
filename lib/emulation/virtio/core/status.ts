/**
 * What a driver may write into `device_status` (virtio 1.2 §2.1.1, §3.1.1; reference 1.1).
 *
 * @module
 */
import { STATUS } from "../../../virtio/spec/status.ts";

/** Bits of `device_status` that this device knows: SUSPEND needs a feature that it does not offer. */
export const STATUS_KNOWN: number = STATUS.acknowledge | STATUS.driver | STATUS.driverOk | STATUS.featuresOk |
  STATUS.deviceNeedsReset | STATUS.failed;

/** Outcome of a write that is not a reset. */
export interface StatusStep {
  /** Status that the write leads to, before the device had its say about features. */
  readonly status: number;
  /** What was wrong with it; the offending bits are not in `status`. */
  readonly problems: readonly string[];
}

/** Bits that legacy drivers know: there was no FEATURES_OK. */
const KNOWN_LEGACY = STATUS_KNOWN & ~STATUS.featuresOk;

/**
 * Judges a write of `value` ≠ 0 while the status is `before`.
 * ACKNOWLEDGE and DRIVER may come in one write (firmware does so); FEATURES_OK and DRIVER_OK may not, since the driver must read
 * FEATURES_OK back in between. On the legacy interface there is no FEATURES_OK (§3.1.2).
 */
export function stepStatus(before: number, value: number, legacy = false): StatusStep {
  const problems: string[] = [];
  const known = legacy ? KNOWN_LEGACY : STATUS_KNOWN;
  const unknown = value & ~known;
  if (unknown !== 0) problems.push(`bits 0x${unknown.toString(16)} have no meaning for this device`);
  const cleared = before & ~value & ~STATUS.deviceNeedsReset;
  if (cleared !== 0) problems.push(`bits 0x${cleared.toString(16)} were cleared without a reset`);
  if ((value & ~before & STATUS.deviceNeedsReset) !== 0) {
    problems.push("DEVICE_NEEDS_RESET is the device's to set");
  }

  let added = value & ~before & known & ~STATUS.deviceNeedsReset;
  if ((added & STATUS.driver) !== 0 && ((before | added) & STATUS.acknowledge) === 0) {
    problems.push("DRIVER was set before ACKNOWLEDGE");
    added &= ~STATUS.driver;
  }
  if ((added & STATUS.featuresOk) !== 0 && ((before | added) & STATUS.driver) === 0) {
    problems.push("FEATURES_OK was set before DRIVER");
    added &= ~STATUS.featuresOk;
  }
  const ready = legacy ? ((before | added) & STATUS.driver) !== 0 : (before & STATUS.featuresOk) !== 0;
  if ((added & STATUS.driverOk) !== 0 && !ready) {
    problems.push(`DRIVER_OK was set before ${legacy ? "DRIVER" : "FEATURES_OK was read back"}`);
    added &= ~STATUS.driverOk;
  }
  return { status: before | added, problems };
}
