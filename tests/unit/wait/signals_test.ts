import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventFd, openFdCount } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import { Signals } from "../../../lib/wait/mod.ts";

Deno.test("one eventfd is waited for, with its count; closing ends the wait and leaves it open", async () => {
  using eventFd = new EventFd();
  const signals = new Signals([eventFd]);
  for (let i = 0; i < 3; i++) eventFd.signal();
  assertEquals([await signals.wait(), signals.counts], [3, [3]]);
  const waiting = assertRejects(() => signals.wait(), ClosedError);
  signals.close();
  await waiting;
  await signals.settled;
  eventFd.signal();
  assertEquals(eventFd.take(), 1);
  await assertRejects(() => signals.wait(0, 0), ClosedError);
});

Deno.test("after its end every wait says why, but what came before is given out", async () => {
  using eventFd = new EventFd();
  using signals = new Signals([eventFd], { name: "the device" });
  eventFd.signal();
  assertEquals(await signals.wait(0, 1000), 1);
  const waiting = assertRejects(() => signals.wait(), DeviceError, "is gone");
  signals.end(new DeviceError("it is gone"));
  await waiting;
  await assertRejects(() => signals.wait(0, 0), DeviceError, "is gone");
  assertThrows(() => signals.waitBlocking(1, 0), UsageError, "the device: number 1 of 1");
});

Deno.test("what is no eventfd is a UsageError, and nothing stays open", () => {
  const before = openFdCount();
  for (const wrong of [undefined, 1, [1], [{}], ["fd"], [null]]) {
    assertThrows(() => new Signals(wrong as never), UsageError);
  }
  {
    using eventFd = new EventFd();
    assertThrows(() => new Signals([eventFd], 1 as never), UsageError);
  }
  assertEquals(openFdCount(), before);
});
