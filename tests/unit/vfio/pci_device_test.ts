import { assertEquals, assertThrows } from "@std/assert";
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { DEVICE_FLAG } from "../../../lib/vfio/device.ts";
import {
  ConfigAccess,
  InterruptSet,
  isPciDevice,
  requirePciDevice,
  type VfioPath,
} from "../../../lib/vfio/mod.ts";
import { FakeDevice } from "./fake_device.ts";

function platform(path: VfioPath, irqCounts: readonly number[]): FakeDevice {
  const device = new FakeDevice({ 0: { sizeBytes: 0x200 } });
  device.info = {
    flags: DEVICE_FLAG.reset | DEVICE_FLAG.platform,
    numRegions: 1,
    numIrqs: irqCounts.length,
  };
  device.path = path;
  device.irqCounts = irqCounts;
  return device;
}

Deno.test("8.2 a device says by its flags whether it is a PCI function", () => {
  assertEquals(DEVICE_FLAG, { reset: 1, pci: 2, platform: 4 });
  using pci = new FakeDevice({});
  using mmio = platform("group", [1]);
  assertEquals([isPciDevice(pci), isPciDevice(mmio)], [true, false]);
  assertEquals(requirePciDevice(pci, "hot reset") as unknown, pci);
  const lacks = (what: string) => `${mmio.name} is a platform device, which has no ${what}`;
  assertThrows(() => requirePciDevice(mmio, "hot reset"), UnsupportedError, lacks("hot reset"));
  assertThrows(() => new ConfigAccess(mmio), UnsupportedError, lacks("configuration space"));
  assertEquals(mmio.accesses, []);
  mmio.info = { ...mmio.info, flags: 0 };
  assertThrows(() => requirePciDevice(mmio, "VF token"), UnsupportedError, "is no PCI function, which");
  assertThrows(() => isPciDevice(null as never), UsageError, "isPciDevice: device");
});

Deno.test("a platform device's line is intx, at index 0; its second line is no MSI", () => {
  using mmio = platform("group", [1, 1]);
  using interrupts = new InterruptSet(mmio);
  const kinds = ["intx", "msi", "msix", "error", "request"] as const;
  assertEquals(kinds.map((kind) => interrupts.available(kind)), [1, 0, 0, 0, 0]);
  assertThrows(() => interrupts.enable("msi"), UnsupportedError, "has 0 msi vectors");
  const eventFds = interrupts.enable("intx");
  interrupts.unmask();
  interrupts.disable();
  assertEquals(mmio.irqRequests, [
    { index: 0, action: "trigger", start: 0, eventFds },
    { index: 0, action: "unmask", start: 0, count: 1 },
    { index: 0, action: "disable" },
  ]);
});

Deno.test("a platform device of the emulated host has its messages at index 1", () => {
  using mmio = platform("vfio-user", [1, 6]);
  using interrupts = new InterruptSet(mmio);
  assertEquals([interrupts.available("intx"), interrupts.available("msi")], [1, 6]);
  interrupts.enable("msi", 4);
  interrupts.fire(2);
  interrupts.disable();
  assertEquals(mmio.irqRequests.map(({ index, action }) => [index, action]), [
    [1, "trigger"],
    [1, "fire"],
    [1, "disable"],
  ]);
  using bare = platform("vfio-user", [1]);
  assertEquals(new InterruptSet(bare).available("msi"), 0);
});
