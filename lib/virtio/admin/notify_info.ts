/**
 * The result of LEGACY_NOTIFY_INFO (virtio 1.4 §2.12.1.2; reference 3.3, N-3.17).
 *
 * @module
 */
import { LEGACY_NOTIFY_ENTRIES, LEGACY_NOTIFY_FLAG, LEGACY_NOTIFY_INFO } from "../spec/admin.ts";
import type { LegacyNotifyArea } from "./legacy_access.ts";

/** Bytes of the result. */
export const NOTIFY_INFO_BYTES: number = LEGACY_NOTIFY_ENTRIES * LEGACY_NOTIFY_INFO.sizeBytes;

/**
 * Usable entries, in the device's order: four at most, none from the first with flags 0 on, no terminator needed. Entries with reserved
 * flags, a BAR other than 1 to 5 or an odd offset are left out (N-3.17). What is missing of `bytes` counts as zero.
 */
export function parseNotifyInfo(bytes: Uint8Array): LegacyNotifyArea[] {
  const areas: LegacyNotifyArea[] = [];
  for (let entry = 0; entry < LEGACY_NOTIFY_ENTRIES; entry++) {
    const at = entry * LEGACY_NOTIFY_INFO.sizeBytes;
    if (at + LEGACY_NOTIFY_INFO.sizeBytes > bytes.length) break;
    const { flags, bar, offset } = LEGACY_NOTIFY_INFO.decode(bytes, at);
    if (flags === LEGACY_NOTIFY_FLAG.end) break;
    if (flags !== LEGACY_NOTIFY_FLAG.owner && flags !== LEGACY_NOTIFY_FLAG.member) continue;
    if (bar < 1 || bar > 5) continue;
    // No BAR is as large as what a number cannot hold.
    if ((offset & 1n) !== 0n || offset > BigInt(Number.MAX_SAFE_INTEGER)) continue;
    areas.push({
      whose: flags === LEGACY_NOTIFY_FLAG.owner ? "owner" : "member",
      bar,
      offset: Number(offset),
    });
  }
  return areas;
}
