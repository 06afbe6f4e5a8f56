/**
 * One receive queue: buffers given to the device, frames taken from it (virtio 1.4 §5.1.6.3, §5.1.6.4).
 *
 * @module
 */
import { isInstance, typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, DeviceError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { ETHERNET_HEADER_BYTES, NET_HDR } from "../../../lib/virtio/spec/net.ts";
import type { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import type { QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../../lib/virtio/queue/virtqueue.ts";
import type { WaitTarget } from "../../../lib/wait/waiter.ts";
import { FrameBurst } from "../api/frame_burst.ts";
import { addSlots, type NetFraming } from "./framing.ts";
import { decodeFrame, type SavedReceive } from "./saved.ts";
import { COUNT } from "../api/statistics.ts";

/** A transmit queue that sends from slots of this one. */
export interface Borrower {
  /** Gives back those that are sent. */
  reclaim(): number;
}

/** Who has a slot. */
const WITH_CALLER = 1, LENT = 2;
/** In half-words. */
const NUM_BUFFERS_AT = NET_HDR.fields.num_buffers.offset / 2;

/**
 * Hands out frames where the device wrote them. Each slot belongs to the device, or to the caller from `receiveBurst` until it is
 * recycled. Errors: `DeviceError` naming queue and field when the device lies (reset the device then), `UsageError`, `ClosedError`.
 */
export class ReceiveQueue implements WaitTarget {
  static {
    typedErrors(this, ["receiveBurst", "recycle", "load", "save", "lend", "takeBack", "sent"]);
  }

  /** Virtqueue number. */
  readonly index: number;
  /** The whole of each slot, made once; a frame's bytes are where the burst says. */
  readonly views: readonly Uint8Array<ArrayBuffer>[];
  /**
   * All slots as 32-bit words, in the processor's order of bytes: what lies behind the header in slot n begins at `n * wordStride`. Short frames are read
   * fastest this way.
   */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Words from one slot to the next. */
  readonly wordStride: number;
  /** Bytes of `virtio_net_hdr` before each frame: a part that begins behind them begins at its slot's place in `words`. */
  readonly headerBytes: number;
  /** Where its slots lie. @internal */
  readonly places: { readonly iovaLo: Uint32Array; readonly iovaHi: Uint32Array };
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #pool: BufferPool;
  readonly #framing: NetFraming;
  readonly #mergeable: boolean;
  /** Slots that go to the device; those past them hold frames of `load`. */
  readonly #slots: number;
  readonly #counts: Float64Array;
  /** `WITH_CALLER`, `LENT`; 0: the device's. */
  readonly #held: Uint8Array<ArrayBuffer>;
  /** Slots that were given back and are not in the ring yet. */
  readonly #pending: Uint16Array<ArrayBuffer>;
  #pendingCount = 0;
  /** What was taken last; `ids` holds slots. */
  readonly #used: UsedBurst;
  #usedCount = 0;
  #usedAt = 0;
  /** There are slots past those of the device. */
  readonly #loaded: boolean;
  /** The device is stopped for good: what it has is not given back. */
  #stopped = false;
  /** Slots that are lent, and who has them. */
  #lentCount = 0;
  #borrower: Borrower | null = null;
  /** What ends this queue's life; thrown by every receive from then on. */
  #fault: unknown = null;

  /**
   * Takes over a queue that is set up, and the slots for it.
   * @param name function, for messages @param pool `slots` for the device, and those that `load` takes @param slots no more than the queue has room for
   * @param counts shared by all queues
   */
  constructor(name: string, pool: BufferPool, slots: number, framing: NetFraming, counts: Float64Array) {
    const { queue } = pool;
    this.index = queue.index;
    this.views = pool.views;
    this.words = pool.words;
    this.wordStride = pool.strideBytes / 4;
    this.places = { iovaLo: pool.iovaLo, iovaHi: pool.iovaHi };
    this.#name = name;
    this.#queue = queue;
    this.#pool = pool;
    this.#slots = slots;
    this.#framing = framing;
    this.#mergeable = framing.mergeable;
    this.headerBytes = framing.headerBytes;
    this.#counts = counts;
    this.#held = new Uint8Array(pool.count).fill(WITH_CALLER);
    this.#pending = new Uint16Array(pool.count);
    this.#used = usedBurst(pool.count);
    this.#loaded = slots < pool.count;
  }

  /** Gives its slots to the device and notifies it: once, after DRIVER_OK. */
  start(): void {
    for (let slot = 0; slot < this.#slots; slot++) this.recycleSlot(slot);
    this.flush();
  }

  /**
   * Puts frames of a saved queue before all that the device will deliver, in slots past those of the device. Before `start`.
   * @throws UnsupportedError when a frame does not fit into a buffer, and must
   */
  load(saved: SavedReceive): void {
    const { ids, lengths } = this.#used;
    const headerBytes = this.headerBytes;
    let slot = this.#slots;
    for (const frame of saved.frames) {
      const bytes = decodeFrame(frame);
      const buffers = slotsFor(headerBytes + bytes.length, this.#pool.slotBytes);
      if (buffers > 1 && !this.#mergeable) {
        throw new UnsupportedError(
          `${this.#name}, queue ${this.index}: a saved frame of ${bytes.length} bytes in buffers of ${this.#pool.slotBytes}`,
          { hint: "resume with larger bufferBytes" },
        );
      }
      const first = this.views[slot]!;
      first.fill(0, 0, headerBytes);
      if (this.#mergeable) this.#pool.halves[slot * this.#pool.strideBytes / 2 + NUM_BUFFERS_AT] = buffers;
      let done = 0;
      for (let part = 0; part < buffers; part++, slot++) {
        const offset = part === 0 ? headerBytes : 0;
        const piece = bytes.subarray(done, done + this.#pool.slotBytes - offset);
        this.views[slot]!.set(piece, offset);
        done += piece.length;
        this.#held[slot] = 0;
        ids[this.#usedCount] = slot;
        lengths[this.#usedCount++] = offset + piece.length;
      }
    }
  }

  /**
   * Frames that the device delivered and that were not given out, and where the queue stands. The device must be stopped; nothing can be received
   * afterwards.
   * @param device where the device says that it stands @throws DeviceError
   * @internal
   */
  save(device: QueueState | null): SavedReceive {
    this.#stopped = true;
    const burst = new FrameBurst(1, this.#pool.count);
    const frames: string[] = [];
    while (this.hasUsed()) {
      if (this.receiveBurst(burst) === 0) continue;
      const bytes = new Uint8Array(burst.frameBytes(0));
      this.copyFrame(burst, 0, bytes);
      frames.push(bytes.toBase64());
      burst.clear();
    }
    return { ring: this.#queue.save(device ?? undefined), device, frames };
  }

  /**
   * Takes up to `burst.capacity` frames. Frames that came before a lie of the device are still given out; the error is thrown by this call when there
   * are none, else by the next.
   * @returns how many; ask again until it is 0 before waiting
   */
  receiveBurst(burst: FrameBurst): number {
    if (burst.parts !== 0) {
      throw new UsageError(
        `${this.#name}, queue ${this.index}: the burst still holds ${burst.frames} frames`,
        {
          hint: "recycle() or clear() it first",
        },
      );
    }
    if (this.#pool.closed || this.#queue.closed) this.#gone();
    if (this.#usedAt === this.#usedCount && this.#fault === null) {
      if (!this.#mergeable) return this.#receiveWhole(burst);
      this.#usedAt = this.#usedCount = 0;
      // A chain's id is free for another slot from here on, though its frame may be given out only by a later burst.
      this.#usedCount = this.#pool.takeUsed(this.#used);
    }
    const { ids, lengths } = this.#used;
    const { first, slots, offsets, lengths: partLengths, capacity, partCapacity } = burst;
    const { halves } = this.#pool;
    const held = this.#held, mergeable = this.#mergeable, headerBytes = this.headerBytes;
    const stride = this.#pool.strideBytes >> 1, usedCount = this.#usedCount;
    let at = this.#usedAt;
    let frames = 0;
    let part = 0;
    let bytes = 0;
    let dropped = 0;
    first[0] = 0;
    while (frames < capacity && at < usedCount && this.#fault === null) {
      const slot = ids[at]!;
      const length = lengths[at]!;
      // Read once, since the device can still change it.
      const buffers = mergeable ? halves[slot * stride + NUM_BUFFERS_AT]! : 1;
      if (length <= headerBytes || buffers !== 1 || part === partCapacity) {
        if (length < headerBytes) {
          this.#lie("used.len", `${length} bytes are too few for the header`);
          break;
        }
        if (buffers === 0 || buffers > usedCount - at) {
          this.#incomplete(buffers, usedCount - at);
          break;
        }
        if (part + buffers > partCapacity) {
          if (frames > 0) break;
          throw new UsageError(
            `a frame of ${buffers} parts does not fit into a burst of ${partCapacity}`,
          );
        }
        if (length === headerBytes && buffers === 1) {
          dropped++;
          at++;
          held[slot] = WITH_CALLER;
          if (!this.#stopped) this.recycleSlot(slot);
          continue;
        }
      }
      let offset = headerBytes;
      for (const end = at + buffers; at < end; at++) {
        const piece = ids[at]!;
        const pieceBytes = lengths[at]! - offset;
        held[piece] = WITH_CALLER;
        slots[part] = piece;
        offsets[part] = offset;
        partLengths[part++] = pieceBytes;
        bytes += pieceBytes;
        offset = 0;
      }
      first[++frames] = part;
    }
    this.#usedAt = at;
    return this.#give(burst, frames, part, bytes, dropped);
  }

  /** As `receiveBurst` where each buffer is a frame, and nothing is left from before: the queue fills the caller's arrays. */
  #receiveWhole(burst: FrameBurst): number {
    const count = this.#pool.takeUsed(burst, burst.capacity);
    const { first, slots, offsets, lengths } = burst;
    const held = this.#held, headerBytes = this.headerBytes;
    let frames = 0;
    let bytes = 0;
    let dropped = 0;
    first[0] = 0;
    for (let at = 0; at < count; at++) {
      const slot = slots[at]!;
      const frameBytes = lengths[at]! - headerBytes;
      if (frameBytes < 0) {
        this.#lie("used.len", `${lengths[at]} bytes are too few for the header`);
        break;
      }
      held[slot] = WITH_CALLER;
      if (frameBytes === 0) {
        dropped++;
        if (!this.#stopped) this.recycleSlot(slot);
        continue;
      }
      slots[frames] = slot;
      offsets[frames] = headerBytes;
      lengths[frames] = frameBytes;
      bytes += frameBytes;
      first[++frames] = frames;
    }
    return this.#give(burst, frames, frames, bytes, dropped);
  }

  #give(burst: FrameBurst, frames: number, parts: number, bytes: number, dropped: number): number {
    burst.frames = frames;
    burst.parts = parts;
    if (dropped > 0) this.#countDropped(dropped);
    if (frames === 0 && this.#fault !== null) throw this.#fault;
    this.#counts[COUNT.frames]! += frames;
    this.#counts[COUNT.bytes]! += bytes;
    return frames;
  }

  /** Copies a frame of a burst out of its slots. @returns its bytes @throws UsageError when `into` is too short */
  copyFrame(burst: FrameBurst, frame: number, into: Uint8Array): number {
    // Called for each frame, so it looks at its arguments itself.
    if (!(isInstance(burst, FrameBurst) && isInstance(into, Uint8Array))) {
      throw new UsageError(
        `${this.#name}, queue ${this.index}: copyFrame(${shown(burst)}, ${shown(frame)}, ${shown(into)})`,
      );
    }
    const bytes = burst.frameBytes(frame);
    if (bytes > into.length) throw new UsageError(`a frame of ${bytes} bytes into ${into.length}`);
    if (this.#pool.closed) this.#gone();
    let at = 0;
    for (let part = burst.first[frame]!; part < burst.first[frame + 1]!; part++) {
      const offset = burst.offsets[part]!;
      const length = burst.lengths[part]!;
      into.set(this.views[burst.slots[part]!]!.subarray(offset, offset + length), at);
      at += length;
    }
    return bytes;
  }

  /**
   * Looks whether its slots are still there. @throws ClosedError
   * @internal
   */
  checkOpen(): void {
    if (this.#pool.closed) this.#gone();
  }

  /** Gives all slots of a burst back to the device and notifies it when it asks for that. The burst is empty afterwards. */
  recycle(burst: FrameBurst): void {
    if (this.#pool.closed) this.#gone();
    const { slots, parts } = burst;
    const held = this.#held;
    if (parts > 0 && this.#lentCount > 0) this.#askBack();
    let part = 0;
    for (; part < parts; part++) {
      const slot = slots[part]!;
      if (held[slot] !== WITH_CALLER) break;
      held[slot] = 0;
    }
    this.#offer(slots, this.#loaded ? this.#keepOwn(slots, part) : part);
    // What is wrong with the next one, its call says.
    if (part < parts) this.recycleSlot(slots[part]!);
    burst.clear();
    this.flush();
  }

  /**
   * Lends the first frames of a burst to a transmit queue of the same device, which sends them from where they lie: as many as are one part each, up to
   * one that is longer than `mostBytes` or too short. No more than half of the slots are ever lent, so that the device has some, or the caller.
   * @param slots gets the slots @param lengths and the frames' bytes @returns how many
   * @internal
   */
  lend(
    borrower: Borrower,
    burst: FrameBurst,
    framing: NetFraming,
    most: number,
    mostBytes: number,
    slots: Uint16Array,
    lengths: Uint32Array,
  ): number {
    if (framing !== this.#framing || framing.headerApart || !isInstance(burst, FrameBurst)) return 0;
    const { frames, first, slots: parts, offsets, lengths: bytes } = burst;
    const held = this.#held, headerBytes = this.headerBytes, own = this.#slots;
    const { halves, strideBytes } = this.#pool;
    const stride = strideBytes >> 1, header = headerBytes >> 1;
    const count = Math.min(frames, most, (own >> 1) - this.#lentCount);
    let done = 0;
    for (; done < count; done++) {
      const part = first[done]!, slot = parts[part]!, length = bytes[part]!;
      if (
        first[done + 1]! - part !== 1 || slot >= own || held[slot] !== WITH_CALLER || length > mostBytes ||
        length < ETHERNET_HEADER_BYTES || offsets[part] !== headerBytes
      ) break;
      held[slot] = LENT;
      slots[done] = slot;
      lengths[done] = length;
      // What the device wrote there is its own (§5.1.6.2.1: num_buffers is 0, and nothing is asked for).
      for (let at = slot * stride, end = at + header; at < end; at++) if (halves[at] !== 0) halves[at] = 0;
    }
    this.#lentCount += done;
    this.#borrower = borrower;
    return done;
  }

  /** Lent slots come back; `flush` gives them to the device. @internal */
  takeBack(slots: Uint16Array, count: number): void {
    if (
      !(isInstance(slots, Uint16Array) && count >= 0 && count <= slots.length && count <= this.#lentCount)
    ) {
      throw new UsageError(
        `${this.#name}, queue ${this.index}: ${shown(count)} slots come back, ${this.#lentCount} are lent`,
      );
    }
    const held = this.#held, pending = this.#pending;
    for (let at = 0; at < count; at++) {
      const slot = slots[at]!;
      held[slot] = 0;
      pending[this.#pendingCount++] = slot;
    }
    this.#lentCount -= count;
  }

  /** Who has slots of this queue may have forgotten that they are free. */
  #askBack(): void {
    try {
      this.#borrower!.reclaim();
    } catch {
      // What is wrong with the other queue, its own calls say.
    }
  }

  /** The first frames of a burst were sent, some of them from where they lie: they leave it, and the slots of the others go to the device. @internal */
  sent(burst: FrameBurst, frames: number): void {
    if (!(isInstance(burst, FrameBurst) && frames >= 0 && frames <= burst.frames)) {
      throw new UsageError(
        `${this.#name}, queue ${this.index}: ${shown(frames)} frames of ${shown(burst)} were sent`,
      );
    }
    const { first, slots } = burst;
    for (let part = 0; part < first[frames]!; part++) {
      if (this.#held[slots[part]!] === WITH_CALLER) this.recycleSlot(slots[part]!);
    }
    burst.drop(frames);
    this.flush();
  }

  /** Gives one slot back; `flush` makes it visible. @throws UsageError when the caller does not hold it */
  recycleSlot(slot: number): void {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#held[slot] !== WITH_CALLER) {
      throw new UsageError(
        `${this.#name}, queue ${this.index}: receive slot ${shown(slot)} is not held by the caller`,
      );
    }
    this.#held[slot] = 0;
    // A loaded frame's is beyond what the queue has room for, and used once.
    if (slot < this.#slots) this.#pending[this.#pendingCount++] = slot;
  }

  /** Makes recycled slots visible to the device, and notifies it when it asks for that. */
  flush(): void {
    const count = this.#pendingCount;
    this.#pendingCount = 0;
    this.#offer(this.#pending, count);
    if (this.#queue.flush()) this.#counts[COUNT.notifications]!++;
  }

  #offer(slots: Uint16Array, count: number): void {
    if (count > 0) addSlots(this.#pool, this.#framing, slots, null, count);
  }

  /** Moves slots that are the device's to the front. @returns how many of the first `count` */
  #keepOwn(slots: Uint16Array, count: number): number {
    let kept = 0;
    for (let at = 0; at < count; at++) {
      if (slots[at]! < this.#slots) slots[kept++] = slots[at]!;
    }
    return kept;
  }

  /** True when `receiveBurst` has something to look at. */
  hasUsed(): boolean {
    if (this.#fault !== null) throw this.#fault;
    return this.#usedAt !== this.#usedCount || this.#queue.hasUsed();
  }

  suppressInterrupts(): void {
    this.#queue.suppressInterrupts();
  }

  enableInterrupts(): boolean {
    return this.#queue.enableInterrupts() || this.hasUsed();
  }

  /** Frames of no length: their buffers go back. */
  #countDropped(dropped: number): void {
    this.#counts[COUNT.dropped]! += dropped;
    if (this.#fault !== null || this.#stopped) return;
    try {
      this.flush();
    } catch (error) {
      // What came before is given out first.
      this.#fault = error;
    }
  }

  /** The standard has a device return all buffers of a frame at once, so the rest is not still to come. */
  #incomplete(buffers: number, returned: number): void {
    try {
      // When the ring itself is broken, that is the better error: this throws it.
      this.#queue.hasUsed();
      this.#lie("num_buffers", `a frame in ${buffers} buffers, of which ${returned} were returned`);
    } catch (error) {
      this.#fault = error;
    }
  }

  #lie(field: string, message: string): void {
    this.#fault = new DeviceError(message, { function: this.#name, queue: this.index, field }, {
      hint: "reset the device",
    });
  }

  #gone(): never {
    throw new ClosedError(`receive queue ${this.index} of ${this.#name}`);
  }
}

/** Buffers that a frame takes. @param lengthBytes with the header, which is in the first */
export function slotsFor(lengthBytes: number, slotBytes: number): number {
  return Math.ceil(lengthBytes / slotBytes);
}
