/**
 * Which IOVAs to use when the kernel does not say (before Linux 5.4 it reports no ranges): pure.
 *
 * @module
 */
import type { IovaRange } from "../memory/mod.ts";

/**
 * Windows that are never translated, whatever the IOMMU: the local APIC's interrupt window of x86, and the place where
 * Linux puts the doorbell page of Arm's SMMU.
 */
export const RESERVED_IOVA_WINDOWS: readonly IovaRange[] = [
  { start: 0x0800_0000n, last: 0x080f_ffffn },
  { start: 0xfee0_0000n, last: 0xfeef_ffffn },
];

/**
 * Last IOVA to use by default: 39 bits, the least that VT-d offers (three table levels); Arm's and AMD's IOMMUs offer
 * more.
 */
export const DEFAULT_LAST_IOVA = (1n << 39n) - 1n;

/** The space up to `last` without `reserved` (in any order, overlapping or not). */
export function defaultIovaRanges(
  reserved: readonly IovaRange[] = RESERVED_IOVA_WINDOWS,
  last: bigint = DEFAULT_LAST_IOVA,
): IovaRange[] {
  const ranges: IovaRange[] = [];
  let start = 0n;
  for (const hole of [...reserved].sort((a, b) => (a.start < b.start ? -1 : 1))) {
    if (hole.start > last) break;
    if (hole.start > start) ranges.push({ start, last: hole.start - 1n });
    if (hole.last >= start) start = hole.last + 1n;
  }
  if (start <= last) ranges.push({ start, last });
  return ranges;
}

/**
 * Decodes `/sys/kernel/iommu_groups/N/reserved_regions`: lines of first and last address and a kind. Ranges that the
 * kernel calls `direct-relaxable` may be used. Lines of another form are passed over.
 */
export function parseReservedRegions(text: string): IovaRange[] {
  const ranges: IovaRange[] = [];
  for (const line of text.split("\n")) {
    const match = /^(0x[0-9a-f]+) (0x[0-9a-f]+) (\S+)/i.exec(line.trim());
    if (match === null || match[3] === "direct-relaxable") continue;
    const [start, last] = [BigInt(match[1]!), BigInt(match[2]!)];
    if (start <= last) ranges.push({ start, last });
  }
  return ranges;
}
