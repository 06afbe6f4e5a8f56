/**
 * An IOMMU in this process: anonymous memory, found again by IOVA. It shares no code with the emulated devices.
 *
 * @module
 */
import type { MappedMemory, OwnedFd } from "../../../ffi/mod.ts";
import { type DmaAccess, type DmaMapper, DmaSpace, type IovaRange } from "../../../lib/memory/mod.ts";

interface Mapped {
  readonly iova: bigint;
  readonly sizeBytes: number;
  readonly view: DataView;
  readonly access: DmaAccess;
}

/** Remembers what is mapped; a device's access to anything else fails the test. */
export class FakeIommu implements DmaMapper {
  readonly name = "fake";
  readonly iovaRanges: readonly IovaRange[];
  readonly pageSizes = 4096n;
  readonly needsFile = false;
  /** As kernel VFIO's; false: as a vfio-user server's. */
  iommu = false;
  readonly mapped: Mapped[] = [];
  readonly space: DmaSpace;

  constructor(ranges: readonly IovaRange[] = [{ start: 0n, last: (1n << 48n) - 1n }]) {
    this.iovaRanges = ranges;
    this.space = new DmaSpace(this);
  }

  mapDma(
    memory: MappedMemory,
    _file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void {
    this.mapped.push({ iova, sizeBytes, view: new DataView(memory.buffer), access });
  }

  unmapDma(iova: bigint, sizeBytes: number): void {
    const at = this.mapped.findIndex((one) => one.iova === iova && one.sizeBytes === sizeBytes);
    if (at < 0) throw new Error(`unmap of ${iova}, which is not mapped`);
    this.mapped.splice(at, 1);
  }

  /** What a device sees at an IOVA. */
  at(iova: bigint, sizeBytes: number, deviceWrites: boolean): DataView {
    for (const one of this.mapped) {
      if (iova < one.iova || iova + BigInt(sizeBytes) > one.iova + BigInt(one.sizeBytes)) continue;
      if (deviceWrites ? !one.access.deviceWrites : !one.access.deviceReads) {
        throw new Error(`the device may not ${deviceWrites ? "write" : "read"} IOVA ${iova.toString(16)}`);
      }
      return new DataView(one.view.buffer, one.view.byteOffset + Number(iova - one.iova), sizeBytes);
    }
    throw new Error(`nothing is mapped at IOVA 0x${iova.toString(16)} + ${sizeBytes}`);
  }
}
