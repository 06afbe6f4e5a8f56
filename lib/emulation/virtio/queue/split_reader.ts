/**
 * Reads the descriptor table of a split ring (virtio 1.2 §2.7.5).
 *
 * @module
 */
import { DESC_FLAG } from "../../../virtio/spec/ring.ts";
import type { Chain } from "./chain.ts";
import { ChainReader } from "./chain_reader.ts";
import type { RingArea } from "./ring.ts";

/** Reads chains of one split ring. */
export class SplitReader extends ChainReader {
  /** The table, as words. */
  desc32: Uint32Array<ArrayBuffer> = new Uint32Array(0);
  /** The same as half words. */
  desc16: Uint16Array<ArrayBuffer> = new Uint16Array(0);

  /** Takes views of the table. */
  map({ buffer, offset }: RingArea): void {
    this.desc32 = new Uint32Array(buffer, offset, 4 * this.ring.size);
    this.desc16 = new Uint16Array(buffer, offset, 8 * this.ring.size);
  }

  /** @returns the last descriptor of the chain in the table, or −1 when the queue broke over it */
  walk(head: number, into: Chain): number {
    const { ring, desc32, desc16 } = this;
    const { size } = ring;
    let index = head;
    for (let steps = 1;; steps++) {
      if (steps > size) return this.tooLong(head) ? head : -1;
      const word = 4 * index;
      const flags = desc16[2 * word + 6]!;
      const lo = desc32[word]!, hi = desc32[word + 1]!, length = desc32[word + 2]!;
      if ((flags & DESC_FLAG.indirect) !== 0) {
        if (!ring.indirect) {
          ring.bad(head, `desc[${index}] is indirect, INDIRECT_DESC was not negotiated`);
          return -1;
        }
        if ((flags & DESC_FLAG.next) !== 0) {
          ring.bad(head, `desc[${index}] is both INDIRECT and NEXT`);
          return -1;
        }
        return this.#walkTable(head, lo, hi, length, steps - 1, into) ? index : -1;
      }
      if (!this.take(head, index, flags, lo, hi, length, into)) return -1;
      if ((flags & DESC_FLAG.next) === 0) return index;
      const next = desc16[2 * word + 7]!;
      if (next >= size) {
        ring.bad(head, `next = ${next} is not a descriptor of ${size}`);
        return -1;
      }
      if (ring.inOrder && next !== (index + 1) % size) {
        ring.bad(head, `desc[${index}].next = ${next}: with IN_ORDER it is the descriptor that follows`);
        return -1;
      }
      index = next;
    }
  }

  /** Walks an indirect table. Its WRITE flag is ignored, as §2.7.5.3.2 demands. */
  #walkTable(head: number, lo: number, hi: number, length: number, steps: number, into: Chain): boolean {
    const { ring } = this;
    if (!this.checkTable(head, length)) return false;
    const entries = length / 16;
    let index = 0;
    for (;;) {
      if (++steps > ring.size) return this.tooLong(head);
      if (!this.readEntry(head, lo, hi, index)) return false;
      const flags = this.entryThird;
      if ((flags & DESC_FLAG.indirect) !== 0) {
        return ring.bad(head, `entry ${index} of the indirect table is indirect itself`);
      }
      if (!this.take(head, index, flags, this.entryLo, this.entryHi, this.entryLength, into)) return false;
      if ((flags & DESC_FLAG.next) === 0) return true;
      const next = this.entryFourth;
      if (next >= entries) {
        return ring.bad(head, `next = ${next} is not an entry of the indirect table of ${entries}`);
      }
      if (ring.inOrder && next !== index + 1) {
        return ring.bad(
          head,
          `entry ${index} of the indirect table has next = ${next}: with IN_ORDER it is the one that follows`,
        );
      }
      index = next;
    }
  }
}
