/**
 * The part of the iommufd ABI (linux/iommufd.h) that this library uses: requests on `/dev/iommu`, structures, flags.
 *
 * `_IO(';', 0x80 + n)`. The first field is the structure's `size`; bytes past what the kernel knows must be zero (else
 * E2BIG). ENOTTY: unknown request, ENOTSUP: unknown value, ENOENT: unknown id, EMSGSIZE: array too small.
 *
 * @module
 */
import type { IoctlRequest } from "../../../ffi/mod.ts";
import { Struct, u32, u64, u8 } from "../../wire/mod.ts";

const request = (name: string, n: number): IoctlRequest => ({
  name: `IOMMU_${name}`,
  number: BigInt(0x3b80 + n),
});

/** Requests on `/dev/iommu`. */
export const IOMMUFD_IOCTL = {
  /** `iommu_destroy`. */
  destroy: request("DESTROY", 0),
  /** `iommu_ioas_alloc`. */
  ioasAlloc: request("IOAS_ALLOC", 1),
  /** `iommu_ioas_iova_ranges`. */
  ioasIovaRanges: request("IOAS_IOVA_RANGES", 4),
  /** `iommu_ioas_map`. */
  ioasMap: request("IOAS_MAP", 5),
  /** `iommu_ioas_unmap`. */
  ioasUnmap: request("IOAS_UNMAP", 6),
  /** `iommu_hwpt_alloc`. */
  hwptAlloc: request("HWPT_ALLOC", 9),
  /** `iommu_hw_info`. */
  hwInfo: request("GET_HW_INFO", 0xa),
} as const;

/** `iommu_ioas_map.flags`: a fixed IOVA, and what the device may do. */
export const IOAS_MAP_FLAG = { fixedIova: 1, writeable: 2, readable: 4 } as const;

/** `iommu_hwpt_alloc.flags`: a page table that goes with PASIDs. */
export const HWPT_FLAG = { pasid: 8 } as const;

/** `struct iommu_destroy`. */
export const destroy = new Struct("iommu_destroy", 8, { size: u32(0), id: u32(4) });

/** `struct iommu_ioas_alloc`. */
export const ioasAlloc = new Struct("iommu_ioas_alloc", 12, {
  size: u32(0),
  flags: u32(4),
  outIoasId: u32(8),
});

/** `struct iommu_ioas_iova_ranges`; `numIovas` is the array's length going in and the count coming out. */
export const ioasIovaRanges = new Struct("iommu_ioas_iova_ranges", 32, {
  size: u32(0),
  ioasId: u32(4),
  numIovas: u32(8),
  reserved: u32(12),
  allowedIovas: u64(16),
  outIovaAlignment: u64(24),
});

/** `struct iommu_iova_range`, both ends included. */
export const iommuIovaRange = new Struct("iommu_iova_range", 16, { start: u64(0), last: u64(8) });

/** `struct iommu_ioas_map`. */
export const ioasMap = new Struct("iommu_ioas_map", 40, {
  size: u32(0),
  flags: u32(4),
  ioasId: u32(8),
  reserved: u32(12),
  userVa: u64(16),
  length: u64(24),
  iova: u64(32),
});

/** `struct iommu_ioas_unmap`; the kernel writes back to `length` what it unmapped. */
export const ioasUnmap = new Struct("iommu_ioas_unmap", 24, {
  size: u32(0),
  ioasId: u32(4),
  iova: u64(8),
  length: u64(16),
});

/** `struct iommu_hwpt_alloc`, as far as every kernel with the request takes it: a page table (HWPT) of a device over an IOAS. */
export const hwptAlloc = new Struct("iommu_hwpt_alloc", 40, {
  size: u32(0),
  flags: u32(4),
  devId: u32(8),
  ptId: u32(12),
  outHwptId: u32(16),
  reserved: u32(20),
  dataType: u32(24),
  dataLen: u32(28),
  dataUptr: u64(32),
});

/** `struct iommu_hw_info`, without data of the IOMMU; `outMaxPasidLog2` is 0 for a device without PASIDs, and before Linux 6.16. */
export const hwInfo = new Struct("iommu_hw_info", 40, {
  size: u32(0),
  flags: u32(4),
  devId: u32(8),
  dataLen: u32(12),
  dataUptr: u64(16),
  outDataType: u32(24),
  outMaxPasidLog2: u8(28),
  outCapabilities: u64(32),
});
