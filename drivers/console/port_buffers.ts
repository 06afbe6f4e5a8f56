/**
 * The two queues of a port with their buffers: bytes in, bytes out.
 *
 * @module
 */
import type { DmaSpace } from "../../lib/memory/mod.ts";
import { BufferPool } from "../../lib/virtio/queue/buffer_pool.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { UsedBurst, Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";

/** Receive buffers that are posted, filled, read and posted again; transmit buffers that are filled, sent and reclaimed. Allocates nothing a byte. */
export class PortBuffers implements Disposable {
  /** Bytes that came in and went out. */
  readonly counts = { received: 0, sent: 0 };
  readonly receiveQueue: Virtqueue;
  readonly transmitQueue: Virtqueue;
  readonly #incoming: BufferPool;
  readonly #outgoing: BufferPool;
  readonly #memory: DisposableStack;
  readonly #used: UsedBurst;
  /** Filled buffers, oldest first: a ring of slots, and the bytes in each. */
  readonly #filled: Uint16Array<ArrayBuffer>;
  readonly #filledBytes: Uint32Array<ArrayBuffer>;
  #filledAt = 0;
  #filledCount = 0;
  /** Bytes of the oldest one that were read already. */
  #read = 0;

  /** Allocates the buffers and posts none. @throws ExhaustedError, SyscallError */
  constructor(receive: Virtqueue, transmit: Virtqueue, dma: DmaSpace, bufferBytes: number) {
    this.receiveQueue = receive;
    this.transmitQueue = transmit;
    using memory = new DisposableStack();
    const make = (queue: Virtqueue, label: string, deviceWrites: boolean) => {
      const access = { deviceReads: !deviceWrites, deviceWrites };
      const chains = deviceWrites ? "writable" : "readable";
      return memory.use(new BufferPool(queue, dma, { label, slotBytes: bufferBytes, access, chains }));
    };
    this.#incoming = make(receive, "receive buffers", true);
    this.#outgoing = make(transmit, "transmit buffers", false);
    this.#memory = memory.move();
    this.#used = usedBurst(Math.max(receive.size, transmit.size));
    this.#filled = new Uint16Array(receive.size);
    this.#filledBytes = new Uint32Array(receive.size);
  }

  /** True after `close`, here or of the function. */
  get closed(): boolean {
    return this.#incoming.closed;
  }

  /** Posts all receive buffers: once, when the device runs. */
  start(): void {
    for (let slot = 0; slot < this.#incoming.count; slot++) this.#post(slot);
    this.receiveQueue.flush();
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
      if (emptied) this.receiveQueue.flush();
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
    this.receiveQueue.flush();
    return bytes;
  }

  /** Copies into free buffers and shows them to the device. @returns bytes taken; 0: no buffer is free */
  write(from: Uint8Array): number {
    const pool = this.#outgoing;
    if (pool.free === 0) this.reclaim();
    let taken = 0;
    while (taken < from.length && pool.free > 0) {
      const count = Math.min(pool.slotBytes, from.length - taken);
      const slot = pool.take();
      pool.views[slot]!.set(from.subarray(taken, taken + count));
      pool.add(slot, count);
      taken += count;
    }
    if (taken > 0) this.transmitQueue.flush();
    this.counts.sent += taken;
    return taken;
  }

  /** Takes back what the device is done with. @returns how many buffers */
  reclaim(): number {
    const used = this.#used;
    const count = this.#outgoing.takeUsed(used);
    for (let i = 0; i < count; i++) this.#outgoing.give(used.ids[i]!);
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
    this.receiveQueue.flush();
  }

  /** Unmaps the buffers. The queues are their device's. */
  [Symbol.dispose](): void {
    this.#memory.dispose();
  }

  #take(): boolean {
    const used = this.#used;
    const count = this.#incoming.takeUsed(used);
    for (let i = 0; i < count; i++) {
      const slot = used.ids[i]!;
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
    this.#incoming.add(slot, this.#incoming.slotBytes);
  }
}
