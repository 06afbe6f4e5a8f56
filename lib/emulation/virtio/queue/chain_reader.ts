/**
 * The rules for what a chain may hold, in both layouts.
 *
 * @module
 */
import type { DmaTable } from "../../../sockets/dma_table.ts";
import { DESC_FLAG } from "../../../virtio/spec/ring.ts";
import type { Chain } from "./chain.ts";

/** Longest chain in bytes (§2.7.4.2: a driver must not add more than 2^32). */
const CHAIN_BYTES_MAX = 2 ** 32;

/** The ring whose chains are read. */
export interface ReadRing {
  /** Entries. */
  readonly size: number;
  /** The client's memory. */
  readonly dma: DmaTable;
  /** INDIRECT_DESC. */
  readonly indirect: boolean;
  /** IN_ORDER. */
  readonly inOrder: boolean;
  /** Breaks the queue for what is wrong with a chain. */
  bad(chain: number, message: string, rule?: string): false;
  /** Notes what does no harm. */
  report(chain: number, message: string): void;
}

/** Reads chains of one ring. */
export abstract class ChainReader {
  /** Of the entry that `readEntry` found: low half of its address. */
  protected entryLo = 0;
  /** High half of its address. */
  protected entryHi = 0;
  /** Bytes. */
  protected entryLength = 0;
  /** Its last two words: flags and `next`, or id and flags (packed). */
  protected entryThird = 0;
  protected entryFourth = 0;
  /** Whose chains these are. */
  protected readonly ring: ReadRing;

  /** Of one ring. */
  constructor(ring: ReadRing) {
    this.ring = ring;
  }

  /** The chain has more descriptors than the queue. */
  protected tooLong(chain: number): false {
    return this.ring.bad(chain, `longer than the queue's ${this.ring.size} descriptors, or a loop`);
  }

  /** Whether an indirect table of `length` bytes can be one. */
  protected checkTable(chain: number, length: number): boolean {
    if (length !== 0 && length % 16 === 0) return true;
    return this.ring.bad(chain, `an indirect table of ${length} bytes holds no whole descriptors`);
  }

  /** Reads entry `index` of the indirect table at `hi:lo` into `entry…`. Tables need no alignment, so it is put together from bytes. */
  protected readEntry(chain: number, lo: number, hi: number, index: number): boolean {
    const { dma } = this.ring;
    const low = lo + 16 * index;
    if (!dma.find(low >>> 0, hi + Math.floor(low / 4294967296), 16, false)) {
      return this.ring.bad(
        chain,
        `entry ${index} of the indirect table at IOVA 0x${
          hex64(lo, hi)
        } lies in no mapping that the device may read`,
        "DMA",
      );
    }
    const bytes = dma.region!.bytes;
    const at = dma.offset;
    this.entryLo = (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
    this.entryHi = (bytes[at + 4]! | bytes[at + 5]! << 8 | bytes[at + 6]! << 16 | bytes[at + 7]! << 24) >>> 0;
    this.entryLength =
      (bytes[at + 8]! | bytes[at + 9]! << 8 | bytes[at + 10]! << 16 | bytes[at + 11]! << 24) >>> 0;
    this.entryThird = bytes[at + 12]! | bytes[at + 13]! << 8;
    this.entryFourth = bytes[at + 14]! | bytes[at + 15]! << 8;
    return true;
  }

  /** Appends one element to a chain, when the rules allow it. */
  protected take(
    chain: number,
    descriptor: number,
    flags: number,
    lo: number,
    hi: number,
    length: number,
    into: Chain,
  ): boolean {
    const { ring } = this;
    const deviceWrites = (flags & DESC_FLAG.write) !== 0;
    if (length === 0) return ring.bad(chain, `descriptor ${descriptor} has a length of 0`);
    if (!deviceWrites && into.writableBytes > 0) {
      return ring.bad(chain, `device-readable descriptor ${descriptor} comes after a device-writable one`);
    }
    if (into.readableBytes + into.writableBytes + length > CHAIN_BYTES_MAX) {
      return ring.bad(chain, "the chain is longer than 2^32 bytes");
    }
    if (!into.add(ring.dma, lo, hi, length, deviceWrites)) {
      return ring.bad(
        chain,
        `descriptor ${descriptor}: ${length} bytes at IOVA 0x${
          hex64(lo, hi)
        } are not mapped for the device to ${deviceWrites ? "write" : "read"}`,
        "DMA",
      );
    }
    return true;
  }
}

function hex64(lo: number, hi: number): string {
  return hi === 0 ? lo.toString(16) : `${hi.toString(16)}${lo.toString(16).padStart(8, "0")}`;
}
