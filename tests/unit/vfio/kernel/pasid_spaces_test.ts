/** Address spaces with PASIDs, on a model of the kernel. */
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount, SyscallError } from "../../../../ffi/mod.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { openOn } from "../../../../lib/vfio/kernel/open.ts";
import { FakeKernel } from "./fake_kernel.ts";

const PF = "0000:01:00.0";
const NODE = "/dev/vfio/devices/vfio3";

function kernelWithPf(): FakeKernel {
  const kernel = new FakeKernel();
  kernel.add({ address: PF, group: 12, driver: "vfio-pci", cdev: "vfio3" });
  return kernel;
}

function balanced(body: () => void): void {
  const before = { fds: openFdCount(), ...mappingCount() };
  body();
  assertEquals({ fds: openFdCount(), ...mappingCount() }, before);
}

/** Words of an argument. */
const words = (bytes: Uint8Array<ArrayBuffer>): number[] => [...new Uint32Array(bytes.buffer)];

Deno.test("8.4 a PASID: one IOAS each, page tables that go with PASIDs, bytes of the requests, order of the teardown", () => {
  balanced(() => {
    const kernel = kernelWithPf();
    const device = openOn(kernel, PF, { path: "cdev" });
    const ioas = 1, id = 2;
    using own = device.dma.allocate(4096);
    const since = kernel.log.length;
    const space = device.addressSpace!(7);
    assertEquals(kernel.log.slice(since), [
      "/dev/iommu IOMMU_GET_HW_INFO",
      "/dev/iommu IOMMU_HWPT_ALLOC",
      `${NODE} VFIO_DEVICE_ATTACH_IOMMUFD_PT`,
      "/dev/iommu IOMMU_IOAS_ALLOC",
      "/dev/iommu IOMMU_HWPT_ALLOC",
      `${NODE} VFIO_DEVICE_ATTACH_IOMMUFD_PT`,
      "/dev/iommu IOMMU_IOAS_IOVA_RANGES",
      "/dev/iommu IOMMU_IOAS_IOVA_RANGES",
    ]);
    assertEquals(words(kernel.arguments.get("IOMMU_GET_HW_INFO")![0]!), [40, 0, id, 0, 0, 0, 0, 0, 0, 0]);
    // Page table 3 over the function's own IOAS, IOAS 4 and page table 5 over it.
    assertEquals(kernel.arguments.get("IOMMU_HWPT_ALLOC")!.map(words), [
      [40, 8, id, ioas, 0, 0, 0, 0, 0, 0],
      [40, 8, id, 4, 0, 0, 0, 0, 0, 0],
    ]);
    assertEquals(kernel.arguments.get("VFIO_DEVICE_ATTACH_IOMMUFD_PT")!.map(words), [
      [12, 0, ioas],
      [12, 0, 3],
      [16, 1, 5, 7],
    ]);
    const memory = space.allocate(4096);
    assertEquals([memory.iova, space.mapper.name], [own.iova, `${PF}, PASID 7`]);
    assertEquals([kernel.dma.get("1")!.size, kernel.dma.get("4")!.size], [1, 1]);
    // The next one needs no new page table for the function itself.
    assertStrictEquals(device.addressSpace!(7), space);
    assert(device.addressSpace!(255) !== space);
    assertEquals([...kernel.pageTables], [[3, 1], [5, 4], [7, 6]]);
    device.close();
    assertEquals([space.closed, memory.closed, own.closed], [true, true, true]);
    assertEquals([...kernel.dma.values()].map(({ size }) => size), [0, 0]);
    assertEquals(kernel.log.filter((line) => line.startsWith("destroyed")).map((line) => line.slice(10)), [
      ...["7", "6", "5", "4"],
      ...["3", "1"],
    ]);
    assertThrows(() => device.addressSpace!(7), ClosedError);
  });
});

for (
  const [request, code, lacks] of [
    ["IOMMU_GET_HW_INFO", "ENOTTY", "a kernel before 6.7"],
    ["IOMMU_HWPT_ALLOC", "ENOTTY", "a kernel without page tables of their own"],
    ["IOMMU_HWPT_ALLOC", "ENOTSUP", "an IOMMU or a function without PASIDs"],
    ["VFIO_DEVICE_ATTACH_IOMMUFD_PT", "EINVAL", "a kernel before 6.16"],
  ] as const
) {
  Deno.test(`8.4 no PASIDs: ${lacks} is told apart from a failure, and the function goes on`, () => {
    balanced(() => {
      const kernel = kernelWithPf();
      using device = openOn(kernel, PF, { path: "cdev" });
      kernel.failOnce.set(request, code);
      const error = assertThrows(
        () => device.addressSpace!(7),
        UnsupportedError,
        `${PF} has no address space 7: ioctl ${request} fails with ${code}`,
      ) as UnsupportedError;
      assert(error.hint.includes("Linux 6.16"), error.hint);
      assertEquals([...kernel.pageTables], [], "nothing stays behind");
      device.dma.allocate(4096);
      kernel.failOnce.set("IOMMU_IOAS_ALLOC", "ENOMEM");
      assertThrows(() => device.addressSpace!(7), SyscallError, "ENOMEM");
      device.addressSpace!(7).allocate(4096);
    });
  });
}

Deno.test("8.4 a function that can send no PASID is refused, though the kernel would attach one: nothing is changed", () => {
  balanced(() => {
    const kernel = kernelWithPf();
    kernel.lastPasid = 0;
    using device = openOn(kernel, PF, { path: "cdev" });
    const since = kernel.log.length;
    assertThrows(() => device.addressSpace!(1), UnsupportedError, "the kernel knows of no PASIDs of it");
    assertEquals(kernel.log.slice(since), ["/dev/iommu IOMMU_GET_HW_INFO"]);
    device.dma.allocate(4096);
  });
});

Deno.test("8.4 PASIDs beyond the function's, numbers that are none, and the group path", () => {
  balanced(() => {
    const kernel = kernelWithPf();
    {
      using device = openOn(kernel, PF, { path: "cdev" });
      assertThrows(() => device.addressSpace!(256), UnsupportedError, `${PF} has no address space 256`);
      assertEquals([...kernel.pageTables], [[3, 1]]);
      for (const pasid of [0, -1, 1.5, 1 << 20]) {
        assertThrows(
          () => device.addressSpace!(pasid),
          UsageError,
          `${PF}: address space ${pasid} is no PASID`,
        );
      }
      device.addressSpace!(255);
    }
    using device = openOn(kernel, PF, { path: "group" });
    assertThrows(
      () => device.addressSpace!(1),
      UnsupportedError,
      `${PF} has no address space 1: it was opened by its group`,
    );
  });
});
