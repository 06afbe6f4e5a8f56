import { assertEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { MovableTransport } from "../../../lib/virtio/transport/movable.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { FakeFunction } from "./fake_function.ts";

Deno.test("movable: interrupts that are turned on again leave no eventfd behind", () => {
  const before = openFdCount();
  const movable = new MovableTransport(PciModernTransport.open(new FakeFunction()));
  movable.enableInterrupts("msix", 3);
  const on = openFdCount();
  assertThrows(() => movable.enableInterrupts("msix", 3), UsageError, "on already");
  assertEquals(openFdCount(), on);
  // Its owner may turn the function's off: what is enabled next takes the place of those.
  movable.current.disableInterrupts();
  const vectors = movable.enableInterrupts("msix", 3);
  assertEquals(openFdCount(), on);
  assertEquals(vectors.map(({ eventFd }) => eventFd.closed), [false, false, false]);
  movable.close();
  assertEquals(openFdCount(), before);
});

Deno.test("1.2 a driver that did not accept ACCESS_PLATFORM does not move behind an IOMMU", () => {
  using here = new FakeFunction();
  using there = new FakeFunction();
  there.iommu.iommu = true;
  here.features = there.features = 3n << 32n;
  using to = PciModernTransport.open(there);
  using moving = new MovableTransport(PciModernTransport.open(here));
  moving.writeDriverFeatures(1n << 32n);
  assertThrows(() => moving.moveTo(to), UnsupportedError, "ACCESS_PLATFORM");
  assertEquals([moving.current.closed, moving.needsAccessPlatform, to.driverFeatures], [false, false, 0n]);
  moving.writeDriverFeatures(3n << 32n);
  moving.moveTo(to);
  assertEquals([moving.current === to, moving.needsAccessPlatform], [true, true]);
});
