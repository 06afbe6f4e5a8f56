/**
 * The result of a burst of receives: where the frames are, without a copy.
 *
 * @module
 */
import { UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";

/**
 * Up to `capacity` received frames. A frame is one part or, with mergeable buffers, several; parts are in order:
 * frame `f` is parts `first[f]` to `first[f + 1] − 1`, and part `p` is the `lengths[p]` bytes from `offsets[p]` on of receive slot
 * `slots[p]`, to be read through `views[slots[p]]` of the receive queue.
 *
 * The slots are the caller's until `recycle`. Make one burst and use it again and again.
 */
export class FrameBurst {
  /** Most frames. */
  readonly capacity: number;
  /** Most parts. */
  readonly partCapacity: number;
  /** Frames of the last receive. */
  frames = 0;
  /** Their parts. */
  parts = 0;
  /** First part of each frame, and one entry more for the end of the last. */
  readonly first: Uint16Array<ArrayBuffer>;
  /** Receive slot of each part. */
  readonly slots: Uint16Array<ArrayBuffer>;
  /** The same array, under the name by which a queue fills it. @internal */
  readonly ids: Uint16Array<ArrayBuffer>;
  /** Bytes from the start of the slot. */
  readonly offsets: Uint16Array<ArrayBuffer>;
  /** Bytes. */
  readonly lengths: Uint32Array<ArrayBuffer>;

  /** Makes the arrays. @param parts default: `capacity` and 64 more @throws UsageError */
  constructor(capacity: number, parts?: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 32768) {
      throw new UsageError(`a burst of ${shown(capacity)} frames`);
    }
    const partCapacity = parts ?? capacity + 64;
    if (!Number.isInteger(partCapacity) || partCapacity < capacity || partCapacity > 65535) {
      throw new UsageError(`a burst of ${capacity} frames in ${shown(partCapacity)} parts`);
    }
    this.capacity = capacity;
    this.partCapacity = partCapacity;
    this.first = new Uint16Array(capacity + 1);
    this.slots = this.ids = new Uint16Array(partCapacity);
    this.offsets = new Uint16Array(partCapacity);
    this.lengths = new Uint32Array(partCapacity);
  }

  /** Bytes of a frame, all parts together. @throws UsageError */
  frameBytes(frame: number): number {
    if (!Number.isInteger(frame) || frame < 0 || frame >= this.frames) {
      throw new UsageError(`frame ${shown(frame)} of a burst of ${shown(this.frames)}`);
    }
    let bytes = 0;
    for (let part = this.first[frame]!; part < this.first[frame + 1]!; part++) bytes += this.lengths[part]!;
    return bytes;
  }

  /** Forgets the first frames; the others move up. @internal */
  drop(frames: number): void {
    if (!Number.isInteger(frames) || frames < 0) {
      throw new UsageError(`${shown(frames)} frames of a burst of ${shown(this.frames)} are to go`);
    }
    if (frames >= this.frames) {
      this.clear();
      return;
    }
    const { first, slots, offsets, lengths, parts } = this;
    const gone = first[frames]!;
    for (const array of [slots, offsets, lengths]) array.copyWithin(0, gone, parts);
    this.frames -= frames;
    this.parts -= gone;
    for (let frame = 0; frame <= this.frames; frame++) first[frame] = first[frame + frames]! - gone;
  }

  /** Forgets the frames. Their slots stay the caller's: give each back with `recycleSlot`. */
  clear(): void {
    this.frames = 0;
    this.parts = 0;
  }
}
