/**
 * The two queues of a port with their buffers: bytes in, bytes out.
 *
 * @module
 */
import type { DmaSpace } from "../../lib/memory/mod.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import { SlotPool } from "../slots.ts";

/** Receive buffers that are posted, filled, read and posted again; transmit buffers that are filled, sent and reclaimed. Allocates nothing a byte. */
export class PortBuffers implements Disposable {
  /** Bytes that came in and went out. */
  readonly counts = { received: 0, sent: 0 };
  readonly receiveQueue: Virtqueue;
  readonly transmitQueue: Virtqueue;
  readonly #incoming: SlotPool;
  readonly #outgoing: SlotPool;
  readonly #used: UsedBurst;
  readonly #receiveSlot: Uint16Array<ArrayBuffer>;
  readonly #transmitSlot: Uint16Array<ArrayBuffer>;
  /** Filled buffers, oldest first: a ring of slots, and the bytes in each. */
  readonly #filled: Uint16Array<ArrayBuffer>;
  readonly #filledBytes: Uint32Array<ArrayBuffer>;
  #filledAt = 0;
  #filledCount = 0;
  /** Bytes of the oldest one that were read already. */
  #read = 0;
  readonly #free: Uint16Array<ArrayBuffer>;
  #freeCount: number;

  /** Allocates the buffers and posts none. @throws ExhaustedError, SyscallError */
  constructor(receive: Virtqueue, transmit: Virtqueue, dma: DmaSpace, bufferBytes: number) {
    this.receiveQueue = receive;
    this.transmitQueue = transmit;
    const make = (queue: Virtqueue, way: string, deviceWrites: boolean) =>
      new SlotPool(dma, queue.size, bufferBytes, 0, `queue ${queue.index} ${way} buffers`, {
        deviceReads: !deviceWrites,
        deviceWrites,
      });
    this.#incoming = make(receive, "receive", true);
    try {
      this.#outgoing = make(transmit, "transmit", false);
    } catch (error) {
      this.#incoming.close();
      throw error;
    }
    this.#used = usedBurst(Math.max(receive.size, transmit.size));
    this.#receiveSlot = new Uint16Array(receive.size);
    this.#transmitSlot = new Uint16Array(transmit.size);
    this.#filled = new Uint16Array(receive.size);
    this.#filledBytes = new Uint32Array(receive.size);
    this.#free = Uint16Array.from({ length: transmit.size }, (_, slot) => slot);
    this.#freeCount = transmit.size;
  }

  /** True after `close`, here or of the function. */
  get closed(): boolean {
    return this.#incoming.closed;
  }

  /** Posts all receive buffers: once, when the device runs. */
  start(): void {
    for (let slot = 0; slot < this.#incoming.count; slot++) this.#post(slot);
    this.receiveQueue.kick();
  }

  /** Copies what has come in. @returns bytes; 0: nothing @throws DeviceError when the device lies */
  read(into: Uint8Array): number {
    let copied = 0;
    let emptied = false;
    try {
      while (copied < into.length) {
        if (this.#filledCount === 0 && !this.#take()) break;
        const slot = this.#filled[this.#filledAt]!;
        const bytes = this.#filledBytes[this.#filledAt]!;
        const count = Math.min(bytes - this.#read, into.length - copied);
        into.set(this.#incoming.views[slot]!.subarray(this.#read, this.#read + count), copied);
        copied += count;
        this.#read += count;
        if (this.#read === bytes) {
          this.#drop();
          this.#post(slot);
          emptied = true;
        }
      }
      if (emptied) this.receiveQueue.kick();
    } catch (error) {
      // What came before the lie is good; the next call throws what happened.
      if (copied === 0) throw error;
    }
    this.counts.received += copied;
    return copied;
  }

  /** Copies the next whole buffer, which `into` has room for. @returns its bytes; 0: nothing @throws DeviceError */
  readOne(into: Uint8Array): number {
    if (this.#filledCount === 0 && !this.#take()) return 0;
    const slot = this.#filled[this.#filledAt]!;
    const bytes = this.#filledBytes[this.#filledAt]!;
    into.set(this.#incoming.views[slot]!.subarray(0, bytes));
    this.#drop();
    this.#post(slot);
    this.receiveQueue.kick();
    return bytes;
  }

  /** Copies into free buffers and shows them to the device. @returns bytes taken; 0: no buffer is free */
  write(from: Uint8Array): number {
    if (this.#freeCount === 0) this.reclaim();
    const most = this.#outgoing.slotBytes;
    let taken = 0;
    while (taken < from.length && this.#freeCount > 0) {
      const count = Math.min(most, from.length - taken);
      const slot = this.#free[--this.#freeCount]!;
      this.#outgoing.views[slot]!.set(from.subarray(taken, taken + count));
      const id = this.transmitQueue.addSingle(
        this.#outgoing.iovaLo[slot]!,
        this.#outgoing.iovaHi[slot]!,
        count,
        false,
      );
      this.#transmitSlot[id] = slot;
      taken += count;
    }
    if (taken > 0) this.transmitQueue.kick();
    this.counts.sent += taken;
    return taken;
  }

  /** Takes back what the device is done with. @returns how many buffers */
  reclaim(): number {
    const used = this.#used;
    const count = this.transmitQueue.takeUsed(used);
    for (let i = 0; i < count; i++) this.#free[this.#freeCount++] = this.#transmitSlot[used.ids[i]!]!;
    return count;
  }

  /** Transmit buffers that the device has. */
  get outstanding(): number {
    return this.transmitQueue.inFlight;
  }

  /** Something may be read. */
  get readable(): boolean {
    return this.#filledCount > 0 || this.receiveQueue.hasUsed();
  }

  /** Drops what has come in: it is from before the port was pulled out. */
  discard(): void {
    while (this.#filledCount > 0 || this.#take()) {
      const slot = this.#filled[this.#filledAt]!;
      this.#drop();
      this.#post(slot);
    }
    this.receiveQueue.kick();
  }

  /** Unmaps the buffers. The queues are their device's. */
  close(): void {
    this.#incoming.close();
    this.#outgoing.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #take(): boolean {
    const used = this.#used;
    const count = this.receiveQueue.takeUsed(used);
    for (let i = 0; i < count; i++) {
      const slot = this.#receiveSlot[used.ids[i]!]!;
      if (used.lengths[i] === 0) {
        this.#post(slot);
        continue;
      }
      const at = (this.#filledAt + this.#filledCount++) % this.#filled.length;
      this.#filled[at] = slot;
      this.#filledBytes[at] = used.lengths[i]!;
    }
    return this.#filledCount > 0;
  }

  #drop(): void {
    this.#filledAt = (this.#filledAt + 1) % this.#filled.length;
    this.#filledCount--;
    this.#read = 0;
  }

  #post(slot: number): void {
    const { iovaLo, iovaHi, slotBytes } = this.#incoming;
    const id = this.receiveQueue.addSingle(iovaLo[slot]!, iovaHi[slot]!, slotBytes, true);
    this.#receiveSlot[id] = slot;
  }
}
