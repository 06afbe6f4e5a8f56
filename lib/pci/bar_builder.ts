/**
 * Base address registers of an emulated function, and the sizing protocol they answer (PCIe 6.0 §7.5.1.2.1).
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import type { ConfigSpaceImage } from "./config_writer.ts";

/** A BAR to be built. */
export interface BarShape {
  /** 0–5; a `mem64` BAR takes the next index too. */
  readonly index: number;
  /** A power of two, at least 16 (memory) or 4 (I/O). */
  readonly sizeBytes: number;
  /** Space and width. */
  readonly kind: "mem32" | "mem64" | "io";
  /** Reads have no side effects (memory only). */
  readonly prefetchable: boolean;
}

/** Largest size of a BAR with a 32-bit address: one bit has to be left to write. */
const LARGEST_32_BIT = 2 ** 31;
/** Largest I/O region that PCI lets a function ask for. */
const LARGEST_IO = 256;

/**
 * Writes BARs and their masks into an image.
 *
 * @param firstOffset byte offset of BAR 0: 0x10, or that of VF BAR 0
 * @throws {UsageError} when a size, an index or a combination is not possible
 */
export function buildBars(
  image: ConfigSpaceImage,
  firstOffset: number,
  bars: readonly BarShape[],
): void {
  const taken = new Set<number>();
  for (const bar of bars) {
    const problem = problemOf(bar, taken);
    if (problem !== undefined) throw new UsageError(`BAR ${bar.index}: ${problem}`);
    taken.add(bar.index);
    const offset = firstOffset + 4 * bar.index;
    const lower = -bar.sizeBytes % 2 ** 32;
    if (bar.kind === "io") {
      image.set(offset, 4, 1);
      image.addMask(image.writeMask, offset, 4, lower & ~3);
      continue;
    }
    const is64 = bar.kind === "mem64";
    image.set(offset, 4, (is64 ? 4 : 0) | (bar.prefetchable ? 8 : 0));
    image.addMask(image.writeMask, offset, 4, lower & ~0xf);
    if (!is64) continue;
    taken.add(bar.index + 1);
    image.addMask(image.writeMask, offset + 4, 4, Number((-BigInt(bar.sizeBytes) >> 32n) & 0xffffffffn));
  }
}

function problemOf(bar: BarShape, taken: ReadonlySet<number>): string | undefined {
  const { index, sizeBytes, kind, prefetchable } = bar;
  const isIo = kind === "io", is64 = kind === "mem64";
  if (!Number.isInteger(index) || index < 0 || index > (is64 ? 4 : 5)) {
    return is64 ? "a 64-bit BAR takes two registers, so its index is 0 … 4" : "the index is 0 … 5";
  }
  if (taken.has(index) || (is64 && taken.has(index + 1))) return "its register belongs to another BAR";
  if (!Number.isSafeInteger(sizeBytes) || 2 ** Math.round(Math.log2(sizeBytes)) !== sizeBytes) {
    return `${sizeBytes} bytes is no power of two`;
  }
  if (isIo && prefetchable) return "an I/O BAR is not prefetchable";
  const smallest = isIo ? 4 : 16;
  const largest = isIo ? LARGEST_IO : is64 ? 2 ** 52 : LARGEST_32_BIT;
  if (sizeBytes < smallest || sizeBytes > largest) return `its size is ${smallest} … ${largest} bytes`;
  return undefined;
}
