import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { IRQ } from "../../../lib/vfio/device.ts";
import { ConfigAccess, InterruptSet } from "../../../lib/vfio/mod.ts";
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

/** A function that may write to memory, with two vectors on. */
function withVectors(): { device: FakeDevice; interrupts: InterruptSet } {
  const device = new FakeDevice({});
  new ConfigAccess(device).setCommand({ busMaster: true });
  const interrupts = new InterruptSet(device);
  interrupts.enable("msix", 2);
  return { device, interrupts };
}

Deno.test("a wait gives how many interrupts of its vector have come since the last, also before it; 0 after its time", async () => {
  const { device, interrupts } = withVectors();
  using _device = device;
  using _interrupts = interrupts;
  assertEquals(interrupts.counts, []);
  for (const vector of [1, 1, 0]) interrupts.fire(vector);
  assertEquals(await interrupts.wait(1, 1000), 2);
  assertEquals(await interrupts.wait(1, 0), 0);
  assertEquals(await interrupts.wait(0, 0), 1);
  const coming = interrupts.wait(1);
  setTimeout(() => interrupts.fire(1), 1);
  assertEquals(await coming, 1);
  interrupts.fire(0);
  assertEquals([interrupts.waitBlocking(0, 1000), interrupts.waitBlocking(0, 0)], [1, 0]);
  assertEquals(interrupts.counts, [2, 3]);
  await assertRejects(() => interrupts.wait(2, 0), UsageError, "number 2 of 2");
  await assertRejects(() => interrupts.wait("1" as never, 0), UsageError);
  await assertRejects(() => interrupts.wait(0, -1), UsageError);
});

Deno.test("of two waits for one vector an interrupt ends one; the other goes on", async () => {
  const { device, interrupts } = withVectors();
  using _device = device;
  using _interrupts = interrupts;
  const waits = [interrupts.wait(0), interrupts.wait(0)];
  const first = Promise.race(waits);
  setTimeout(() => interrupts.fire(0), 1);
  assertEquals(await first, 1);
  assertThrows(() => interrupts.waitBlocking(0, 0), UsageError, "while an asynchronous one");
  interrupts.fire(0);
  assertEquals(await Promise.all(waits), [1, 1]);
});

Deno.test("for await: each turn has those since the last; leaving it leaves the interrupts on", async () => {
  const { device, interrupts } = withVectors();
  using _device = device;
  using _interrupts = interrupts;
  const seen: number[] = [];
  interrupts.fire(1);
  for await (const count of interrupts.each(1)) {
    seen.push(count);
    if (seen.length === 3) break;
    for (let i = 0; i < seen.length; i++) interrupts.fire(1);
  }
  assertEquals([seen, interrupts.counts, interrupts.kind], [[1, 1, 2], [0, 4], "msix"]);
});

Deno.test("turning interrupts off ends all waits; those of the next enable are waited for afresh, and nothing is left open", async () => {
  const before = openFdCount();
  const { device, interrupts } = withVectors();
  const waits = [interrupts.wait(0), interrupts.wait(1, 1e6)].map((one) =>
    assertRejects(() => one, ClosedError, "msix interrupts of 0000:0f:00.0")
  );
  interrupts.disable();
  await Promise.all(waits);
  await assertRejects(() => interrupts.wait(0, 0), UsageError, "no interrupts are on");
  interrupts.enable("msi");
  interrupts.fire(0);
  assertEquals(await interrupts.wait(0, 1000), 1);
  interrupts.disable();
  device.close();
  await new Promise((done) => setTimeout(done, 0));
  assertEquals(openFdCount(), before);
});

Deno.test("messages without Bus Master Enable cannot come: who waits for them is told, also when it is taken away meanwhile; a line can", async () => {
  using device = new FakeDevice({});
  using interrupts = new InterruptSet(device);
  interrupts.enable("msix", 1);
  await assertRejects(
    () => interrupts.wait(),
    UsageError,
    "no msix interrupt can come, Bus Master Enable is 0",
  );
  assertThrows(() => interrupts.waitBlocking(), UsageError, "Bus Master Enable is 0");
  const config = new ConfigAccess(device);
  config.setCommand({ busMaster: true });
  assertEquals(await interrupts.wait(0, 0), 0);
  config.setCommand({ busMaster: false });
  await assertRejects(() => interrupts.wait(0, 1), UsageError, "Bus Master Enable is 0");
  interrupts.disable();
  interrupts.enable("intx");
  interrupts.fire(0);
  assertEquals(await interrupts.wait(0, 1000), 1);
});
