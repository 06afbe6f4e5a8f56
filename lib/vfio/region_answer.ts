/**
 * The answer to DEVICE_GET_REGION_INFO, decoded and checked: pure. The kernel and vfio-user servers write it alike.
 *
 * @module
 */
import { ProtocolError } from "../errors/mod.ts";
import { requireCapabilityBytes, walkCapabilities } from "./capability_chain.ts";
import { REGION_FLAG, type RegionArea, type RegionInfo } from "./device.ts";
import { REGION_CAP, regionInfo, regionTypeCap, sparseMmapArea, sparseMmapCap } from "./kernel/abi.ts";

/** A region and where its descriptor has it. */
export interface RegionAnswer {
  /** What `VfioDevice.regionInfo` gives. */
  readonly info: RegionInfo;
  /** Offset of the region on its file descriptor. Any 64-bit number: taken from the answer, never computed. */
  readonly fileOffset: bigint;
}

/**
 * Decodes a `vfio_region_info` with its capabilities.
 *
 * @param bytes the answer, cut to its `argsz`.
 * @param index the region that was asked for.
 * @param what for messages: the function.
 * @throws ProtocolError for another region's answer, a size past 2^53, a broken chain, or an area outside the region.
 */
export function decodeRegionInfo(bytes: Uint8Array, index: number, what: string): RegionAnswer {
  const where = `${what} region ${index}`;
  if (bytes.byteLength < regionInfo.sizeBytes) {
    throw new ProtocolError(`${where}: the answer has ${bytes.byteLength} of ${regionInfo.sizeBytes} bytes`);
  }
  const fixed = regionInfo.decode(bytes);
  if (fixed.index !== index) throw new ProtocolError(`${where}: the answer is about region ${fixed.index}`);
  const sizeBytes = toSafe(fixed.size, `${where}: size`);

  let sparse: RegionArea[] | undefined;
  let type: { type: number; subtype: number } | undefined;
  let msixMappable = false;
  const first = (fixed.flags & REGION_FLAG.caps) === 0 ? 0 : fixed.capOffset;
  for (const capability of walkCapabilities(bytes, first, regionInfo.sizeBytes, where)) {
    if (capability.id === REGION_CAP.sparseMmap) {
      sparse = decodeSparse(bytes, capability.offset, sizeBytes, where);
    } else if (capability.id === REGION_CAP.type) {
      requireCapabilityBytes(bytes, capability.offset, regionTypeCap.sizeBytes, where);
      const cap = regionTypeCap.decode(bytes, capability.offset);
      type = { type: cap.type, subtype: cap.subtype };
    } else if (capability.id === REGION_CAP.msixMappable) {
      msixMappable = true;
    }
  }

  const mappable = (fixed.flags & REGION_FLAG.mmap) !== 0 && sizeBytes > 0;
  const mmapAreas = !mappable ? [] : sparse ?? [{ offset: 0, sizeBytes }];
  const info: RegionInfo = { index, flags: fixed.flags, sizeBytes, mmapAreas, msixMappable };
  return { info: type === undefined ? info : { ...info, type }, fileOffset: fixed.offset };
}

function decodeSparse(bytes: Uint8Array, offset: number, regionBytes: number, where: string): RegionArea[] {
  requireCapabilityBytes(bytes, offset, sparseMmapCap.sizeBytes, where);
  const { nrAreas } = sparseMmapCap.decode(bytes, offset);
  // A count up to 2^32 comes from outside; its product stays exact in a double, and is checked before any area is read.
  requireCapabilityBytes(bytes, offset, sparseMmapCap.sizeBytes + nrAreas * sparseMmapArea.sizeBytes, where);
  const areas: RegionArea[] = [];
  for (let i = 0; i < nrAreas; i++) {
    const at = offset + sparseMmapCap.sizeBytes + i * sparseMmapArea.sizeBytes;
    const { offset: start, size } = sparseMmapArea.decode(bytes, at);
    if (start + size > BigInt(regionBytes)) {
      throw new ProtocolError(
        `${where}: sparse area ${i} [${start}, +${size}) leaves its ${regionBytes} bytes`,
      );
    }
    // The kernel lists an empty area when the MSI-X table fills its whole region.
    if (size > 0n) areas.push({ offset: Number(start), sizeBytes: Number(size) });
  }
  return areas.sort((a, b) => a.offset - b.offset);
}

function toSafe(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new ProtocolError(`${what} ${value} is past 2^53 bytes`);
  return Number(value);
}
