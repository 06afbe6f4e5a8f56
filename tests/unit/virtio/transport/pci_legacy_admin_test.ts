import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventFd, mappingCount, openFdCount } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import type { LegacyNotifyArea } from "../../../../lib/virtio/admin/legacy_access.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { createVirtqueue } from "../../../../lib/virtio/queue/create.ts";
import { legacySplitLayout } from "../../../../lib/virtio/queue/layout.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { LegacyNotify } from "../../../../lib/virtio/transport/legacy_notify.ts";
import { LegacyAdminTransport } from "../../../../lib/virtio/transport/pci_legacy_admin.ts";
import { requireQueueState } from "../../../../lib/virtio/transport/pci_queue_state.ts";
import type { VirtioTransport } from "../../../../lib/virtio/transport/transport.ts";
import { LegacyModel, type LegacyModelOptions } from "./legacy_model.ts";

const INDIRECT = 1 << 28, EVENT_IDX = 1 << 29, ANY_LAYOUT = 1 << 27;

function open(options: LegacyModelOptions = {}, owner = true) {
  const model = new LegacyModel(options);
  const transport = LegacyAdminTransport.open(model.vf, model, owner ? { owner: model.pf } : {});
  return {
    model,
    transport,
    [Symbol.dispose]() {
      transport.close();
      model[Symbol.dispose]();
    },
  };
}

for (
  const [size, driver, device, total] of [
    // 16·Q; the next page after 16·Q + 6 + 2·Q; that, and 6 + 8·Q in whole pages.
    [1, 16, 4096, 8192],
    [2, 32, 4096, 8192],
    [64, 1024, 4096, 8192],
    [128, 2048, 4096, 8192],
    [227 + 29, 4096, 8192, 12288],
    [512, 8192, 12288, 20480],
    [1024, 16384, 20480, 32768],
    [32768, 524288, 593920, 860160],
  ] as const
) {
  Deno.test(`2.3 ring layout: ${size} descriptors, available at ${driver}, used at ${device}, ${total} bytes`, () => {
    assertEquals(legacySplitLayout(size, Math.min(size, 2)), {
      size,
      descriptorOffset: 0,
      driverOffset: driver,
      deviceOffset: device,
      tablesOffset: total,
      tableSegments: Math.min(size, 2),
      totalBytes: total + size * Math.min(size, 2) * 16,
    });
  });
}

Deno.test("2.3 legacy negotiation: reset, ACKNOWLEDGE, DRIVER, features, queue, DRIVER_OK; no FEATURES_OK, nothing above bit 31", () => {
  using one = open({ features: (ANY_LAYOUT | INDIRECT | EVENT_IDX | 1 << 24 | 1 << 30 | 1 << 5) >>> 0 });
  const { model, transport } = one;
  assertEquals([transport.kind, transport.legacy, transport.deviceId, transport.name], [
    "pci-legacy-admin",
    true,
    1,
    "0000:0a:00.1",
  ]);
  assertEquals(model.log, [], "opening issues no command");
  using device = new VirtioDevice(transport);
  device.negotiate({ wanted: 1n << 5n });
  // NOTIFY_ON_EMPTY (24) and the unused bit 30 are left out.
  assertEquals(model.driverFeatures, (ANY_LAYOUT | INDIRECT | EVENT_IDX | 1 << 5) >>> 0);
  assertEquals(device.state, "negotiated");
  device.createQueue(1, { size: 4 });
  device.driverOk();
  const negotiated = (ANY_LAYOUT | INDIRECT | EVENT_IDX | 1 << 5) >>> 0;
  const ring = model.pfn.get(1)!;
  assertEquals(model.log, [
    "w status 0",
    "r status",
    "r status",
    "w status 1",
    "r status",
    "r status",
    "w status 3",
    "r status",
    "r device_features",
    `w driver_features ${negotiated}`,
    "w queue_select 1",
    "r queue_size",
    "w queue_select 1",
    "r queue_size",
    "r pfn",
    `w pfn ${ring}`,
    "r pfn",
    "r status",
    "w status 7",
    "r status",
  ]);
  assertEquals(model.status, 7, "FEATURES_OK (8) is never written");
  assertEquals(device.state, "live");
});

