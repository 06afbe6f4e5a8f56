import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import type { DeviceFront, DeviceModel } from "../../../lib/emulation/device_model.ts";
import { Chain } from "../../../lib/emulation/virtio/chain.ts";
import { type PciFrontOptions, VirtioPciFront } from "../../../lib/emulation/virtio/pci_front.ts";
import { FEATURE } from "../../../lib/virtio/constants/mod.ts";
import { FakeRing } from "./fake_client.ts";
import { FakeFunction } from "./fake_machine.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;

/** A device with two queues that returns every chain at once, and eight bytes of config. */
class Echo implements DeviceModel {
  readonly deviceId = 42;
  readonly features = 1n << 5n | 1n << 60n;
  readonly queueSizes = [64, 16, 0];
  readonly configSizeBytes = 8;
  readonly classCode = 0x123456;
  front!: DeviceFront;
  calls: string[] = [];
  config = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
  #chain = new Chain(64);

  connect(front: DeviceFront): void {
    this.front = front;
  }
  close(): void {
    this.calls.push("close");
  }
  checkFeatures(accepted: bigint): string | undefined {
    return (accepted & (1n << 60n)) !== 0n && (accepted & (1n << 5n)) === 0n ? "60 needs 5" : undefined;
  }
  readConfig(offset: number, into: Uint8Array): void {
    for (let i = 0; i < into.length; i++) into[i] = this.config[offset + i] ?? 0;
  }
  writeConfig(offset: number, from: Uint8Array): void {
    this.config.set(from, offset);
  }
  start(): void {
    this.calls.push("start");
  }
  reset(): void {
    this.calls.push("reset");
  }
  notified(queue: number): void {
    this.calls.push(`notified ${queue}`);
  }
  poll(budget: number): number {
    let moved = 0;
    for (let i = 0; i < 2; i++) {
      const queue = this.front.queue(i);
      if (queue === undefined) continue;
      while (moved < budget && queue.pop(this.#chain) >= 0) {
        queue.pushUsed(this.#chain.id, 0);
        moved++;
      }
      queue.publish();
    }
    return moved;
  }
  arm(): boolean {
    return this.front.queue(0)?.arm() ?? false;
  }
}

function echo(options: PciFrontOptions = {}): FakeFunction & { model: Echo; front: VirtioPciFront } {
  const model = new Echo();
  const front = new VirtioPciFront(model, options);
  return Object.assign(new FakeFunction(front), { model, front });
}

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
  const found = f.behaviour.vendorCapabilities.map(({ bytes, barAccess }) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    assertEquals(bytes[0], 0x09);
    assertEquals(bytes[2], bytes.length);
    return {
      type: bytes[3]!,
      bar: bytes[4]!,
      offset: view.getUint32(8, true),
      length: view.getUint32(12, true),
      tail: bytes.length >= 20 ? view.getUint32(16, true) : -1,
      barAccess: barAccess ?? false,
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
  assertEquals([msix.vectors, msix.tableBar, msix.pbaBar], [4, 1, 1]);
  assert(msix.tableOffset + 16 * msix.vectors <= msix.pbaOffset);
  assert(msix.pbaOffset + 8 <= f.behaviour.bars.find((one) => one.index === 1)!.sizeBytes);
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
    () => new VirtioPciFront(new Echo(), { featuresOff: FEATURE.VERSION_1 }),
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
    assertEquals(f.front.negotiatedFeatures, problem === "" ? features : 0n);
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
  assertEquals(f.front.negotiatedFeatures, RULES);
  assertStringIncludes(f.port.take()[0]!, "1.1: driver_feature was written after FEATURES_OK");
});

Deno.test("1.1 life: live from DRIVER_OK to reset, and only with bus mastering and a client", () => {
  using f = echo();
  const ring0 = new FakeRing(f.client, 4);
  f.negotiate(RULES);
  f.program(0, ring0);
  f.write(28, 2, 1);
  assertEquals([f.front.live, f.front.queue(0)], [false, undefined]);
  assertEquals(f.behaviour.poll(10), 0);
  f.model.calls.length = 0;
  f.status = 15;
  assertEquals(f.model.calls, ["start"]);
  assertEquals(f.front.live, true);
  f.port.busMaster = false;
  assertEquals([f.front.live, f.front.queue(0)], [false, undefined]);
  f.port.busMaster = true;
  assertEquals(f.front.queue(0)!.size, 4);
  f.status = 143;
  assertEquals(f.front.live, false, "FAILED");
  f.status = 0;
  assertEquals(f.status, 0);
  assertEquals(f.model.calls, ["start", "reset"]);
  f.write(22, 2, 0);
  assertEquals([f.read(24, 2), f.read(28, 2), f.read(32, 4)], [64, 0, 0], "registers as after power-on");
  assertEquals(f.port.take(), []);
});

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
  assertEquals(f.read(26, 2), 2, "the vector stays");
  assertEquals(f.front.queue(0), undefined);
  assertEquals(f.front.queue(1)!.size, 8);
  const ring = f.enable(0, 4);
  ring.add([{ iova: f.client.at(0), length: 4 }]);
  ring.publish();
  assertEquals(f.behaviour.poll(8), 1, "starts at index 0 again");
  assertEquals(f.port.take(), []);
  f.write(58, 2, 0);
  assertStringIncludes(f.port.take()[0]!, "1.5: 0 was written to queue_reset");
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
  f.front.configChanged();
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
  f.front.configChanged();
  assertEquals(f.port.vectors.splice(0), [0]);
  assertEquals(f.read(0x1000, 1), 2, "the config bit is set with MSI-X too");
  f.write(22, 2, 0);
  f.write(26, 2, 0xffff);
  f.write(16, 2, 0xffff);
  once(f);
  f.front.configChanged();
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
    assertEquals(f.front.live, false, "until it is reset");
    f.bringUp(RULES, [0]);
    assertEquals(f.front.live, true);
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
  assertEquals([f.front.live, f.front.queue(0)], [false, undefined]);
  // The driver may write the status back with the bit in it.
  f.status = 15 | 64;
  assertEquals(f.port.reports.length, 1);
  f.bringUp(RULES, [0]);
  once(f);
});

Deno.test("2.2 config_generation changes when config changed after it was read, and only then", () => {
  using f = echo();
  f.bringUp(RULES, [0]);
  f.front.configChanged();
  f.front.configChanged();
  assertEquals(f.read(21, 1), 0, "nobody had read anything");
  assertEquals(f.read(0x2000, 4), 0x04030201);
  f.front.configChanged();
  f.front.configChanged();
  assertEquals(f.read(21, 1), 1);
  assertEquals(f.read(21, 1), 1);
  for (let i = 0; i < 256; i++) {
    f.read(0x2004, 1);
    f.front.configChanged();
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
    assertEquals([f.status, f.front.live, f.front.negotiatedFeatures], [0, false, 0n]);
    assertEquals(f.model.calls.at(-1), "reset");
  }
});
