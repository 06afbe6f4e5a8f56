/**
 * Chains of one buffer each, taken from a queue together.
 *
 * @module
 */
import type { DmaRegion } from "../../../sockets/dma_table.ts";

/**
 * What `DeviceQueue.popBurst` fills, owned by its caller and filled in place again and again: nothing is allocated per chain. Like the segments of a
 * `Chain`, buffers are valid until the next change of the client's mappings.
 */
export class Burst {
  /** Most chains. */
  readonly capacity: number;
  /** Id of each chain. */
  readonly ids: Uint16Array<ArrayBuffer>;
  /** Mapping that its buffer lies in: one of this process, never a window. */
  readonly regions: DmaRegion[];
  /** Byte offset of the buffer in its mapping. */
  readonly offsets: Float64Array<ArrayBuffer>;
  /** Bytes of the buffer. */
  readonly lengths: Uint32Array<ArrayBuffer>;
  /** Bytes of it that the device wrote: what `DeviceQueue.pushBurst` returns the chain with. 0 at first. */
  readonly written: Uint32Array<ArrayBuffer>;

  /** An empty one. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.ids = new Uint16Array(capacity);
    this.regions = new Array<DmaRegion>(capacity);
    this.offsets = new Float64Array(capacity);
    this.lengths = new Uint32Array(capacity);
    this.written = new Uint32Array(capacity);
  }
}