Deno.test("2.3 a queue has the device's size and lies where its PFN says, whatever was asked for", () => {
  using one = open({ queueSizes: [64, 256, 12, 0x8000] });
  const { model, transport } = one;
  using device = new VirtioDevice(transport);
  device.negotiate();
  assertEquals(device.createQueue(0, { size: 8 }).size, 64);
  const queue = device.createQueue(1, { size: 1024, maxSegments: 4 });
  assertEquals(queue.size, 256);
  const { descriptorArea, driverArea, deviceArea } = queue.addresses;
  assertEquals(model.pfn.get(1), Number(descriptorArea / 4096n));
  assertEquals([descriptorArea % 4096n, driverArea - descriptorArea, deviceArea - descriptorArea], [
    0n,
    4096n,
    8192n,
  ]);
  assertEquals([transport.queueEnabled(0), transport.queueEnabled(3)], [true, false]);
  const error = assertThrows(() => device.createQueue(2), DeviceError, "12 is no power of two");
  assertEquals([error.location.queue, error.location.field], [2, "queue_size"]);
  assertThrows(() => createVirtqueue(transport, 9), UnsupportedError, "no queue 9");
});

Deno.test("2.3 descriptors, available and used ring at the legacy places: a chain goes there and back, events too", () => {
  for (const features of [0, EVENT_IDX, INDIRECT, (EVENT_IDX | INDIRECT) >>> 0]) {
    using one = open({ features, queueSizes: [8] });
    const { model, transport } = one;
    using device = new VirtioDevice(transport);
    device.negotiate();
    const queue = device.createQueue(0, { maxSegments: 3 });
    device.driverOk();
    using memory = transport.dma.allocate(4096);
    const { iovaLo, iovaHi } = memory;
    const ring = model.ring(0);
    let notified = 0;
    model.onNotify = () => notified++;
    const used = usedBurst(8);
    for (let round = 0; round < 40; round++) {
      assert(queue.begin(1, 2));
      queue.segment(iovaLo, iovaHi, 10);
      queue.segment(iovaLo + 64, iovaHi, 20);
      queue.segment(iovaLo + 128, iovaHi, 1);
      const id = queue.commit();
      ring.availableEvent = ring.next;
      queue.flush();
      assertEquals(notified, round + 1);
      const chain = ring.pop()!;
      assertEquals(chain.table, (features & INDIRECT) !== 0);
      assertEquals(chain.parts.map((part) => [part.length, part.write]), [[10, false], [20, true], [
        1,
        true,
      ]]);
      queue.enableInterrupts();
      if ((features & EVENT_IDX) !== 0) assertEquals(ring.usedEvent, ring.usedNext);
      ring.push(chain.head, 21);
      assertEquals(queue.takeUsed(used), 1);
      assertEquals([used.ids[0], used.lengths[0]], [id, 21]);
    }
  }
});

Deno.test("legacy devices set used lengths wrongly: more than the chain has for them counts as all of it, and breaks nothing", () => {
  using one = open();
  const { model, transport } = one;
  using device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(0);
  device.driverOk();
  using memory = transport.dma.allocate(4096);
  queue.addSingle(memory.iovaLo, memory.iovaHi, 100, false);
  queue.addSingle(memory.iovaLo, memory.iovaHi, 60, true);
  queue.addSingle(memory.iovaLo, memory.iovaHi, 60, true);
  queue.flush();
  const ring = model.ring(0);
  for (const length of [100, 0xffff_ffff, 59]) ring.push(ring.pop()!.head, length);
  const used = usedBurst(8);
  assertEquals(queue.takeUsed(used), 3);
  assertEquals([...used.lengths.subarray(0, 3)], [0, 60, 59]);
  queue.addSingle(memory.iovaLo, memory.iovaHi, 60, true);
  queue.flush();
  ring.push(7, 0);
  assertThrows(() => queue.takeUsed(used), DeviceError, "the device returned 7");
});

