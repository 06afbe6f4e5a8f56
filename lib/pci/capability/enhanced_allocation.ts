/**
 * Enhanced Allocation, ID 0x14 (PCIe 6.0 §7.8.5): fixed resources that take the place of BARs, as found on
 * system-on-chip functions.
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import { type CapabilityWindow, WindowOverrun } from "./window.ts";

/** One fixed resource. */
export interface EnhancedAllocationEntry {
  /** Bytes that the entry occupies, its first dword included. */
  readonly lengthBytes: number;
  /** Which BAR the entry stands for: 0 … 5 BARs, 6 behind a bridge, 7 none, 8 ROM, 9 … 14 VF BARs, 15 reserved. */
  readonly barEquivalent: number;
  /** Primary Properties code; 0 memory, 1 prefetchable memory, 2 I/O, 3 and 4 the same for VFs … */
  readonly primaryProperties: number;
  /** Secondary Properties code, for software that does not know the primary; 0xff when there is none. */
  readonly secondaryProperties: number;
  /** The resource may be moved. */
  readonly writable: boolean;
  /** The entry is in use. */
  readonly enabled: boolean;
  /** First address. */
  readonly base: bigint;
  /** Last byte of the resource, relative to `base`. */
  readonly maxOffset: bigint;
  /** Bits of the base's field. */
  readonly baseBits: 32 | 64;
  /** Bits of the maximum offset's field. */
  readonly maxOffsetBits: 32 | 64;
}

/** What an Enhanced Allocation capability holds. */
export interface EnhancedAllocations {
  /** Bridges only: the fixed secondary and subordinate bus numbers. */
  readonly fixedBuses?: { readonly secondary: number; readonly subordinate: number };
  /** The entries. */
  readonly entries: readonly EnhancedAllocationEntry[];
}

/** Enhanced Allocation. The length includes the entries. */
export const ENHANCED_ALLOCATION = {
  list: "standard",
  id: 0x14,
  kind: "enhanced-allocation",
  title: "Enhanced Allocation (EA)",
  lengthBytes: (window: CapabilityWindow): number =>
    decodeEntries(window).reduce((sum, entry) => sum + entry.lengthBytes, entriesOffset(window)),
  registers: {},
  derive: (window: CapabilityWindow): EnhancedAllocations => ({
    ...(isBridge(window)
      ? { fixedBuses: { secondary: window.read(4, 1), subordinate: window.read(5, 1) } }
      : {}),
    entries: decodeEntries(window),
  }),
} as const satisfies CapabilityDeclaration;

function isBridge(window: CapabilityWindow): boolean {
  return window.headerType === 1;
}

/** A bridge has its bus numbers in front of the entries. */
function entriesOffset(window: CapabilityWindow): number {
  return isBridge(window) ? 8 : 4;
}

function decodeEntries(window: CapabilityWindow): EnhancedAllocationEntry[] {
  const count = window.read(2, 1) & 0x3f, entries: EnhancedAllocationEntry[] = [];
  let at = entriesOffset(window);
  // The bus numbers must be there even when no entry follows.
  if (isBridge(window)) window.require(6);
  for (let i = 0; i < count; i++) {
    const entry = decodeEntry(window, at);
    entries.push(entry);
    at += entry.lengthBytes;
  }
  return entries;
}

function decodeEntry(window: CapabilityWindow, at: number): EnhancedAllocationEntry {
  const first = window.read(at, 4);
  // Entry Size counts the dwords after the first one.
  const lengthBytes = ((first & 7) + 1) * 4;
  let base = window.read(at + 4, 4), maxOffset = window.read(at + 8, 4);
  // Bit 1 of each field says that its upper half follows, the base's before the offset's.
  let upper = at + 12;
  const baseBits = base & 2 ? 64 : 32, maxOffsetBits = maxOffset & 2 ? 64 : 32;
  const baseHigh = base & 2 ? window.read((upper += 4) - 4, 4) : 0;
  const maxOffsetHigh = maxOffset & 2 ? window.read((upper += 4) - 4, 4) : 0;
  if (upper - at > lengthBytes) throw new WindowOverrun(upper - at, lengthBytes);
  base = (base & ~3) >>> 0;
  maxOffset = (maxOffset | 3) >>> 0;
  return {
    lengthBytes,
    barEquivalent: (first >>> 4) & 0xf,
    primaryProperties: (first >>> 8) & 0xff,
    secondaryProperties: (first >>> 16) & 0xff,
    writable: (first & 0x40000000) !== 0,
    enabled: first >>> 31 === 1,
    base: (BigInt(baseHigh) << 32n) | BigInt(base),
    maxOffset: (BigInt(maxOffsetHigh) << 32n) | BigInt(maxOffset),
    baseBits,
    maxOffsetBits,
  };
}
