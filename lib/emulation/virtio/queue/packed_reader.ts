/**
 * Reads the descriptors of a packed ring (virtio 1.2 §2.8).
 *
 * @module
 */
import { DESC_FLAG } from "../../../virtio/spec/ring.ts";
import type { Chain } from "./chain.ts";
import { ChainReader } from "./chain_reader.ts";
import type { RingArea } from "./ring.ts";

/** Both flags that say whose a descriptor is. */
export const AVAIL_USED: number = DESC_FLAG.avail | DESC_FLAG.used;

/** AVAIL and USED of a descriptor that is available while the driver's wrap counter is `wrap`. */
export function availFlags(wrap: number): number {
  return wrap === 1 ? DESC_FLAG.avail : DESC_FLAG.used;
}

/** Reads chains of one packed ring. Positions are a slot and the driver's wrap counter there. */
export class PackedReader extends ChainReader {
  /** The ring, as words. */
  desc32: Uint32Array<ArrayBuffer> = new Uint32Array(0);
  /** The same as half words. */
  desc16: Uint16Array<ArrayBuffer> = new Uint16Array(0);
  /** Behind the last chain that `scan` counted. */
  scanSlot = 0;
  scanWrap = 1;
  #reservedFlagsSeen = false;

  /** Takes views of the ring. */
  map({ buffer, offset }: RingArea): void {
    this.desc32 = new Uint32Array(buffer, offset, 4 * this.ring.size);
    this.desc16 = new Uint16Array(buffer, offset, 8 * this.ring.size);
  }

  /** Descriptors from a position on that are available, up to `most`. */
  availableSlots(slot: number, wrap: number, most: number): number {
    const { desc16 } = this;
    const { size } = this.ring;
    let flags = availFlags(wrap);
    let count = 0;
    while (count < most) {
      if ((Atomics.load(desc16, 8 * slot + 7) & AVAIL_USED) !== flags) break;
      count++;
      if (++slot === size) {
        slot = 0;
        flags ^= AVAIL_USED;
      }
    }
    return count;
  }

  /** Counts chains from a position on, up to `chains` in `room` slots. A chain that breaks a rule is counted, and the last. */
  scan(slot: number, wrap: number, room: number, chains: number): number {
    const { desc16 } = this;
    const { size } = this.ring;
    let count = 0;
    while (count < chains && room > 0) {
      let flags = Atomics.load(desc16, 8 * slot + 7);
      if ((flags & AVAIL_USED) !== availFlags(wrap)) break;
      count++;
      for (;;) {
        room--;
        if (++slot === size) {
          slot = 0;
          wrap ^= 1;
        }
        if ((flags & DESC_FLAG.next) === 0 || room === 0) break;
        flags = desc16[8 * slot + 7]!;
        if ((flags & AVAIL_USED) !== availFlags(wrap)) {
          room = 0;
          break;
        }
      }
    }
    this.scanSlot = slot;
    this.scanWrap = wrap;
    return count;
  }

  /** @returns the descriptors that the chain at `head` takes in the ring, or −1 when the queue broke over it @param room slots that the device has not */
  walk(head: number, wrap: number, headFlags: number, room: number, into: Chain): number {
    const { ring, desc32, desc16 } = this;
    const { size } = ring;
    let slot = head, flags = headFlags;
    let expected = availFlags(wrap);
    for (let slots = 1;; slots++) {
      if (slots > size) return this.tooLong(head) ? slots : -1;
      if (slots > room) {
        ring.bad(head, `slot ${slot} was made available before the device had returned it`);
        return -1;
      }
      if (slots > 1) {
        flags = desc16[8 * slot + 7]!;
        if ((flags & AVAIL_USED) !== expected) {
          ring.bad(head, `slot ${slot} in its middle is not available`);
          return -1;
        }
      }
      const lo = desc32[4 * slot]!, hi = desc32[4 * slot + 1]!, length = desc32[4 * slot + 2]!;
      if ((flags & DESC_FLAG.indirect) !== 0) {
        if (!ring.indirect) {
          ring.bad(head, `slot ${slot} is indirect, INDIRECT_DESC was not negotiated`);
          return -1;
        }
        if ((flags & DESC_FLAG.next) !== 0 || slots > 1) {
          ring.bad(head, `slot ${slot} is both INDIRECT and part of a list`);
          return -1;
        }
        return this.#walkTable(head, lo, hi, length, into) ? 1 : -1;
      }
      if (!this.take(head, slot, flags, lo, hi, length, into)) return -1;
      if ((flags & DESC_FLAG.next) === 0) return slots;
      if (++slot === size) {
        slot = 0;
        expected ^= AVAIL_USED;
      }
    }
  }

  /** Takes all entries of an indirect table: WRITE is the only flag that means something there, the device ignores the others (§2.8.7). */
  #walkTable(head: number, lo: number, hi: number, length: number, into: Chain): boolean {
    if (!this.checkTable(head, length)) return false;
    const entries = length / 16;
    if (entries > this.ring.size) return this.tooLong(head);
    for (let index = 0; index < entries; index++) {
      if (!this.readEntry(head, lo, hi, index)) return false;
      const flags = this.entryFourth;
      if ((flags & ~DESC_FLAG.write) !== 0 && !this.#reservedFlagsSeen) {
        this.#reservedFlagsSeen = true;
        this.ring.report(
          head,
          `entry ${index} of the indirect table has flags 0x${flags.toString(16)}: only WRITE may be set`,
        );
      }
      if (!this.take(head, index, flags, this.entryLo, this.entryHi, this.entryLength, into)) return false;
    }
    return true;
  }

  /**
   * What is wrong with a position where another device is said to have left the ring with all chains returned; undefined when nothing is. It is not
   * believed: a ring has no available descriptor that another device did not leave available.
   */
  placeProblem(slot: number, wrap: number): string | undefined {
    const { desc16 } = this;
    const { size } = this.ring;
    if (slot >= size) return `the queue has ${size} slots`;
    // What lies behind the driver made available in that round: it does not look as it did before. The driver may be writing the next round there.
    const before = slot === 0 ? size - 1 : slot - 1;
    const untouched = (slot === 0 ? wrap : wrap ^ 1) === 1 ? AVAIL_USED : 0;
    if ((Atomics.load(desc16, 8 * before + 7) & AVAIL_USED) === untouched) {
      return `slot ${before} before it has not been made available`;
    }
    // What lies ahead is available, up to where the driver has not been in this round.
    const ahead = this.availableSlots(slot, wrap, size);
    if (ahead === size) return undefined;
    const end = slot + ahead, at = end < size ? end : end - size;
    const used = (end < size ? wrap : wrap ^ 1) === 1 ? AVAIL_USED : 0;
    return (Atomics.load(desc16, 8 * at + 7) & AVAIL_USED) === used
      ? `slot ${at} has been used already`
      : undefined;
  }
}
