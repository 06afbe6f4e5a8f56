/**
 * Where the parts of a split ring lie in the one DMA memory that holds them (SPEC split virtqueues; reference 1.3).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { legacyRingLayout } from "../constants/legacy.ts";
import { QUEUE_SIZE_MAX, splitRingBytes, VIRTQ_DESC } from "../constants/ring.ts";

/** Bytes of `struct virtq_desc`. */
export const DESCRIPTOR_BYTES: number = VIRTQ_DESC.sizeBytes;
// Driver-written and device-written parts in one cache line would bounce between two processors at every index.
const LINE_BYTES = 64;

/** Byte offsets from the start of the memory, and the sizes of the parts as the standard gives them. */
export interface SplitLayout {
  /** Number of descriptors, a power of two. */
  readonly size: number;
  /** Descriptor area: 16·Q bytes, aligned to 16 at least. */
  readonly descriptorOffset: number;
  /** Driver area (available ring): 6 + 2·Q bytes, aligned to 2 at least. */
  readonly driverOffset: number;
  /** Device area (used ring): 6 + 8·Q bytes, aligned to 4 at least. */
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
export function splitLayout(size: number, tableSegments = 0): SplitLayout {
  requireType(size, "number", "splitLayout: size");
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_MAX || (size & (size - 1)) !== 0) {
    throw new UsageError(`a split queue cannot have ${size} descriptors`, {
      hint: "the size is a power of two up to 32768",
    });
  }
  checkTableSegments(size, tableSegments);
  const areas = splitRingBytes(size);
  const descriptorOffset = 0;
  const driverOffset = align(descriptorOffset + areas.descriptorArea);
  const deviceOffset = align(driverOffset + areas.driverArea);
  const tablesOffset = align(deviceOffset + areas.deviceArea);
  const totalBytes = tablesOffset + size * tableSegments * DESCRIPTOR_BYTES;
  return { size, descriptorOffset, driverOffset, deviceOffset, tablesOffset, tableSegments, totalBytes };
}

/**
 * Lays a ring out as the legacy interface has it: one contiguous area of whole 4096-byte pages, of which the used ring begins one
 * (SPEC "Legacy Interfaces: A Note on Virtqueue Layout"; reference 2.3). The indirect tables, which may be anywhere, follow it.
 *
 * @param size as the device says, for it cannot be negotiated @param tableSegments as in `splitLayout`
 * @throws UsageError as `splitLayout`
 */
export function legacySplitLayout(size: number, tableSegments = 0): SplitLayout {
  const { availableOffset, usedOffset, totalBytes: tablesOffset } = legacyRingLayout(size);
  checkTableSegments(size, tableSegments);
  return {
    size,
    descriptorOffset: 0,
    driverOffset: availableOffset,
    deviceOffset: usedOffset,
    tablesOffset,
    tableSegments,
    totalBytes: tablesOffset + size * tableSegments * DESCRIPTOR_BYTES,
  };
}

function checkTableSegments(size: number, tableSegments: number): void {
  requireType(tableSegments, "number", "tableSegments");
  if (Number.isInteger(tableSegments) && tableSegments >= 0 && tableSegments <= size) return;
  throw new UsageError(`indirect tables of ${tableSegments} descriptors for a queue of ${size}`, {
    hint: "a chain is never longer than the queue size",
  });
}

function align(offset: number): number {
  return Math.ceil(offset / LINE_BYTES) * LINE_BYTES;
}
