/** The PCI front: identity, capabilities, features, status, life, configuration. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../../lib/errors/mod.ts";
import { PciView } from "../../../../../../lib/emulation/virtio/views/pci/view.ts";
import { FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { FakeRing } from "../../fake_client.ts";
import { Echo, echo, RULES } from "../../echo.ts";
import { capabilityBytes } from "../../capability_bytes.ts";
import type { VirtioDeclaration } from "../../../../../../lib/pci/capability_builder.ts";

Deno.test("2 identity: vendor 0x1af4, device 0x1040 + id, revision 1, subsystem id of at least 0x40", () => {
  using f = echo();
  const { vendorId, deviceId, revision, subsystemId, classCode } = f.behaviour.identity;
  assertEquals([vendorId, deviceId, revision, classCode], [0x1af4, 0x1040 + 42, 1, 0x123456]);
  assert(subsystemId >= 0x40);
});

Deno.test("2.1 capabilities: layout byte by byte, all structures inside their BAR and apart", () => {
  using f = echo();
  const bar = f.behaviour.bars.find((one) => one.index === 4)!;
  assertEquals([bar.kind, bar.prefetchable], ["mem64", true]);
  const declared = f.behaviour.vendorCapabilities;
  const found = capabilityBytes(declared).map((bytes, i) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    assertEquals(bytes[0], 0x09);
    assertEquals(bytes[2], bytes.length);
    return {
      type: bytes[3]!,
      bar: bytes[4]!,
      offset: view.getUint32(8, true),
      length: view.getUint32(12, true),
      tail: bytes.length >= 20 ? view.getUint32(16, true) : -1,
      barAccess: (declared[i] as VirtioDeclaration).structure === "pciCfg",
    };
  });
  assertEquals(found, [
    { type: 1, bar: 4, offset: 0x0000, length: 64, tail: -1, barAccess: false },
    { type: 3, bar: 4, offset: 0x1000, length: 4, tail: -1, barAccess: false },
    { type: 4, bar: 4, offset: 0x2000, length: 8, tail: -1, barAccess: false },
    { type: 2, bar: 4, offset: 0x3000, length: 12, tail: 4, barAccess: false },
    { type: 5, bar: 0, offset: 0, length: 0, tail: 0, barAccess: true },
  ]);
  for (const one of found) assert(one.offset + one.length <= bar.sizeBytes);
  const msix = f.behaviour.msix!;
  assertEquals([msix.vectors, msix.table.bar, msix.pendingBits.bar], [4, 1, 1]);
  assert(msix.table.offset + 16 * msix.vectors <= msix.pendingBits.offset);
  assert(msix.pendingBits.offset + 8 <= f.behaviour.bars.find((one) => one.index === 1)!.sizeBytes);
});

Deno.test("2.2 every field of the common configuration after reset, by offset and width", () => {
  using f = echo();
  assertEquals(f.read(18, 2), 3, "num_queues");
  assertEquals(f.read(20, 1), 0, "device_status");
  assertEquals(f.read(21, 1), 0, "config_generation");
  assertEquals(f.read(16, 2), 0xffff, "config_msix_vector");
  const expected: [number, number, number][] = [
    [22, 2, 0],
    [24, 2, 64],
    [26, 2, 0xffff],
    [28, 2, 0],
    [30, 2, 0],
    [32, 4, 0],
    [36, 4, 0],
    [40, 4, 0],
    [44, 4, 0],
    [48, 4, 0],
    [52, 4, 0],
    [56, 2, 0x1dea],
    [58, 2, 0],
    [60, 2, 0],
    [62, 2, 0],
  ];
  for (const [offset, width, value] of expected) {
    assertEquals(f.read(offset, width), value, `offset ${offset}`);
  }
  f.write(22, 2, 1);
  assertEquals([f.read(24, 2), f.read(30, 2), f.read(56, 2)], [16, 1, 0x1e2b]);
  f.write(22, 2, 2);
  assertEquals(f.read(24, 2), 0, "a queue of size 0 does not exist");
  f.write(22, 2, 999);
  assertEquals([f.read(24, 2), f.read(26, 2), f.read(28, 2)], [0, 0xffff, 0]);
  assertEquals(f.port.take(), []);
});

Deno.test("1.2 features: ring and transport bits with the model's; words past the second read 0", () => {
  using f = echo();
  const ring = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.INDIRECT_DESC | FEATURE.EVENT_IDX |
    FEATURE.RING_RESET | FEATURE.RING_PACKED | FEATURE.IN_ORDER | FEATURE.ORDER_PLATFORM |
    FEATURE.NOTIF_CONFIG_DATA;
  assertEquals(f.offered, ring | 1n << 5n | 1n << 60n);
  f.write(0, 4, 2);
  assertEquals(f.read(4, 4), 0);
  assertEquals(f.read(0, 4), 2);
  using pf = echo({ sriov: true, notificationData: true, featuresOff: FEATURE.EVENT_IDX | 1n << 60n });
  assertEquals(
    pf.offered,
    (ring & ~FEATURE.EVENT_IDX) | FEATURE.SR_IOV | FEATURE.NOTIFICATION_DATA | 1n << 5n,
  );
  assertThrows(
    () => new PciView(new Echo(), { featuresOff: FEATURE.VERSION_1 }),
    UsageError,
    "VERSION_1",
  );
});

Deno.test("2.2 driver_feature keeps what was written, in both words", () => {
  using f = echo();
  f.status = 1;
  f.status = 3;
  f.accept(RULES | 1n << 5n);
  f.write(8, 4, 0);
  assertEquals(f.read(12, 4), 1 << 5);
  f.write(8, 4, 1);
  assertEquals(f.read(12, 4), 3);
  f.write(8, 4, 5);
  assertEquals(f.read(12, 4), 0);
  f.write(12, 4, 1);
  assertStringIncludes(f.port.take()[0]!, "1.2: driver_feature word 5");
});

Deno.test("2.2 accesses of a wrong width: reads give the right bytes, writes do nothing, both are reported", () => {
  using f = echo();
  f.write(22, 2, 1);
  assertEquals(f.read(24, 1), 16);
  assertEquals(f.read(24, 4), 16 + 0xffff * 65536);
  assertEquals(f.read(32, 8), 0);
  assertEquals(f.port.take().length, 3);
  const bytes = new Uint8Array(64);
  f.behaviour.readBar(4, 0, bytes);
  assertEquals([bytes[18], bytes[19], bytes[22], bytes[24]], [3, 0, 1, 16]);
  assertEquals(f.port.take(), [
    "2.2: common configuration: read of 64 bytes at offset 0, device_feature_select has 4",
  ]);
  for (const [offset, width] of [[20, 2], [24, 1], [22, 4], [32, 8], [25, 2]] as const) {
    f.write(offset, width, 1);
    assertStringIncludes(f.port.take()[0]!, `write of ${width} bytes at offset ${offset}`);
  }
  assertEquals([f.read(22, 2), f.read(24, 2), f.read(20, 1), f.read(32, 4)], [1, 16, 0, 0]);
});

Deno.test("2.2 read-only fields refuse writes", () => {
  using f = echo();
  for (
    const [offset, width, name] of [
      [4, 4, "device_feature"],
      [18, 2, "num_queues"],
      [21, 1, "config_generation"],
      [30, 2, "queue_notify_off"],
      [56, 2, "queue_notif_config_data"],
      [60, 2, "admin_queue_index"],
      [62, 2, "admin_queue_num"],
    ] as const
  ) {
    const before = f.read(offset, width);
    f.write(offset, width, before + 1);
    assertEquals(f.read(offset, width), before);
    assertStringIncludes(f.port.take()[0]!, `2.2: ${name} is read-only`);
  }
});

Deno.test("1.1 the order of the status bits", () => {
  const cases: [writes: number[], status: number, problem: string][] = [
    [[1, 3], 3, ""],
    [[3], 3, ""],
    [[2], 0, "DRIVER was set before ACKNOWLEDGE"],
    [[1, 9], 1, "FEATURES_OK was set before DRIVER"],
    [[1, 3, 7], 3, "DRIVER_OK was set before FEATURES_OK was read back"],
    [[1, 3, 15], 11, "DRIVER_OK was set before FEATURES_OK was read back"],
    [[1, 3, 2], 3, "bits 0x1 were cleared without a reset"],
    [[1, 3, 11, 3], 11, "bits 0x8 were cleared without a reset"],
    [[1, 3, 19], 3, "bits 0x10 have no meaning"],
    [[1, 3, 35], 3, "bits 0x20 have no meaning"],
    [[1, 65], 1, "DEVICE_NEEDS_RESET is the device's to set"],
    [[1, 3, 131], 131, ""],
  ];
  for (const [writes, status, problem] of cases) {
    using f = echo();
    f.accept(RULES);
    for (const value of writes) f.status = value;
    assertEquals(f.status, status, `${writes}`);
    const reports = f.port.take();
    assertEquals(reports.length, problem === "" ? 0 : 1, `${writes}: ${reports}`);
    if (problem !== "") assertStringIncludes(reports[0]!, `1.1: ${problem}`);
  }
});

Deno.test("1.1 FEATURES_OK is refused for what was not offered, and for what must be accepted", () => {
  const cases: [features: bigint, problem: string][] = [
    [RULES, ""],
    [RULES | 1n << 5n | 1n << 60n, ""],
    [FEATURE.ACCESS_PLATFORM, "must be accepted: VIRTIO_F_VERSION_1"],
    [FEATURE.VERSION_1, "must be accepted: VIRTIO_F_ACCESS_PLATFORM"],
    [RULES | FEATURE.NOTIFICATION_DATA, "not offered: VIRTIO_F_NOTIFICATION_DATA"],
    [RULES | 1n << 60n, "60 needs 5"],
  ];
  for (const [features, problem] of cases) {
    using f = echo();
    assertEquals(f.negotiate(features), problem === "", `${features}`);
    assertEquals(f.front.core.negotiatedFeatures, problem === "" ? features : 0n);
    const last = f.port.take().at(-1) ?? "";
    if (problem === "") assertEquals(last, "");
    else assertStringIncludes(last, `1.2: FEATURES_OK refused: ${problem}`);
    // A driver may try again with less.
    f.accept(RULES);
    f.status = 11;
    assertEquals(f.status, 11);
  }
  using lenient = echo({ featuresOff: FEATURE.ACCESS_PLATFORM });
  assert(lenient.negotiate(FEATURE.VERSION_1), "what is not offered need not be accepted");
});

Deno.test("1.1 features are fixed by FEATURES_OK", () => {
  using f = echo();
  f.negotiate(RULES);
  f.accept(RULES | 1n << 5n);
  assertEquals(f.front.core.negotiatedFeatures, RULES);
  assertStringIncludes(f.port.take()[0]!, "1.1: driver_feature was written after FEATURES_OK");
});

Deno.test("1.1 life: live from DRIVER_OK to reset, and only with bus mastering and a client", () => {
  using f = echo();
  const ring0 = new FakeRing(f.client, 4);
  f.negotiate(RULES);
  f.program(0, ring0);
  f.write(28, 2, 1);
  assertEquals([f.front.core.live, f.front.core.queue(0)], [false, undefined]);
  assertEquals(f.behaviour.poll(10), 0);
  f.model.calls.length = 0;
  f.status = 15;
  assertEquals(f.model.calls, ["start"]);
  assertEquals(f.front.core.live, true);
  f.port.busMaster = false;
  assertEquals([f.front.core.live, f.front.core.queue(0)], [false, undefined]);
  f.port.busMaster = true;
  assertEquals(f.front.core.queue(0)!.size, 4);
  f.status = 143;
  assertEquals(f.front.core.live, false, "FAILED");
  f.status = 0;
  assertEquals(f.status, 0);
  assertEquals(f.model.calls, ["start", "reset"]);
  f.write(22, 2, 0);
  assertEquals([f.read(24, 2), f.read(28, 2), f.read(32, 4)], [64, 0, 0], "registers as after power-on");
  assertEquals(f.port.take(), []);
});

Deno.test("2.2 config_generation changes when config changed after it was read, and only then", () => {
  using f = echo();
  f.bringUp(RULES, [0]);
  f.front.core.configChanged();
  f.front.core.configChanged();
  assertEquals(f.read(21, 1), 0, "nobody had read anything");
  assertEquals(f.read(0x2000, 4), 0x04030201);
  f.front.core.configChanged();
  f.front.core.configChanged();
  assertEquals(f.read(21, 1), 1);
  assertEquals(f.read(21, 1), 1);
  for (let i = 0; i < 256; i++) {
    f.read(0x2004, 1);
    f.front.core.configChanged();
  }
  assertEquals(f.read(21, 1), 1, "8 bits");
});

Deno.test("2.2 device configuration: any width, no writes before FEATURES_OK", () => {
  using f = echo();
  assertEquals(f.read(0x2001, 1), 2);
  assertEquals(f.read(0x2006, 2), 0x0807);
  f.write(0x2000, 1, 9);
  assertStringIncludes(f.port.take()[0]!, "1.1: device configuration was written before FEATURES_OK");
  f.negotiate(RULES);
  f.write(0x2000, 2, 0x0a09);
  assertEquals(f.read(0x2000, 2), 0x0a09);
  f.write(0x2008, 1, 1);
  assertStringIncludes(f.port.take()[0]!, "there is nothing");
  assertEquals(f.read(0x800, 4), 0, "holes read 0");
});

Deno.test("1.2 VFs without SR_IOV negotiated are reported, when there is a virtio driver", () => {
  using f = echo({ sriov: true });
  f.front.vfsEnabled(2);
  assertEquals(f.port.take(), [], "nobody drives the PF");
  f.bringUp(RULES, [0]);
  f.front.vfsEnabled(2);
  assertEquals(f.port.take(), ["1.2: 2 VFs were enabled, VIRTIO_F_SR_IOV was not negotiated"]);
  assertEquals(f.status, 15, "reported, not refused");
  f.front.vfsEnabled(0);
  f.bringUp(RULES | FEATURE.SR_IOV, [0]);
  f.front.vfsEnabled(2);
  assertEquals(f.port.take(), []);
  // Once negotiated, VFs may be enabled after any reset, without negotiating again.
  for (const reset of [() => f.status = 0, () => f.behaviour.reset("flr")]) {
    f.front.vfsEnabled(0);
    reset();
    f.status = 1;
    f.status = 3;
    f.front.vfsEnabled(1);
    assertEquals(f.port.take(), []);
    f.bringUp(RULES, [0]);
    f.front.vfsEnabled(2);
    assertEquals(f.port.take(), []);
  }
});

Deno.test("1.2 SR_IOV is negotiated only when FEATURES_OK is", () => {
  using f = echo({ sriov: true });
  f.status = 1;
  f.status = 3;
  f.write(8, 4, 1);
  f.write(12, 4, Number(FEATURE.SR_IOV >> 32n));
  f.front.vfsEnabled(1);
  assertEquals(f.port.take(), ["1.2: 1 VFs were enabled, VIRTIO_F_SR_IOV was not negotiated"]);
});

Deno.test("a driver gone wild fills no memory with reports", () => {
  using f = echo();
  for (let i = 0; i < 10_000; i++) f.write(4, 4, i);
  assertEquals(f.port.reports.length, 256);
  assertStringIncludes(f.port.reports.at(-1)!.message, "no further reports");
  f.behaviour.attached();
  f.write(4, 4, 1);
  assertEquals(f.port.reports.length, 257);
});

Deno.test("reset of every kind forgets the driver", () => {
  for (const kind of ["flr", "device", "detached"] as const) {
    using f = echo();
    f.bringUp(RULES, [0]);
    f.behaviour.reset(kind);
    assertEquals([f.status, f.front.core.live, f.front.core.negotiatedFeatures], [0, false, 0n]);
    assertEquals(f.model.calls.at(-1), "reset");
  }
});
