import { assertEquals } from "@std/assert";
import type { Fields, Struct } from "../../../../lib/wire/mod.ts";
import * as abi from "../../../../lib/vfio/kernel/abi.ts";
import * as iommufd from "../../../../lib/vfio/kernel/iommufd_abi.ts";
import { encodeVfToken } from "../../../../lib/vfio/kernel/kernel_pci_device.ts";
import { descriptors, encodeIrqSet } from "../../../../lib/vfio/kernel/irq_control.ts";
import { parseVfToken } from "../../../../lib/vfio/uuid.ts";

const numbers = (table: Readonly<Record<string, { name: string; number: bigint }>>) =>
  Object.fromEntries(Object.values(table).map(({ name, number }) => [name, Number(number)]));

const layout = (struct: Struct<Fields>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(struct.fields).map(([name, { offset, type }]) => [name, `${offset} ${type}`]),
  );

function assertLayouts(
  expected: readonly (readonly [Struct<Fields>, number, Record<string, string>])[],
): void {
  for (const [struct, sizeBytes, fields] of expected) {
    assertEquals(layout(struct), fields, struct.name);
    assertEquals(struct.sizeBytes, sizeBytes, struct.name);
  }
}

Deno.test("8.1 request numbers", () => {
  assertEquals(numbers({ ...abi.CONTAINER_IOCTL, ...abi.GROUP_IOCTL, ...abi.DEVICE_IOCTL }), {
    VFIO_GET_API_VERSION: 0x3b64,
    VFIO_CHECK_EXTENSION: 0x3b65,
    VFIO_SET_IOMMU: 0x3b66,
    VFIO_GROUP_GET_STATUS: 0x3b67,
    VFIO_GROUP_SET_CONTAINER: 0x3b68,
    VFIO_GROUP_GET_DEVICE_FD: 0x3b6a,
    VFIO_DEVICE_GET_INFO: 0x3b6b,
    VFIO_DEVICE_GET_REGION_INFO: 0x3b6c,
    VFIO_DEVICE_GET_IRQ_INFO: 0x3b6d,
    VFIO_DEVICE_SET_IRQS: 0x3b6e,
    VFIO_DEVICE_RESET: 0x3b6f,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: 0x3b70,
    VFIO_DEVICE_PCI_HOT_RESET: 0x3b71,
    VFIO_DEVICE_FEATURE: 0x3b75,
    VFIO_DEVICE_BIND_IOMMUFD: 0x3b76,
    VFIO_DEVICE_ATTACH_IOMMUFD_PT: 0x3b77,
    VFIO_IOMMU_GET_INFO: 0x3b70,
    VFIO_IOMMU_MAP_DMA: 0x3b71,
    VFIO_IOMMU_UNMAP_DMA: 0x3b72,
  });
});

Deno.test("8.4 iommufd request numbers", () => {
  assertEquals(numbers(iommufd.IOMMUFD_IOCTL), {
    IOMMU_DESTROY: 0x3b80,
    IOMMU_GET_HW_INFO: 0x3b8a,
    IOMMU_HWPT_ALLOC: 0x3b89,
    IOMMU_IOAS_ALLOC: 0x3b81,
    IOMMU_IOAS_IOVA_RANGES: 0x3b84,
    IOMMU_IOAS_MAP: 0x3b85,
    IOMMU_IOAS_UNMAP: 0x3b86,
  });
});

Deno.test("8.2 structures: size, and offset and type of every field", () => {
  const cap = { id: "0 u16", version: "2 u16", next: "4 u32" };
  const argsz = { argsz: "0 u32", flags: "4 u32" };
  assertLayouts([
    [abi.groupStatus, 8, { ...argsz }],
    [abi.deviceInfo, 24, {
      ...argsz,
      numRegions: "8 u32",
      numIrqs: "12 u32",
      capOffset: "16 u32",
      pad: "20 u32",
    }],
    [abi.regionInfo, 32, {
      ...argsz,
      index: "8 u32",
      capOffset: "12 u32",
      size: "16 u64",
      offset: "24 u64",
    }],
    [abi.sparseMmapCap, 16, { ...cap, nrAreas: "8 u32", reserved: "12 u32" }],
    [abi.regionTypeCap, 16, { ...cap, type: "8 u32", subtype: "12 u32" }],
    [abi.irqInfo, 16, { ...argsz, index: "8 u32", count: "12 u32" }],
    [abi.irqSet, 20, { ...argsz, index: "8 u32", start: "12 u32", count: "16 u32" }],
    [abi.dependentDevice, 8, { id: "0 u32", segment: "4 u16", bus: "6 u8", devfn: "7 u8" }],
    [abi.hotResetInfo, 12, { ...argsz, count: "8 u32" }],
    [abi.hotReset, 12, { ...argsz, count: "8 u32" }],
    [abi.deviceFeature, 8, { ...argsz }],
    [abi.bindIommufd, 24, { ...argsz, iommufd: "8 s32", outDevid: "12 u32", tokenUuidPtr: "16 u64" }],
    [abi.attachIommufdPt, 12, { ...argsz, ptId: "8 u32" }],
    [abi.attachPasid, 16, { ...argsz, ptId: "8 u32", pasid: "12 u32" }],
    [abi.iommuInfo, 24, { ...argsz, iovaPgsizes: "8 u64", capOffset: "16 u32", pad: "20 u32" }],
    [abi.iovaRangeCap, 16, { ...cap, nrIovas: "8 u32", reserved: "12 u32" }],
    [abi.iovaRange, 16, { start: "0 u64", end: "8 u64" }],
    [abi.dmaMap, 32, { ...argsz, vaddr: "8 u64", iova: "16 u64", size: "24 u64" }],
    [abi.dmaUnmap, 24, { ...argsz, iova: "8 u64", size: "16 u64" }],
  ]);
  assertEquals(abi.BIND_IOMMUFD_ORIGINAL_BYTES, 16);
});

