/**
 * Where a message goes that a device sends: to the interrupt controller, which raises a vector, or into its driver's memory.
 *
 * @module
 */
import { VECTOR_MESSAGE_ADDRESS } from "../../../vfio/msi_addresses.ts";
import { DmaFault, type DmaTable } from "../../../sockets/dma_table.ts";
import type { MsiMessage } from "./entry.ts";

/** What a message can reach. */
export interface MsiTarget {
  /** Vectors that the driver can receive. */
  readonly vectors: number;
  /** The interrupt controller got a message for this vector, which there is. */
  raise(vector: number): void;
  /** The driver's memory; null without a driver. */
  readonly dma: DmaTable | null;
}

/**
 * Sends a message.
 * @param rule of the numbers that can be written to the interrupt controller
 * @returns what was wrong with it, and by which rule; undefined when it arrived
 */
export function deliverMsi(
  { address, data }: MsiMessage,
  target: MsiTarget,
  rule: string,
): { readonly rule: string; readonly problem: string } | undefined {
  const { vectors, dma } = target;
  if (address === VECTOR_MESSAGE_ADDRESS) {
    if (data >= vectors) return { rule, problem: `MSI data ${data}: the function uses ${vectors} vectors` };
    target.raise(data);
    return undefined;
  }
  if (dma === null) return undefined;
  try {
    const { region, offset } = dma.resolve(address, 4, true);
    // In one piece, for a driver that polls it: both are multiples of 4, since mappings are of pages.
    Atomics.store(region.words32, offset / 4, data);
    region.store(offset, 4);
    return undefined;
  } catch (error) {
    if (!(error instanceof DmaFault)) throw error;
    return { rule: "DMA", problem: `MSI address 0x${address.toString(16)}: ${error.message}` };
  }
}
