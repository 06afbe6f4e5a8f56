/**
 * The VFIO user ABI (linux/vfio.h) as declared tables: requests, structures with their offsets, flags.
 *
 * `_IO(';', 100 + n)` carries no size bits, so every number is `0x3b64 + n`, and some numbers mean different things on the
 * three kinds of descriptor (container, group, device). `argsz` is always the size of the caller's buffer; the kernel
 * writes back the size that it would need.
 *
 * @module
 */
import type { IoctlRequest } from "../../../ffi/mod.ts";
import { s32, Struct, u16, u32, u64, u8 } from "../../wire/mod.ts";

const request = (name: string, n: number): IoctlRequest => ({
  name: `VFIO_${name}`,
  number: BigInt(0x3b64 + n),
});

/** Requests on a container (`/dev/vfio/vfio`). */
export const CONTAINER_IOCTL = {
  /** No argument; returns the API version, 0. */
  getApiVersion: request("GET_API_VERSION", 0),
  /** Value: an `EXTENSION`; returns more than 0 when present. */
  checkExtension: request("CHECK_EXTENSION", 1),
  /** Value: an `EXTENSION` that is an IOMMU type. */
  setIommu: request("SET_IOMMU", 2),
  /** `vfio_iommu_type1_info` with capabilities. */
  iommuGetInfo: request("IOMMU_GET_INFO", 12),
  /** `vfio_iommu_type1_dma_map`. */
  iommuMapDma: request("IOMMU_MAP_DMA", 13),
  /** `vfio_iommu_type1_dma_unmap`. */
  iommuUnmapDma: request("IOMMU_UNMAP_DMA", 14),
} as const;

/** Requests on a group (`/dev/vfio/N`). */
export const GROUP_IOCTL = {
  /** `vfio_group_status`. */
  getStatus: request("GROUP_GET_STATUS", 3),
  /** Pointer to the container's descriptor, an s32. */
  setContainer: request("GROUP_SET_CONTAINER", 4),
  /** C string: the function's address, with `vf_token=` for an SR-IOV function; returns a descriptor. */
  getDeviceFd: request("GROUP_GET_DEVICE_FD", 6),
} as const;

/** Requests on a device, however it was opened. */
export const DEVICE_IOCTL = {
  /** `vfio_device_info`. */
  getInfo: request("DEVICE_GET_INFO", 7),
  /** `vfio_region_info` with capabilities. */
  getRegionInfo: request("DEVICE_GET_REGION_INFO", 8),
  /** `vfio_irq_info`. */
  getIrqInfo: request("DEVICE_GET_IRQ_INFO", 9),
  /** `vfio_irq_set` and its data. */
  setIrqs: request("DEVICE_SET_IRQS", 10),
  /** No argument. */
  reset: request("DEVICE_RESET", 11),
  /** `vfio_pci_hot_reset_info` and its array. */
  getPciHotResetInfo: request("DEVICE_GET_PCI_HOT_RESET_INFO", 12),
  /** `vfio_pci_hot_reset` and its array. */
  pciHotReset: request("DEVICE_PCI_HOT_RESET", 13),
  /** `vfio_device_feature` and its data. */
  feature: request("DEVICE_FEATURE", 17),
  /** `vfio_device_bind_iommufd`; on a character device only. */
  bindIommufd: request("DEVICE_BIND_IOMMUFD", 18),
  /** `vfio_device_attach_iommufd_pt`; on a character device only. */
  attachIommufdPt: request("DEVICE_ATTACH_IOMMUFD_PT", 19),
} as const;

/** What CHECK_EXTENSION and SET_IOMMU take. */
export const EXTENSION = { type1v2: 3, noIommu: 8 } as const;

/** `vfio_group_status.flags`. */
export const GROUP_FLAG = { viable: 1, containerSet: 2 } as const;
/** `vfio_iommu_type1_info.flags`. */
export const IOMMU_INFO_FLAG = { pageSizes: 1, caps: 2 } as const;
/** Capability ids in the answer to IOMMU_GET_INFO. */
export const IOMMU_CAP = { iovaRange: 1 } as const;
/** Capability ids in the answer to DEVICE_GET_REGION_INFO. */
export const REGION_CAP = { sparseMmap: 1, type: 2, msixMappable: 3 } as const;
/** `vfio_iommu_type1_dma_map.flags`: what the device may do. */
export const DMA_MAP_FLAG = { read: 1, write: 2, vaddr: 4 } as const;
/** `vfio_iommu_type1_dma_unmap.flags`. */
export const DMA_UNMAP_FLAG = { getDirtyBitmap: 1, all: 2, vaddr: 4 } as const;
/** `vfio_pci_hot_reset_info.flags`. */
export const HOT_RESET_FLAG = { deviceId: 1, deviceIdOwned: 2 } as const;
/** Values of `vfio_pci_dependent_device.devid` that are no device id. */
export const HOT_RESET_DEVICE_ID = { owned: 0, notOwned: 0xffff_ffff } as const;
/** `vfio_device_feature.flags` above the feature number (bits 0–15). */
export const FEATURE_FLAG = { get: 1 << 16, set: 1 << 17, probe: 1 << 18 } as const;
/** `vfio_device_bind_iommufd.flags`. */
export const BIND_FLAG = { token: 1 } as const;
/** `vfio_device_attach_iommufd_pt.flags`. */
export const ATTACH_FLAG = { pasid: 1 } as const;