Deno.test("8.4 iommufd structures: size, and offset and type of every field", () => {
  assertLayouts([
    [iommufd.destroy, 8, { size: "0 u32", id: "4 u32" }],
    [iommufd.ioasAlloc, 12, { size: "0 u32", flags: "4 u32", outIoasId: "8 u32" }],
    [iommufd.ioasIovaRanges, 32, {
      size: "0 u32",
      ioasId: "4 u32",
      numIovas: "8 u32",
      reserved: "12 u32",
      allowedIovas: "16 u64",
      outIovaAlignment: "24 u64",
    }],
    [iommufd.iommuIovaRange, 16, { start: "0 u64", last: "8 u64" }],
    [iommufd.ioasMap, 40, {
      size: "0 u32",
      flags: "4 u32",
      ioasId: "8 u32",
      reserved: "12 u32",
      userVa: "16 u64",
      length: "24 u64",
      iova: "32 u64",
    }],
    [iommufd.hwInfo, 40, {
      size: "0 u32",
      flags: "4 u32",
      devId: "8 u32",
      dataLen: "12 u32",
      dataUptr: "16 u64",
      outDataType: "24 u32",
      outMaxPasidLog2: "28 u8",
      outCapabilities: "32 u64",
    }],
    [iommufd.hwptAlloc, 40, {
      size: "0 u32",
      flags: "4 u32",
      devId: "8 u32",
      ptId: "12 u32",
      outHwptId: "16 u32",
      reserved: "20 u32",
      dataType: "24 u32",
      dataLen: "28 u32",
      dataUptr: "32 u64",
    }],
    [iommufd.ioasUnmap, 24, { size: "0 u32", ioasId: "4 u32", iova: "8 u64", length: "16 u64" }],
  ]);
});

Deno.test("8.2 flags and ids", () => {
  assertEquals(abi.EXTENSION, { type1v2: 3, noIommu: 8 });
  assertEquals(abi.GROUP_FLAG, { viable: 1, containerSet: 2 });
  assertEquals(abi.IOMMU_CAP, { iovaRange: 1 });
  assertEquals(abi.REGION_CAP, { sparseMmap: 1, type: 2, msixMappable: 3 });
  assertEquals(abi.DMA_MAP_FLAG, { read: 1, write: 2, vaddr: 4 });
  assertEquals(abi.DMA_UNMAP_FLAG, { getDirtyBitmap: 1, all: 2, vaddr: 4 });
  assertEquals(abi.HOT_RESET_FLAG, { deviceId: 1, deviceIdOwned: 2 });
  assertEquals(abi.FEATURE_FLAG, { get: 0x10000, set: 0x20000, probe: 0x40000 });
  assertEquals([abi.BIND_FLAG, abi.ATTACH_FLAG], [{ token: 1 }, { pasid: 1 }]);
  assertEquals(iommufd.HWPT_FLAG, { pasid: 8 });
  assertEquals(iommufd.IOAS_MAP_FLAG, { fixedIova: 1, writeable: 2, readable: 4 });
});

Deno.test("8.3, 10 the VF token is set with 24 bytes: flags 0x20000, the UUID's bytes in text order at offset 8", () => {
  const bytes = encodeVfToken(parseVfToken("00112233-4455-6677-8899-AABBCCDDEEFF"));
  assertEquals([...bytes], [
    ...[24, 0, 0, 0],
    ...[0, 0, 2, 0],
    ...[0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff],
  ]);
});

Deno.test("8.2 SET_IRQS with eventfds: one s32 a vector from offset 20, argsz counts them", () => {
  assertEquals([...encodeIrqSet(2, { flags: 4 | 32, start: 1, count: 2 }, descriptors([7, -1]))], [
    ...[28, 0, 0, 0],
    ...[36, 0, 0, 0],
    ...[2, 0, 0, 0],
    ...[1, 0, 0, 0],
    ...[2, 0, 0, 0],
    ...[7, 0, 0, 0],
    ...[255, 255, 255, 255],
  ]);
});

Deno.test("8.2 SET_IRQS for some vectors: DATA_BOOL, a byte a vector from offset 20, argsz counts them", () => {
  assertEquals([...encodeIrqSet(2, { flags: 2 | 32, start: 1, count: 3 }, Uint8Array.of(1, 0, 1))], [
    ...[23, 0, 0, 0],
    ...[34, 0, 0, 0],
    ...[2, 0, 0, 0],
    ...[1, 0, 0, 0],
    ...[3, 0, 0, 0],
    ...[1, 0, 1],
  ]);
});
