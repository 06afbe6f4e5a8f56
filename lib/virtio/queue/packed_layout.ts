/**
 * Where the parts of a packed ring lie in the one DMA memory that holds them (SPEC packed virtqueues; reference 1.4).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { PVIRTQ_DESC, QUEUE_SIZE_MAX } from "../constants/ring.ts";

// As in the split ring: what the two sides write must not share a cache line.
const LINE_BYTES = 64;
/** Bytes of `struct pvirtq_event_suppress`. */
const EVENT_SUPPRESS_BYTES = 4;

/** Byte offsets from the start of the memory, and the sizes of the parts as the standard gives them. */
export interface PackedLayout {
  /** Number of descriptors: any from 1 to 32768. */
  readonly size: number;
  /** Descriptor ring: 16·Q bytes, aligned to 16 at least. */
  readonly descriptorOffset: number;
  /** Driver event suppression: 4 bytes, aligned to 4 at least. */
  readonly driverOffset: number;
  /** Device event suppression: 4 bytes, aligned to 4 at least. */
  readonly deviceOffset: number;
  /** Indirect tables, `tableSegments` descriptors for each ring descriptor; meaningless when there are none. */
  readonly tablesOffset: number;
  /** Descriptors in each indirect table; 0 without indirect tables. */
  readonly tableSegments: number;
  /** All of it, in bytes. */
  readonly totalBytes: number;
}

/**
 * Lays a packed ring out; each area starts on a cache line of its own.
 *
 * @param size number of descriptors @param tableSegments descriptors in each indirect table, 0 for none
 * @throws UsageError for a size outside 1 … 32768, or more table segments than the queue size
 */
export function packedLayout(size: number, tableSegments = 0): PackedLayout {
  requireType(size, "number", "packedLayout: size");
  requireType(tableSegments, "number", "packedLayout: tableSegments");
  if (!Number.isInteger(size) || size < 1 || size > QUEUE_SIZE_MAX) {
    throw new UsageError(`a packed queue cannot have ${size} descriptors`, {
      hint: `the size is a whole number from 1 to ${QUEUE_SIZE_MAX}`,
    });
  }
  if (!Number.isInteger(tableSegments) || tableSegments < 0 || tableSegments > size) {
    throw new UsageError(`indirect tables of ${tableSegments} descriptors for a queue of ${size}`, {
      hint: "a chain is never longer than the queue size",
    });
  }
  const descriptorBytes = PVIRTQ_DESC.sizeBytes;
  const descriptorOffset = 0;
  const driverOffset = align(descriptorOffset + size * descriptorBytes);
  const deviceOffset = align(driverOffset + EVENT_SUPPRESS_BYTES);
  const tablesOffset = align(deviceOffset + EVENT_SUPPRESS_BYTES);
  const totalBytes = tablesOffset + size * tableSegments * descriptorBytes;
  return { size, descriptorOffset, driverOffset, deviceOffset, tablesOffset, tableSegments, totalBytes };
}

function align(offset: number): number {
  return Math.ceil(offset / LINE_BYTES) * LINE_BYTES;
}
