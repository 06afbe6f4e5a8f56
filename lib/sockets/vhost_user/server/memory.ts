/**
 * The memory of a front end: regions of files, each with the address that its descriptors name (guest address) and the one that its rings are
 * named by (user address).
 *
 * @module
 */
import { ProtocolError } from "../../../errors/mod.ts";
import { type OwnedFd, pageSizeBytes } from "../../../../ffi/mod.ts";
import { DmaTable } from "../../dma_table.ts";
import { addPassed, passedMemory, type UnsealedFiles } from "../../passed_memory.ts";
import { LIMIT } from "../protocol.ts";

/** As `memRegion` has it. */
export interface MemoryRegion {
  /** Where descriptors have it. */
  readonly guestAddress: bigint;
  /** How much. */
  readonly sizeBytes: bigint;
  /** Where the front end has it. */
  readonly userAddress: bigint;
  /** Where it begins in its file. */
  readonly mmapOffset: bigint;
}

/** See the module. Guest addresses are the IOVAs of `dma`. */
export class FrontEndMemory {
  /** By guest address. Regions may come and go between two calls of the device. */
  readonly dma: DmaTable = new DmaTable();
  readonly #unsealed: UnsealedFiles;
  readonly #what: string;
  #regions: readonly MemoryRegion[] = [];

  /** Without regions. @param what for messages: the front end */
  constructor(unsealed: UnsealedFiles, what: string) {
    this.#unsealed = unsealed;
    this.#what = what;
  }

  /** How many regions there are. */
  get count(): number {
    return this.#regions.length;
  }

  /**
   * Takes these regions in place of all that are there, which stay when something is wrong with a new one.
   * @param files one each; they stay the caller's @throws ProtocolError, SyscallError
   */
  replace(regions: readonly MemoryRegion[], files: readonly OwnedFd[]): void {
    regions.forEach((one, i) => this.#check(one, regions.slice(0, i)));
    using opened = new DisposableStack();
    const taken = regions.map((one, i) => {
      const memory = this.#take(one, files[i]!);
      opened.defer(() => memory.close());
      return memory;
    });
    this.dma.clear();
    for (const memory of taken) addPassed(this.dma, memory);
    opened.move();
    this.#regions = [...regions];
  }

  /** Adds a region. @param file stays the caller's @throws ProtocolError, SyscallError */
  add(region: MemoryRegion, file: OwnedFd): void {
    if (this.count >= LIMIT.memSlots) throw this.#wrong(`${this.count} regions are the limit`);
    this.#check(region, this.#regions);
    addPassed(this.dma, this.#take(region, file));
    this.#regions = [...this.#regions, region];
  }

  /** Takes a region away, which is told by its addresses and size. @throws ProtocolError when there is no such region */
  remove({ guestAddress, sizeBytes, userAddress }: MemoryRegion): void {
    const found = this.#regions.find((one) =>
      one.guestAddress === guestAddress && one.sizeBytes === sizeBytes && one.userAddress === userAddress
    );
    if (found === undefined) {
      throw this.#wrong(`there is no region of ${sizeBytes} bytes at guest address ${hex(guestAddress)}`);
    }
    this.dma.remove(guestAddress, sizeBytes);
    this.#regions = this.#regions.filter((one) => one !== found);
  }

  /** Guest address of `length` bytes at a user address; undefined when no one region holds them. */
  guestAddress(userAddress: bigint, length: number): bigint | undefined {
    for (const one of this.#regions) {
      const offset = userAddress - one.userAddress;
      if (offset >= 0n && offset + BigInt(length) <= one.sizeBytes) return one.guestAddress + offset;
    }
    return undefined;
  }

  /** Lets go of everything. */
  clear(): void {
    this.#regions = [];
    this.dma.clear();
  }

  #take({ guestAddress: iova, sizeBytes, mmapOffset }: MemoryRegion, file: OwnedFd) {
    const range = { iova, sizeBytes: Number(sizeBytes), deviceReads: true, deviceWrites: true };
    return passedMemory(range, file, mmapOffset, { unsealed: this.#unsealed, what: this.#what });
  }

  #check(region: MemoryRegion, others: readonly MemoryRegion[]): void {
    const { guestAddress, sizeBytes, userAddress, mmapOffset } = region;
    const page = BigInt(pageSizeBytes);
    const text = `region of ${sizeBytes} bytes at guest address ${hex(guestAddress)}, user address ${
      hex(userAddress)
    }, file offset ${mmapOffset}`;
    // Its size need not be whole pages: libblkio's regions end where their contents do.
    if (sizeBytes === 0n) throw this.#wrong(`${text}: it is empty`);
    if ([guestAddress, userAddress, mmapOffset].some((one) => one % page !== 0n)) {
      throw this.#wrong(`${text}: it does not begin at a page of ${page} bytes`);
    }
    if (
      guestAddress + sizeBytes > 1n << 64n || userAddress + sizeBytes > 1n << 64n ||
      mmapOffset + sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)
    ) throw this.#wrong(`${text}: it ends beyond what there can be`);
    for (const other of others) {
      for (const field of ["guestAddress", "userAddress"] as const) {
        if (region[field] >= other[field] + other.sizeBytes || other[field] >= region[field] + sizeBytes) {
          continue;
        }
        throw this.#wrong(
          `${text}: it overlaps the region at ${field === "guestAddress" ? "guest" : "user"} address ${
            hex(other[field])
          }`,
        );
      }
    }
  }

  #wrong(text: string): ProtocolError {
    return new ProtocolError(`${this.#what}: ${text}`);
  }
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