/** What every structure of a request begins with. */
export const requestHead = { argsz: u32(0), flags: u32(4) } as const;
/** What every capability of an answer begins with: `struct vfio_info_cap_header`. */
const capabilityHead = { id: u16(0), version: u16(2), next: u32(4) } as const;

/** `struct vfio_group_status`. */
export const groupStatus = new Struct("vfio_group_status", 8, requestHead);

/** `struct vfio_device_info` (20 bytes before `pad` was added). */
export const deviceInfo = new Struct("vfio_device_info", 24, {
  ...requestHead,
  numRegions: u32(8),
  numIrqs: u32(12),
  capOffset: u32(16),
  pad: u32(20),
});

/** `struct vfio_region_info`; capabilities follow. */
export const regionInfo = new Struct("vfio_region_info", 32, {
  ...requestHead,
  index: u32(8),
  capOffset: u32(12),
  size: u64(16),
  offset: u64(24),
});

/** `struct vfio_region_info_cap_sparse_mmap`; areas follow. */
export const sparseMmapCap = new Struct("vfio_region_info_cap_sparse_mmap", 16, {
  ...capabilityHead,
  nrAreas: u32(8),
  reserved: u32(12),
});

/** `struct vfio_region_sparse_mmap_area`. */
export const sparseMmapArea = new Struct("vfio_region_sparse_mmap_area", 16, {
  offset: u64(0),
  size: u64(8),
});

/** `struct vfio_region_info_cap_type`. */
export const regionTypeCap = new Struct("vfio_region_info_cap_type", 16, {
  ...capabilityHead,
  type: u32(8),
  subtype: u32(12),
});

/** `struct vfio_irq_info`. */
export const irqInfo = new Struct("vfio_irq_info", 16, {
  ...requestHead,
  index: u32(8),
  count: u32(12),
});

/**
 * `struct vfio_irq_set`; data follows: nothing, one u8 a vector, or one s32 descriptor a vector (beside the message over vfio-user).
 */
export const irqSet = new Struct("vfio_irq_set", 20, {
  ...requestHead,
  index: u32(8),
  start: u32(12),
  count: u32(16),
});

/** `struct vfio_pci_dependent_device`; `id` is a group number, or a device id when flag DEV_ID is set. */
export const dependentDevice = new Struct("vfio_pci_dependent_device", 8, {
  id: u32(0),
  segment: u16(4),
  bus: u8(6),
  devfn: u8(7),
});

/** `struct vfio_pci_hot_reset_info`; `count` dependent devices follow. */
export const hotResetInfo = new Struct("vfio_pci_hot_reset_info", 12, {
  ...requestHead,
  count: u32(8),
});

/** `struct vfio_pci_hot_reset`; `count` group descriptors (s32) follow, none on the character device path. */
export const hotReset = new Struct("vfio_pci_hot_reset", 12, { ...requestHead, count: u32(8) });

/** `struct vfio_device_feature`; the feature's data follows. */
export const deviceFeature = new Struct("vfio_device_feature", 8, requestHead);

/** `struct vfio_device_bind_iommufd` with a VF token. */
export const bindIommufd = new Struct("vfio_device_bind_iommufd", 24, {
  ...requestHead,
  iommufd: s32(8),
  outDevid: u32(12),
  tokenUuidPtr: u64(16),
});
/** Size of `vfio_device_bind_iommufd` before it had a token: every kernel with the request takes it. */
export const BIND_IOMMUFD_ORIGINAL_BYTES = 16;

/** `struct vfio_device_attach_iommufd_pt` without `pasid`, as every kernel takes it (16 bytes with it). */
export const attachIommufdPt = new Struct("vfio_device_attach_iommufd_pt", 12, {
  ...requestHead,
  ptId: u32(8),
});
/** The same with `pasid`, for `ATTACH_FLAG.pasid` (Linux 6.16). */
export const attachPasid = new Struct("vfio_device_attach_iommufd_pt", 16, {
  ...attachIommufdPt.fields,
  pasid: u32(12),
});

/** `struct vfio_iommu_type1_info`; capabilities follow. */
export const iommuInfo = new Struct("vfio_iommu_type1_info", 24, {
  ...requestHead,
  iovaPgsizes: u64(8),
  capOffset: u32(16),
  pad: u32(20),
});

/** `struct vfio_iommu_type1_info_cap_iova_range`; ranges follow. */
export const iovaRangeCap = new Struct("vfio_iommu_type1_info_cap_iova_range", 16, {
  ...capabilityHead,
  nrIovas: u32(8),
  reserved: u32(12),
});

/** `struct vfio_iova_range`, both ends included. */
export const iovaRange = new Struct("vfio_iova_range", 16, { start: u64(0), end: u64(8) });

/** `struct vfio_iommu_type1_dma_map`. */
export const dmaMap = new Struct("vfio_iommu_type1_dma_map", 32, {
  ...requestHead,
  vaddr: u64(8),
  iova: u64(16),
  size: u64(24),
});

/** `struct vfio_iommu_type1_dma_unmap`; the kernel writes back to `size` what it unmapped. */
export const dmaUnmap = new Struct("vfio_iommu_type1_dma_unmap", 24, {
  ...requestHead,
  iova: u64(8),
  size: u64(16),
});
