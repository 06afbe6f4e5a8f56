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
import { type DmaAccess, DmaSpace, type IovaRange } from "../../memory/mod.ts";
import { explaining, NODE_HINTS } from "./explain.ts";
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
import { ioctlStruct, type KernelCalls } from "./kernel_calls.ts";
import { KernelMapper } from "./mapper.ts";
import { Shared } from "./shared.ts";

/** The node. */
export const IOMMU_NODE = "/dev/iommu";

const MAX_RANGES = 1 << 16;
const MAX_TRIES = 8;
const POINTER_OFFSET = ioasIovaRanges.fields.allowedIovas.offset;
const NO_NODE = { ...NODE_HINTS, ENOENT: "this kernel has no iommufd (CONFIG_IOMMUFD): use the group path" };

/** The process's `/dev/iommu`, which has the number 0. */
const iommufds = new Shared<OwnedFd>();

/**
 * Usable IOVAs and their alignment in bytes. Attaching a function narrows them: ask after it.
 * @throws SyscallError, ProtocolError when the count never settles, ClosedError
 */
function iovaRangesOf(
  kernel: KernelCalls,
  iommufd: OwnedFd,
  ioasId: number,
): { ranges: IovaRange[]; alignment: bigint } {
  let room = 0;
  for (let i = 0; i < MAX_TRIES; i++) {
    // Its own ArrayBuffer, and never an empty one: the kernel writes through its address.
    const array = new Uint8Array(new ArrayBuffer(Math.max(room, 8) * iommuIovaRange.sizeBytes));
    const argument = ioasIovaRanges.encode({ size: ioasIovaRanges.sizeBytes, ioasId, numIovas: room });
    try {
      kernel.ioctlPointing(iommufd, IOMMUFD_IOCTL.ioasIovaRanges, argument, POINTER_OFFSET, array);
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

/** DMA mapping into one address space. */
class IoasMapper extends KernelMapper {
  readonly #kernel: KernelCalls;
  readonly #iommufd: OwnedFd;
  readonly #ioasId: number;

  constructor(kernel: KernelCalls, iommufd: OwnedFd, ioasId: number, name: string) {
    const { ranges, alignment } = iovaRangesOf(kernel, iommufd, ioasId);
    // Memory comes in pages of the processor, so nothing finer is of use.
    super(name, ranges, alignment > BigInt(pageSizeBytes) ? alignment : BigInt(pageSizeBytes));
    this.#kernel = kernel;
    this.#iommufd = iommufd;
    this.#ioasId = ioasId;
  }

  protected override map(memory: MappedMemory, iova: bigint, length: bigint, access: DmaAccess): void {
    const flags = IOAS_MAP_FLAG.fixedIova | (access.deviceReads ? IOAS_MAP_FLAG.readable : 0) |
      (access.deviceWrites ? IOAS_MAP_FLAG.writeable : 0);
    const values = { flags, ioasId: this.#ioasId, userVa: memory.address, length, iova };
    ioctlStruct(this.#kernel, this.#iommufd, IOMMUFD_IOCTL.ioasMap, ioasMap, values);
  }

  protected override unmap(iova: bigint, length: bigint): bigint {
    const values = { ioasId: this.#ioasId, iova, length };
    return ioctlStruct(this.#kernel, this.#iommufd, IOMMUFD_IOCTL.ioasUnmap, ioasUnmap, values).length;
  }
}

/** An address space: that of an IOMMU group's functions, or one with a PASID. */
export class AddressSpace {
  /** The `/dev/iommu` that it is in. */
  readonly iommufd: OwnedFd;
  /** Id of its kind. */
  readonly id: number;
  readonly #kernel: KernelCalls;
  readonly #name: string;
  #dma: DmaSpace | null = null;

  /** Makes one. @param name for messages @throws SyscallError */
  constructor(kernel: KernelCalls, name: string) {
    this.#kernel = kernel;
    this.#name = name;
    this.iommufd = iommufds.acquire(kernel, 0, () => explaining(NO_NODE, () => kernel.openNode(IOMMU_NODE)));
    using opened = new DisposableStack();
    opened.defer(() => iommufds.release(kernel, 0));
    this.id = ioctlStruct(kernel, this.iommufd, IOMMUFD_IOCTL.ioasAlloc, ioasAlloc).outIoasId;
    opened.move();
  }

  /** DMA memory in it. Ask after the first function is attached, which is when its IOVA ranges are known. */
  get dma(): DmaSpace {
    return this.#dma ??= new DmaSpace(new IoasMapper(this.#kernel, this.iommufd, this.id, this.#name));
  }

  /** Unmaps everything and frees the id; no function may be attached any more. @throws SyscallError (EBUSY while one is) */
  close(): void {
    try {
      this.#dma?.close();
    } finally {
      try {
        ioctlStruct(this.#kernel, this.iommufd, IOMMUFD_IOCTL.destroy, destroy, { id: this.id });
      } finally {
        iommufds.release(this.#kernel, 0);
      }
    }
  }
}
