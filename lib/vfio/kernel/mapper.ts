/**
 * DMA mapping by requests to the kernel.
 *
 * @module
 */
import type { MappedMemory, OwnedFd } from "../../../ffi/mod.ts";
import type { DmaAccess, DmaMapper, IovaRange } from "../../memory/mod.ts";
import { checkDmaRange, checkUnmapped } from "./dma_range.ts";
import { explaining, MAP_HINTS } from "./explain.ts";

/** What the two address spaces of VFIO have in common. */
export abstract class KernelMapper implements DmaMapper {
  readonly needsFile = false;
  readonly iommu = true;

  /** Made when it is known what can be mapped. @param name for messages */
  constructor(readonly name: string, readonly iovaRanges: readonly IovaRange[], readonly pageSizes: bigint) {}

  /** The request. @throws SyscallError, ClosedError */
  protected abstract map(memory: MappedMemory, iova: bigint, sizeBytes: bigint, access: DmaAccess): void;

  /** The request. @returns how many bytes the kernel unmapped. @throws SyscallError, ClosedError */
  protected abstract unmap(iova: bigint, sizeBytes: bigint): bigint;

  /** Makes `sizeBytes` of `memory` reachable at `iova`. @throws UsageError, SyscallError, ClosedError */
  mapDma(memory: MappedMemory, _: OwnedFd | null, iova: bigint, sizeBytes: number, access: DmaAccess): void {
    checkDmaRange(this.name, iova, sizeBytes, memory.sizeBytes, this.pageSizes);
    explaining(MAP_HINTS, () => this.map(memory, iova, BigInt(sizeBytes), access));
  }

  /** Ends exactly one earlier mapping. @throws SyscallError, RingsideError when it was another range, ClosedError */
  unmapDma(iova: bigint, sizeBytes: number): void {
    checkUnmapped(this.name, iova, sizeBytes, this.unmap(iova, BigInt(sizeBytes)));
  }
}
