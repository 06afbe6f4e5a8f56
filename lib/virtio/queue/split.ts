/**
 * The split virtqueue, driver's side (SPEC split virtqueues; reference 1.3).
 *
 * Everything that decides what happens next (free list, lengths, who holds what) is kept in arrays that the device cannot
 * reach; of the shared memory, only the used ring, its flags and the available event are ever read.
 *
 * Order of memory accesses: `publish` stores the index with `Atomics.store` and then loads the other side's flags or event
 * with `Atomics.load`. JavaScript's atomics are sequentially consistent, so the index is visible before the event is read, and the
 * descriptors are visible before the index (x86-64: a locked exchange; AArch64: store-release before load-acquire). The load also
 * stands between the index and the doorbell that the caller writes afterwards.
 *
 * @module
 */
import { ClosedError, type DeviceError, UsageError } from "../../errors/mod.ts";
import type { DmaMemory } from "../../memory/mod.ts";
import type { Doorbell } from "../transport/transport.ts";
import { AVAIL_NO_INTERRUPT, DESC_FLAG, USED_NO_NOTIFY } from "../constants/ring.ts";
import { usedIdWrong, usedIndexJump, usedLengthWrong } from "./split_faults.ts";
import { DESCRIPTOR_BYTES, type SplitLayout } from "./split_layout.ts";
import type { UsedBurst, Virtqueue } from "./virtqueue.ts";

/** Tells a queue whether its device may be notified: true from DRIVER_OK to reset (1.1). */
export interface NotifyGate {
  /** Read at each notification. */
  readonly live: boolean;
}

/** Parts that a `SplitQueue` is made of; `createVirtqueue` puts them together. */
export interface SplitQueueParts {
  /** PCI address or path of the function, for messages. */
  readonly function: string;
  /** Number of the virtqueue. */
  readonly index: number;
  /** Ring layout. */
  readonly layout: SplitLayout;
  /** Holds rings and tables as `layout` says; the queue owns it. */
  readonly memory: DmaMemory;
  /** The queue's doorbell. */
  readonly doorbell: Doorbell;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIndex: boolean;
  /** Without one, the queue may always notify. */
  readonly gate?: NotifyGate;
}

// Who holds the chain that begins at a descriptor.
const FREE = 0;
const COMMITTED = 1;
const PUBLISHED = 2;

const MAX_CHAIN_BYTES = 2 ** 32;
const INDEX_MASK = 0xffff;

/** A split ring with indirect descriptors and event index. See `Virtqueue` for what its calls do. */
export class SplitQueue implements Virtqueue {
  readonly index: number;
  readonly layout = "split";
  readonly size: number;
  readonly #place: { readonly function: string; readonly queue: number };
  readonly #memory: DmaMemory;
  readonly #doorbell: Doorbell;
  readonly #gate: NotifyGate | null;
  readonly #eventIndex: boolean;
  readonly #mask: number;

  // Shared with the device.
  readonly #descriptors: Uint32Array<ArrayBuffer>;
  readonly #available: Uint16Array<ArrayBuffer>;
  readonly #used: Uint16Array<ArrayBuffer>;
  readonly #usedElements: Uint32Array<ArrayBuffer>;
  readonly #tables: Uint32Array<ArrayBuffer>;
  readonly #tablesLo: number;
  readonly #tablesHi: number;
  readonly #tableSegments: number;
  /** Half-words from the start of the available ring to `used_event`, and of the used ring to `avail_event`. */
  readonly #usedEventAt: number;
  readonly #availableEventAt: number;

  // Private to the driver.
  readonly #link: Uint16Array<ArrayBuffer>;
  readonly #tail: Uint16Array<ArrayBuffer>;
  readonly #taken: Uint16Array<ArrayBuffer>;
  readonly #state: Uint8Array<ArrayBuffer>;
  readonly #writable: Uint32Array<ArrayBuffer>;
  readonly #fresh: Uint16Array<ArrayBuffer>;
  #freeHead = 0;
  #free: number;
  #inFlight = 0;
  #freshCount = 0;
  /** Next available index to fill, the last one that the device was told, and the next used index to take. */
  #next = 0;
  #published = 0;
  #nextUsed = 0;

  // The chain between `begin` and `commit`; `#parts` is 0 when there is none.
  #parts = 0;
  #readableParts = 0;
  #part = 0;
  #cursor = 0;
  #lastPart = 0;
  #chainBytes = 0;
  #chainWritable = 0;
  #indirectChain = false;

