/**
 * Resizable BAR, extended ID 0x0015, and VF Resizable BAR, ID 0x0024 (PCIe 6.0 §7.8.6 and §7.8.7).
 *
 * @module
 */

import type { CapabilityDeclaration } from "./declaration.ts";
import { type CapabilityWindow, WindowOverrun } from "./window.ts";

/** One BAR whose size can be chosen. */
export interface ResizableBar {
  /** BAR index. */
  readonly bar: number;
  /** Size in effect, in bytes. For a VF BAR, that of one VF. */
  readonly sizeBytes: number;
  /** Sizes that can be chosen, in bytes, ascending. Each is a power of two from 1 MiB up. */
  readonly supportedBytes: readonly number[];
}

/** What a Resizable BAR capability holds. */
export interface ResizableBars {
  /** Whether it is about the VF BARs of the PF. */
  readonly isForVfs: boolean;
  /** The BARs. */
  readonly bars: readonly ResizableBar[];
}

/** Resizable BAR. */
export const RESIZABLE_BAR = {
  list: "extended",
  id: 0x0015,
  kind: "resizable-bar",
  title: "Physical Resizable BAR",
  lengthBytes: (window: CapabilityWindow): number => {
    const count = barCount(window);
    if (count === 0 || count > 6) throw new WindowOverrun(4 + 8 * Math.max(count, 1), 4 + 8 * 6);
    return 4 + 8 * count;
  },
  registers: {},
  derive: (window: CapabilityWindow): ResizableBars => ({
    isForVfs: window.header.id === VF_RESIZABLE_BAR.id,
    bars: Array.from({ length: barCount(window) }, (_, i) => {
      const capability = window.read(4 + 8 * i, 4), control = window.read(8 + 8 * i, 4);
      return {
        bar: control & 7,
        sizeBytes: 2 ** (20 + ((control >>> 8) & 0x3f)),
        supportedBytes: supportedSizes(capability, control),
      };
    }),
  }),
} as const satisfies CapabilityDeclaration;

/** VF Resizable BAR: the same for the VF BARs of a PF. */
export const VF_RESIZABLE_BAR = {
  ...RESIZABLE_BAR,
  id: 0x0024,
  title: "VF Resizable BAR",
  heading: "Virtual Resizable BAR",
} as const satisfies CapabilityDeclaration;

/** Only the first control register holds the count. */
function barCount(window: CapabilityWindow): number {
  return (window.read(8, 4) >>> 5) & 7;
}

/** Bits 31:4 of the capability stand for 2^20 … 2^47 bytes, bits 31:16 of the control for 2^48 … 2^63. */
function supportedSizes(capability: number, control: number): number[] {
  const sizes: number[] = [];
  for (let bit = 4; bit < 32; bit++) if ((capability >>> bit) & 1) sizes.push(2 ** (bit + 16));
  for (let bit = 16; bit < 32; bit++) if ((control >>> bit) & 1) sizes.push(2 ** (bit + 32));
  return sizes;
}
