/**
 * A base address register as `lspci` prints it.
 *
 * @module
 */

import type { BaseAddress } from "../base_address.ts";
import { hex } from "../hex.ts";
import { sizeText } from "./text.ts";

/** What the text depends on besides the register. */
export interface BaseAddressFormatOptions {
  /** The function decodes this kind of region (I/O or Memory Space Enable). */
  readonly enabled: boolean;
  /** Least number of digits of the address, also of address 0. Default: as many as it has, 0 as `<unassigned>`. */
  readonly addressDigits?: number;
}

/** `Region 0: Memory at febd6000 (32-bit, non-prefetchable) [size=4K]` */
export function formatBaseAddress(bar: BaseAddress, options: BaseAddressFormatOptions): string {
  const digits = bar.space === "io" ? Math.max(4, options.addressDigits ?? 0) : options.addressDigits ?? 1;
  const isUnassigned = bar.address === 0n && options.addressDigits === undefined;
  const address = isUnassigned ? "<unassigned>" : hex(bar.address, digits);
  const width = bar.reservedType ? "type 3" : bar.addressBits === 20 ? "low-1M" : `${bar.addressBits}-bit`;
  const kind = bar.space === "io"
    ? `I/O ports at ${address}`
    : `Memory at ${address} (${width}, ${bar.prefetchable ? "" : "non-"}prefetchable)`;
  const disabled = options.enabled ? "" : " [disabled]";
  const size = bar.sizeBytes === 0 ? "" : ` [size=${sizeText(bar.sizeBytes)}]`;
  return `Region ${bar.index}: ${kind}${disabled}${size}`;
}
