/** Which accesses a virtio-mmio device takes (virtio 1.2 §4.2.2.2, A-7.4), and what it says of the others. */
import { assertEquals, assertNotEquals } from "@std/assert";
import { NetModel } from "../../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../../lib/emulation/virtio/net/switch.ts";
import type { MmioViewOptions } from "../../../../../../lib/emulation/virtio/views/mmio/options.ts";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import { FakeMmio, mmioRng, REG, RULES } from "./rig.ts";

function mmioNet(mmio: MmioViewOptions["mmio"]): FakeMmio {
  const model = new NetModel(new NetSwitch("s0"), {
    mac: "52:54:00:12:34:56",
  });
  return new FakeMmio(new MmioView(model, { mmio }));
}

Deno.test("7.1: control registers take accesses of 32 bits, aligned, and no others", () => {
  using device = mmioRng({ form: "modern" });
  for (
    const [offset, width] of [[0, 1], [0, 2], [2, 2], [2, 4], [0, 8], [REG.status, 1], [
      REG.generation,
      1,
    ]] as const
  ) {
    assertEquals(device.read(offset, width), 0);
    const [said] = device.port.take();
    assertEquals(said?.startsWith(`7.1: read of ${width} bytes at 0x${offset.toString(16)}: `), true, said);
  }
  for (
    const [offset, width] of [[REG.status, 1], [REG.status, 2], [REG.status + 1, 4], [
      REG.queueSel,
      8,
    ]] as const
  ) {
    device.write(offset, 3, width);
    assertEquals(device.port.take().map((one) => one.split(":")[0]), ["7.1"], `${offset} ${width}`);
  }
  assertEquals(device.status, 0, "none of it was carried out");
});

Deno.test("7.1: a register that is only written is not read, one that is only read is not written, and between them there is nothing", () => {
  using device = mmioRng({ form: "modern" });
  for (
    const offset of [
      REG.deviceFeaturesSel,
      REG.driverFeatures,
      REG.queueSel,
      REG.queueSize,
      REG.queueNotify,
      REG.interruptAck,
      REG.queueDesc,
      REG.queueDesc + 4,
      REG.shmSel,
    ]
  ) {
    assertEquals(device.read(offset), 0);
    assertEquals(device.port.take()[0]?.endsWith("is write-only"), true);
  }
  for (
    const offset of [
      REG.magic,
      REG.version,
      REG.deviceId,
      REG.deviceFeatures,
      REG.queueSizeMax,
      REG.interruptStatus,
      REG.shmLen,
      REG.shmBase + 4,
      REG.generation,
    ]
  ) {
    device.write(offset, 1);
    assertEquals(device.port.take()[0]?.endsWith("is read-only"), true);
  }
  for (const offset of [0x018, 0x028, 0x03c, 0x040, 0x048, 0x054, 0x0c4, 0x0dc, 0x100, 0x1fc]) {
    assertEquals(device.read(offset), 0);
    device.write(offset, 1);
    assertEquals(
      device.port.take().map((one) => one.replace(/.*: /, "")),
      ["there is no register", "there is no register"],
      offset.toString(16),
    );
  }
});

Deno.test("7.1: QueueReset is there only where RING_RESET is offered", () => {
  using without = mmioRng({ form: "modern" }, { featuresOff: 1n << 40n });
  assertEquals(without.read(REG.queueReset), 0);
  assertEquals(without.port.take(), ["7.1: read of 4 bytes at 0xc0: there is no register"]);
  using device = mmioRng({ form: "modern" });
  device.bringUp(RULES | 1n << 40n);
  device.write(REG.queueReset, 1);
  assertEquals([device.read(REG.queueReset), device.read(REG.queueReady), device.port.take()], [0, 0, []]);
  device.enable(0);
  assertEquals([device.read(REG.queueReady), device.port.take()], [1, []], "it may be set up again");
  device.write(REG.queueReset, 2);
  assertEquals(device.port.take(), ["1.5: 2 was written to queue_reset: only 1 is allowed"]);
  device.negotiate();
  device.write(REG.queueReset, 1);
  assertEquals(device.port.take(), ["1.5: queue_reset was written, RING_RESET is not negotiated"]);
});