Deno.test("2.3 the PFN register reaches 2^44: rings above are refused, and so are rings of another layout or size", () => {
  using one = open({ queueSizes: [8] });
  const { model, transport } = one;
  const at = (start: bigint, size = 8, used = 4096n) => ({
    size,
    descriptorArea: start,
    driverArea: start + BigInt(16 * size),
    deviceArea: start + used,
  });
  const last = (1n << 44n) - 8192n;
  assertThrows(() => transport.enableQueue(0, at(1n << 44n)), UsageError, "2^44");
  assertThrows(() => transport.enableQueue(0, at(last + 4096n)), UsageError, "2^44");
  assertThrows(() => transport.enableQueue(0, at(0x1234_5800n)), UsageError, "page");
  assertThrows(() => transport.enableQueue(0, at(0n)), UsageError, "page");
  assertThrows(() => transport.enableQueue(0, at(0x10000n, 8, 192n)), UsageError, "page");
  assertThrows(() => transport.enableQueue(0, at(0x10000n, 16)), UsageError, "queue_size is 8");
  assertEquals(model.log.filter((line) => line.startsWith("w pfn")), []);
  model.keepPfn = () => 0;
  const error = assertThrows(() => transport.enableQueue(0, at(last)), DeviceError, "0xfffffffe was written");
  assertEquals([error.location.queue, error.location.field], [0, "queue_pfn"]);
  assertEquals(model.log.at(-2), `w pfn ${0xffff_fffe}`);
  model.keepPfn = (pfn) => pfn & 0;
  model.pfn.set(0, 5);
  assertThrows(() => transport.enableQueue(0, at(0x10000n)), DeviceError, "set up already");
});

Deno.test("features above bit 31 are a UsageError and reach no register", () => {
  using one = open();
  const { model, transport } = one;
  assertThrows(() => transport.writeDriverFeatures(1n << 32n), UsageError, "VIRTIO_F_VERSION_1");
  assertThrows(() => transport.writeDriverFeatures(1n << 64n), UsageError, "bits above 63");
  assertThrows(() => transport.writeDriverFeatures(-1n), UsageError, "bits above 63");
  assertEquals(model.log, []);
  transport.writeDriverFeatures(0xffff_ffffn);
  assertEquals([model.driverFeatures, transport.driverFeatures], [0xffff_ffff, 0xffff_ffffn]);
  model.features = 0x8000_0001;
  assertEquals(transport.readDeviceFeatures(), 0x8000_0001n);
});

Deno.test("2.3 MSI-X vectors: only while MSI-X is enabled, read back, 0xffff is a refusal", () => {
  using one = open();
  const { model, transport } = one;
  assertThrows(() => transport.setConfigVector(0), UsageError, "while MSI-X is enabled");
  assertThrows(() => transport.setQueueVector(1, 0), UsageError, "while MSI-X is enabled");
  assert(!model.log.some((line) => line.includes("vector")));
  assertEquals([transport.interruptCount("msix"), transport.interruptCount("intx")], [4, 0]);
  const vectors = transport.enableInterrupts("msix", 3);
  model.log.length = 0;
  transport.setConfigVector(0);
  transport.setQueueVector(1, 2);
  assertEquals(model.log, [
    "w config_vector 0",
    "r config_vector",
    "w queue_select 1",
    "w queue_vector 2",
    "r queue_vector",
  ]);
  model.interrupt(1);
  assertEquals([vectors[0]!.eventFd.take(), vectors[2]!.eventFd.take(), vectors[2]!.acknowledge()], [
    0,
    1,
    3,
  ]);
  model.interrupt(null);
  assertEquals(vectors[0]!.eventFd.take(), 1);
  transport.setQueueVector(1, null);
  assertEquals(model.queueVectors.get(1), 0xffff);
  model.vectorLimit = 1;
  const error = assertThrows(() => transport.setQueueVector(0, 2), DeviceError, "refuses");
  assertEquals([error.location.queue, error.location.field], [0, "queue_msix_vector"]);
  assertThrows(() => transport.setQueueVector(0, 2048), UsageError, "2048");
  transport.disableInterrupts();
  assertEquals(model.msix, false);
  assertThrows(() => transport.setConfigVector(null), UsageError);
});

Deno.test("2.3 the ISR byte is register 19, and INTx reads it", () => {
  using one = open();
  const { model, transport } = one;
  model.isr = 3;
  assertEquals([transport.readInterruptStatus(), transport.readInterruptStatus()], [3, 0]);
  assertEquals(model.log, ["r isr", "r isr"]);
  model.vf.pin = 1;
  const [line] = transport.enableInterrupts("intx", 1);
  model.isr = 1;
  assertEquals(line!.acknowledge(), 1);
  assertThrows(() => transport.setConfigVector(0), UsageError, "while MSI-X is enabled");
  assertEquals(model.vf.irqs.at(-1), { index: 0, action: "unmask", start: 0, count: 1 });
  // Neither MASKABLE nor AUTOMASKED.
  transport.disableInterrupts();
  model.vf.intxFlags = 1;
  model.isr = 1;
  assertEquals(transport.enableInterrupts("intx", 1)[0]!.acknowledge(), 1);
  assertEquals(model.vf.irqs.at(-1)?.action, "trigger");
});

