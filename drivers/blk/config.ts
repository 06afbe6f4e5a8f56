/**
 * The block device's config space, read with its generation.
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import { BLK_CONFIG, BLK_FEATURE, BLK_SECTOR_BYTES } from "../../lib/virtio/spec/blk.ts";
import { checkField, readField } from "../config_field.ts";
import type { VirtioDevice } from "../../lib/virtio/device.ts";

/** Limits of one kind of range request. */
export interface RangeLimits {
  /** Most sectors of one segment. */
  readonly sectors: number;
  /** Most segments of one request. */
  readonly segments: number;
  /** Where to split, in sectors; 1: anywhere. */
  readonly alignment: number;
}

/** What the device says of itself; fields whose feature was not negotiated have the value that the standard implies. */
export interface BlkConfig {
  /** Sectors of 512 bytes. */
  readonly capacitySectors: number;
  /** Most bytes of one data segment; Infinity without SIZE_MAX. */
  readonly sizeMax: number;
  /** Most data segments of one request; Infinity without SEG_MAX. */
  readonly segMax: number;
  /** Bytes of a logical block; 512 without BLK_SIZE. A wish: requests count in sectors of 512. */
  readonly blockBytes: number;
  /** Undefined without GEOMETRY. */
  readonly geometry:
    | { readonly cylinders: number; readonly heads: number; readonly sectors: number }
    | undefined;
  /** In bytes; undefined without TOPOLOGY. */
  readonly topology: {
    readonly physicalBlockBytes: number;
    readonly firstAlignedBytes: number;
    readonly minimumBytes: number;
    readonly optimalBytes: number;
  } | undefined;
  /** Request queues; 1 without MQ. */
  readonly queues: number;
  /** Undefined without DISCARD. */
  readonly discard: RangeLimits | undefined;
  /** Undefined without WRITE_ZEROES. */
  readonly writeZeroes: RangeLimits & { readonly mayUnmap: boolean } | undefined;
}

const U32_MAX = 0xffff_ffff;

/** Reads all fields that the negotiated features give a meaning. @throws DeviceError for values that cannot be */
export function readBlkConfig(device: VirtioDevice): BlkConfig {
  const { BLK_SIZE, SIZE_MAX, SEG_MAX, GEOMETRY, TOPOLOGY, MQ, DISCARD, WRITE_ZEROES } = BLK_FEATURE;
  const read = (field: keyof typeof BLK_CONFIG.fields) => readField(device, BLK_CONFIG.fields, field);
  return device.readConsistent((): BlkConfig => {
    const blockBytes = device.has(BLK_SIZE) ? read("blk_size") : BLK_SECTOR_BYTES;
    const power = blockBytes >= BLK_SECTOR_BYTES && (blockBytes & (blockBytes - 1)) === 0;
    if (!power) throw bad(device, "blk_size", `${blockBytes} is not a power of two from 512 on`);
    const queues = device.has(MQ) ? read("num_queues") : 1;
    if (queues === 0) throw bad(device, "num_queues", "0: there is always one");
    // The QEMU storage daemon offers SIZE_MAX and leaves 0 there.
    const sizeMax = (device.has(SIZE_MAX) ? read("size_max") : 0) || Infinity;
    const unit = blockBytes;
    return {
      capacitySectors: readCapacity(device),
      sizeMax,
      // Some devices say 0 and mean that one is enough.
      segMax: device.has(SEG_MAX) ? Math.max(read("seg_max"), 1) : Infinity,
      blockBytes,
      geometry: device.has(GEOMETRY)
        ? {
          cylinders: read("geometry_cylinders"),
          heads: read("geometry_heads"),
          sectors: read("geometry_sectors"),
        }
        : undefined,
      topology: device.has(TOPOLOGY)
        ? {
          physicalBlockBytes: unit * 2 ** Math.min(read("physical_block_exp"), 31),
          firstAlignedBytes: unit * read("alignment_offset"),
          minimumBytes: unit * read("min_io_size"),
          optimalBytes: unit * read("opt_io_size"),
        }
        : undefined,
      queues,
      // A maximum of 0 says nothing, in devices that there are: then it is one segment, of any size.
      discard: device.has(DISCARD)
        ? {
          sectors: read("max_discard_sectors") || U32_MAX,
          segments: read("max_discard_seg") || 1,
          alignment: read("discard_sector_alignment") || 1,
        }
        : undefined,
      writeZeroes: device.has(WRITE_ZEROES)
        ? {
          sectors: read("max_write_zeroes_sectors") || U32_MAX,
          segments: read("max_write_zeroes_seg") || 1,
          alignment: 1,
          mayUnmap: read("write_zeroes_may_unmap") !== 0,
        }
        : undefined,
    };
  });
}

/** Capacity alone, for config changes. The caller reads it within `readConsistent`. @throws DeviceError */
export function readCapacity(device: VirtioDevice): number {
  const { offset } = BLK_CONFIG.fields.capacity;
  checkField(device, "capacity", offset + 8);
  const capacity = device.readConfig(offset, 4) + 4294967296 * device.readConfig(offset + 4, 4);
  if (Number.isSafeInteger(capacity * BLK_SECTOR_BYTES)) return capacity;
  throw bad(device, "capacity", `${capacity} sectors are more than 2^53 bytes`);
}

function bad(device: VirtioDevice, field: string, message: string): DeviceError {
  return new DeviceError(message, { function: device.transport.name, field });
}
