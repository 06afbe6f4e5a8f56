/**
 * The client's memory that this process does not map: it is copied, piece by piece, when a device asks for it.
 *
 * @module
 */
import { type MappedMemory, readGuarded, writeGuarded } from "../../../../ffi/mod.ts";

/** One range of it. */
export interface FarMemory {
  /** First address. */
  readonly iova: bigint;
  /** Size of the range in bytes. */
  readonly sizeBytes: number;
  /** The device may read it. */
  readonly deviceReads: boolean;
  /** The device may write it. */
  readonly deviceWrites: boolean;
  /** Fills `into` from `address` on, inside the range. @returns false when the client does not have it any more, or does not give it */
  read(address: bigint, into: Uint8Array<ArrayBuffer>): boolean;
  /** Brings `from` to `address`, inside the range. @returns false when the client does not have it any more, or does not take it */
  write(address: bigint, from: Uint8Array<ArrayBuffer>): boolean;
  /** Lets go of what stands behind. */
  close(): void;
}

/** Which range, and what the device may do. */
export type FarRange = Pick<FarMemory, "iova" | "sizeBytes" | "deviceReads" | "deviceWrites">;

/**
 * A file that could shrink. It is mapped, since that goes for every kind of file (what is on hugetlbfs cannot be written to otherwise), and only
 * the kernel touches the mapping: it says EFAULT where this process would end.
 */
export class CopiedFile implements FarMemory {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly deviceReads: boolean;
  readonly deviceWrites: boolean;
  readonly #memory: MappedMemory;

  /** @param memory of the whole range; owned */
  constructor(range: FarRange, memory: MappedMemory) {
    this.iova = range.iova;
    this.sizeBytes = range.sizeBytes;
    this.deviceReads = range.deviceReads;
    this.deviceWrites = range.deviceWrites;
    this.#memory = memory;
  }

  read(address: bigint, into: Uint8Array<ArrayBuffer>): boolean {
    return !this.#memory.closed && readGuarded(this.#memory, Number(address - this.iova), into);
  }

  write(address: bigint, from: Uint8Array<ArrayBuffer>): boolean {
    return !this.#memory.closed && writeGuarded(this.#memory, Number(address - this.iova), from);
  }

  close(): void {
    this.#memory.close();
  }
}

/** DMA_READ and DMA_WRITE messages to the client. */
export interface DmaMessages {
  /** Fills `into`. @returns false when the client does not answer, or refuses */
  dmaRead(address: bigint, into: Uint8Array<ArrayBuffer>): boolean;
  /** Sends `from`. @returns false when the client does not answer, or refuses */
  dmaWrite(address: bigint, from: Uint8Array<ArrayBuffer>): boolean;
}

/** Memory that came without a file: every access is a message. */
export class MessageMemory implements FarMemory {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly deviceReads: boolean;
  readonly deviceWrites: boolean;
  readonly #messages: DmaMessages;
  #closed = false;

  /** @param messages of the client's connection */
  constructor(range: FarRange, messages: DmaMessages) {
    this.iova = range.iova;
    this.sizeBytes = range.sizeBytes;
    this.deviceReads = range.deviceReads;
    this.deviceWrites = range.deviceWrites;
    this.#messages = messages;
  }

  read(address: bigint, into: Uint8Array<ArrayBuffer>): boolean {
    return !this.#closed && this.#messages.dmaRead(address, into);
  }

  write(address: bigint, from: Uint8Array<ArrayBuffer>): boolean {
    return !this.#closed && this.#messages.dmaWrite(address, from);
  }

  close(): void {
    this.#closed = true;
  }
}
