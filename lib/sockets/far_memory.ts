/**
 * The client's memory that this process does not map: it is copied, piece by piece, when a device asks for it.
 *
 * @module
 */
import { type MappedMemory, readGuarded, writeGuarded } from "../../ffi/mod.ts";

/** Which range, and what the device may do. */
export interface FarRange {
  /** First address. */
  readonly iova: bigint;
  /** Size of the range in bytes. */
  readonly sizeBytes: number;
  /** The device may read it. */
  readonly deviceReads: boolean;
  /** The device may write it. */
  readonly deviceWrites: boolean;
}

/** One range of it. */
export abstract class FarMemory implements FarRange {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly deviceReads: boolean;
  readonly deviceWrites: boolean;

  /** Of this range. */
  constructor({ iova, sizeBytes, deviceReads, deviceWrites }: FarRange) {
    this.iova = iova;
    this.sizeBytes = sizeBytes;
    this.deviceReads = deviceReads;
    this.deviceWrites = deviceWrites;
  }

  /** Fills `into` from `address` on, inside the range. @returns false when the client does not have it any more, or does not give it */
  abstract read(address: bigint, into: Uint8Array<ArrayBuffer>): boolean;
  /** Brings `from` to `address`, inside the range. @returns false when the client does not have it any more, or does not take it */
  abstract write(address: bigint, from: Uint8Array<ArrayBuffer>): boolean;
  /** Lets go of what stands behind. */
  abstract close(): void;
}

/**
 * A file that could shrink. It is mapped, since that goes for every kind of file (what is on hugetlbfs cannot be written to otherwise), and only
 * the kernel touches the mapping: it says EFAULT where this process would end.
 */
export class CopiedFile extends FarMemory {
  readonly #memory: MappedMemory;

  /** @param memory of the whole range; owned */
  constructor(range: FarRange, memory: MappedMemory) {
    super(range);
    this.#memory = memory;
  }

  override read(address: bigint, into: Uint8Array<ArrayBuffer>): boolean {
    return !this.#memory.closed && readGuarded(this.#memory, Number(address - this.iova), into);
  }

  override write(address: bigint, from: Uint8Array<ArrayBuffer>): boolean {
    return !this.#memory.closed && writeGuarded(this.#memory, Number(address - this.iova), from);
  }

  override close(): void {
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
export class MessageMemory extends FarMemory {
  readonly #messages: DmaMessages;
  #closed = false;

  /** @param messages of the client's connection */
  constructor(range: FarRange, messages: DmaMessages) {
    super(range);
    this.#messages = messages;
  }

  override read(address: bigint, into: Uint8Array<ArrayBuffer>): boolean {
    return !this.#closed && this.#messages.dmaRead(address, into);
  }

  override write(address: bigint, from: Uint8Array<ArrayBuffer>): boolean {
    return !this.#closed && this.#messages.dmaWrite(address, from);
  }

  override close(): void {
    this.#closed = true;
  }
}
