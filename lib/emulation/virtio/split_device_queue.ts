/**
 * The device's side of a split ring (virtio 1.2 §2.7; reference 1.3).
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import type { DmaTable } from "../../vfio/vfio_user/dma_table.ts";
import {
  AVAIL_NO_INTERRUPT,
  DESC_FLAG,
  QUEUE_SIZE_MAX,
  SPLIT_ALIGN,
  USED_NO_NOTIFY,
} from "../../virtio/constants/ring.ts";
import type { Chain } from "./chain.ts";
import type { DeviceQueue, DeviceQueueOwner, DeviceQueueSetup } from "./device_queue.ts";

const NONE16 = new Uint16Array(0);
const NONE32 = new Uint32Array(0);
/** Longest chain in bytes (§2.7.4.2: a driver must not add more than 2^32). */
const CHAIN_BYTES_MAX = 2 ** 32;

/**
 * What is wrong with the registers of a split ring; undefined when nothing is.
 * Whether its areas are mapped is found out at first use, when the device may touch memory.
 */
export function checkSplitSetup(setup: DeviceQueueSetup): string | undefined {
  const { size } = setup;
  if (size < 1 || size > QUEUE_SIZE_MAX || (size & (size - 1)) !== 0) {
    return `queue_size ${size} is not a power of two from 1 to ${QUEUE_SIZE_MAX}`;
  }
  for (const area of ["descriptorArea", "driverArea", "deviceArea"] as const) {
    if (setup[area] % BigInt(SPLIT_ALIGN[area]) !== 0n) {
      return `${area} 0x${setup[area].toString(16)} is not aligned to ${SPLIT_ALIGN[area]} bytes`;
    }
  }
  return undefined;
}

/** A split ring, read as strictly as the standard lets a device be. */
export class SplitDeviceQueue implements DeviceQueue {
  readonly index: number;
  readonly layout = "split";
  readonly size: number;
  readonly #setup: DeviceQueueSetup;
  readonly #owner: DeviceQueueOwner;
  readonly #dma: DmaTable;
  readonly #mask: number;
  readonly #indirect: boolean;
  readonly #eventIndex: boolean;

  /** Heads that the device holds. */
  readonly #held: Uint8Array;
  /** Head that was popped at each ring position, for `unpop`. */
  readonly #popped: Uint16Array;
  #heldCount = 0;
  #broken = false;

  // Views of the three areas; made again whenever the client's mappings change.
  #generation = -1;
  #desc32: Uint32Array = NONE32;
  #desc16: Uint16Array = NONE16;
  /** flags, idx, ring, used_event. */
  #avail: Uint16Array = NONE16;
  /** flags, idx, …, avail_event. */
  #used16: Uint16Array = NONE16;
  /** flags and idx, then id and len of each element. */
  #used32: Uint32Array = NONE32;

  /** Free-running position of the next chain to pop, and the driver's `avail.idx` as read last. */
  #next = 0;
  #seen = 0;
  /** Free-running position of the next used element, the published one, and the one at the last decision to notify. */
  #usedNext = 0;
  #usedPublished = 0;
  #usedNotified = 0;
  /** Notifications are asked for: true at first, since a zeroed ring asks for them. */
  #armed = true;

  /** A queue that was just enabled. @throws UsageError for a setup that `checkSplitSetup` finds fault with */
  constructor(setup: DeviceQueueSetup, owner: DeviceQueueOwner) {
    const problem = checkSplitSetup(setup);
    if (problem !== undefined) throw new UsageError(`queue ${setup.index}: ${problem}`);
    this.#setup = setup;
    this.#owner = owner;
    this.#dma = owner.dma;
    this.index = setup.index;
    this.size = setup.size;
    this.#mask = setup.size - 1;
    this.#indirect = setup.indirect;
    this.#eventIndex = setup.eventIndex;
    this.#held = new Uint8Array(setup.size);
    this.#popped = new Uint16Array(setup.size);
  }

  /** A violation was found: the queue is empty and takes nothing. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Chains that the device holds. */
  get inFlight(): number {
    return this.#heldCount;
  }

