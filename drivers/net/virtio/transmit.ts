/**
 * One transmit queue: a pool of slots that are filled, sent and come back (virtio 1.4 §5.1.6.2).
 *
 * @module
 */
import { isInstance, typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { ETHERNET_HEADER_BYTES } from "../../../lib/virtio/spec/net.ts";
import type { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import type { QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../../lib/virtio/queue/virtqueue.ts";
import type { WaitTarget } from "../../../lib/wait/waiter.ts";
import { FrameBurst } from "../api/frame_burst.ts";
import { addSlots, type NetFraming } from "./framing.ts";
import { LentFrames } from "./lent_frames.ts";
import { ReceiveQueue } from "./receive.ts";
import { decodeFrame, type SavedTransmit } from "./saved.ts";
import { COUNT } from "../api/statistics.ts";

/** Up to here going word by word costs less than a view. */
const WORDS_BYTES = 128;

/**
 * `reserve` a slot, write the frame through `frame(slot)`, `send` it, and `flush` once for all. Sent slots come back by `reclaim`, which `reserve`
 * calls when it runs dry. Errors: `UsageError`, `DeviceError` when the device lies, `ClosedError`.
 */
export class TransmitQueue implements WaitTarget {
  static {
    typedErrors(this, ["forward", "reoffer", "reserveBurst", "save", "transmitBurst"]);
  }

  /** Virtqueue number. */
  readonly index: number;
  /** Longest frame, Ethernet header included. */
  readonly maxFrameBytes: number;
  /**
   * All slots as 32-bit words, in the processor's order of bytes: the frame of slot n begins at `n * wordStride`. Short frames are written fastest this way;
   * only what lies in slots that are reserved is the caller's to write.
   */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Words from one slot to the next. */
  readonly wordStride: number;
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #pool: BufferPool;
  /** Of each slot, what follows the header. */
  readonly #frames: readonly Uint8Array<ArrayBuffer>[];
  readonly #framing: NetFraming;
  readonly #counts: Float64Array;
  /** By slot: 1 from `reserve` to `send` or `cancel`. */
  readonly #reserved: Uint8Array<ArrayBuffer>;
  /** Slots that were sent one by one and are not in the ring yet, and the lengths of their frames. */
  readonly #pending: Uint16Array<ArrayBuffer>;
  readonly #pendingLengths: Uint32Array<ArrayBuffer>;
  #pendingCount = 0;
  readonly #used: UsedBurst;
  /** What `forward` sends. */
  readonly #slots: Uint16Array<ArrayBuffer>;
  readonly #lengths: Uint32Array<ArrayBuffer>;
  /** Frames that are sent from where a receive queue has them. */
  readonly #lent: LentFrames;

  /** Takes over a queue that is set up, and the slots for it. @param pool slots with a zeroed header before the frame; the device only reads them @param counts shared by all queues */
  constructor(
    name: string,
    pool: BufferPool,
    maxFrameBytes: number,
    framing: NetFraming,
    counts: Float64Array,
  ) {
    const { queue } = pool;
    this.index = queue.index;
    this.maxFrameBytes = maxFrameBytes;
    this.words = pool.words;
    this.wordStride = pool.strideBytes / 4;
    this.#name = name;
    this.#queue = queue;
    this.#pool = pool;
    this.#framing = framing;
    this.#counts = counts;
    this.#reserved = new Uint8Array(pool.count);
    this.#pending = new Uint16Array(pool.count);
    this.#pendingLengths = new Uint32Array(pool.count);
    this.#frames = pool.views.map((view) => view.subarray(framing.headerBytes));
    this.#used = usedBurst(queue.size);
    this.#slots = new Uint16Array(pool.count);
    this.#lengths = new Uint32Array(pool.count);
    this.#lent = new LentFrames(pool, framing, maxFrameBytes);
  }

  /** Slots in the pool. */
  get slotCount(): number {
    return this.#pool.count;
  }

  /** Slots that `reserve` gives without waiting for the device. */
  get freeSlots(): number {
    return this.#pool.free;
  }

  /** A slot to fill, the caller's until `send` or `cancel`; −1 when the device has them all. */
  reserve(): number {
    if (this.#pool.closed) this.#gone();
    if (this.#pool.free === 0 && this.reclaim() === 0) return -1;
    const slot = this.#pool.take();
    this.#reserved[slot] = 1;
    if (this.#lent.moved > 0) {
      this.#slots[0] = slot;
      this.#lent.moveBack(this.#slots, 1);
    }
    return slot;
  }

  /** As many slots to fill as there are, up to the array's elements 0 to `count` − 1. @returns how many */
  reserveBurst(slots: Uint16Array, count: number = slots.length): number {
    if (!(slots instanceof Uint16Array && count >= 0 && count <= slots.length)) {
      this.#badBurst(count, slots.length);
    }
    const pool = this.#pool, reserved = this.#reserved;
    if (pool.closed) this.#gone();
    if (pool.free < count) this.reclaim();
    const taken = pool.takeBurst(slots, count);
    for (let at = 0; at < taken; at++) reserved[slots[at]!] = 1;
    if (this.#lent.moved > 0) this.#lent.moveBack(slots, taken);
    return taken;
  }

  /** Where the slot's frame goes: `maxFrameBytes`, made once. @throws UsageError when the slot is not reserved */
  frame(slot: number): Uint8Array<ArrayBuffer> {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#reserved[slot] !== 1) this.#notReserved(slot);
    return this.#frames[slot]!;
  }

  /** Gives an unused slot back. */
  cancel(slot: number): void {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#reserved[slot] !== 1) this.#notReserved(slot);
    this.#reserved[slot] = 0;
    this.#pool.give(slot);
  }

  /** Queues the first `lengthBytes` of the slot's frame; `flush` makes it visible. @throws UsageError too short, too long, not reserved */
  send(slot: number, lengthBytes: number): void {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#reserved[slot] !== 1) this.#notReserved(slot);
    this.checkLength(lengthBytes);
    this.#add(slot, lengthBytes);
    this.#counts[COUNT.frames]!++;
    this.#counts[COUNT.bytes]! += lengthBytes;
  }

  #add(slot: number, lengthBytes: number): void {
    this.#reserved[slot] = 0;
    this.#pending[this.#pendingCount] = slot;
    this.#pendingLengths[this.#pendingCount++] = lengthBytes;
  }

  /** Sends `count` reserved slots and flushes. @returns `count` @throws UsageError; what was queued before is sent all the same */
  transmitBurst(slots: Uint16Array, lengths: Uint32Array, count: number): number {
    if (!(count >= 0 && count <= slots.length && count <= lengths.length)) {
      this.#badBurst(count, Math.min(slots.length, lengths.length));
    }
    if (this.#pool.closed) this.#gone();
    this.#offer();
    const reserved = this.#reserved, most = this.maxFrameBytes;
    let bytes = 0;
    let done = 0;
    for (; done < count; done++) {
      const slot = slots[done]!, lengthBytes = lengths[done]!;
      if (reserved[slot] !== 1 || lengthBytes < ETHERNET_HEADER_BYTES || lengthBytes > most) break;
      reserved[slot] = 0;
      bytes += lengthBytes;
    }
    addSlots(this.#pool, this.#framing, slots, lengths, done);
    this.#counts[COUNT.frames]! += done;
    this.#counts[COUNT.bytes]! += bytes;
    this.flush();
    // What is wrong with the next one, its call says.
    if (done < count) this.send(slots[done]!, lengths[done]!);
    return done;
  }

  /**
   * Sends the frames of a burst, in their order and as they are: as many as there are slots. What was sent leaves the burst; the rest stays in it, to be
   * forwarded again, or recycled. Frames that a queue of the same device received are sent from where they lie, up to half of its slots at a time, and
   * those of one buffer each; all others are copied.
   * @returns how many @throws UsageError when one cannot be sent; those before it were
   */
  forward(from: ReceiveQueue, burst: FrameBurst): number {
    if (!(isInstance(from, ReceiveQueue) && isInstance(burst, FrameBurst))) {
      throw new UsageError(`${this.#name}, queue ${this.index}: forward(${shown(from)}, ${shown(burst)})`);
    }
    const slots = this.#slots, lengths = this.#lengths;
    from.checkOpen();
    if (this.#pool.closed) this.#gone();
    // So that what was lent goes back, too.
    this.reclaim();
    this.#offer();
    const lent = this.#lent.add(this, from, burst, slots, lengths);
    this.#counts[COUNT.frames]! += lent;
    for (let at = 0; at < lent; at++) this.#counts[COUNT.bytes]! += lengths[at]!;
    const left = burst.frames - lent;
    const count = left === 0 ? 0 : this.reserveBurst(slots, left < slots.length ? left : slots.length);
    const done = count === 0 ? 0 : this.#copy(from, burst, lent, count);
    for (let at = done; at < count; at++) this.cancel(slots[at]!);
    this.transmitBurst(slots, lengths, done);
    from.sent(burst, lent + done);
    if (done < count) this.checkLength(burst.frameBytes(0));
    return lent + done;
  }

  /** Copies `count` frames of a burst, from frame `at` on, into `#slots`. @returns how many: up to one that cannot be sent from there */
  #copy(from: ReceiveQueue, burst: FrameBurst, at: number, count: number): number {
    const slots = this.#slots, lengths = this.#lengths, frames = this.#frames;
    const { first, slots: parts, offsets, lengths: partBytes } = burst;
    const { words, wordStride, headerBytes } = from;
    const into = this.words, strideInto = this.wordStride;
    const most = frames[0]!.length;
    let done = 0;
    for (; done < count; done++) {
      const frame = at + done, part = first[frame]!;
      const isOne = first[frame + 1]! - part === 1;
      const bytes = isOne ? partBytes[part]! : burst.frameBytes(frame);
      if (bytes < ETHERNET_HEADER_BYTES || bytes > most) break;
      lengths[done] = bytes;
      if (!isOne || bytes > WORDS_BYTES || offsets[part] !== headerBytes) {
        from.copyFrame(burst, frame, frames[slots[done]!]!);
        continue;
      }
      // Behind a frame there is room up to the next word.
      let word = parts[part]! * wordStride, to = slots[done]! * strideInto;
      for (const end = to + ((bytes + 3) >> 2); to < end;) into[to++] = words[word++]!;
    }
    return done;
  }

  /** Makes sent frames visible to the device, and notifies it when it asks for that. */
  flush(): void {
    this.#offer();
    if (this.#queue.flush()) this.#counts[COUNT.notifications]!++;
  }

  /** Puts what is pending into the ring: there are no more slots than it has room for. */
  #offer(): void {
    const count = this.#pendingCount;
    if (count === 0) return;
    this.#pendingCount = 0;
    addSlots(this.#pool, this.#framing, this.#pending, this.#pendingLengths, count);
  }

  /** Takes slots back that the device is done with. @returns how many */
  reclaim(): number {
    const used = this.#used;
    const count = this.#pool.takeUsed(used);
    if (this.#lent.count > 0) this.#lent.giveBack(used.ids, count);
    this.#pool.giveBurst(used.ids, count);
    return count;
  }

  /**
   * What was sent and has not been returned, with its bytes. The device must be stopped; slots that are reserved only are the caller's and are not
   * in it.
   * @param device where the device says that it stands @throws DeviceError
   * @internal
   */
  save(device: QueueState | null): SavedTransmit {
    this.#offer();
    while (this.reclaim() > 0);
    const ring = this.#queue.save(device ?? undefined);
    const frames = ring.inFlight.map(({ id, readable }) => {
      const lengthBytes = readable.reduce((sum, part) => sum + part.lengthBytes, -this.#framing.headerBytes);
      const slot = this.#pool.slotOf(id);
      return (this.#lent.frameOf(slot) ?? this.#frames[slot]!).subarray(0, lengthBytes).toBase64();
    });
    return { ring, device, frames, undecided: device === null ? 0 : distance(ring.state, device, ring.size) };
  }

  /**
   * Queues the frames of a saved queue again, in their order; `flush` makes them visible. They were counted when they were sent first.
   * @throws UnsupportedError when there are more than slots, or one is too long
   */
  reoffer(saved: SavedTransmit): void {
    const { frames } = saved;
    if (frames.length > this.#pool.free) {
      throw new UnsupportedError(
        `${this.#name}, queue ${this.index}: ${frames.length} frames are to be sent again, there are ${this.#pool.free} slots`,
        { hint: "resume on a function with larger queues" },
      );
    }
    for (const frame of frames) {
      const bytes = decodeFrame(frame);
      if (bytes.length > this.maxFrameBytes) {
        throw new UnsupportedError(
          `${this.#name}, queue ${this.index}: a frame of ${bytes.length} bytes is to be sent again, ${this.maxFrameBytes} is the longest`,
          { hint: "resume on a function with at least the MTU of before" },
        );
      }
      const slot = this.reserve();
      this.#frames[slot]!.set(bytes);
      this.#add(slot, bytes.length);
    }
  }

  /** Checks a frame's length. @throws UsageError for a frame that is too short or too long for this device */
  checkLength(lengthBytes: number): void {
    if (
      Number.isInteger(lengthBytes) && lengthBytes >= ETHERNET_HEADER_BYTES &&
      lengthBytes <= this.maxFrameBytes
    ) return;
    throw new UsageError(`${this.#name}: a frame of ${shown(lengthBytes)} bytes`, {
      hint:
        `frames are ${ETHERNET_HEADER_BYTES} to ${this.maxFrameBytes} bytes here, without checksum at the end`,
    });
  }

  /** True when the device has given slots back. */
  hasUsed(): boolean {
    return this.#queue.hasUsed();
  }

  suppressInterrupts(): void {
    this.#queue.suppressInterrupts();
  }

  enableInterrupts(): boolean {
    return this.#queue.enableInterrupts();
  }

  #badBurst(count: number, room: number): never {
    throw new UsageError(
      `${this.#name}, queue ${this.index}: a burst of ${shown(count)} frames in arrays of ${room}`,
    );
  }

  #notReserved(slot: number): never {
    throw new UsageError(`${this.#name}, queue ${this.index}: transmit slot ${shown(slot)} is not reserved`);
  }

  #gone(): never {
    throw new ClosedError(`transmit queue ${this.index} of ${this.#name}`);
  }
}

/** Chains from the place where nothing is outstanding to where the device reads next; here each takes one descriptor. */
function distance(from: QueueState, device: QueueState, size: number): number {
  if (from.layout === "split") {
    return device.layout === "split" ? (device.availableIndex - from.availableIndex) & 0xffff : 0;
  }
  if (device.layout === "split") return 0;
  const laps = 2 * size;
  const other = device.availableWrap === from.availableWrap ? 0 : size;
  return (device.availableSlot - from.availableSlot + other + laps) % laps;
}
