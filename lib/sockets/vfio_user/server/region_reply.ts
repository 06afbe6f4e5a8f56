/**
 * The answer to GET_REGION_INFO as a server writes it: pure.
 *
 * @module
 */
import { REGION_FLAG } from "../../../vfio/device.ts";
import {
  REGION_CAP,
  regionInfo,
  regionTypeCap,
  sparseMmapArea,
  sparseMmapCap,
} from "../../../vfio/kernel/abi.ts";
import type { ServedRegion } from "./served_device.ts";

const MSIX_MAPPABLE_BYTES = 8;

/** An encoded answer. */
export interface RegionReply {
  /** The payload. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** False when the capabilities did not fit: only `argsz` then tells of them. */
  readonly complete: boolean;
  /** The file must come along. */
  readonly mappable: boolean;
}

/**
 * Encodes `vfio_region_info` with its capabilities. Without room for the capabilities the CAPS flag stays away, as in
 * libvfio-user: QEMU takes a flag with a zero `cap_offset` for an error.
 *
 * @param maxBytes the request's `argsz`.
 */
export function encodeRegionInfo(region: ServedRegion, maxBytes: number): RegionReply {
  const mappable = region.file !== undefined && region.mmapAreas.length > 0;
  const whole = region.mmapAreas.length === 1 && region.mmapAreas[0]!.offset === 0 &&
    region.mmapAreas[0]!.sizeBytes === region.sizeBytes;
  const sparse = mappable && !whole;
  const sizes = [
    sparse ? sparseMmapCap.sizeBytes + region.mmapAreas.length * sparseMmapArea.sizeBytes : 0,
    region.type === undefined ? 0 : regionTypeCap.sizeBytes,
    region.msixMappable ? MSIX_MAPPABLE_BYTES : 0,
  ];
  const argsz = regionInfo.sizeBytes + sizes.reduce((sum, size) => sum + size, 0);
  const hasCaps = argsz > regionInfo.sizeBytes;
  const complete = argsz <= maxBytes;
  const bytes = regionInfo.encode({
    argsz,
    flags: (region.flags & (REGION_FLAG.read | REGION_FLAG.write)) |
      (mappable ? REGION_FLAG.mmap : 0) | (hasCaps && complete ? REGION_FLAG.caps : 0),
    index: region.index,
    capOffset: hasCaps && complete ? regionInfo.sizeBytes : 0,
    size: BigInt(region.sizeBytes),
    offset: BigInt(region.fileOffset ?? 0),
  }, complete ? argsz - regionInfo.sizeBytes : 0);
  if (!complete) return { bytes, complete, mappable };

  let at = regionInfo.sizeBytes;
  const nextAfter = (size: number): number => (at + size < argsz ? at + size : 0);
  if (sparse) {
    const size = sizes[0]!;
    const nrAreas = region.mmapAreas.length;
    sparseMmapCap.encodeInto(bytes, at, {
      id: REGION_CAP.sparseMmap,
      version: 1,
      next: nextAfter(size),
      nrAreas,
    });
    region.mmapAreas.forEach((area, i) => {
      const values = { offset: BigInt(area.offset), size: BigInt(area.sizeBytes) };
      sparseMmapArea.encodeInto(bytes, at + sparseMmapCap.sizeBytes + i * sparseMmapArea.sizeBytes, values);
    });
    at += size;
  }
  if (region.type !== undefined) {
    const next = nextAfter(regionTypeCap.sizeBytes);
    regionTypeCap.encodeInto(bytes, at, { id: REGION_CAP.type, version: 1, next, ...region.type });
    at += regionTypeCap.sizeBytes;
  }
  if (region.msixMappable) {
    const view = new DataView(bytes.buffer);
    view.setUint16(at, REGION_CAP.msixMappable, true);
    view.setUint16(at + 2, 1, true);
  }
  return { bytes, complete, mappable };
}
