/** A platform device through kernel VFIO, by group, by character device and without an IOMMU, against a model of drivers/vfio/platform. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount, pageSizeBytes } from "../../../../ffi/mod.ts";
import { NotFoundError, RefusedError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import {
  DEVICE_FEATURE,
  DEVICE_FLAG,
  IRQ_FLAG,
  REGION_FLAG,
  type VfioDevice,
} from "../../../../lib/vfio/device.ts";
import { ConfigAccess, InterruptSet, isPciDevice } from "../../../../lib/vfio/mod.ts";
import { type KernelOpenOptions, openOn } from "../../../../lib/vfio/kernel/open.ts";
import { RegionRegisters } from "../../../../lib/vfio/region_registers.ts";
import { type FakeFunction, FakeKernel } from "./fake_kernel.ts";

const NAME = "a003e00.virtio_mmio";
const PAGE = pageSizeBytes;
const BY_EDGE = { count: 1, flags: IRQ_FLAG.eventfd };
const BY_LEVEL = { count: 1, flags: IRQ_FLAG.eventfd | IRQ_FLAG.maskable | IRQ_FLAG.automasked };
const NO_TYPE = 8;

/** As on QEMU's `virt`: 512 bytes of registers within a page, and a line by edges. */
const MMIO: FakeFunction = {
  address: NAME,
  group: 4,
  driver: "vfio-platform",
  cdev: "vfio0",
  windows: [{ address: 0xa003e00n, bytes: new Uint8Array(0x200) }],
  irqs: [BY_EDGE],
};

class Window extends RegionRegisters {}

/** Opens the device of a fresh model, and checks that nothing of it stays. */
function withDevice(
  body: (device: VfioDevice, kernel: FakeKernel) => void,
  change: { fn?: Partial<FakeFunction>; options?: KernelOpenOptions; extensions?: readonly number[] } = {},
): void {
  const before = { fds: openFdCount(), ...mappingCount() };
  const kernel = new FakeKernel();
  kernel.extensions = change.extensions ?? kernel.extensions;
  kernel.add({ ...MMIO, ...change.fn });
  {
    using device = openOn(kernel, NAME, change.options ?? { path: "group" });
    body(device, kernel);
  }
  assertEquals({ fds: openFdCount(), ...mappingCount() }, before);
}

for (const path of ["group", "cdev"] as const) {
  Deno.test(`platform device by ${path}: opened by its name, with DMA, and nothing of PCI's asked for`, () => {
    withDevice((device, kernel) => {
      assertEquals([device.name, device.path, isPciDevice(device)], [NAME, path, false]);
      assertEquals(device.info, { flags: DEVICE_FLAG.platform, numRegions: 1, numIrqs: 1 });
      assertEquals(kernel.deviceNames, path === "group" ? [NAME] : []);
      using memory = device.dma.allocate(PAGE);
      assertEquals(kernel.dma.get(path === "group" ? "type1" : "1")?.has(memory.iova), true);
      assertEquals(kernel.log.filter((line) => /^p(read|write)|PCI|REGION/.test(line)), []);
    }, { options: { path } });
  });
}

Deno.test("platform device: a window within a page is not mapped; each register access is one of its width at its offset", () => {
  withDevice((device, kernel) => {
    const info = device.regionInfo(0);
    assertEquals(info, {
      index: 0,
      flags: REGION_FLAG.read | REGION_FLAG.write,
      sizeBytes: 0x200,
      mmapAreas: [],
      msixMappable: false,
    });
    assertThrows(
      () => device.mapRegion(0, { offset: 0, sizeBytes: 0x200 }),
      UsageError,
      "cannot be mapped",
    );
    const registers = new Window(device, 0, "registers", info.sizeBytes, info.mmapAreas);
    kernel.log.length = 0;
    registers.write32(0x70, 0x0102_0304);
    assertEquals([registers.read32(0x70), registers.read16(0x72), registers.read8(0x1ff)], [
      0x0102_0304,
      0x0102,
      0,
    ]);
    assertEquals(kernel.log, ["iowrite 70 4", "ioread 70 4", "ioread 72 2", "ioread 1ff 1"]);
    assertThrows(() => registers.read32(0x200), UsageError, "no 32-bit register is there");
    assertThrows(() => device.readRegion(0, 0x1fe, new Uint8Array(4)), UsageError, "outside its 512 bytes");
    for (const index of [1, 7, 8]) {
      assertThrows(() => device.regionInfo(index), UsageError, `has no region ${index}: there are 1`);
    }
  });
});

Deno.test("platform device: whole pages of registers are mapped, whatever a command register could say", () => {
  const windows = [
    { address: 0xb000_0000n, bytes: new Uint8Array(2 * PAGE) },
    { address: 0xb100_0000n, bytes: new Uint8Array(PAGE), isReadOnly: true },
    { address: 0xb200_0200n, bytes: new Uint8Array(PAGE) },
  ];
  withDevice((device, kernel) => {
    const infos = [0, 1, 2].map((index) => device.regionInfo(index));
    assertEquals(infos.map(({ flags, mmapAreas }) => [flags, mmapAreas.length]), [[7, 1], [5, 1], [3, 0]]);
    kernel.log.length = 0;
    const memory = device.mapRegion(0, { offset: PAGE, sizeBytes: PAGE });
    assertEquals(device.mapRegion(1, { offset: 0, sizeBytes: PAGE }).closed, false);
    assertEquals(kernel.log.map((line) => line.split(" ")[0]), ["mmap", "mmap"]);
    // Region 7 of a PCI function is its configuration space, whose writes may unmap all; a platform device has no such place.
    device.writeRegion(2, 4, new Uint8Array(4));
    assertEquals(memory.closed, false);
    assertThrows(() => device.writeRegion(1, 0, new Uint8Array(4)), UsageError, "cannot be written");
    device.close();
    assertEquals(memory.closed, true);
  }, { fn: { windows } });
});

