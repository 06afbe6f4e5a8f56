/**
 * A transmit queue of the 82576.
 *
 * @module
 */
import { typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { ETHERNET_HEADER_BYTES } from "../../../lib/virtio/spec/net.ts";
import type { NetTransmitQueue } from "../api/net_device.ts";
import { COUNT } from "../api/statistics.ts";
import { DESCRIPTOR_WORDS, DONE, TX_STATUS_WORD, writeTransmit } from "./descriptors.ts";
import type { DescriptorRing } from "./ring.ts";

/**
 * `reserve` a slot, write the frame through `frame(slot)`, `send` it, and `flush` once for all. Sent slots come back by `reclaim`, which `reserve` calls
 * when it runs dry. Errors: `UsageError`, `ClosedError`.
 */
export class IgbTransmitQueue implements NetTransmitQueue {
  static {
    typedErrors(this, ["reserveBurst", "transmitBurst"]);
  }

  /** Number of the queue, as the device counts. */
  readonly index: number;
  /** Longest frame, Ethernet header included. */
  readonly maxFrameBytes: number;
  /** Slots in all. */
  readonly slotCount: number;
  readonly #ring: DescriptorRing;
  readonly #counts: Float64Array;
  /** By slot: 1 from `reserve` to `send` or `cancel`. */
  readonly #reserved: Uint8Array<ArrayBuffer>;
  readonly #free: Uint16Array<ArrayBuffer>;
  #freeCount: number;
  /** By descriptor: the one that reports for it. */
  readonly #reporter: Uint16Array<ArrayBuffer>;
  readonly #pending: Uint16Array<ArrayBuffer>;
  readonly #pendingLengths: Uint32Array<ArrayBuffer>;
  #pendingCount = 0;

  /** Takes a ring over whose slots are all free. @param counts shared by all queues */
  constructor(ring: DescriptorRing, maxFrameBytes: number, counts: Float64Array) {
    this.index = ring.index;
    this.maxFrameBytes = maxFrameBytes;
    this.slotCount = ring.slotCount;
    this.#ring = ring;
    this.#counts = counts;
    this.#reserved = new Uint8Array(ring.slotCount);
    this.#free = Uint16Array.from({ length: ring.slotCount }, (_, at) => ring.slotCount - 1 - at);
    this.#freeCount = ring.slotCount;
    this.#reporter = new Uint16Array(ring.size);
    this.#pending = new Uint16Array(ring.slotCount);
    this.#pendingLengths = new Uint32Array(ring.slotCount);
  }

  /** Slots that `reserve` gives without waiting for the device. */
  get freeSlots(): number {
    return this.#freeCount;
  }

  /** A slot to fill, the caller's until `send` or `cancel`; −1 when the device has them all. */
  reserve(): number {
    if (this.#ring.closed) this.#gone();
    if (this.#freeCount === 0 && this.reclaim() === 0) return -1;
    const slot = this.#free[--this.#freeCount]!;
    this.#reserved[slot] = 1;
    return slot;
  }

  /** As many slots to fill as there are, up to the array's elements 0 to `count` − 1. @returns how many */
  reserveBurst(slots: Uint16Array, count: number = slots.length): number {
    if (!(slots instanceof Uint16Array && count >= 0 && count <= slots.length)) {
      this.#badBurst(count, slots.length);
    }
    if (this.#ring.closed) this.#gone();
    if (this.#freeCount < count) this.reclaim();
    const taken = Math.min(count, this.#freeCount);
    for (let at = 0; at < taken; at++) {
      const slot = slots[at] = this.#free[--this.#freeCount]!;
      this.#reserved[slot] = 1;
    }
    return taken;
  }

  /** Where the slot's frame goes. @throws UsageError when the slot is not reserved */
  frame(slot: number): Uint8Array<ArrayBuffer> {
    this.#check(slot);
    return this.#ring.views[slot]!;
  }

  /** Gives an unused slot back. */
  cancel(slot: number): void {
    this.#check(slot);
    this.#reserved[slot] = 0;
    this.#free[this.#freeCount++] = slot;
  }

  /** Queues the first `lengthBytes` of the slot's frame; `flush` makes it visible. @throws UsageError too short, too long, not reserved */
  send(slot: number, lengthBytes: number): void {
    this.#check(slot);
    this.checkLength(lengthBytes);
    this.#reserved[slot] = 0;
    this.#pending[this.#pendingCount] = slot;
    this.#pendingLengths[this.#pendingCount++] = lengthBytes;
    this.#counts[COUNT.frames]!++;
    this.#counts[COUNT.bytes]! += lengthBytes;
  }

  /** Sends `count` reserved slots and flushes. @returns `count` @throws UsageError; what was queued before is sent all the same */
  transmitBurst(slots: Uint16Array, lengths: Uint32Array, count: number): number {
    if (!(count >= 0 && count <= slots.length && count <= lengths.length)) {
      this.#badBurst(count, Math.min(slots.length, lengths.length));
    }
    try {
      for (let at = 0; at < count; at++) this.send(slots[at]!, lengths[at]!);
    } finally {
      if (!this.#ring.closed) this.flush();
    }
    return count;
  }

  /** Makes sent frames visible to the device: the last one reports for all of them. */
  flush(): void {
    const ring = this.#ring, count = this.#pendingCount;
    if (ring.closed) this.#gone();
    if (count === 0) return;
    this.#pendingCount = 0;
    const last = (ring.tail + count - 1) % ring.size;
    for (let at = 0; at < count; at++) {
      const slot = this.#pending[at]!, descriptor = ring.tail;
      const lengthBytes = this.#pendingLengths[at]!;
      ring.slotOf[descriptor] = slot;
      this.#reporter[descriptor] = last;
      const isLast = descriptor === last;
      writeTransmit(ring.words, descriptor, ring.iovaLo[slot]!, ring.iovaHi[slot]!, lengthBytes, isLast);
      ring.tail = ring.next(descriptor);
    }
    ring.publish();
    this.#counts[COUNT.notifications]!++;
  }

  /** Takes slots back that the device is done with. @returns how many */
  reclaim(): number {
    const ring = this.#ring;
    if (ring.closed) this.#gone();
    let count = 0;
    while (ring.head !== ring.tail && this.#isDone(this.#reporter[ring.head]!)) {
      const end = ring.next(this.#reporter[ring.head]!);
      do {
        this.#free[this.#freeCount++] = ring.slotOf[ring.head]!;
        ring.head = ring.next(ring.head);
        count++;
      } while (ring.head !== end);
    }
    return count;
  }

  #isDone(descriptor: number): boolean {
    return (Atomics.load(this.#ring.words, descriptor * DESCRIPTOR_WORDS + TX_STATUS_WORD) & DONE) !== 0;
  }

  /** Checks a frame's length. @throws UsageError for a frame that is too short or too long */
  checkLength(lengthBytes: number): void {
    if (
      Number.isInteger(lengthBytes) && lengthBytes >= ETHERNET_HEADER_BYTES &&
      lengthBytes <= this.maxFrameBytes
    ) return;
    throw new UsageError(`${this.#ring.name}: a frame of ${shown(lengthBytes)} bytes`, {
      hint:
        `frames are ${ETHERNET_HEADER_BYTES} to ${this.maxFrameBytes} bytes here, without checksum at the end`,
    });
  }

  /** True when the device has given slots back. @throws ClosedError */
  hasUsed(): boolean {
    const ring = this.#ring;
    if (ring.closed) this.#gone();
    return ring.head !== ring.tail && this.#isDone(this.#reporter[ring.head]!);
  }

  suppressInterrupts(): void {
    this.#ring.suppressInterrupts();
  }

  enableInterrupts(): boolean {
    this.#ring.enableInterrupts();
    return this.hasUsed();
  }

  #check(slot: number): void {
    if (this.#ring.closed) this.#gone();
    if (typeof slot === "number" && this.#reserved[slot] === 1) return;
    throw new UsageError(`${this.#where}: transmit slot ${shown(slot)} is not reserved`);
  }

  get #where(): string {
    return `${this.#ring.name}, transmit queue ${this.index}`;
  }

  #badBurst(count: number, room: number): never {
    throw new UsageError(`${this.#where}: a burst of ${shown(count)} frames in arrays of ${room}`);
  }

  #gone(): never {
    throw new ClosedError(this.#where);
  }
}
