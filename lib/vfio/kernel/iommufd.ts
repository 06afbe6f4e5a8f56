/**
 * iommufd (`/dev/iommu`): the IOMMU address spaces of the character device path.
 *
 * One descriptor serves the whole process (a hot reset across IOMMU groups needs all its functions in one), and one address
 * space (IOAS) serves each IOMMU group, since the functions of a group cannot be told apart by the IOMMU.
 *
 * @module
 */
import { isErrno, type MappedMemory, type OwnedFd, pageSizeBytes } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../errors/mod.ts";
import { type DmaAccess, type DmaMapper, DmaSpace, type IovaRange } from "../../memory/mod.ts";
import { checkDmaRange, checkUnmapped } from "./dma_range.ts";
import { explaining, MAP_HINTS, NODE_HINTS } from "./explain.ts";
import {
  destroy,
  IOAS_MAP_FLAG,
  ioasAlloc,
  ioasIovaRanges,
  ioasMap,
  ioasUnmap,
  IOMMUFD_IOCTL,
  iommuIovaRange,
} from "./iommufd_abi.ts";
import type { KernelCalls } from "./kernel_calls.ts";

/** The node. */
export const IOMMU_NODE = "/dev/iommu";

const MAX_RANGES = 1 << 16;
const MAX_TRIES = 8;
const POINTER_OFFSET = ioasIovaRanges.fields.allowedIovas.offset;

/** An open `/dev/iommu`. It owns its descriptor. */
export class Iommufd implements Disposable {
  /** Descriptor that requests go to. */
  readonly fd: OwnedFd;
  readonly #kernel: KernelCalls;

  /** Opens it. @throws SyscallError */
  constructor(kernel: KernelCalls) {
    this.#kernel = kernel;
    this.fd = explaining(
      { ...NODE_HINTS, ENOENT: "this kernel has no iommufd (CONFIG_IOMMUFD): use the group path" },
      () => kernel.openNode(IOMMU_NODE),
    );
  }

  /** Makes an address space. @returns its id. @throws SyscallError, ClosedError */
  allocateIoas(): number {
    const argument = ioasAlloc.encode({ size: ioasAlloc.sizeBytes });
    this.#kernel.ioctlBuffer(this.fd, IOMMUFD_IOCTL.ioasAlloc, argument);
    return ioasAlloc.decode(argument).outIoasId;
  }

