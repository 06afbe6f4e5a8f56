/**
 * virtio-blk in an emulated host.
 *
 * @module
 */
import * as v from "valibot";
import { BLK_DEVICE, BLK_SECTOR_BYTES } from "../../../virtio/spec/blk.ts";
import type { DeviceKind } from "../../device_kind.ts";
import { flag, not, powerOfTwo, text, TopologyError, which, whole } from "../../topology_fields.ts";
import { BLK_FAMILY } from "../lies/blk.ts";
import { type BlkFields, BlkModel } from "./model.ts";

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
  devices: () => ({ model: (own, place) => new BlkModel({ ...own, ...place }) }),
};
