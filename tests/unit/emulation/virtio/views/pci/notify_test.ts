/** The PCI front: interrupts and doorbells. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import type { FakeFunction } from "../../fake_machine.ts";
import { echo, RULES } from "../../echo.ts";

/** One chain through queue 0. */
function once(f: FakeFunction): void {
  const ring = f.rings.get(0)!;
  ring.add([{ iova: f.client.at(0), length: 1 }]);
  ring.publish();
  assertEquals(f.behaviour.poll(8), 1);
}

Deno.test("2.2 interrupts without MSI-X: INTx and the ISR byte, which reading clears", () => {
  using f = echo();
  f.bringUp(RULES, [0]);
  once(f);
  assertEquals([f.port.intx, f.port.vectors.length], [true, 0]);
  assertEquals(f.read(0x1000, 1), 1);
  assertEquals([f.port.intx, f.read(0x1000, 1)], [false, 0]);
  f.front.core.configChanged();
  once(f);
  assertEquals([f.port.intx, f.read(0x1000, 1)], [true, 3]);
  once(f);
  f.status = 0;
  assertEquals([f.port.intx, f.read(0x1000, 1)], [false, 0], "reset lowers the line");
});

Deno.test("2.2 interrupts with MSI-X: the queue's vector, none without one, never INTx", () => {
  using f = echo();
  f.port.msixEnabled = true;
  f.negotiate(RULES);
  f.enable(0);
  f.write(26, 2, 2);
  f.write(16, 2, 0);
  f.status = 15;
  once(f);
  assertEquals([f.port.vectors.splice(0), f.port.intx], [[2], false]);
  assertEquals(f.read(0x1000, 1), 0, "no queue bit");
  f.front.core.configChanged();
  assertEquals(f.port.vectors.splice(0), [0]);
  assertEquals(f.read(0x1000, 1), 2, "the config bit is set with MSI-X too");
  f.write(22, 2, 0);
  f.write(26, 2, 0xffff);
  f.write(16, 2, 0xffff);
  once(f);
  f.front.core.configChanged();
  assertEquals([f.port.vectors, f.port.intx], [[], false]);
});

Deno.test("2.2 doorbells: one of 4 bytes a queue; the value is the queue's number", () => {
  using f = echo();
  f.bringUp(RULES, [0, 1]);
  f.model.calls.length = 0;
  f.notify(1);
  f.notify(0);
  assertEquals(f.model.calls, ["notified 1", "notified 0"]);
  f.write(0x3004, 2, 0);
  f.write(0x3004, 4, 1);
  f.write(0x3002, 2, 0);
  assertEquals(f.model.calls.length, 2);
  assertEquals(f.port.take(), [
    "2.2: the doorbell of queue 1 was rung for queue 0",
    "2.2: notification of 4 bytes: it must be 2",
    "2.2: notification of 2 bytes: it must be 2",
  ]);
});

Deno.test("1.6 doorbells with NOTIFICATION_DATA: 32 bits, the number in the low half", () => {
  using f = echo({ notificationData: true });
  f.bringUp(RULES | FEATURE.NOTIFICATION_DATA, [0, 1]);
  f.model.calls.length = 0;
  f.write(0x3004, 4, 1 + 0x8005 * 65536);
  assertEquals(f.model.calls, ["notified 1"]);
  f.write(0x3004, 4, 0x8005 * 65536);
  f.write(0x3004, 2, 1);
  assertEquals(f.port.take(), [
    "1.6: the doorbell of queue 1 was rung for queue 0",
    "2.2: notification of 2 bytes: it must be 4",
  ]);
  // An eventfd carries no data: those of 4 bytes come as register writes.
  assertEquals(f.behaviour.doorbells(4)[1]!.sizeBytes, 2);
});

Deno.test("1.1 notifying before DRIVER_OK, or a queue that is not enabled, stops the device", () => {
  {
    using f = echo();
    f.negotiate(RULES);
    f.enable(0);
    f.notify(0);
    assertStringIncludes(f.port.take()[0]!, "1.1: the driver notified before DRIVER_OK");
    assertEquals(f.status, 11 | 64);
    f.status = 15 | 64;
    assertEquals(f.front.core.live, false, "until it is reset");
    f.bringUp(RULES, [0]);
    assertEquals(f.front.core.live, true);
  }
  using f = echo();
  f.bringUp(RULES, [0]);
  f.notify(1);
  assertStringIncludes(f.port.take()[0]!, "2.2: the driver notified a queue that is not enabled");
  assertEquals(f.status, 15 | 64);
});

Deno.test("2.2 doorbell eventfds: one a queue, at its address; one rung late is no violation", () => {
  using f = echo();
  const doorbells = f.behaviour.doorbells(4);
  assertEquals(doorbells.map(({ offset, sizeBytes }) => [offset, sizeBytes]), [[0x3000, 2], [0x3004, 2], [
    0x3008,
    2,
  ]]);
  assertEquals(f.behaviour.doorbells(1), []);
  f.behaviour.rang(4, 0x3000);
  f.bringUp(RULES, [0]);
  f.model.calls.length = 0;
  f.behaviour.rang(4, 0x3000);
  f.behaviour.rang(4, 0x3004);
  assertEquals(f.model.calls, ["notified 0"]);
  assertEquals([f.port.take(), f.status], [[], 15]);
  f.behaviour.close();
  assert(doorbells.every(({ fd }) => fd.closed));
});

Deno.test("1.1 a ring violation: reported with function and queue, DEVICE_NEEDS_RESET, config interrupt, no more work", () => {
  using f = echo();
  f.port.msixEnabled = true;
  f.negotiate(RULES);
  f.write(16, 2, 3);
  const ring = f.enable(0);
  f.status = 15;
  ring.offer(99);
  ring.publish();
  assertEquals(f.behaviour.poll(8), 0);
  assertEquals(f.status, 15 | 64);
  assertEquals(f.port.vectors, [3]);
  assertEquals(f.port.reports.length, 1);
  const [violation] = f.port.reports;
  assertEquals([violation!.function, violation!.queue, violation!.rule], ["0000:01:00.0", 0, "1.3"]);
  assertEquals([f.front.core.live, f.front.core.queue(0)], [false, undefined]);
  // The driver may write the status back with the bit in it.
  f.status = 15 | 64;
  assertEquals(f.port.reports.length, 1);
  f.bringUp(RULES, [0]);
  once(f);
});