  /** Frees an object by its id. @throws SyscallError (EBUSY while a function is attached), ClosedError */
  destroy(id: number): void {
    this.#kernel.ioctlBuffer(
      this.fd,
      IOMMUFD_IOCTL.destroy,
      destroy.encode({ size: destroy.sizeBytes, id }),
    );
  }

  /**
   * Usable IOVAs and their alignment in bytes. Attaching a function narrows them: ask after it.
   * @throws SyscallError, ProtocolError when the count never settles, ClosedError
   */
  iovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint } {
    let room = 0;
    for (let i = 0; i < MAX_TRIES; i++) {
      // Its own ArrayBuffer, and never an empty one: the kernel writes through its address.
      const array = new Uint8Array(new ArrayBuffer(Math.max(room, 8) * iommuIovaRange.sizeBytes));
      const argument = ioasIovaRanges.encode({ size: ioasIovaRanges.sizeBytes, ioasId, numIovas: room });
      try {
        this.#kernel.ioctlPointing(this.fd, IOMMUFD_IOCTL.ioasIovaRanges, argument, POINTER_OFFSET, array);
      } catch (error) {
        if (!isErrno(error, "EMSGSIZE")) throw error;
        room = ioasIovaRanges.decode(argument).numIovas;
        if (room > MAX_RANGES) throw new ProtocolError(`${IOMMU_NODE} reports ${room} IOVA ranges`);
        continue;
      }
      const answer = ioasIovaRanges.decode(argument);
      if (answer.numIovas > room) {
        throw new ProtocolError(`${IOMMU_NODE} filled ${answer.numIovas} IOVA ranges into room for ${room}`);
      }
      const ranges: IovaRange[] = [];
      for (let n = 0; n < answer.numIovas; n++) {
        ranges.push(iommuIovaRange.decode(array, n * iommuIovaRange.sizeBytes));
      }
      return { ranges, alignment: answer.outIovaAlignment };
    }
    throw new ProtocolError(`${IOMMU_NODE} asked for room for more IOVA ranges ${MAX_TRIES} times`);
  }

  /** Makes memory reachable at `iova`. @throws SyscallError, ClosedError */
  map(ioasId: number, memory: MappedMemory, iova: bigint, sizeBytes: number, access: DmaAccess): void {
    const flags = IOAS_MAP_FLAG.fixedIova | (access.deviceReads ? IOAS_MAP_FLAG.readable : 0) |
      (access.deviceWrites ? IOAS_MAP_FLAG.writeable : 0);
    const argument = ioasMap.encode({
      size: ioasMap.sizeBytes,
      flags,
      ioasId,
      userVa: memory.address,
      length: BigInt(sizeBytes),
      iova,
    });
    explaining(MAP_HINTS, () => this.#kernel.ioctlBuffer(this.fd, IOMMUFD_IOCTL.ioasMap, argument));
  }

  /** Ends a mapping. @returns how many bytes the kernel unmapped. @throws SyscallError, ClosedError */
  unmap(ioasId: number, iova: bigint, sizeBytes: number): bigint {
    const argument = ioasUnmap.encode({
      size: ioasUnmap.sizeBytes,
      ioasId,
      iova,
      length: BigInt(sizeBytes),
    });
    this.#kernel.ioctlBuffer(this.fd, IOMMUFD_IOCTL.ioasUnmap, argument);
    return ioasUnmap.decode(argument).length;
  }

  /** Closes the descriptor; may be called again. */
  close(): void {
    this.fd.close();
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** DMA mapping into one address space. */
class IoasMapper implements DmaMapper {
  readonly name: string;
  readonly iovaRanges: readonly IovaRange[];
  readonly pageSizes: bigint;
  readonly needsFile = false;
  readonly iommu = true;
  readonly #iommufd: Iommufd;
  readonly #id: number;

  constructor(iommufd: Iommufd, id: number, name: string) {
    const { ranges, alignment } = iommufd.iovaRanges(id);
    this.#iommufd = iommufd;
    this.#id = id;
    this.name = name;
    this.iovaRanges = ranges;
    // Memory comes in pages of the processor, so nothing finer is of use.
    this.pageSizes = alignment > BigInt(pageSizeBytes) ? alignment : BigInt(pageSizeBytes);
  }

  mapDma(
    memory: MappedMemory,
    _file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void {
    checkDmaRange(this.name, iova, sizeBytes, memory.sizeBytes, this.pageSizes);
    this.#iommufd.map(this.#id, memory, iova, sizeBytes, access);
  }

  unmapDma(iova: bigint, sizeBytes: number): void {
    checkUnmapped(this.name, iova, sizeBytes, this.#iommufd.unmap(this.#id, iova, sizeBytes));
  }
}

/** One address space, counted by the functions attached to it. */
export class AddressSpace {
  /** The `/dev/iommu` that it is in. */
  readonly iommufd: Iommufd;
  /** Id of its kind. */
  readonly id: number;
  /** IOMMU group of its functions. */
  readonly group: number;
  /** Functions that use it. */
  users = 0;
  #dma: DmaSpace | null = null;

  /** Makes an address space for the functions of an IOMMU group. @throws SyscallError */
  constructor(iommufd: Iommufd, group: number) {
    this.iommufd = iommufd;
    this.group = group;
    this.id = iommufd.allocateIoas();
  }

  /** DMA memory in it. Ask after the first function is attached, which is when its IOVA ranges are known. */
  get dma(): DmaSpace {
    return this.#dma ??= new DmaSpace(new IoasMapper(this.iommufd, this.id, `IOMMU group ${this.group}`));
  }

  /** Unmaps everything and frees the id; no function may be attached any more. @throws SyscallError */
  close(): void {
    try {
      this.#dma?.close();
    } finally {
      this.iommufd.destroy(this.id);
    }
  }
}

/** The process's `/dev/iommu` and its address spaces. */
export class AddressSpaceRegistry {
  static readonly #registries = new WeakMap<KernelCalls, AddressSpaceRegistry>();
  readonly #spaces = new Map<number, AddressSpace>();
  #iommufd: Iommufd | null = null;

  /** The one of this kernel. */
  static of(kernel: KernelCalls): AddressSpaceRegistry {
    let registry = AddressSpaceRegistry.#registries.get(kernel);
    if (registry === undefined) {
      AddressSpaceRegistry.#registries.set(kernel, registry = new AddressSpaceRegistry());
    }
    return registry;
  }

  /** The address space of an IOMMU group, made when there is none; counts one more user. @throws SyscallError */
  acquire(kernel: KernelCalls, group: number): AddressSpace {
    let space = this.#spaces.get(group);
    if (space === undefined) {
      const iommufd = this.#iommufd ??= new Iommufd(kernel);
      try {
        space = new AddressSpace(iommufd, group);
      } catch (error) {
        this.#closeUnused();
        throw error;
      }
      this.#spaces.set(group, space);
    }
    space.users++;
    return space;
  }

  /** Counts one user less; the last one frees the space, and the last space closes `/dev/iommu`. */
  release(space: AddressSpace): void {
    if (--space.users > 0) return;
    this.#spaces.delete(space.group);
    try {
      space.close();
    } finally {
      this.#closeUnused();
    }
  }

  #closeUnused(): void {
    if (this.#spaces.size > 0) return;
    this.#iommufd?.close();
    this.#iommufd = null;
  }
}
