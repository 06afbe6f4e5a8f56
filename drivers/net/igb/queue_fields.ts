/**
 * Fields of the 82576's queue registers, which PF and VF have at different places.
 *
 * @module
 */
import type { RegisterTable } from "../../../lib/registers/declaration.ts";

type Fields = NonNullable<RegisterTable[string]["fields"]>;

/** SRRCTL: how a receive queue splits and drops. */
export const SRRCTL_FIELDS = {
  BSIZEPACKET: { bits: [6, 0], access: "RW" },
  BSIZEHEADER: { bits: [11, 8], access: "RW" },
  DESCTYPE: { bits: [27, 25], access: "RW", values: { legacy: 0, one_buffer: 1, header_split: 2 } },
  DROP_EN: { bits: 31, access: "RW" },
} as const satisfies Fields;

/** RXDCTL and TXDCTL: thresholds, and whether the queue works. */
export const DCTL_FIELDS = {
  PTHRESH: { bits: [4, 0], access: "RW" },
  HTHRESH: { bits: [12, 8], access: "RW" },
  WTHRESH: { bits: [20, 16], access: "RW" },
  ENABLE: { bits: 25, access: "RW" },
  SWFLSH: { bits: 26, access: "RW" },
} as const satisfies Fields;