  #fault: DeviceError | null = null;
  #closed = false;

  /** Takes over `parts.memory`, which must be zeroed. */
  constructor(parts: SplitQueueParts) {
    const { layout, memory } = parts;
    const { size } = layout;
    this.index = parts.index;
    this.size = size;
    this.#place = { function: parts.function, queue: parts.index };
    this.#memory = memory;
    this.#doorbell = parts.doorbell;
    this.#gate = parts.gate ?? null;
    this.#eventIndex = parts.eventIndex;
    this.#mask = size - 1;

    const { buffer } = memory;
    this.#descriptors = new Uint32Array(buffer, layout.descriptorOffset, size * 4);
    this.#available = new Uint16Array(buffer, layout.driverOffset, 3 + size);
    this.#used = new Uint16Array(buffer, layout.deviceOffset, 3 + 4 * size);
    this.#usedElements = new Uint32Array(buffer, layout.deviceOffset + 4, 2 * size);
    this.#tableSegments = layout.tableSegments;
    this.#tables = new Uint32Array(buffer, layout.tablesOffset, size * layout.tableSegments * 4);
    const tables = memory.iova + BigInt(layout.tablesOffset);
    this.#tablesLo = Number(tables & 0xffff_ffffn);
    this.#tablesHi = Number(tables >> 32n);
    this.#usedEventAt = 2 + size;
    this.#availableEventAt = 2 + 4 * size;

    this.#link = Uint16Array.from({ length: size }, (_, i) => i + 1);
    this.#tail = new Uint16Array(size);
    this.#taken = new Uint16Array(size);
    this.#state = new Uint8Array(size);
    this.#writable = new Uint32Array(size);
    this.#fresh = new Uint16Array(size);
    this.#free = size;
  }

  get freeDescriptors(): number {
    this.#check();
    return this.#free;
  }

  get inFlight(): number {
    this.#check();
    return this.#inFlight;
  }

  get closed(): boolean {
    return this.#closed || this.#memory.closed;
  }

