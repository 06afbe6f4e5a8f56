/**
 * What a function's text depends on besides its configuration space.
 *
 * @module
 */

import type { PciAddress } from "../address.ts";
import type { Capability, CapabilityOf } from "../capability/all.ts";
import type { ConfigSpace } from "../config_space.ts";
import type { PciNames } from "../ids.ts";

/** What only the operating system knows about a function. */
export interface HostFacts {
  /** IRQ number of the INTx wire; the interrupt line register stands in when absent. */
  readonly irq?: number;
  /** IOMMU group number. */
  readonly iommuGroup?: number;
  /** NUMA node number. */
  readonly numaNode?: number;
  /** Driver that the function is bound to. */
  readonly driver?: string;
}

/** What a function's text needs besides its configuration space. All of it is optional. */
export interface FormatOptions {
  /** Address, for the first line. The domain is left out when it is 0, as `lspci` does. */
  readonly address?: PciAddress;
  /** Names. Default: the built-in table. */
  readonly names?: PciNames;
  /** Size of each BAR in bytes, by index. */
  readonly barSizes?: readonly (number | undefined)[];
  /** Size of the expansion ROM in bytes. */
  readonly romBytes?: number;
  /** Size of each VF BAR (one VF's share) in bytes, by index. */
  readonly vfBarSizes?: readonly (number | undefined)[];
  /** What the operating system knows. */
  readonly host?: HostFacts;
}

/** What a capability's text needs besides the capability. */
export interface FormatContext {
  /** The function. */
  readonly config: ConfigSpace;
  /** All its capabilities. */
  readonly capabilities: readonly Capability[];
  /** Names of vendors and devices. */
  readonly names: PciNames;
  /** What the caller knows. */
  readonly options: FormatOptions;
}

/** Lines of a capability by its kind: the title first, the details after it. A kind that is left out prints as its declaration says. */
export type CapabilityFormats = {
  readonly [K in Capability["kind"]]?: (capability: CapabilityOf<K>, context: FormatContext) => string[];
};
