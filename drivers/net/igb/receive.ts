/**
 * A receive queue of the 82576.
 *
 * @module
 */
import { isInstance, typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { FrameBurst } from "../api/frame_burst.ts";
import type { NetReceiveQueue } from "../api/net_device.ts";
import { COUNT } from "../api/statistics.ts";
import {
  DESCRIPTOR_WORDS,
  DONE,
  END_OF_PACKET,
  RECEIVE_ERROR,
  RX_LENGTH_WORD,
  RX_STATUS_WORD,
  writeReceive,
} from "./descriptors.ts";
import type { DescriptorRing } from "./ring.ts";

/** Hands out frames where the device wrote them. Errors: `DeviceError` when the device lies (reset it then), `UsageError`, `ClosedError`. */
export class IgbReceiveQueue implements NetReceiveQueue {
  static {
    typedErrors(this, ["receiveBurst", "recycle"]);
  }

  /** Number of the queue, as the device counts. */
  readonly index: number;
  /** The whole of each slot, made once; a frame's bytes are where the burst says. */
  readonly views: readonly Uint8Array<ArrayBuffer>[];
  readonly #ring: DescriptorRing;
  readonly #counts: Float64Array;
  /** By slot. 1: with the caller. */
  readonly #held: Uint8Array<ArrayBuffer>;
  /** Descriptors that the device has. */
  #given = 0;
  #fault: DeviceError | null = null;

  /** Takes a ring over whose slots are all free. @param counts shared by all queues */
  constructor(ring: DescriptorRing, counts: Float64Array) {
    this.index = ring.index;
    this.views = ring.views;
    this.#ring = ring;
    this.#counts = counts;
    this.#held = new Uint8Array(ring.slotCount).fill(1);
  }

  /** Gives all slots to the device: once, when the queue is on. */
  start(): void {
    for (let slot = 0; slot < this.#ring.slotCount; slot++) this.#offer(slot);
    this.#ring.publish();
  }

  /**
   * Takes up to `burst.capacity` frames. A frame that was damaged on the wire is dropped.
   * @returns how many; ask again until it is 0 before waiting
   */
  receiveBurst(burst: FrameBurst): number {
    const ring = this.#ring;
    if (burst.parts !== 0) {
      throw new UsageError(`${this.#where}: the burst still holds ${shown(burst.frames)} frames`, {
        hint: "recycle() or clear() it first",
      });
    }
    if (ring.closed) this.#gone();
    if (this.#fault !== null) throw this.#fault;
    const { first, slots, offsets, lengths, capacity, partCapacity } = burst;
    const { words, slotOf } = ring;
    let frames = 0, part = 0, bytes = 0;
    first[0] = 0;
    while (frames < capacity && this.#fault === null) {
      let at = ring.head, parts = 0, status = 0;
      // The frame's parts go behind those that are in the burst, and count only when its last one is there.
      for (;;) {
        if (parts === this.#given) break;
        status = Atomics.load(words, at * DESCRIPTOR_WORDS + RX_STATUS_WORD);
        if ((status & DONE) === 0) break;
        if (part + parts === partCapacity) break;
        // Read once, since the device can still change it.
        const length = words[at * DESCRIPTOR_WORDS + RX_LENGTH_WORD]! & 0xffff;
        if (length === 0 || length > ring.slotBytes) {
          this.#lie("length", `${length} bytes in a buffer of ${ring.slotBytes}`);
          break;
        }
        slots[part + parts] = slotOf[at]!;
        offsets[part + parts] = 0;
        lengths[part + parts] = length;
        parts++;
        at = ring.next(at);
        if ((status & END_OF_PACKET) !== 0) break;
      }
      if ((status & DONE) === 0 || (status & END_OF_PACKET) === 0 || this.#fault !== null || parts === 0) {
        if (parts === ring.slotCount) this.#lie("status", `a frame in all ${parts} buffers that has no end`);
        else if (parts > 0 && part + parts === partCapacity && frames === 0) {
          throw new UsageError(`${this.#where}: a frame does not fit into a burst of ${partCapacity} parts`);
        }
        break;
      }
      ring.head = at;
      this.#given -= parts;
      for (let one = part; one < part + parts; one++) this.#held[slots[one]!] = 1;
      if ((status & RECEIVE_ERROR) !== 0) {
        this.#counts[COUNT.dropped]!++;
        for (let one = part; one < part + parts; one++) this.#offer(slots[one]!);
        ring.publish();
        continue;
      }
      for (let one = part; one < part + parts; one++) bytes += lengths[one]!;
      part += parts;
      first[++frames] = part;
    }
    burst.frames = frames;
    burst.parts = part;
    if (frames === 0 && this.#fault !== null) throw this.#fault;
    this.#counts[COUNT.frames]! += frames;
    this.#counts[COUNT.bytes]! += bytes;
    return frames;
  }

  /** Copies a frame of a burst out of its slots. @returns its bytes @throws UsageError when `into` is too short */
  copyFrame(burst: FrameBurst, frame: number, into: Uint8Array): number {
    if (!(isInstance(burst, FrameBurst) && isInstance(into, Uint8Array))) {
      throw new UsageError(`${this.#where}: copyFrame(${shown(burst)}, ${shown(frame)}, ${shown(into)})`);
    }
    const bytes = burst.frameBytes(frame);
    if (bytes > into.length) throw new UsageError(`a frame of ${bytes} bytes into ${into.length}`);
    if (this.#ring.closed) this.#gone();
    let at = 0;
    for (let part = burst.first[frame]!; part < burst.first[frame + 1]!; part++) {
      const length = burst.lengths[part]!;
      into.set(this.views[burst.slots[part]!]!.subarray(0, length), at);
      at += length;
    }
    return bytes;
  }

  /** Gives all slots of a burst back to the device. The burst is empty afterwards. @throws UsageError when the caller does not hold one */
  recycle(burst: FrameBurst): void {
    if (this.#ring.closed) this.#gone();
    const { slots, parts } = burst;
    let part = 0;
    for (; part < parts && this.#held[slots[part]!] === 1; part++) this.#offer(slots[part]!);
    if (part > 0) this.#ring.publish();
    const wrong = part < parts ? slots[part] : undefined;
    burst.clear();
    if (part > 0) this.#counts[COUNT.notifications]!++;
    if (wrong === undefined) return;
    throw new UsageError(`${this.#where}: receive slot ${wrong} is not held by the caller`);
  }

  #offer(slot: number): void {
    const ring = this.#ring;
    this.#held[slot] = 0;
    ring.slotOf[ring.tail] = slot;
    writeReceive(ring.words, ring.tail, ring.iovaLo[slot]!, ring.iovaHi[slot]!);
    ring.tail = ring.next(ring.tail);
    this.#given++;
  }

  /** True when `receiveBurst` has something to look at. @throws DeviceError after a lie, ClosedError */
  hasUsed(): boolean {
    const ring = this.#ring;
    if (ring.closed) this.#gone();
    if (this.#fault !== null) throw this.#fault;
    if (this.#given === 0) return false;
    return (Atomics.load(ring.words, ring.head * DESCRIPTOR_WORDS + RX_STATUS_WORD) & DONE) !== 0;
  }

  suppressInterrupts(): void {
    this.#ring.suppressInterrupts();
  }

  enableInterrupts(): boolean {
    this.#ring.enableInterrupts();
    return this.hasUsed();
  }

  get #where(): string {
    return `${this.#ring.name}, receive queue ${this.index}`;
  }

  #lie(field: string, message: string): void {
    this.#fault = new DeviceError(message, { function: this.#ring.name, queue: this.index, field }, {
      hint: "reset the device",
    });
  }

  #gone(): never {
    throw new ClosedError(this.#where);
  }
}
