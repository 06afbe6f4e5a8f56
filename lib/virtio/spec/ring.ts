/**
 * Layout of virtqueues in memory (virtio 1.2 §2.7, §2.8; reference 1.3, 1.4).
 *
 * @module
 */
import { Struct, u16, u32, u64 } from "../../wire/mod.ts";

/** `virtq_desc.flags` and `pvirtq_desc.flags`. */
export const DESC_FLAG = {
  next: 1,
  /** The device writes this element. */
  write: 2,
  /** The element is a table of descriptors. */
  indirect: 4,
  /** Packed ring only. */
  avail: 1 << 7,
  /** Packed ring only. */
  used: 1 << 15,
} as const;

/** `virtq_avail.flags`: the driver asks for no used buffer notifications. Ignored with EVENT_IDX. */
export const AVAIL_NO_INTERRUPT = 1;
/** `virtq_used.flags`: the device asks for no available buffer notifications. Ignored with EVENT_IDX. */
export const USED_NO_NOTIFY = 1;

/** Largest split or packed queue. */
export const QUEUE_SIZE_MAX = 32768;

/** `struct virtq_desc`, 16 bytes. `addr` is an IOVA, `len` in bytes. */
export const VIRTQ_DESC = new Struct("virtq_desc", 16, {
  addr: u64(0),
  len: u32(8),
  flags: u16(12),
  next: u16(14),
});

/** Flags of a packed ring's event suppression structures: bits 16–17 of their four bytes; 3 is reserved. */
export const EVENT_SUPPRESS = { enable: 0, disable: 1, descriptor: 2 } as const;

/** Alignment of the three areas of a packed ring, in bytes. */
export const PACKED_ALIGN = { descriptorArea: 16, driverArea: 4, deviceArea: 4 } as const;

/** Bytes of the three areas of a packed ring of `size` entries. */
export function packedRingBytes(
  size: number,
): { descriptorArea: number; driverArea: number; deviceArea: number } {
  return { descriptorArea: 16 * size, driverArea: 4, deviceArea: 4 };
}

/** Alignment of the three areas of a split ring, in bytes. */
export const SPLIT_ALIGN = { descriptorArea: 16, driverArea: 2, deviceArea: 4 } as const;

/** Bytes of the three areas of a split ring of `size` entries, with the event index fields. */
export function splitRingBytes(
  size: number,
): { descriptorArea: number; driverArea: number; deviceArea: number } {
  return { descriptorArea: 16 * size, driverArea: 6 + 2 * size, deviceArea: 6 + 8 * size };
}

/** Byte offsets inside the available ring (driver area). `used_event` exists with EVENT_IDX. */
export const AVAIL_OFFSET = { flags: 0, idx: 2, ring: 4 } as const;
/** Byte offsets inside the used ring (device area); an element is 8 bytes: `id`, `len`. `avail_event` exists with EVENT_IDX. */
export const USED_OFFSET = { flags: 0, idx: 2, ring: 4, elementBytes: 8 } as const;