const MEMBER: LegacyNotifyArea = { whose: "member", bar: 2, offset: 0x10 };
const OWNER: LegacyNotifyArea = { whose: "owner", bar: 4, offset: 0x20 };

for (
  const [what, areas, expected] of [
    ["the first of two usable ones", [OWNER, MEMBER], OWNER],
    ["the last two bytes of the BAR", [{ ...MEMBER, offset: 0xffe }], { ...MEMBER, offset: 0xffe }],
    ["beyond the BAR by two", [{ ...MEMBER, offset: 0x1000 }, OWNER], OWNER],
    ["2^53 and more", [{ ...MEMBER, offset: 2 ** 53 }, OWNER], OWNER],
    ["odd", [{ ...MEMBER, offset: 0x11 }, OWNER], OWNER],
    ["negative", [{ ...MEMBER, offset: -2 }, OWNER], OWNER],
    ["a BAR that the VF lacks", [{ ...MEMBER, bar: 3 }, OWNER], OWNER],
    ["BAR 0", [{ ...MEMBER, bar: 0 }, OWNER], OWNER],
    ["BAR 6", [{ ...MEMBER, bar: 6 }, OWNER], OWNER],
    ["inside the other function's BAR of that number only", [{ ...OWNER, bar: 2, offset: 0x1ffe }], {
      ...OWNER,
      bar: 2,
      offset: 0x1ffe,
    }],
    ["the same of the VF, whose BAR is smaller", [{ ...MEMBER, offset: 0x1ffe }], null],
    ["beyond the owner's BAR", [{ ...OWNER, offset: 0x100 }], null],
    ["none", [], null],
  ] as [string, LegacyNotifyArea[], LegacyNotifyArea | null][]
) {
  Deno.test(`N-3.17 notify address: ${what}: ${expected === null ? "by command" : "used"}`, () => {
    using one = open({ areas });
    const { model, transport } = one;
    assertEquals(transport.notifyPlace, expected);
    model.status = 4;
    const rung: number[] = [];
    model.onNotify = (queue) => rung.push(queue);
    for (const queue of [0, 1, 0x1ff]) transport.doorbell(queue).ring(5, 1);
    assertEquals(rung, [0, 1, 0x1ff]);
    assertEquals(model.asked, 1, "asked for once");
    const byCommand = model.log.filter((line) => line.startsWith("w notify"));
    assertEquals(byCommand, expected === null ? ["w notify 0", "w notify 1", "w notify 511"] : []);
    const writes = expected?.whose === "member" ? model.vf.barWrites : model.pf.barWrites;
    const at = expected === null ? "" : `bar ${expected.bar}: w2@${expected.offset.toString(16)}=`;
    assertEquals(writes, expected === null ? [] : [`${at}0`, `${at}1`, `${at}1ff`], "N-3.16: 16 bits");
  });
}

Deno.test("N-3.17 without the owner's function its addresses are passed over; a BAR that cannot be written is none", () => {
  {
    using one = open({ areas: [OWNER, MEMBER] }, false);
    assertEquals(one.transport.notifyPlace, MEMBER);
  }
  {
    // A VF that has a BAR 0 all the same: the list cannot mean it.
    using one = open({ areas: [{ ...MEMBER, bar: 0 }] });
    one.model.vf.barBytes[0] = 0x1000;
    assertEquals(one.transport.notifyPlace, null);
  }
  using one = open({ areas: [MEMBER] });
  one.model.vf.barFlags = 1;
  assertEquals(one.transport.notifyPlace, null);
});

