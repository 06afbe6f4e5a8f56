/** Version 1 of virtio-mmio, by the legacy interface of the standard (virtio 1.2 §4.2.4). */
import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../../lib/errors/mod.ts";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import { FakeRing } from "../../fake_client.ts";
import { type FakeMmio, mmioRng, REG, StillModel } from "./rig.ts";

const RULE = "virtio 1.2 §4.2.4";

/** A ring as a driver lays it out that chose size and alignment. */
function layOut(
  device: FakeMmio,
  size: number,
  alignment: number,
  page = 4096,
): { ring: FakeRing; frame: number } {
  const { client } = device;
  const used = Math.ceil((16 * size + 6 + 2 * size) / alignment) * alignment;
  const at = client.allocate(used + 6 + 8 * size, page);
  const ring: FakeRing = Object.assign(Object.create(FakeRing.prototype), {
    client,
    size,
    desc: at,
    avail: at + 16 * size,
    used: at + used,
    free: 0,
    availIdx: 0,
    usedSeen: 0,
  });
  device.rings.set(0, ring);
  return { ring, frame: Number(client.at(at)) / page };
}

/** Until the ring is there. */
function begin(device: FakeMmio, size = 8, alignment = 64, page = 4096): FakeRing {
  device.write(REG.guestPageSize, page);
  for (const status of [0, 1, 3]) device.status = status;
  device.write(REG.driverFeaturesSel, 0);
  device.write(REG.driverFeatures, 0);
  const { ring, frame } = layOut(device, size, alignment, page);
  device.write(REG.queueSel, 0);
  assertEquals(device.read(REG.queuePfn), 0, "no ring yet");
  device.write(REG.queueSize, size);
  device.write(REG.queueAlign, alignment);
  device.write(REG.queuePfn, frame);
  return ring;
}

Deno.test("virtio 1.2 §4.2.4: a legacy driver by hand: its size, its alignment, its page size; no FEATURES_OK", () => {
  for (
    const [size, alignment, page] of [[8, 64, 4096], [16, 4096, 4096], [4, 4, 16384], [
      2,
      65536,
      4096,
    ]] as const
  ) {
    using device = mmioRng({ form: "legacy" });
    assertEquals([device.read(REG.version), device.read(REG.queueSizeMax)], [1, 16]);
    const ring = begin(device, size, alignment, page);
    assertEquals(device.read(REG.queuePfn), Number(device.client.at(ring.desc)) / page);
    device.status = 7;
    device.offer();
    device.write(REG.queueNotify, 0);
    assertEquals([device.run(), ring.takeUsed().length], [1, 1], `${size} ${alignment} ${page}`);
    assertEquals([device.port.line, device.read(REG.interruptStatus)], [true, 1]);
    device.write(REG.interruptAck, 1);
    assertEquals([device.port.line, device.port.take()], [false, []]);
    device.write(REG.queuePfn, 0);
    assertEquals([device.read(REG.queuePfn), device.port.take()], [0, []], "0 stops the queue");
  }
});

Deno.test("virtio 1.2 §4.2.4: QueueNum and QueueAlign do not outlive a reset by the driver", () => {
  using device = mmioRng({ form: "legacy" });
  begin(device);
  device.status = 0;
  device.status = 1;
  device.write(REG.queueSel, 0);
  device.write(REG.queuePfn, 0x100);
  device.write(REG.queueSize, 8);
  device.write(REG.queuePfn, 0x100);
  assertEquals(device.port.take(), [
    `${RULE}: QueuePFN was written before QueueNum`,
    `${RULE}: QueuePFN was written before QueueAlign`,
  ]);
});

Deno.test("virtio 1.2 §4.2.4: GuestPageSize outlives a reset by the driver, and no reset of the device", () => {
  using device = mmioRng({ form: "legacy" });
  begin(device);
  device.status = 0;
  begin2(device);
  assertEquals(device.port.take(), []);
  device.view.reset("device");
  begin2(device);
  assertEquals(device.port.take(), [`${RULE}: QueuePFN was written before GuestPageSize`]);

  function begin2(device: FakeMmio): void {
    device.status = 1;
    device.write(REG.queueSel, 0);
    device.write(REG.queueSize, 8);
    device.write(REG.queueAlign, 64);
    device.write(REG.queuePfn, layOut(device, 8, 64).frame);
  }
});

Deno.test("virtio 1.2 §4.2.4: what is left out or cannot be is named, and gives no ring", () => {
  using device = mmioRng({ form: "legacy" });
  device.write(REG.guestPageSize, 3000);
  device.write(REG.guestPageSize, 4096);
  device.status = 1;
  device.write(REG.queueSel, 0);
  const { frame } = layOut(device, 8, 64);
  device.write(REG.queuePfn, frame);
  device.write(REG.queueSize, 12);
  device.write(REG.queueSize, 32);
  device.write(REG.queueSize, 8);
  device.write(REG.queuePfn, frame);
  device.write(REG.queueAlign, 48);
  device.write(REG.queueSel, 1);
  device.write(REG.queueAlign, 64);
  device.write(REG.driverFeaturesSel, 1);
  device.write(REG.driverFeatures, 1);
  assertEquals(device.port.take(), [
    `${RULE}: GuestPageSize 3000 is no power of two`,
    `${RULE}: QueuePFN was written before QueueNum`,
    `${RULE}: QueueNum 12 is no power of two up to 16`,
    `${RULE}: QueueNum 32 is no power of two up to 16`,
    `${RULE}: QueuePFN was written before QueueAlign`,
    `${RULE}: QueueAlign 48 is no power of two`,
    "7.1: QueueAlign was written for a queue that does not exist",
    `${RULE}: GuestFeatures word 1: 0x1 was not offered`,
  ]);
  device.write(REG.queueSel, 0);
  assertEquals(device.read(REG.queuePfn), 0);
  device.write(REG.queueAlign, 64);
  device.write(REG.queuePfn, frame);
  device.write(REG.guestPageSize, 8192);
  device.write(REG.queueNotify, 1);
  assertEquals(device.port.take(), [
    `${RULE}: GuestPageSize was written while a queue has a ring`,
    `${RULE}: queue 1 was notified, it has no ring`,
  ]);
});

Deno.test("virtio 1.2 §4.2.4: an alignment at which the used ring would not lie on its own is refused by the ring", () => {
  using device = mmioRng({ form: "legacy" });
  begin(device, 8, 1);
  assertEquals(device.port.take().map((one) => one.split(":")[0]), ["1.3"]);
  assertEquals(device.status & 0x40, 0x40);
});

Deno.test("virtio 1.2 §4.2.4: features of the legacy interface only, and registers of version 2 are not there", () => {
  using device = mmioRng({ form: "legacy" });
  device.write(REG.deviceFeaturesSel, 0);
  assertEquals(device.read(REG.deviceFeatures) >>> 27, 0b111, "ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX");
  device.write(REG.deviceFeaturesSel, 1);
  assertEquals([device.read(REG.deviceFeatures), device.port.take()], [0, []]);
  for (const offset of [REG.queueReady, REG.queueDesc, REG.shmSel, REG.generation, REG.queueReset]) {
    device.write(offset, 1);
    assertEquals(device.port.take().length, 1);
  }
  assertThrows(
    () => new MmioView(Object.assign(new StillModel(1), { deviceId: 44 }), { mmio: { form: "legacy" } }),
    UsageError,
    "virtio device type 44 has no legacy interface",
  );
});