  /**
   * As `Virtqueue.begin`. A chain of two parts or more that fits into an indirect table takes one descriptor, every other chain one for
   * each part. A `UsageError` out of `begin`, `segment` or `commit` drops the chain that was being added.
   */
  begin(readableParts: number, writableParts: number): boolean {
    this.#check();
    if (this.#parts !== 0) this.#drop("begin: the chain before was not committed");
    const parts = readableParts + writableParts;
    if ((readableParts >>> 0) !== readableParts || (writableParts >>> 0) !== writableParts || parts === 0) {
      this.#drop(`a chain of ${readableParts} device-readable and ${writableParts} device-writable parts`);
    }
    if (parts > this.size) {
      this.#drop(`a chain of ${parts} parts can never fit into a queue of ${this.size}`);
    }
    const indirect = parts > 1 && parts <= this.#tableSegments;
    if ((indirect ? 1 : parts) > this.#free) return false;
    this.#parts = parts;
    this.#readableParts = readableParts;
    this.#part = 0;
    this.#chainBytes = 0;
    this.#chainWritable = 0;
    this.#indirectChain = indirect;
    this.#cursor = this.#freeHead;
    return true;
  }

  /** As `Virtqueue.segment`. */
  segment(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    this.#check();
    const part = this.#part;
    if (part >= this.#parts) this.#drop("segment: the chain has no part left; begin says how many");
    this.#checkPart(iovaLo, iovaHi, lengthBytes);
    const bytes = this.#chainBytes + lengthBytes;
    if (bytes > MAX_CHAIN_BYTES) this.#drop(`a chain of ${bytes} bytes; the standard allows 2^32`);
    this.#chainBytes = bytes;

    let flags = 0;
    if (part >= this.#readableParts) {
      flags = DESC_FLAG.write;
      this.#chainWritable += lengthBytes;
    }
    const last = part + 1 === this.#parts;
    this.#part = part + 1;
    if (this.#indirectChain) {
      const word = (this.#freeHead * this.#tableSegments + part) * 4;
      const tables = this.#tables;
      tables[word] = iovaLo;
      tables[word + 1] = iovaHi;
      tables[word + 2] = lengthBytes;
      tables[word + 3] = last ? flags : flags | DESC_FLAG.next | ((part + 1) << 16);
      return;
    }
    const at = this.#cursor;
    const next = this.#link[at]!;
    const descriptors = this.#descriptors;
    descriptors[at * 4] = iovaLo;
    descriptors[at * 4 + 1] = iovaHi;
    descriptors[at * 4 + 2] = lengthBytes;
    descriptors[at * 4 + 3] = last ? flags : flags | DESC_FLAG.next | (next << 16);
    this.#lastPart = at;
    this.#cursor = next;
  }

  commit(): number {
    this.#check();
    if (this.#parts === 0 || this.#part !== this.#parts) {
      this.#drop(`commit: ${this.#part} of ${this.#parts} parts were given`);
    }
    const head = this.#freeHead;
    if (this.#indirectChain) {
      // The table's address without bigint: the sum of the low halves is exact, and carries at most once.
      const sum = this.#tablesLo + head * this.#tableSegments * DESCRIPTOR_BYTES;
      const carry = sum >= 4294967296 ? 1 : 0;
      const descriptors = this.#descriptors;
      descriptors[head * 4] = carry === 1 ? sum - 4294967296 : sum;
      descriptors[head * 4 + 1] = this.#tablesHi + carry;
      descriptors[head * 4 + 2] = this.#parts * DESCRIPTOR_BYTES;
      descriptors[head * 4 + 3] = DESC_FLAG.indirect;
      this.#lastPart = head;
      this.#cursor = this.#link[head]!;
    }
    const taken = this.#indirectChain ? 1 : this.#parts;
    this.#parts = 0;
    this.#part = 0;
    this.#hold(head, taken, this.#chainWritable);
    return head;
  }

  addSingle(iovaLo: number, iovaHi: number, lengthBytes: number, deviceWrites: boolean): number {
    this.#check();
    if (this.#parts !== 0) this.#drop("addSingle: the chain before was not committed");
    this.#checkPart(iovaLo, iovaHi, lengthBytes);
    if (this.#free === 0) return -1;
    const head = this.#freeHead;
    const descriptors = this.#descriptors;
    descriptors[head * 4] = iovaLo;
    descriptors[head * 4 + 1] = iovaHi;
    descriptors[head * 4 + 2] = lengthBytes;
    descriptors[head * 4 + 3] = deviceWrites ? DESC_FLAG.write : 0;
    this.#lastPart = head;
    this.#cursor = this.#link[head]!;
    this.#hold(head, 1, deviceWrites ? lengthBytes : 0);
    return head;
  }

  /** Takes the chain's descriptors off the free list and puts its head into the available ring, not yet published. */
  #hold(head: number, taken: number, writableBytes: number): void {
    this.#freeHead = this.#cursor;
    this.#free -= taken;
    this.#tail[head] = this.#lastPart;
    this.#taken[head] = taken;
    // 2^32 itself does not fit, but no 32-bit length is above 2^32 − 1 either.
    this.#writable[head] = writableBytes > 0xffff_ffff ? 0xffff_ffff : writableBytes;
    this.#state[head] = COMMITTED;
    this.#fresh[this.#freshCount++] = head;
    this.#available[2 + (this.#next & this.#mask)] = head;
    this.#next = (this.#next + 1) & INDEX_MASK;
    this.#inFlight++;
  }

  publish(): boolean {
    this.#check();
    const count = this.#freshCount;
    if (count === 0) return false;
    const fresh = this.#fresh;
    const state = this.#state;
    for (let i = 0; i < count; i++) state[fresh[i]!] = PUBLISHED;
    this.#freshCount = 0;
    const next = this.#next;
    this.#published = next;
    Atomics.store(this.#available, 1, next);
    if (!this.#eventIndex) return (Atomics.load(this.#used, 0) & USED_NO_NOTIFY) === 0;
    // Notify when the event lies among the `count` positions just filled (batch form of 1.3).
    const event = Atomics.load(this.#used, this.#availableEventAt);
    return ((next - event - 1) & INDEX_MASK) < count;
  }

  notify(): void {
    this.#check();
    if (this.#gate !== null && !this.#gate.live) {
      throw new UsageError(`${this.#place.function}, queue ${this.index}: notified before DRIVER_OK (1.1)`, {
        hint: "call VirtioDevice.driverOk() first",
      });
    }
    this.#doorbell.ring(this.#published & 0x7fff, this.#published >> 15);
  }

  kick(): boolean {
    if (!this.publish()) return false;
    this.notify();
    return true;
  }

  hasUsed(): boolean {
    this.#check();
    return Atomics.load(this.#used, 1) !== this.#nextUsed;
  }

  /**
   * As `Virtqueue.takeUsed`. When a returned chain is not what the device may return, those before it are still given out, and the error is
   * thrown by this call when there are none before it, else by the next one.
   */
  takeUsed(into: UsedBurst, max: number = into.ids.length): number {
    this.#check();
    const { ids, lengths } = into;
    let from = this.#nextUsed;
    const to = Atomics.load(this.#used, 1);
    let count = (to - from) & INDEX_MASK;
    if (count === 0) return 0;
    const held = this.#inFlight - this.#freshCount;
    if (count > held) throw this.#break(usedIndexJump(this.#place, from, to, held));
    if (count > max) count = max;
    if (count > ids.length) count = ids.length;
    if (count > lengths.length) count = lengths.length;

    const elements = this.#usedElements;
    const mask = this.#mask;
    let done = 0;
    for (; done < count; done++) {
      const word = (from & mask) * 2;
      // Each is read once: the device could change it between a check and a second read.
      const id = elements[word]!;
      const length = elements[word + 1]!;
      if (id >= this.size || this.#state[id] !== PUBLISHED) {
        this.#break(usedIdWrong(this.#place, id, this.size, this.#state[id] === COMMITTED));
        break;
      }
      if (length > this.#writable[id]!) {
        this.#break(usedLengthWrong(this.#place, id, length, this.#writable[id]!));
        break;
      }
      this.#state[id] = FREE;
      this.#link[this.#tail[id]!] = this.#freeHead;
      this.#freeHead = id;
      this.#free += this.#taken[id]!;
      ids[done] = id;
      lengths[done] = length;
      from = (from + 1) & INDEX_MASK;
    }
    this.#inFlight -= done;
    this.#nextUsed = from;
    if (done === 0 && this.#fault !== null) throw this.#fault;
    return done;
  }

  suppressInterrupts(): void {
    this.#check();
    if (this.#eventIndex) {
      // The flag must stay 0 with EVENT_IDX; the position just behind is the one that is reached last.
      Atomics.store(this.#available, this.#usedEventAt, (this.#nextUsed - 1) & INDEX_MASK);
    } else {
      Atomics.store(this.#available, 0, AVAIL_NO_INTERRUPT);
    }
  }

  enableInterrupts(): boolean {
    this.#check();
    if (this.#eventIndex) Atomics.store(this.#available, this.#usedEventAt, this.#nextUsed);
    else Atomics.store(this.#available, 0, 0);
    return Atomics.load(this.#used, 1) !== this.#nextUsed;
  }

  /** As `Virtqueue.inFlightIds`; works on a broken queue too. @throws ClosedError */
  inFlightIds(): number[] {
    if (this.closed) throw this.#closedError();
    const ids: number[] = [];
    this.#state.forEach((state, id) => {
      if (state !== FREE) ids.push(id);
    });
    return ids;
  }

  /** Frees the rings. The device must not use them any more: reset it (or the queue) first. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#fault !== null || this.#closed || this.#memory.closed) this.#refuse();
  }

  #refuse(): never {
    if (this.closed) throw this.#closedError();
    throw this.#fault!;
  }

  #closedError(): ClosedError {
    return new ClosedError(`queue ${this.index} of ${this.#place.function}`);
  }

  #break(fault: DeviceError): DeviceError {
    this.#fault = fault;
    return fault;
  }

  #checkPart(iovaLo: number, iovaHi: number, lengthBytes: number): void {
    if ((iovaLo >>> 0) !== iovaLo || (iovaHi >>> 0) !== iovaHi) {
      this.#drop(`IOVA halves ${iovaLo} and ${iovaHi} are not unsigned 32-bit numbers`);
    }
    if ((lengthBytes >>> 0) !== lengthBytes || lengthBytes === 0) {
      this.#drop(`a part of ${lengthBytes} bytes`);
    }
  }

  /** Forgets the chain that was being added: nothing of it was taken off the free list yet. */
  #drop(message: string): never {
    this.#parts = 0;
    this.#part = 0;
    throw new UsageError(`${this.#place.function}, queue ${this.index}: ${message}`);
  }
}
