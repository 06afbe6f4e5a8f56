/**
 * Block device (virtio 1.4 §5.2).
 *
 * @module
 */
import { Struct, u16, u32, u64, u8 } from "../../wire/mod.ts";
import { DEVICE_ID } from "./device_id.ts";
import type { DeviceType } from "./device_type.ts";
import { masks } from "./masks.ts";

/** Bit numbers of `VIRTIO_BLK_F_*`. */
export const BLK_FEATURE_BIT = {
  SIZE_MAX: 1,
  SEG_MAX: 2,
  GEOMETRY: 4,
  RO: 5,
  BLK_SIZE: 6,
  FLUSH: 9,
  TOPOLOGY: 10,
  CONFIG_WCE: 11,
  MQ: 12,
  DISCARD: 13,
  WRITE_ZEROES: 14,
  LIFETIME: 15,
  SECURE_ERASE: 16,
  ZONED: 17,
} as const;

/** Name of a feature of the block device, without its `VIRTIO_BLK_F_`. */
export type BlkFeatureName = keyof typeof BLK_FEATURE_BIT;

/** The same as masks: `BLK_FEATURE.FLUSH` is `1n << 9n`. */
export const BLK_FEATURE: Readonly<Record<BlkFeatureName, bigint>> = masks(BLK_FEATURE_BIT);

/** `struct virtio_blk_config`, 96 bytes with every field; the structures in it are laid out flat. */
export const BLK_CONFIG = new Struct("virtio_blk_config", 96, {
  /** In sectors of 512 bytes. */
  capacity: u64(0),
  /** With SIZE_MAX: most bytes of one data segment. */
  size_max: u32(8),
  /** With SEG_MAX: most data segments of one request. */
  seg_max: u32(12),
  geometry_cylinders: u16(16),
  geometry_heads: u8(18),
  geometry_sectors: u8(19),
  /** With BLK_SIZE: bytes of a logical block. */
  blk_size: u32(20),
  /** With TOPOLOGY: logical blocks of a physical one, as power of two. */
  physical_block_exp: u8(24),
  /** Logical block that is the first aligned one. */
  alignment_offset: u8(25),
  /** In logical blocks. */
  min_io_size: u16(26),
  /** In logical blocks. */
  opt_io_size: u32(28),
  /** With CONFIG_WCE: 0 writethrough, 1 writeback. The only writable field. */
  writeback: u8(32),
  unused0: u8(33),
  /** With MQ. */
  num_queues: u16(34),
  /** With DISCARD: most sectors of a segment, most segments of a request, and how to align them when splitting. */
  max_discard_sectors: u32(36),
  max_discard_seg: u32(40),
  discard_sector_alignment: u32(44),
  /** With WRITE_ZEROES. */
  max_write_zeroes_sectors: u32(48),
  max_write_zeroes_seg: u32(52),
  write_zeroes_may_unmap: u8(56),
  /** With SECURE_ERASE. */
  max_secure_erase_sectors: u32(60),
  max_secure_erase_seg: u32(64),
  secure_erase_sector_alignment: u32(68),
  /** With ZONED. */
  zone_sectors: u32(72),
  max_open_zones: u32(76),
  max_active_zones: u32(80),
  max_append_sectors: u32(84),
  write_granularity: u32(88),
  zone_model: u8(92),
});

/** The device-readable start of `struct virtio_blk_req`; data follows it, and the last device-writable byte is the status. */
export const BLK_REQUEST = new Struct("virtio_blk_req", 16, {
  type: u32(0),
  reserved: u32(4),
  /** For reads and writes; else 0. */
  sector: u64(8),
});

/** `struct virtio_blk_discard_write_zeroes`: one segment of a discard, write zeroes or secure erase request. */
export const BLK_RANGE = new Struct("virtio_blk_discard_write_zeroes", 16, {
  sector: u64(0),
  num_sectors: u32(8),
  /** Bit 0: unmap (write zeroes only); the rest is reserved. */
  flags: u32(12),
});

/** Bit of `virtio_blk_discard_write_zeroes.flags`. */
export const BLK_RANGE_UNMAP = 1;

/** `virtio_blk_req.type` of a device that is not zoned. */
export const BLK_TYPE = {
  in: 0,
  out: 1,
  flush: 4,
  getId: 8,
  getLifetime: 10,
  discard: 11,
  writeZeroes: 13,
  secureErase: 14,
} as const;

/** The status byte. */
export const BLK_STATUS = { ok: 0, ioErr: 1, unsupp: 2 } as const;

/** Bytes of a sector, whatever `blk_size` says. */
export const BLK_SECTOR_BYTES = 512;
/** Bytes of the request header. */
export const BLK_HEADER_BYTES = 16;
/** Bytes of one `BLK_RANGE`. */
export const BLK_RANGE_BYTES = 16;
/** Bytes that a GET_ID request is answered with; shorter ids end with NUL. */
export const BLK_ID_BYTES = 20;

const TYPE_NAMES: Readonly<Record<number, string>> = {
  [BLK_TYPE.in]: "read",
  [BLK_TYPE.out]: "write",
  [BLK_TYPE.flush]: "flush",
  [BLK_TYPE.getId]: "get id",
  [BLK_TYPE.getLifetime]: "get lifetime",
  [BLK_TYPE.discard]: "discard",
  [BLK_TYPE.writeZeroes]: "write zeroes",
  [BLK_TYPE.secureErase]: "secure erase",
};

/** A request type in words, for messages. */
export function blkTypeName(type: number): string {
  return TYPE_NAMES[type] ?? `request of type ${type}`;
}

/** The device type. */
export const BLK_DEVICE: DeviceType = {
  id: DEVICE_ID.block,
  prefix: "VIRTIO_BLK_F_",
  featureBits: BLK_FEATURE_BIT,
  config: BLK_CONFIG.fields,
  // Up to the fields of SECURE_ERASE (bit 16). Those of ZONED (17) follow, which legacy devices must not offer (§5.2.5.2).
  legacyConfigBytes: 72,
  optionalConfig: [
    ["SIZE_MAX", 8, 12],
    ["SEG_MAX", 12, 16],
    ["GEOMETRY", 16, 20],
    ["BLK_SIZE", 20, 24],
    ["TOPOLOGY", 24, 32],
    ["CONFIG_WCE", 32, 33],
    ["MQ", 34, 36],
    ["DISCARD", 36, 48],
    ["WRITE_ZEROES", 48, 57],
    ["SECURE_ERASE", 60, 72],
    ["ZONED", 72, 93],
  ],
};