Deno.test("platform device: lines by edge have an eventfd, lines by level are masked when they fire; each is its own index", () => {
  withDevice((device, kernel) => {
    assertEquals([0, 1, 2].map((index) => device.irqInfo(index).flags), [
      BY_EDGE.flags,
      BY_LEVEL.flags,
      BY_LEVEL.flags,
    ]);
    using line = new InterruptSet(device);
    assertEquals([line.available("intx"), line.available("msi"), line.available("msix")], [1, 0, 0]);
    const [eventFd] = line.enable("intx");
    line.rearm();
    assertThrows(
      () => line.mask(),
      UnsupportedError,
      `${NAME} interrupt index 0 cannot be masked: only a line by level is`,
    );
    // On PCI, indices 0, 1 and 2 shut one another out.
    device.setIrqs({ index: 1, action: "trigger", start: 0, eventFds: [eventFd!] });
    device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds: [eventFd!] });
    device.setIrqs({ index: 1, action: "unmask", start: 0, count: 1 });
    assertThrows(
      () => device.setIrqs({ index: 1, action: "trigger", start: 1, eventFds: [null] }),
      UsageError,
      "vectors [1, +1) are not among its 1",
    );
    line.disable();
    const sets = kernel.irqSets.map((a) => [...new Uint32Array(a.buffer, 4, 4)]);
    assertEquals(sets, [[36, 0, 0, 1], [36, 1, 0, 1], [36, 2, 0, 1], [17, 1, 0, 1], [33, 0, 0, 0]]);
    assertThrows(() => device.irqInfo(3), UsageError, "has no interrupt index 3: there are 3");
  }, { fn: { irqs: [BY_EDGE, BY_LEVEL, BY_LEVEL] } });
});

Deno.test("platform device: reset only where the kernel has a reset function", () => {
  withDevice((device, kernel) => {
    const error = assertThrows(
      () => device.reset(),
      UnsupportedError,
      "cannot be reset alone",
    ) as UnsupportedError;
    assert(error.hint.includes("through its registers") && !error.hint.includes("hotReset"), error.hint);
    assertEquals(kernel.log.some((line) => line.includes("RESET")), false);
  });
  withDevice((device, kernel) => {
    assertEquals(device.info.flags, DEVICE_FLAG.platform | DEVICE_FLAG.reset);
    device.reset();
    assertEquals(kernel.log.at(-1), `device ${NAME} VFIO_DEVICE_RESET`);
  }, { fn: { resettable: true } });
});

Deno.test("platform device: what PCI alone has does not exist on it", () => {
  withDevice((device) => {
    assertThrows(
      () => new ConfigAccess(device),
      UnsupportedError,
      `${NAME} is a platform device, which has no`,
    );
    assertEquals(["hotReset", "hotResetInfo", "setVfToken"].filter((name) => name in device), []);
    assertEquals(device.probeFeature(DEVICE_FEATURE.pciVfToken), false);
  });
});

Deno.test("platform device: no-IOMMU mode has registers and interrupts, and says that it has no DMA", () => {
  const fn = { noIommu: true };
  withDevice((device, kernel) => {
    assertEquals(kernel.log.includes("open /dev/vfio/noiommu-4"), true);
    device.writeRegion(0, 0x30, new Uint8Array(4));
    using line = new InterruptSet(device);
    line.enable("intx");
    const error = assertThrows(
      () => device.dma.allocate(PAGE),
      UnsupportedError,
      "no DMA memory in no-IOMMU mode",
    ) as UnsupportedError;
    assert(error.hint.includes("SMMU"), error.hint);
    assertEquals(kernel.dma.size, 0);
  }, { fn, options: { enableUnsafeNoIommuMode: true }, extensions: [NO_TYPE] });
  assertThrows(() => withDevice(() => {}, { fn }), RefusedError, `${NAME} has no IOMMU in front of it`);
});

Deno.test("platform device: what is in the way of opening it is said in its bus's words", () => {
  const open = (fn: Partial<FakeFunction>, address = NAME) => () => {
    const kernel = new FakeKernel();
    kernel.add({ ...MMIO, ...fn });
    openOn(kernel, address, {}).close();
  };
  assertThrows(
    open({}, "b000000.virtio_mmio"),
    NotFoundError,
    "there is no platform device b000000.virtio_mmio",
  );
  assertThrows(
    open({ driver: "virtio-mmio", cdev: undefined }),
    UsageError,
    `${NAME} is bound to virtio-mmio, not to a VFIO driver`,
  );
  assertThrows(
    open({ group: -1, cdev: undefined }),
    UnsupportedError,
    "firmware describes no IOMMU in front of it",
  );
  assertThrows(open({}, "a003e00/virtio"), UsageError, "is not a PCI address");
});

Deno.test("a device whose flags name another bus than its address is refused, and closed", () => {
  const before = openFdCount();
  const pci = new FakeKernel();
  pci.add({ address: "0000:01:00.0", group: 5, driver: "vfio-pci" });
  pci.deviceFlags = 4;
  assertThrows(() => openOn(pci, "0000:01:00.0", {}), UnsupportedError, "is not a PCI function to VFIO");
  assertEquals(openFdCount(), before);
});
