import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../../ffi/mod.ts";
import { DeviceError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { IRQ } from "../../../lib/vfio/device.ts";
import { InterruptSet } from "../../../lib/vfio/mod.ts";
import { FakeDevice } from "./fake_device.ts";

Deno.test("enable gives each vector an eventfd, in order; fire reaches only its own", () => {
  using device = new FakeDevice({});
  using interrupts = new InterruptSet(device);
  const eventFds = interrupts.enable("msix", 3);
  assertEquals(eventFds.length, 3);
  assertEquals(device.irqRequests, [{ index: IRQ.msix, action: "trigger", start: 0, eventFds }]);
  interrupts.fire(1);
  assertEquals(eventFds.map((one) => one.take()), [0, 1, 0]);
  assertStrictEquals(interrupts.eventFds, eventFds);
  interrupts.unmask();
  interrupts.mask(2);
  assertEquals(device.irqRequests.slice(2), [
    { index: IRQ.msix, action: "unmask", start: 0, count: 1 },
    { index: IRQ.msix, action: "mask", start: 2, count: 1 },
  ]);
});

Deno.test("disable turns the index off, closes the eventfds, and lets another kind on", () => {
  using device = new FakeDevice({});
  const before = openFdCount();
  using interrupts = new InterruptSet(device);
  const [eventFd] = interrupts.enable("msi");
  assertThrows(() => interrupts.enable("msix", 1), UsageError, "msi interrupts are on already");
  interrupts.disable();
  interrupts.disable();
  assertEquals(device.irqRequests.at(-1), { index: IRQ.msi, action: "disable" });
  assertEquals(device.irqRequests.length, 2);
  assertEquals(eventFd?.closed, true);
  assertEquals(openFdCount(), before);
  interrupts.enable("intx");
  assertEquals(interrupts.kind, "intx");
});

Deno.test("an enable that fails leaves no eventfd and can be tried again", () => {
  using device = new FakeDevice({});
  const before = openFdCount();
  using interrupts = new InterruptSet(device);
  device.failIrqs = new DeviceError("no vectors left");
  assertThrows(() => interrupts.enable("msix", 4), DeviceError);
  assertEquals(openFdCount(), before);
  assertEquals([interrupts.kind, interrupts.eventFds.length], [null, 0]);
  assertEquals(interrupts.enable("msix", 4).length, 4);
});

Deno.test("more vectors than there are, none, or a kind that the function lacks", () => {
  using device = new FakeDevice({});
  device.irqCounts = [0, 1, 4, 1, 1];
  using interrupts = new InterruptSet(device);
  assertThrows(() => interrupts.enable("msix", 5), UnsupportedError, "has 4 msix vectors, 5 are wanted");
  assertThrows(() => interrupts.enable("intx"), UnsupportedError, "has 0 intx");
  for (const count of [0, -1, 1.5, NaN]) assertThrows(() => interrupts.enable("msix", count), UsageError);
  assertThrows(() => interrupts.fire(0), UsageError, "no interrupts are on");
  assertThrows(() => interrupts.unmask(0), UsageError);
  assertEquals(device.irqRequests, []);
});

Deno.test("disable after the device is closed, or failing, still closes the eventfds", () => {
  const before = openFdCount();
  const device = new FakeDevice({});
  const interrupts = new InterruptSet(device);
  interrupts.enable("msix", 2);
  device.close();
  interrupts.disable();
  assertEquals(openFdCount(), before);

  using failing = new FakeDevice({});
  const others = new InterruptSet(failing);
  const eventFds = others.enable("msix", 2);
  failing.failIrqs = new DeviceError("gone");
  assertThrows(() => others.disable(), DeviceError);
  assertEquals(eventFds.map((one) => one.closed), [true, true]);
});