  /** Chains that can be popped. */
  available(): number {
    if (!this.#ready()) return 0;
    this.#look();
    return this.#broken ? 0 : (this.#seen - this.#next) & 0xffff;
  }

  /** Takes the next chain. @returns its id, or −1 */
  pop(into: Chain): number {
    if (!this.#ready()) return -1;
    if (this.#next === this.#seen && !this.#look()) return -1;
    const slot = this.#next & this.#mask;
    const head = this.#avail[2 + slot]!;
    if (head >= this.size) {
      return this.#fail("1.3", `avail.ring[${slot}] = ${head} is not a descriptor of ${this.size}`);
    }
    if (this.#held[head] !== 0) {
      return this.#fail(
        "1.3",
        `avail.ring[${slot}]: chain ${head} was made available while the device has it`,
      );
    }
    into.begin(head);
    if (!this.#walk(head, into)) return -1;
    this.#popped[slot] = head;
    this.#held[head] = 1;
    this.#heldCount++;
    this.#next = (this.#next + 1) & 0xffff;
    return head;
  }

  /** Gives the chain that was popped last back. @throws UsageError when the device holds none */
  unpop(): void {
    const before = (this.#next - 1) & 0xffff;
    const head = this.#popped[before & this.#mask]!;
    if (this.#heldCount === 0 || this.#held[head] === 0) {
      throw new UsageError(`queue ${this.index}: no chain to give back`);
    }
    this.#held[head] = 0;
    this.#heldCount--;
    this.#next = before;
  }

  /** Returns a chain, invisible until `publish`. @throws UsageError when the device does not hold it */
  pushUsed(id: number, lengthBytes: number): void {
    if (!this.#ready()) return;
    if (this.#held[id] !== 1) {
      throw new UsageError(`queue ${this.index}: the device does not hold chain ${id}`);
    }
    this.#held[id] = 0;
    this.#heldCount--;
    this.writeUsed(id, lengthBytes);
  }

  /** Puts an element into the used ring, unchecked: only `pushUsed`, and devices that lie, call it. */
  protected writeUsed(id: number, lengthBytes: number): void {
    const at = 1 + 2 * (this.#usedNext & this.#mask);
    this.#used32[at] = id;
    this.#used32[at + 1] = lengthBytes;
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
  }

  /** Moves the used index on without writing elements: only devices that lie call it. */
  protected skipUsed(count: number): void {
    this.#usedNext = (this.#usedNext + count) & 0xffff;
  }

  /** Makes the returned chains visible. @returns whether the driver was notified */
  publish(): boolean {
    const position = this.#usedNext;
    if (position === this.#usedPublished || !this.#ready()) return false;
    // Sequentially consistent: the release of the elements, and the fence before the driver's wish is read.
    Atomics.store(this.#used16, 1, position);
    this.#usedPublished = position;
    const before = this.#usedNotified;
    this.#usedNotified = position;
    if (this.#eventIndex) {
      const event = Atomics.load(this.#avail, 2 + this.size);
      if (((position - event - 1) & 0xffff) >= ((position - before) & 0xffff)) return false;
    } else {
      const flags = Atomics.load(this.#avail, 0);
      if (flags > 1) {
        this.#fail("1.3", `avail.flags = 0x${flags.toString(16)}: only 0 and 1 are allowed`);
        return false;
      }
      if ((flags & AVAIL_NO_INTERRUPT) !== 0) return false;
    }
    this.#owner.interrupt(this.index);
    return true;
  }

  /** Asks the driver not to notify. */
  suppress(): void {
    if (!this.#armed || !this.#ready()) return;
    this.#armed = false;
    // With an event index the old value of avail_event lies behind, which is suppression enough, and flags must stay 0.
    if (!this.#eventIndex) this.#used16[0] = USED_NO_NOTIFY;
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(beyond = 0): boolean {
    if (!this.#ready()) return false;
    this.#armed = true;
    // Both stores are full fences: the driver sees the wish, or this sees its chains.
    if (this.#eventIndex) Atomics.store(this.#used16, 2 + 4 * this.size, (this.#next + beyond) & 0xffff);
    else Atomics.store(this.#used16, 0, 0);
    this.#look();
    return !this.#broken && ((this.#seen - this.#next) & 0xffff) > beyond;
  }

  /** Loads `avail.idx`. @returns true when chains are available */
  #look(): boolean {
    const idx = Atomics.load(this.#avail, 1);
    const count = (idx - this.#next) & 0xffff;
    if (count > this.size) {
      this.#fail("1.3", `avail.idx jumped from ${this.#seen} to ${idx}, the device is at ${this.#next}`);
      return false;
    }
    if (count < ((this.#seen - this.#next) & 0xffff)) {
      this.#fail("1.3", `avail.idx went back from ${this.#seen} to ${idx}`);
      return false;
    }
    this.#seen = idx;
    return count !== 0;
  }

  #walk(head: number, into: Chain): boolean {
    let index = head;
    for (let steps = 1;; steps++) {
      if (steps > this.size) return this.#tooLong(head);
      const word = 4 * index;
      const flags = this.#desc16[2 * word + 6]!;
      const lo = this.#desc32[word]!, hi = this.#desc32[word + 1]!, length = this.#desc32[word + 2]!;
      if ((flags & DESC_FLAG.indirect) !== 0) {
        if (!this.#indirect) {
          return this.#bad("1.3", head, `desc[${index}] is indirect, INDIRECT_DESC was not negotiated`);
        }
        if ((flags & DESC_FLAG.next) !== 0) {
          return this.#bad("1.3", head, `desc[${index}] is both INDIRECT and NEXT`);
        }
        return this.#walkTable(head, lo, hi, length, steps - 1, into);
      }
      if (!this.#take(head, index, flags, lo, hi, length, into)) return false;
      if ((flags & DESC_FLAG.next) === 0) return true;
      index = this.#desc16[2 * word + 7]!;
      if (index >= this.size) {
        return this.#bad("1.3", head, `next = ${index} is not a descriptor of ${this.size}`);
      }
    }
  }

  /** Walks an indirect table. Its WRITE flag is ignored, as §2.7.5.3.2 demands. */
  #walkTable(head: number, lo: number, hi: number, length: number, steps: number, into: Chain): boolean {
    if (length === 0 || length % 16 !== 0) {
      return this.#bad("1.3", head, `an indirect table of ${length} bytes holds no whole descriptors`);
    }
    const entries = length / 16;
    const dma = this.#dma;
    let index = 0;
    for (;;) {
      if (++steps > this.size) return this.#tooLong(head);
      const low = lo + 16 * index;
      if (!dma.find(low >>> 0, hi + Math.floor(low / 4294967296), 16, false)) {
        return this.#bad(
          "DMA",
          head,
          `entry ${index} of the indirect table lies in no mapping that the device may read`,
        );
      }
      const bytes = dma.region!.bytes;
      const at = dma.offset;
      // Tables need no alignment, so they are put together from bytes.
      const bufferLo = (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
      const bufferHi =
        (bytes[at + 4]! | bytes[at + 5]! << 8 | bytes[at + 6]! << 16 | bytes[at + 7]! << 24) >>> 0;
      const size = (bytes[at + 8]! | bytes[at + 9]! << 8 | bytes[at + 10]! << 16 | bytes[at + 11]! << 24) >>>
        0;
      const flags = bytes[at + 12]! | bytes[at + 13]! << 8;
      const next = bytes[at + 14]! | bytes[at + 15]! << 8;
      if ((flags & DESC_FLAG.indirect) !== 0) {
        return this.#bad("1.3", head, `entry ${index} of the indirect table is indirect itself`);
      }
      if (!this.#take(head, index, flags, bufferLo, bufferHi, size, into)) return false;
      if ((flags & DESC_FLAG.next) === 0) return true;
      if (next >= entries) {
        return this.#bad("1.3", head, `next = ${next} is not an entry of the indirect table of ${entries}`);
      }
      index = next;
    }
  }

  #take(
    head: number,
    index: number,
    flags: number,
    lo: number,
    hi: number,
    length: number,
    into: Chain,
  ): boolean {
    const deviceWrites = (flags & DESC_FLAG.write) !== 0;
    if (length === 0) return this.#bad("1.3", head, `descriptor ${index} has a length of 0`);
    if (!deviceWrites && into.writableBytes > 0) {
      return this.#bad("1.3", head, `device-readable descriptor ${index} comes after a device-writable one`);
    }
    if (into.readableBytes + into.writableBytes + length > CHAIN_BYTES_MAX) {
      return this.#bad("1.3", head, "the chain is longer than 2^32 bytes");
    }
    if (!into.add(this.#dma, lo, hi, length, deviceWrites)) {
      return this.#bad(
        "DMA",
        head,
        `descriptor ${index}: ${length} bytes at IOVA 0x${hex64(lo, hi)} are not mapped for the device to ${
          deviceWrites ? "write" : "read"
        }`,
      );
    }
    return true;
  }

  #tooLong(head: number): false {
    return this.#bad("1.3", head, `longer than the queue's ${this.size} descriptors, or a loop`);
  }

  #bad(rule: string, head: number, message: string): false {
    this.#fail(rule, `chain ${head}: ${message}`);
    return false;
  }

  #fail(rule: string, message: string): -1 {
    this.#broken = true;
    this.#owner.violation(rule, message, this.index);
    return -1;
  }

  /** True when the queue may be used; takes new views when the client's mappings changed. */
  #ready(): boolean {
    if (this.#broken) return false;
    return this.#generation === this.#dma.generation || this.#map();
  }

  #map(): boolean {
    const { descriptorArea, driverArea, deviceArea } = this.#setup;
    const { size } = this;
    const event = this.#eventIndex ? 2 : 0;
    const desc = this.#area("descriptor area", descriptorArea, 16 * size, 16, false);
    if (desc === undefined) return false;
    this.#desc32 = new Uint32Array(desc.buffer, desc.offset, 4 * size);
    this.#desc16 = new Uint16Array(desc.buffer, desc.offset, 8 * size);
    const avail = this.#area("driver area", driverArea, 4 + 2 * size + event, 2, false);
    if (avail === undefined) return false;
    this.#avail = new Uint16Array(avail.buffer, avail.offset, 2 + size + event / 2);
    const used = this.#area("device area", deviceArea, 4 + 8 * size + event, 4, true);
    if (used === undefined) return false;
    this.#used16 = new Uint16Array(used.buffer, used.offset, 2 + 4 * size + event / 2);
    this.#used32 = new Uint32Array(used.buffer, used.offset, 1 + 2 * size);
    this.#generation = this.#dma.generation;
    return true;
  }

  #area(
    what: string,
    iova: bigint,
    sizeBytes: number,
    alignment: number,
    deviceWrites: boolean,
  ): { buffer: ArrayBuffer; offset: number } | undefined {
    const lo = Number(iova & 0xffff_ffffn), hi = Number(iova >> 32n);
    if (!this.#dma.find(lo, hi, sizeBytes, deviceWrites)) {
      this.#fail(
        "DMA",
        `${what}: ${sizeBytes} bytes at IOVA 0x${iova.toString(16)} are not mapped for the device to ${
          deviceWrites ? "write" : "read"
        }`,
      );
      return undefined;
    }
    const offset = this.#dma.offset;
    // A mapping at an IOVA that is no multiple of the page size would make an aligned address an unaligned view.
    if (offset % alignment !== 0) {
      this.#fail("DMA", `${what} at IOVA 0x${iova.toString(16)} lies in a mapping that is not page-aligned`);
      return undefined;
    }
    return { buffer: this.#dma.region!.memory.buffer, offset };
  }
}

function hex64(lo: number, hi: number): string {
  return hi === 0 ? lo.toString(16) : `${hi.toString(16)}${lo.toString(16).padStart(8, "0")}`;
}
