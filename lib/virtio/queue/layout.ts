/**
 * Where the parts of a ring lie in the one DMA memory that holds them (SPEC split virtqueues, packed virtqueues; reference 1.3, 1.4).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { legacyRingLayout } from "../spec/legacy.ts";
import { QUEUE_SIZE_MAX, splitRingBytes, VIRTQ_DESC } from "../spec/ring.ts";

/** Bytes of a descriptor, of either layout. */
export const DESCRIPTOR_BYTES: number = VIRTQ_DESC.sizeBytes;
/** Bytes of `struct pvirtq_event_suppress`. */
const EVENT_SUPPRESS_BYTES = 4;
// Driver-written and device-written parts in one cache line would bounce between two processors at every index.
const LINE_BYTES = 64;

/** Byte offsets from the start of the memory, and the sizes of the parts as the standard gives them. */
export interface RingLayout {
  /** Number of descriptors: any from 1 to 32768 in a packed ring, a power of two in a split one. */
  readonly size: number;
  /** Descriptor area: 16·Q bytes, aligned to 16 at least. */
  readonly descriptorOffset: number;
  /** Driver area. Split, the available ring: 6 + 2·Q bytes, aligned to 2 at least. Packed, the driver's event suppression: 4 bytes, aligned to 4. */
  readonly driverOffset: number;
  /** Device area. Split, the used ring: 6 + 8·Q bytes, aligned to 4 at least. Packed, the device's event suppression: 4 bytes, aligned to 4. */
  readonly deviceOffset: number;
  /** Indirect tables, `tableSegments` descriptors for each ring descriptor; meaningless when there are none. */
  readonly tablesOffset: number;
  /** Descriptors in each indirect table; 0 without indirect tables. */
  readonly tableSegments: number;
  /** All of it, in bytes. */
  readonly totalBytes: number;
}

/**
 * Lays a split ring out; each area starts on a cache line of its own.
 *
 * @param size number of descriptors @param tableSegments descriptors in each indirect table, 0 for none
 * @throws UsageError for a size that is no power of two up to 32768, or more table segments than the queue size
 */
export function splitLayout(size: number, tableSegments = 0): RingLayout {
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_MAX || (size & (size - 1)) !== 0) {
    throw new UsageError(`a split queue cannot have ${size} descriptors`, {
      hint: "the size is a power of two up to 32768",
    });
  }
  const { driverArea, deviceArea } = splitRingBytes(size);
  return onLines(size, driverArea, deviceArea, tableSegments);
}

/**
 * Lays a packed ring out; each area starts on a cache line of its own.
 *
 * @param size number of descriptors @param tableSegments descriptors in each indirect table, 0 for none
 * @throws UsageError for a size outside 1 … 32768, or more table segments than the queue size
 */
export function packedLayout(size: number, tableSegments = 0): RingLayout {
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_MAX) {
    throw new UsageError(`a packed queue cannot have ${size} descriptors`, {
      hint: `the size is a whole number from 1 to ${QUEUE_SIZE_MAX}`,
    });
  }
  return onLines(size, EVENT_SUPPRESS_BYTES, EVENT_SUPPRESS_BYTES, tableSegments);
}

/**
 * Lays a ring out as the legacy interface has it: one contiguous area of whole 4096-byte pages, of which the used ring begins one
 * (SPEC "Legacy Interfaces: A Note on Virtqueue Layout"; reference 2.3). The indirect tables, which may be anywhere, follow it.
 *
 * @param size as the device says, for it cannot be negotiated @param tableSegments as in `splitLayout`
 * @throws UsageError as `splitLayout`
 */
export function legacySplitLayout(size: number, tableSegments = 0): RingLayout {
  const { availableOffset, usedOffset, totalBytes } = legacyRingLayout(size);
  return withTables(size, availableOffset, usedOffset, totalBytes, tableSegments);
}

function onLines(size: number, driverBytes: number, deviceBytes: number, tableSegments: number): RingLayout {
  const driverOffset = align(size * DESCRIPTOR_BYTES);
  const deviceOffset = align(driverOffset + driverBytes);
  return withTables(size, driverOffset, deviceOffset, align(deviceOffset + deviceBytes), tableSegments);
}

function withTables(
  size: number,
  driverOffset: number,
  deviceOffset: number,
  tablesOffset: number,
  tableSegments: number,
): RingLayout {
  requireType(tableSegments, "number", "tableSegments");
  if (!Number.isInteger(tableSegments) || tableSegments < 0 || tableSegments > size) {
    throw new UsageError(`indirect tables of ${tableSegments} descriptors for a queue of ${size}`, {
      hint: "a chain is never longer than the queue size",
    });
  }
  const totalBytes = tablesOffset + size * tableSegments * DESCRIPTOR_BYTES;
  return { size, descriptorOffset: 0, driverOffset, deviceOffset, tablesOffset, tableSegments, totalBytes };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE_BYTES) * LINE_BYTES;
}