Deno.test("N-3.16 a notify address whose queues have eventfds of their own: each queue gets its own", () => {
  using one = open({ areas: [MEMBER] });
  const { model, transport } = one;
  using a = new EventFd();
  using b = new EventFd();
  model.vf.doorbells.set("2:16:2:0", { fd: a, value: 0 });
  model.vf.doorbells.set("2:16:2:1", { fd: b, value: 1 });
  model.status = 4;
  transport.doorbell(0).ring(0, 0);
  transport.doorbell(1).ring(0, 0);
  transport.doorbell(1).ring(0, 0);
  assertEquals([a.take(), b.take(), model.vf.barWrites], [1, 2, []]);
  transport.doorbell(2).ring(0, 0);
  assertEquals(model.vf.barWrites, ["bar 2: w2@10=2"]);
});

Deno.test("a reset that takes its time is waited for; one that never ends is a TimeoutError", () => {
  using one = open();
  const { model, transport } = one;
  model.status = 7;
  model.resetReads = 30;
  transport.reset();
  assertEquals(model.status, 0);
  model.status = 7;
  model.resetReads = 1e9;
  assertThrows(() => transport.reset(1), TimeoutError, "device_status reads");
});

Deno.test("config: readable at once, writable in every state; fields that change under the reader are read until two readings agree", () => {
  const config = Uint8Array.from({ length: 12 }, (_, i) => i);
  const configFields = [[0, 6], [6, 2], [8, 2], [10, 2]] as const;
  using one = open({ config, configFields });
  const { model, transport } = one;
  using device = new VirtioDevice(transport);
  assertEquals([device.readConfig(6, 2), transport.configSizeBytes, transport.configGeneration()], [
    0x0706,
    12,
    0,
  ]);
  device.writeConfig(0, 1, 0x52);
  assertEquals(config[0], 0x52);
  assertThrows(() => device.readConfig(12, 1), UsageError, "12 bytes");
  assertThrows(() => device.readConfig(7, 2), UsageError);
  assertThrows(() => device.writeConfig(0, 1, 256), UsageError);
  // Torn twice: before the second byte of the first and of the second reading.
  let reads = 0;
  model.onConfigRead = () => {
    reads++;
    if (reads === 2 || reads === 8) config.fill(reads, 0, 6);
  };
  const read = () => [0, 1, 2, 3, 4, 5].map((at) => device.readConfig(at, 1));
  assertEquals(device.readConsistent(read), [8, 8, 8, 8, 8, 8]);
  assertEquals(reads, 24, "readings: torn, torn, whole, whole");
  model.onConfigRead = () => void config[3]!++;
  assertThrows(() => device.readConsistent(read), DeviceError, "alike");
});

Deno.test("an 8-byte field is two commands of 4 bytes, and never one over two fields", () => {
  using one = open({
    deviceId: 2,
    config: new Uint8Array(60).fill(1),
    configFields: [[0, 8], [8, 4], [20, 4]],
  });
  const { model, transport } = one;
  assertEquals([transport.deviceId, transport.configSizeBytes], [2, 72]);
  assertEquals([transport.readConfig(0, 4), transport.readConfig(4, 4)], [0x01010101, 0x01010101]);
  assertEquals(model.log, ["r config 0+4", "r config 4+4"]);
});

Deno.test("queues are counted up to the first of size 0; there is no reset of one and no state to save", () => {
  using one = open({ queueSizes: [8, 8, 16] });
  const { model, transport } = one;
  assertEquals([transport.queueCount, transport.queueCount], [3, 3]);
  assertEquals(model.log.filter((line) => line === "r queue_size").length, 4);
  const facets: VirtioTransport = transport;
  assertEquals(
    [facets.resetQueue, facets.queueState, facets.sharedMemory, facets.adminQueues],
    [undefined, undefined, undefined, undefined],
  );
  assertThrows(() => requireQueueState(facets), UnsupportedError, "the legacy interface has no queue state");
  assertThrows(() => transport.queueMaxSize(65536), UsageError);
  model.pfn.set(1, 0x12345);
  model.vf.vectors = [];
  assertEquals(transport.queueView(1), {
    queue: 1,
    size: 8,
    enabled: true,
    vector: null,
    descriptorArea: "0x12345000",
    driverArea: "0x12345080",
    deviceArea: "0x12346000",
  });
});

