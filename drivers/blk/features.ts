/**
 * Which features of a block device this driver accepts.
 *
 * @module
 */
import { BLK_FEATURE } from "../../lib/virtio/spec/blk.ts";
import type { FeatureWishes } from "../../lib/virtio/features.ts";

/** Wishes for `Session.negotiate`. LIFETIME, SECURE_ERASE and ZONED are not accepted: there are no calls for them. */
export const BLK_WISHES: FeatureWishes = {
  wanted: BLK_FEATURE.SIZE_MAX | BLK_FEATURE.SEG_MAX | BLK_FEATURE.GEOMETRY | BLK_FEATURE.RO |
    BLK_FEATURE.BLK_SIZE | BLK_FEATURE.FLUSH | BLK_FEATURE.TOPOLOGY | BLK_FEATURE.CONFIG_WCE |
    BLK_FEATURE.MQ |
    BLK_FEATURE.DISCARD | BLK_FEATURE.WRITE_ZEROES,
  // With CONFIG_WCE and without FLUSH a writeback cache could be switched on that nobody could empty.
  dependencies: [{ feature: BLK_FEATURE.CONFIG_WCE, anyOf: [BLK_FEATURE.FLUSH] }],
};
