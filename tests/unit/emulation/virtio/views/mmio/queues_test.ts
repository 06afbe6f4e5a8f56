/** Queues of a version 2 device: set up, stopped by QueueReady 0, wrong orders; and status with its order. */
import { assertEquals } from "@std/assert";
import { mmioRng, REG, RULES } from "./rig.ts";

Deno.test("7.1: QueueReady 0, read back, stops a queue; set up again it begins a fresh ring", () => {
  using device = mmioRng({ form: "modern" });
  device.bringUp();
  const ring = device.offer();
  device.write(REG.queueNotify, 0);
  device.run();
  assertEquals(ring.takeUsed().length, 1);
  device.write(REG.queueReady, 0);
  assertEquals([device.read(REG.queueReady), device.status], [0, 15]);
  device.offer();
  assertEquals(device.run(), 0, "the ring is its driver's again");
  const fresh = device.enable(0, 8);
  assertEquals([device.read(REG.queueReady), device.port.take()], [1, []]);
  device.offer();
  device.write(REG.queueNotify, 0);
  assertEquals([device.run(), fresh.takeUsed().length], [1, 1]);
  device.write(REG.queueReady, 0);
  device.write(REG.queueReady, 0);
  assertEquals(device.port.take(), [], "twice is once");
});

Deno.test("7.1: a queue that was never stopped cannot be made ready after DRIVER_OK", () => {
  using device = mmioRng({ form: "modern" });
  device.bringUp(RULES, []);
  device.enable(0);
  assertEquals(device.port.take(), ["1.1: the queue was enabled after DRIVER_OK, and had not been reset"]);
  assertEquals(device.status & 0x40, 0x40);
});

Deno.test("7.1: registers of a queue are fixed while it is ready, and QueueReady knows 0 and 1", () => {
  using device = mmioRng({ form: "modern" });
  device.negotiate();
  device.enable(0);
  device.write(REG.queueSize, 8);
  device.write(REG.queueDesc + 4, 1);
  device.write(REG.queueReady, 1);
  device.write(REG.queueReady, 2);
  assertEquals(device.port.take(), [
    "7.1: queue_size was written while the queue is enabled",
    "7.1: queue_desc was written while the queue is enabled",
    "7.1: QueueReady was written 1 while it reads 1",
    "7.1: 2 was written to QueueReady: only 0 and 1 are allowed",
  ]);
  assertEquals(device.read(REG.queueReady), 1);
});

Deno.test("7.1: a queue that does not exist, a size that cannot be, a ring that is not mapped", () => {
  using device = mmioRng({ form: "modern" });
  device.negotiate();
  device.write(REG.queueSel, 5);
  device.write(REG.queueReady, 1);
  device.write(REG.queueSel, 0);
  device.write(REG.queueSize, 12);
  device.write(REG.queueSize, 32);
  assertEquals(device.port.take(), [
    "7.1: QueueReady was written for a queue that does not exist",
    "7.1: queue_size 12 is not a power of two",
    "7.1: queue_size 32 is above the maximum of 16",
  ]);
  device.write64(REG.queueDesc, 1n);
  device.write(REG.queueReady, 1);
  assertEquals(device.port.take().map((one) => one.split(":")[0]), ["1.3"]);
});

Deno.test("1.1 by MMIO: the order of Status, notifications before DRIVER_OK, features after FEATURES_OK", () => {
  using device = mmioRng({ form: "modern" });
  device.status = 4;
  device.write(REG.queueNotify, 0);
  assertEquals(device.port.take().map((one) => one.split(":")[0]), ["1.1", "1.1"]);
  device.negotiate();
  device.accept(RULES);
  assertEquals(device.port.take().map((one) => one.split(":")[0]), ["1.1", "1.1"]);
  device.status = 0x1_000b;
  assertEquals([device.status, device.port.take()], [11, [
    "1.1: bits 0x10000 have no meaning for this device",
  ]]);
  device.status = 15;
  device.write(REG.queueNotify, 7);
  assertEquals(device.port.take(), ["7.1: the driver notified a queue that is not enabled"]);
  assertEquals([device.status & 0x40, device.read(REG.interruptStatus)], [0x40, 2], "and the driver is told");
});

Deno.test("a packed ring over MMIO, and NOTIFICATION_DATA in QueueNotify", () => {
  const data = 1n << 38n;
  using device = mmioRng({ form: "modern" }, { notificationData: true });
  device.bringUp(RULES | data);
  device.offer();
  device.write(REG.queueNotify, 1 << 16);
  assertEquals([device.run(), device.port.take()], [1, []]);
  device.write(REG.queueNotify, 9 << 16);
  assertEquals(device.port.take(), ["1.6: the notification says that avail.idx is 9, it is 1"]);
  device.write(REG.queueNotify, 0, 2);
  assertEquals(device.port.take(), ["7.1: notification of 2 bytes: it must be 4"]);
});

Deno.test("a reset by VFIO forgets the driver, and so does the end of its process", () => {
  using device = mmioRng({ form: "modern" });
  for (const kind of ["device", "flr", "detached"] as const) {
    device.bringUp();
    device.offer();
    device.write(REG.queueNotify, 0);
    device.run();
    assertEquals(device.port.line, true);
    device.view.reset(kind);
    assertEquals([device.status, device.read(REG.queueReady), device.read(REG.interruptStatus)], [0, 0, 0]);
    assertEquals([device.port.line, device.port.take()], [false, []]);
  }
});

Deno.test("without its user's memory a device does nothing, and a queue cannot be made ready", () => {
  using device = mmioRng({ form: "modern" });
  device.port.dma = null;
  device.negotiate();
  device.enable(0);
  assertEquals(device.port.take(), ["DMA: a queue was enabled without a client's memory"]);
  assertEquals(device.view.doorbells(0), []);
});
