/**
 * What managed devices of tests are created with.
 *
 * @module
 */
import { BLK_FEATURE } from "../../../lib/virtio/spec/blk.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import { NET_FEATURE } from "../../../lib/virtio/spec/net.ts";

/** The management function. */
export const MANAGEMENT = "0000:05:00.0";

/** What rings can do here. */
export const RINGS: bigint = FEATURE.VERSION_1 | FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC |
  FEATURE.RING_PACKED |
  FEATURE.IN_ORDER | FEATURE.RING_RESET;
const { MAC, STATUS, MRG_RXBUF, CTRL_VQ, CTRL_RX, CTRL_MAC_ADDR } = NET_FEATURE;
/** Of managed network devices. */
export const NET: bigint = RINGS | MAC | STATUS | MRG_RXBUF | CTRL_VQ | CTRL_RX | CTRL_MAC_ADDR;
/** Of managed block devices. */
export const BLK: bigint = RINGS | BLK_FEATURE.FLUSH;
