/**
 * One transmit queue: a pool of slots that are filled, sent and come back (virtio 1.4 §5.1.6.2).
 *
 * @module
 */
import { typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { ETHERNET_HEADER_BYTES } from "../../../lib/virtio/spec/net.ts";
import type { BufferPool } from "../../../lib/virtio/queue/buffer_pool.ts";
import type { QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../../lib/virtio/queue/virtqueue.ts";
import type { WaitTarget } from "../../../lib/wait/waiter.ts";
import { addSlot, type NetFraming } from "./framing.ts";
import { decodeFrame, type SavedTransmit } from "./saved.ts";
import { COUNT } from "./statistics.ts";

const FREE = 0;
const RESERVED = 1;
const SENT = 2;

/**
 * `reserve` a slot, write the frame through `frame(slot)`, `send` it, and `flush` once for all. Sent slots come back by `reclaim`, which `reserve`
 * calls when it runs dry. Errors: `UsageError`, `DeviceError` when the device lies, `ClosedError`.
 */
export class TransmitQueue implements WaitTarget {
  static {
    typedErrors(this, ["reoffer", "save", "transmitBurst"]);
  }

  /** Virtqueue number. */
  readonly index: number;
  /** Longest frame, Ethernet header included. */
  readonly maxFrameBytes: number;
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #pool: BufferPool;
  /** Of each slot, what follows the header. */
  readonly #frames: readonly Uint8Array<ArrayBuffer>[];
  readonly #framing: NetFraming;
  readonly #counts: Float64Array;
  readonly #state: Uint8Array<ArrayBuffer>;
  readonly #used: UsedBurst;

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
    this.#name = name;
    this.#queue = queue;
    this.#pool = pool;
    this.#framing = framing;
    this.#counts = counts;
    this.#state = new Uint8Array(pool.count);
    this.#frames = pool.views.map((view) => view.subarray(framing.headerBytes));
    this.#used = usedBurst(queue.size);
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
    this.#state[slot] = RESERVED;
    return slot;
  }

  /** Where the slot's frame goes: `maxFrameBytes`, made once. @throws UsageError when the slot is not reserved */
  frame(slot: number): Uint8Array<ArrayBuffer> {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#state[slot] !== RESERVED) this.#notReserved(slot);
    return this.#frames[slot]!;
  }

  /** Gives an unused slot back. */
  cancel(slot: number): void {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#state[slot] !== RESERVED) this.#notReserved(slot);
    this.#state[slot] = FREE;
    this.#pool.give(slot);
  }

  /** Queues the first `lengthBytes` of the slot's frame; `flush` makes it visible. @throws UsageError too short, too long, not reserved */
  send(slot: number, lengthBytes: number): void {
    if (this.#pool.closed) this.#gone();
    if (typeof slot !== "number" || this.#state[slot] !== RESERVED) this.#notReserved(slot);
    this.checkLength(lengthBytes);
    this.#add(slot, lengthBytes);
    this.#counts[COUNT.frames]!++;
    this.#counts[COUNT.bytes]! += lengthBytes;
  }

  #add(slot: number, lengthBytes: number): void {
    addSlot(this.#pool, this.#framing, slot, this.#framing.headerBytes + lengthBytes, false);
    this.#state[slot] = SENT;
  }

  /** Sends `count` reserved slots and flushes. @returns `count` @throws UsageError; what was queued before is sent all the same */
  transmitBurst(slots: Uint16Array, lengths: Uint32Array, count: number): number {
    if (!(count >= 0 && count <= slots.length && count <= lengths.length)) {
      throw new UsageError(`a burst of ${count} frames in arrays of ${slots.length} and ${lengths.length}`);
    }
    try {
      for (let i = 0; i < count; i++) this.send(slots[i]!, lengths[i]!);
    } finally {
      this.flush();
    }
    return count;
  }

  /** Makes sent frames visible to the device, and notifies it when it asks for that. */
  flush(): void {
    if (this.#queue.flush()) this.#counts[COUNT.notifications]!++;
  }

  /** Takes slots back that the device is done with. @returns how many */
  reclaim(): number {
    const used = this.#used;
    const count = this.#pool.takeUsed(used);
    for (let i = 0; i < count; i++) {
      const slot = used.ids[i]!;
      this.#state[slot] = FREE;
      this.#pool.give(slot);
    }
    return count;
  }

  /**
   * What was sent and has not been returned, with its bytes. The device must be stopped; slots that are reserved only are the caller's and are not
   * in it.
   * @param device where the device says that it stands @throws DeviceError
   * @internal
   */
  save(device: QueueState | null): SavedTransmit {
    while (this.reclaim() > 0);
    const ring = this.#queue.save(device ?? undefined);
    const frames = ring.inFlight.map(({ id, readable }) => {
      const lengthBytes = readable.reduce((sum, part) => sum + part.lengthBytes, -this.#framing.headerBytes);
      return this.#frames[this.#pool.slotOf(id)]!.subarray(0, lengthBytes).toBase64();
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
