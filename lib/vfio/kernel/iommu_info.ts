/**
 * The answer to IOMMU_GET_INFO of a Type1 container, decoded and checked: pure.
 *
 * @module
 */
import { ProtocolError } from "../../errors/mod.ts";
import type { IovaRange } from "../../memory/mod.ts";
import { requireCapabilityBytes, walkCapabilities } from "../capability_chain.ts";
import { IOMMU_CAP, IOMMU_INFO_FLAG, iommuInfo, iovaRange, iovaRangeCap } from "./abi.ts";

/** What a Type1 container says of its IOMMU. */
export interface Type1Info {
  /** Bit mask of page sizes in bytes; undefined when the kernel does not say. */
  readonly pageSizes?: bigint;
  /** Usable IOVAs; undefined when the kernel does not say. */
  readonly iovaRanges?: readonly IovaRange[];
}

/**
 * Decodes `vfio_iommu_type1_info` with its capabilities.
 * @param bytes the answer, cut to its `argsz`. @param what for messages.
 * @throws ProtocolError for a broken chain, a count that leaves the buffer, or a range that ends before it starts.
 */
export function decodeType1Info(bytes: Uint8Array, what: string): Type1Info {
  if (bytes.byteLength < iommuInfo.sizeBytes) {
    throw new ProtocolError(`${what}: the answer has ${bytes.byteLength} of ${iommuInfo.sizeBytes} bytes`);
  }
  const fixed = iommuInfo.decode(bytes);
  const info: { -readonly [K in keyof Type1Info]: Type1Info[K] } = {};
  if ((fixed.flags & IOMMU_INFO_FLAG.pageSizes) !== 0 && fixed.iovaPgsizes !== 0n) {
    info.pageSizes = fixed.iovaPgsizes;
  }
  const first = (fixed.flags & IOMMU_INFO_FLAG.caps) === 0 ? 0 : fixed.capOffset;
  for (const { id, offset } of walkCapabilities(bytes, first, iommuInfo.sizeBytes, what)) {
    if (id === IOMMU_CAP.iovaRange) {
      info.iovaRanges = decodeRanges(bytes, offset, what);
    }
  }
  return info;
}

function decodeRanges(bytes: Uint8Array, offset: number, what: string): IovaRange[] {
  requireCapabilityBytes(bytes, offset, iovaRangeCap.sizeBytes, what);
  const { nrIovas } = iovaRangeCap.decode(bytes, offset);
  requireCapabilityBytes(bytes, offset, iovaRangeCap.sizeBytes + nrIovas * iovaRange.sizeBytes, what);
  const ranges: IovaRange[] = [];
  for (let i = 0; i < nrIovas; i++) {
    const at = offset + iovaRangeCap.sizeBytes + i * iovaRange.sizeBytes;
    const { start, end } = iovaRange.decode(bytes, at);
    if (end < start) {
      throw new ProtocolError(`${what}: IOVA range ${i} ends at 0x${end.toString(16)}, before it starts`);
    }
    ranges.push({ start, last: end });
  }
  return ranges;
}
