/**
 * The memory of a front end that its back end knows.
 *
 * @module
 */
import type { MappedMemory, OwnedFd } from "../../../../ffi/mod.ts";
import { pageSizeBytes } from "../../../../ffi/mod.ts";
import { typedErrors } from "../../../errors/doors.ts";
import { ExhaustedError, UsageError } from "../../../errors/mod.ts";
import type { DmaMapper, IovaRange } from "../../../memory/mod.ts";
import { LIMIT, memRegion, memTable, PROTOCOL_FEATURE, REQUEST, singleMemRegion } from "../protocol.ts";
import type { FrontEndChannel } from "./channel.ts";

/** The 48 bits that processors have for user addresses: a back end may keep more than an address in one word. Page 0 means "not set". */
const IOVA_RANGES: readonly IovaRange[] = [{ start: 0x1000n, last: (1n << 47n) - 1n }];

interface Region {
  readonly iova: bigint;
  readonly sizeBytes: number;
  /** The owner's. */
  readonly file: OwnedFd;
}

/**
 * Regions by SET_MEM_TABLE, all of them each time, or one by one with CONFIGURE_MEM_SLOTS. A region's guest address and user address are its IOVA. A back end
 * may read and write all of them: the protocol has no access rights.
 */
export class RegionTable implements DmaMapper {
  static {
    typedErrors(this);
  }

  readonly name: string;
  readonly iovaRanges: readonly IovaRange[] = IOVA_RANGES;
  readonly pageSizes: bigint = BigInt(pageSizeBytes);
  readonly needsFile = true;
  readonly #use: (act: (channel: FrontEndChannel) => void) => void;
  readonly #regions = new Map<bigint, Region>();
  #slots = 0;
  #most: number = LIMIT.memRegions;

  /** Nothing yet. @param use runs what asks the back end, on the channel that there is; nothing when there is none any more */
  constructor(name: string, use: (act: (channel: FrontEndChannel) => void) => void) {
    this.name = name;
    this.#use = use;
  }

  /** Tells a back end that was connected to of all regions. @throws as `FrontEndChannel.tell`, ExhaustedError when it takes fewer than there are */
  begin(channel: FrontEndChannel, protocolFeatures: bigint): void {
    this.#slots = 0;
    this.#most = LIMIT.memRegions;
    if ((protocolFeatures & PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS) !== 0n) {
      const slots = channel.askNumber(REQUEST.getMaxMemSlots);
      this.#slots = this.#most = Number(slots > LIMIT.memSlots ? BigInt(LIMIT.memSlots) : slots);
    }
    if (this.#regions.size > this.#most) throw this.#tooMany();
    if (this.#slots > 0) { for (const region of this.#regions.values()) this.#add(channel, region); }
    else if (this.#regions.size > 0) this.#putAll(channel);
  }

  /** @throws ExhaustedError when the back end takes no more, and as `FrontEndChannel.tell` */
  mapDma(_memory: MappedMemory, file: OwnedFd | null, iova: bigint, sizeBytes: number): void {
    if (file === null) {
      throw new UsageError(`${this.name}: DMA memory without a file cannot be passed to the back end`);
    }
    const region = { iova, sizeBytes, file };
    // Looked at inside: a back end that came back meanwhile may take another number.
    this.#use((channel) => {
      if (this.#regions.size >= this.#most) throw this.#tooMany();
      this.#regions.set(iova, region);
      try {
        if (this.#slots > 0) this.#add(channel, region);
        else this.#putAll(channel);
      } catch (error) {
        this.#regions.delete(iova);
        throw error;
      }
    });
  }

  unmapDma(iova: bigint, sizeBytes: number): void {
    const region = this.#regions.get(iova);
    if (region?.sizeBytes !== sizeBytes) {
      throw new UsageError(`${this.name}: no memory of ${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`);
    }
    this.#regions.delete(iova);
    this.#use((channel) => {
      if (this.#slots > 0) channel.tell(REQUEST.remMemReg, single(region));
      else this.#putAll(channel);
      channel.settle();
    });
  }

  #add(channel: FrontEndChannel, region: Region): void {
    channel.tell(REQUEST.addMemReg, single(region), { fds: [region.file] });
  }

  #putAll(channel: FrontEndChannel): void {
    const regions = [...this.#regions.values()];
    const payload = memTable.encode({ count: regions.length }, memRegion.sizeBytes * regions.length);
    regions.forEach((region, at) =>
      memRegion.encodeInto(payload, memTable.sizeBytes + at * memRegion.sizeBytes, valuesOf(region))
    );
    channel.tell(REQUEST.setMemTable, payload, { fds: regions.map(({ file }) => file) });
  }

  #tooMany(): ExhaustedError {
    return new ExhaustedError(`${this.name}: the back end takes ${this.#most} regions of memory at a time`);
  }
}

function valuesOf({ iova, sizeBytes }: Region) {
  return { guestAddress: iova, userAddress: iova, sizeBytes: BigInt(sizeBytes), mmapOffset: 0n };
}

function single(region: Region): Uint8Array {
  return singleMemRegion.encode(valuesOf(region));
}
