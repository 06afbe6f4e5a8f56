/**
 * DMA mappings of a client in one address space of its server.
 *
 * @module
 */
import { typedErrors } from "../../../errors/doors.ts";
import { ExhaustedError, UsageError } from "../../../errors/mod.ts";
import type { MappedMemory, OwnedFd } from "../../../../ffi/mod.ts";
import type { DmaAccess, DmaMapper, IovaRange } from "../../../memory/mod.ts";
import { addressSpaceTail, COMMAND, DMA_MAP_FLAG, dmaMap, dmaUnmap, OWN_COMMAND } from "../protocol.ts";
import type { ClientChannel } from "./channel.ts";
import { ClientMemory } from "./memory.ts";

/**
 * IOVAs that are used: the 48 bits that common IOMMUs translate, without page 0 and without the window in which x86 machines take
 * memory writes for interrupts (a server that hands them to a virtual machine's IOMMU would meet it).
 */
export const VFIO_USER_IOVA_RANGES: readonly IovaRange[] = [
  { start: 0x1000n, last: 0xfedf_ffffn },
  { start: 0xfef0_0000n, last: (1n << 48n) - 1n },
];

/** What the address spaces of a connection have in common. */
export interface MappingLimits {
  /** Bit mask of page sizes. */
  readonly pageSizes: number;
  /** Mappings at a time, in all address spaces together. */
  readonly maxDmaMaps: number;
  /** How many there are now. */
  count: number;
}

/** See the module's text. */
export class UserMapper implements DmaMapper {
  static {
    typedErrors(this);
  }

  readonly name: string;
  readonly iovaRanges: readonly IovaRange[] = VFIO_USER_IOVA_RANGES;
  readonly pageSizes: bigint;
  readonly needsFile = true;
  readonly #channel: ClientChannel;
  readonly #memory: ClientMemory;
  readonly #limits: MappingLimits;
  /** What requests end with. */
  readonly #tail: Uint8Array | undefined;
  #ended = false;

  /** @param id of the address space: 0 is the one of which the protocol knows @param memory what is mapped, empty as yet */
  constructor(
    channel: ClientChannel,
    limits: MappingLimits,
    id = 0,
    memory: ClientMemory = new ClientMemory(),
  ) {
    this.name = id === 0 ? channel.name : `${channel.name}, address space ${id}`;
    this.pageSizes = BigInt(limits.pageSizes);
    this.#channel = channel;
    this.#limits = limits;
    this.#memory = memory;
    if (id !== 0) this.#tail = addressSpaceTail.encode({ id });
  }

  /** The server has unmapped everything, or is gone: ranges are only forgotten from now on. */
  end(): void {
    this.#ended = true;
  }

  /** @throws ExhaustedError when the server takes no more mappings */
  mapDma(
    memory: MappedMemory,
    file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void {
    const { maxDmaMaps, count } = this.#limits;
    if (file === null) {
      throw new UsageError(`${this.name}: DMA memory without a file cannot be passed to the server`);
    }
    if (count >= maxDmaMaps) {
      throw new ExhaustedError(`${this.name}: the server takes ${count} DMA mappings at a time`);
    }
    const flags = (access.deviceReads ? DMA_MAP_FLAG.read : 0) |
      (access.deviceWrites ? DMA_MAP_FLAG.write : 0);
    const range = { flags, address: iova, size: BigInt(sizeBytes) };
    const command = this.#tail === undefined ? COMMAND.dmaMap : OWN_COMMAND.spaceMap;
    this.#channel.ask(command, dmaMap, range, { fds: [file], ...(this.#tail && { data: this.#tail }) });
    this.#memory.add(iova, sizeBytes, memory, access);
    this.#limits.count++;
    this.#channel.lookForCommands();
  }

  /** On a closed or broken connection there is nothing left to unmap: it only forgets the range. */
  unmapDma(iova: bigint, sizeBytes: number): void {
    if (!this.#memory.has(iova, sizeBytes)) {
      throw new UsageError(
        `${this.name}: no DMA mapping of ${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`,
      );
    }
    this.#memory.remove(iova);
    this.#limits.count--;
    if (this.#ended || this.#channel.broken !== null) return;
    const command = this.#tail === undefined ? COMMAND.dmaUnmap : OWN_COMMAND.spaceUnmap;
    const range = { address: iova, size: BigInt(sizeBytes) };
    this.#channel.ask(command, dmaUnmap, range, this.#tail && { data: this.#tail });
  }
}
