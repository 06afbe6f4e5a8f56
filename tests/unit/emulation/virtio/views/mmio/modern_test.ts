/** virtio-mmio version 2 from the device's side, register by register. */
import { assert, assertEquals } from "@std/assert";
import { mmioRng, REG, RULES } from "./rig.ts";

Deno.test("7.1: identity, features and a queue, read as the standard has them", () => {
  using device = mmioRng({ form: "modern" });
  assertEquals(device.read(REG.magic), 0x74726976);
  assertEquals(device.read(REG.version), 2);
  assertEquals(device.read(REG.deviceId), 4);
  assertEquals(device.read(REG.vendorId), 0x1af4);
  assertEquals(device.offered & RULES, RULES);
  assertEquals(
    device.offered >> 39n & 3n,
    2n,
    "no NOTIF_CONFIG_DATA, which has no register here; RING_RESET",
  );
  device.write(REG.deviceFeaturesSel, 2);
  assertEquals(device.read(REG.deviceFeatures), 0);
  assertEquals([device.read(REG.queueSizeMax), device.read(REG.queueReady), device.read(REG.status)], [
    16,
    0,
    0,
  ]);
  device.write(REG.queueSel, 1);
  assertEquals([device.read(REG.queueSizeMax), device.read(REG.queueReady)], [0, 0], "there is one queue");
  assertEquals(device.view.windowBytes, 0x200);
  assertEquals(device.port.take(), []);
});

Deno.test("7.1: a driver by hand: negotiation, a queue, a notification, the line and its acknowledgement", () => {
  using device = mmioRng({ form: "modern" });
  device.bringUp();
  assertEquals([device.status, device.read(REG.queueReady)], [15, 1]);
  const ring = device.offer();
  device.write(REG.queueNotify, 0);
  assertEquals(device.run(), 1);
  assertEquals(ring.takeUsed().map(({ length }) => length), [16]);
  assertEquals([device.port.line, device.read(REG.interruptStatus)], [true, 1]);
  device.write(REG.interruptAck, 2);
  assertEquals(device.port.line, true, "another event was acknowledged");
  device.write(REG.interruptAck, 4);
  assertEquals(device.port.take(), ["7.1: InterruptACK: bits 0x4 have no meaning"]);
  device.write(REG.interruptAck, 1);
  assertEquals([device.port.line, device.read(REG.interruptStatus)], [false, 0]);
  device.status = 0;
  assertEquals([device.status, device.read(REG.queueReady), device.port.take()], [0, 0, []]);
  assert(!device.port.line);
});
