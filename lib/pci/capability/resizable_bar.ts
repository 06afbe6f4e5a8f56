/**
 * Resizable BAR, extended ID 0x0015, and VF Resizable BAR, ID 0x0024 (PCIe 6.0 §7.8.6 and §7.8.7).
 *
 * @module
 */

import { type CapabilityHeader, type CapabilityWindow, WindowOverrun } from "./window.ts";

/** One BAR whose size can be chosen. */
export interface ResizableBar {
  /** BAR index. */
  readonly bar: number;
  /** Size in effect, in bytes. For a VF BAR, that of one VF. */
  readonly sizeBytes: number;
  /** Sizes that can be chosen, in bytes, ascending. Each is a power of two from 1 MiB up. */
  readonly supportedBytes: readonly number[];
}

/** Decoded Resizable BAR capability. */
export interface ResizableBarCapability extends CapabilityHeader {
  /** Discriminator. */
  readonly kind: "resizable-bar";
  /** Bytes that the structure occupies. */
  readonly lengthBytes: number;
  /** Whether it is about the VF BARs of the PF. */
  readonly isForVfs: boolean;
  /** The BARs. */
  readonly bars: readonly ResizableBar[];
}

/** Decodes either of the two Resizable BAR capabilities. */
export function decodeResizableBar(window: CapabilityWindow, isForVfs: boolean): ResizableBarCapability {
  // Only the first control register holds the count.
  const count = (window.read32(8) >>> 5) & 7;
  if (count === 0 || count > 6) throw new WindowOverrun(4 + 8 * Math.max(count, 1), 4 + 8 * 6);
  const lengthBytes = 4 + 8 * count;
  window.require(lengthBytes);
  return {
    ...window.header,
    kind: "resizable-bar",
    lengthBytes,
    isForVfs,
    bars: Array.from({ length: count }, (_, i) => {
      const capability = window.read32(4 + 8 * i), control = window.read32(8 + 8 * i);
      return {
        bar: control & 7,
        sizeBytes: 2 ** (20 + ((control >>> 8) & 0x3f)),
        supportedBytes: supportedSizes(capability, control),
      };
    }),
  };
}

/** Bits 31:4 of the capability stand for 2^20 … 2^47 bytes, bits 31:16 of the control for 2^48 … 2^63. */
function supportedSizes(capability: number, control: number): number[] {
  const sizes: number[] = [];
  for (let bit = 4; bit < 32; bit++) if ((capability >>> bit) & 1) sizes.push(2 ** (bit + 16));
  for (let bit = 16; bit < 32; bit++) if ((control >>> bit) & 1) sizes.push(2 ** (bit + 32));
  return sizes;
}
