/** The PCI front: registers of queues, reset of one queue, vectors. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { echo, RULES } from "../../echo.ts";

Deno.test("2.2 queue_size takes powers of two up to the maximum, while the queue is disabled", () => {
  using f = echo();
  f.negotiate(RULES);
  f.write(22, 2, 1);
  for (
    const [value, problem] of [[8, ""], [0, "not a power"], [6, "not a power"], [
      32,
      "above the maximum of 16",
    ]] as const
  ) {
    f.write(24, 2, value);
    assertEquals(f.read(24, 2), 8);
    const reports = f.port.take();
    if (problem === "") assertEquals(reports, []);
    else assertStringIncludes(reports[0]!, problem);
  }
  f.enable(1, 4);
  f.write(24, 2, 8);
  f.write(40, 4, 0);
  assertEquals(f.port.take().map((one) => one.slice(0, 40)), [
    "2.2: queue_size was written while the qu",
    "2.2: queue_driver was written while the ",
  ]);
  assertEquals(f.read(24, 2), 4);
  f.write(22, 2, 2);
  f.write(24, 2, 8);
  assertStringIncludes(f.port.take()[0]!, "a queue that does not exist");
});

Deno.test("2.2 addresses are two halves of 32 bits each, low half first", () => {
  using f = echo();
  f.write(22, 2, 0);
  [32, 36, 40, 44, 48, 52].forEach((offset, i) => f.write(offset, 4, 0x1111_1110 * (i + 1)));
  assertEquals([32, 36, 40, 44, 48, 52].map((offset) => f.read(offset, 4)), [
    0x1111_1110,
    0x2222_2220,
    0x3333_3330,
    0x4444_4440,
    0x5555_5550,
    0x6666_6660,
  ]);
});

Deno.test("2.2 enabling a queue: only 1, once, after FEATURES_OK, before DRIVER_OK, aligned", () => {
  {
    using f = echo();
    f.status = 1;
    f.status = 3;
    f.enable(0);
    assertEquals(f.read(28, 2), 0);
    assertStringIncludes(f.port.take()[0]!, "1.1: the queue was enabled before FEATURES_OK");
  }
  {
    using f = echo();
    f.negotiate(RULES);
    f.enable(0);
    assertEquals(f.read(28, 2), 1);
    f.write(28, 2, 0);
    assertEquals(f.read(28, 2), 1);
    assertStringIncludes(f.port.take()[0]!, "1.5: 0 was written to queue_enable");
    f.write(28, 2, 1);
    assertEquals(f.status, 11 | 64, "enabled twice");
    assertStringIncludes(f.port.take()[0]!, "2.2: the queue was enabled twice");
  }
  {
    using f = echo();
    f.bringUp(RULES, [0]);
    f.enable(1);
    assertEquals(f.status, 15 | 64);
    assertStringIncludes(f.port.take()[0]!, "enabled after DRIVER_OK");
  }
  {
    using f = echo();
    f.negotiate(RULES);
    f.write(22, 2, 0);
    f.write(32, 4, 0x1008);
    f.write(28, 2, 1);
    assertEquals([f.status, f.read(28, 2)], [11 | 64, 0]);
    assertStringIncludes(f.port.take()[0]!, "1.3: descriptorArea 0x1008 is not aligned to 16 bytes");
  }
});

Deno.test("1.5 queue reset: back to defaults, to be enabled anew; other queues go on", () => {
  using f = echo();
  f.bringUp(RULES | FEATURE.RING_RESET, [0, 1], 8);
  f.write(22, 2, 0);
  f.write(26, 2, 2);
  f.write(58, 2, 1);
  assertEquals([f.read(58, 2), f.read(28, 2), f.read(24, 2), f.read(32, 4)], [0, 0, 64, 0]);
  assertEquals(f.read(26, 2), 0xffff, "the vector is gone, as QEMU has it");
  assertEquals(f.front.core.queue(0), undefined);
  assertEquals(f.front.core.queue(1)!.size, 8);
  const ring = f.enable(0, 4);
  ring.add([{ iova: f.client.at(0), length: 4 }]);
  ring.publish();
  assertEquals(f.behaviour.poll(8), 1, "starts at index 0 again");
  assertEquals(f.port.take(), []);
  f.write(58, 2, 0);
  assertStringIncludes(f.port.take()[0]!, "1.5: 0 was written to queue_reset");
});

Deno.test("1.5 a reset of a queue that was never enabled does not let it be enabled after DRIVER_OK", () => {
  using f = echo();
  f.bringUp(RULES | FEATURE.RING_RESET, [0], 8);
  for (const queue of [1, 0, 0]) {
    f.write(22, 2, queue);
    f.write(58, 2, 1);
  }
  f.enable(0);
  assertEquals(
    [f.read(28, 2), f.status, f.port.take()],
    [1, 15, []],
    "one that was enabled once may be, however often it is reset",
  );
  f.enable(1);
  assertEquals([f.read(28, 2), f.status], [0, 15 | 64]);
  assertStringIncludes(f.port.take()[0]!, "1.1: the queue was enabled after DRIVER_OK");
});

Deno.test("1.5 queue reset needs RING_RESET", () => {
  using f = echo();
  f.bringUp(RULES, [0]);
  f.write(22, 2, 0);
  f.write(58, 2, 1);
  assertStringIncludes(f.port.take()[0]!, "RING_RESET is not negotiated");
  assertEquals(f.read(28, 2), 1);
});

Deno.test("2.2 MSI-X vectors: read back, 0xffff for one that the function does not have", () => {
  using f = echo();
  f.write(22, 2, 1);
  for (const offset of [16, 26]) {
    f.write(offset, 2, 3);
    assertEquals(f.read(offset, 2), 3);
    f.write(offset, 2, 4);
    assertEquals(f.read(offset, 2), 0xffff);
    f.write(offset, 2, 0);
    assertEquals(f.read(offset, 2), 0);
    f.write(offset, 2, 0xffff);
    assertEquals(f.read(offset, 2), 0xffff);
    f.write(offset, 2, 1);
  }
  f.status = 0;
  f.write(22, 2, 1);
  assertEquals([f.read(16, 2), f.read(26, 2)], [0xffff, 0xffff], "unmapped by reset");
});
