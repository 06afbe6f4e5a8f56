/**
 * virtio-blk in an emulated host.
 *
 * @module
 */
import * as v from "valibot";
import { UsageError } from "../../../errors/mod.ts";
import { BLK_CONFIG, BLK_DEVICE, BLK_FEATURE, BLK_SECTOR_BYTES } from "../../../virtio/spec/blk.ts";
import type { DeviceKind } from "../../device_kind.ts";
import { flag, not, powerOfTwo, text, TopologyError, which, whole } from "../../topology_fields.ts";
import { BLK_FAMILY } from "../lies/blk.ts";
import { type BlkFields, BlkModel } from "./model.ts";

/** Largest managed device: 1 GiB of memory, of which what was never written takes none. */
const MANAGED_SECTORS_MAX = BigInt(2 ** 30 / BLK_SECTOR_BYTES);

/** Its record. */
export const BLK_KIND: DeviceKind<BlkFields> = {
  name: "virtio-blk",
  type: BLK_DEVICE,
  fields: {
    file: v.optional(text(/^[^\0]+$/, "a path")),
    sizeBytes: v.optional(which(
      whole(BLK_SECTOR_BYTES, Number.MAX_SAFE_INTEGER),
      (bytes) => bytes % BLK_SECTOR_BYTES === 0,
      not(`a multiple of ${BLK_SECTOR_BYTES}`),
    )),
    readOnly: v.optional(flag),
    queues: v.optional(whole(1, 64)),
    blockSize: v.optional(powerOfTwo(BLK_SECTOR_BYTES, 65536)),
    sizeMax: v.optional(whole(BLK_SECTOR_BYTES, 0x7fff_ffff)),
    segMax: v.optional(whole(1, 32766)),
    rangeSectors: v.optional(whole(1, 0xffff_ffff)),
    ranges: v.optional(whole(1, 256)),
    serial: v.optional(text(/^[\x20-\x7e]{0,20}$/, "ASCII of up to 20 characters")),
  },
  queueSize: powerOfTwo(2, 32768),
  admin: "legacy",
  lies: BLK_FAMILY,
  check(own, { at, totalVfs }) {
    if (own.file === undefined && own.sizeBytes === undefined) {
      throw new TopologyError(`${at}.file`, "a virtio-blk function needs a file, or sizeBytes of memory");
    }
    if (own.file !== undefined && totalVfs > 0) {
      throw new TopologyError(`${at}.totalVfs`, "VFs would all write to the same file");
    }
  },
  managed({ features, config, queues }) {
    const given = BLK_CONFIG.decode(config);
    if (given.capacity === 0n || given.capacity > MANAGED_SECTORS_MAX) {
      throw new UsageError(`a capacity of ${given.capacity} sectors: 1 to ${MANAGED_SECTORS_MAX} can be`);
    }
    // A field that belongs to a feature means nothing without it; 0 leaves it to the model.
    const field = (feature: bigint, value: number) =>
      (features & feature) !== 0n && value > 0 ? value : undefined;
    const { BLK_SIZE, DISCARD, MQ, RO, SEG_MAX, SIZE_MAX } = BLK_FEATURE;
    const own = {
      blockSize: field(BLK_SIZE, given.blk_size),
      sizeMax: field(SIZE_MAX, given.size_max),
      segMax: field(SEG_MAX, given.seg_max),
      rangeSectors: field(DISCARD, given.max_discard_sectors),
      ranges: field(DISCARD, given.max_discard_seg),
      queues: field(MQ, given.num_queues || queues),
    };
    return {
      sizeBytes: Number(given.capacity) * BLK_SECTOR_BYTES,
      readOnly: (features & RO) !== 0n,
      ...Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined)),
    };
  },
  devices: () => ({ model: (own, place) => new BlkModel({ ...own, ...place }) }),
};