Deno.test("memory decoding and bus mastering are on while it is open; close stops the device and lets everything go", () => {
  const before = [openFdCount(), mappingCount().mappings];
  const { model, transport } = open({ areas: [MEMBER] });
  assertEquals(model.vf.command & 6, 6);
  transport.enableInterrupts("msix", 2);
  const doorbell = transport.doorbell(0);
  model.status = 7;
  transport.close();
  transport.close();
  assertEquals([model.status, model.msix, model.vf.command & 6], [0, false, 0]);
  assertEquals(transport.closed, true);
  for (
    const call of [
      () => doorbell.ring(0, 0),
      () => transport.readStatus(),
      () => transport.readDeviceFeatures(),
      () => transport.readConfig(0, 1),
      () => transport.configGeneration(),
      () => transport.queueCount,
      () => transport.notifyPlace,
      () => transport.enableInterrupts("msix", 1),
    ]
  ) assertThrows(call, ClosedError);
  model[Symbol.dispose]();
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("an owner that is gone: commands throw, and close lets the VF go all the same", () => {
  const before = [openFdCount(), mappingCount().mappings];
  const { model, transport } = open();
  transport.enableInterrupts("msix", 1);
  model.failure = new ClosedError("the admin queue");
  assertThrows(() => transport.readStatus(), ClosedError, "admin queue");
  transport.close();
  assertEquals([model.msix, model.vf.command & 6], [false, 0]);
  model[Symbol.dispose]();
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("close where the reset does not get through: the VF is no bus master any more, even if it was before", () => {
  for (const gone of [false, true]) {
    using model = new LegacyModel();
    new DataView(model.vf.config.buffer).setUint16(4, 6, true);
    const transport = LegacyAdminTransport.open(model.vf, model);
    if (gone) model.failure = new ClosedError("the admin queue");
    transport.close();
    assertEquals(model.vf.command & 6, gone ? 2 : 6);
  }
});

Deno.test("LegacyNotify: after close there is no place, and its doorbells are gone, however they travel", () => {
  for (const way of ["access", "eventfd", "command"] as const) {
    using model = new LegacyModel({ areas: way === "command" ? [] : [MEMBER] });
    using fd = new EventFd();
    if (way === "eventfd") model.vf.doorbells.set("2:16:2:0", { fd, value: 0 });
    model.status = 4;
    const notify = new LegacyNotify(model, { member: model.vf });
    const doorbell = notify.doorbell(0);
    assertEquals(doorbell.kind, way);
    doorbell.ring();
    notify.close();
    notify.close();
    const before = [model.log.length, model.vf.barWrites.length, fd.take()];
    assertThrows(() => doorbell.ring(), ClosedError, "0000:0a:00.1");
    assertThrows(() => notify.doorbell(0), ClosedError);
    assertThrows(() => notify.place, ClosedError);
    assertEquals([model.log.length, model.vf.barWrites.length, fd.take()], [before[0], before[1], 0]);
  }
});

Deno.test("a function that is not virtio's is refused before anything is changed", () => {
  using model = new LegacyModel();
  new DataView(model.vf.config.buffer).setUint16(0, 0x8086, true);
  assertThrows(() => LegacyAdminTransport.open(model.vf, model), UnsupportedError, "8086");
  assertEquals(model.vf.command & 6, 0);
});

Deno.test("reset closes the queues, and the same transport negotiates again; suspend and resume keep what is in flight", () => {
  using one = open({ queueSizes: [8] });
  const { model, transport } = one;
  using device = new VirtioDevice(transport);
  device.negotiate();
  const first = device.createQueue(0);
  device.driverOk();
  device.reset();
  assertEquals([first.closed, model.pfn.size, device.state], [true, 0, "idle"]);
  device.negotiate();
  const queue = device.createQueue(0);
  device.driverOk();
  using memory = transport.dma.allocate(4096);
  for (let i = 0; i < 3; i++) queue.addSingle(memory.iovaLo + 64 * i, memory.iovaHi, 10 + i, true);
  queue.flush();
  model.ring(0).push(model.ring(0).pop()!.head, 4);
  assertEquals(device.suspend(), new Map());
  assertThrows(() => device.resume(), UsageError, "were not taken");
  const used = usedBurst(8);
  assertEquals(queue.takeUsed(used), 1);
  let notified = 0;
  model.onNotify = () => notified++;
  device.resume();
  assertEquals([device.state, model.status, notified], ["live", 7, 1]);
  const ring = model.ring(0);
  assertEquals([ring.pop()!.parts[0]!.length, ring.pop()!.parts[0]!.length, ring.pop()], [11, 12, undefined]);
});