Deno.test("7.1: ConfigGeneration changes when the configuration changed after it was read, and only then; InterruptStatus says so", () => {
  const model = new NetModel(new NetSwitch("s0"), { mac: "52:54:00:12:34:56" });
  using device = new FakeMmio(new MmioView(model, { mmio: { form: "modern" } }));
  // VIRTIO_NET_F_STATUS
  device.bringUp(RULES | 1n << 16n, []);
  const before = device.read(REG.generation);
  assertEquals([device.read(REG.config + 6, 2), device.read(REG.generation)], [1, before]);
  model.setLink(false);
  const after = device.read(REG.generation);
  assertNotEquals(after, before);
  assertEquals([device.read(REG.config + 6, 2), device.read(REG.generation)], [0, after]);
  assertEquals([device.read(REG.interruptStatus), device.port.line, device.port.take()], [2, true, []]);
});

Deno.test("7.1: the configuration takes accesses of its fields' widths, inside its bytes", () => {
  using device = mmioNet({ form: "modern" });
  assertEquals([0, 1, 2, 3, 4, 5].map((i) => device.read(REG.config + i, 1)), [
    0x52,
    0x54,
    0,
    0x12,
    0x34,
    0x56,
  ]);
  assertEquals([device.read(REG.config + 6, 2), device.port.take()], [1, []], "status: the link is up");
  for (const [at, width] of [[0, 4], [0, 2], [6, 1], [6, 4], [7, 2]] as const) {
    device.read(REG.config + at, width);
    assertEquals(device.port.take(), [
      `7.1: configuration: read of ${width} bytes at ${at}, no field of that width`,
    ]);
  }
  device.negotiate(RULES);
  device.write(REG.config, 0, 2);
  assertEquals(device.port.take(), ["7.1: configuration: write of 2 bytes at 0, no field of that width"]);
});

Deno.test("7.1 legacy: the configuration takes any access inside a field, as Linux reads it byte by byte", () => {
  using device = mmioNet({ form: "legacy" });
  assertEquals([device.read(REG.config, 4), device.read(REG.config + 7, 1)], [0x12005452, 0]);
  assertEquals(device.port.take(), []);
  device.read(REG.config + 4, 4);
  assertEquals(device.port.take(), ["7.1: configuration: read of 4 bytes at 4, no field of that width"]);
});

Deno.test("A-7.4: version 3 has two registers of 16 bits, accessed so; a read of 32 bits has the status in its low half", () => {
  using device = mmioRng({ form: "v3" });
  assertEquals(
    [device.read(0x0c0, 2), device.read(0x0c0, 4), device.port.take()],
    [1, 1, []],
    "one queue, MSI off",
  );
  device.write(0x0c2, 1 << 12, 4);
  device.write(0x0c0, 0x8000, 4);
  device.write(0x0c2, 1, 1);
  assertEquals(device.read(0x0c2, 2), 0);
  assertEquals(device.port.take(), [
    "A-7.4: write of 4 bytes at 0xc2: MsiCmd is accessed by 16 bits, aligned",
    "A-7.4: write of 4 bytes at 0xc0: MsiStatus is accessed by 16 bits, aligned",
    "A-7.4: write of 1 bytes at 0xc2: MsiCmd is accessed by 16 bits, aligned",
    "7.1: MsiCmd is write-only",
  ]);
  device.read(0x0c0, 1);
  assertEquals(device.port.take().length, 1);
  assertEquals(device.read(0x0c2, 4), 0);
  assertEquals(device.port.take(), [
    "A-7.4: read of 4 bytes at 0xc2: MsiCmd is accessed by 16 bits, aligned",
  ]);
});

Deno.test("7.3: all registers of the other draft have 32 bits", () => {
  using device = mmioRng({ form: "msi-v2" });
  assertEquals([device.read(0x0c0), device.read(0x0c4), device.port.take()], [2, 0, []]);
  device.read(0x0c0, 2);
  device.write(0x0c8, 1, 2);
  assertEquals(device.port.take().map((one) => one.split(":")[0]), ["7.1", "7.1"]);
});
