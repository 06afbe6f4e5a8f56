import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { PciModernTransport } from "../../../../lib/virtio/transport/pci_modern.ts";
import { changed, FakeFunction, USUAL } from "../fake_function.ts";

const bit = (n: number) => 1n << BigInt(n);

Deno.test("open turns memory decoding and bus mastering on; close puts them back and stops the device", () => {
  for (const before of [0x00, 0x02, 0x07, 0x01]) {
    using device = new FakeFunction();
    device.config[4] = before;
    const transport = PciModernTransport.open(device);
    assertEquals(device.command, before | 6);
    transport.writeStatus(15);
    transport.close();
    assertEquals(device.status, 0);
    assertEquals(device.command, before);
    assertEquals(device.closed, false);
  }
});

Deno.test("2.2 features travel as two selected halves of 32 bits", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  device.features = bit(32) | bit(63) | bit(31) | bit(0);
  assertEquals(transport.readDeviceFeatures(), device.features);
  transport.writeDriverFeatures(bit(32) | bit(63) | bit(31));
  assertEquals(device.driverFeatures, bit(32) | bit(63) | bit(31));
  assertEquals(transport.driverFeatures, device.driverFeatures);
  assertThrows(() => transport.writeDriverFeatures(1n << 64n), UsageError);
  assertThrows(() => transport.writeDriverFeatures(-1n), UsageError);
});

Deno.test("1.2 behind an IOMMU a device without ACCESS_PLATFORM is refused, unless the caller insists", () => {
  const ways = [
    // IOMMU, offered, refused by the caller, insisted on
    [true, true, false, false, "driven"],
    [true, false, false, false, "refused"],
    [true, false, false, true, "driven"],
    [true, true, true, false, "a mistake"],
    [true, true, true, true, "driven"],
    [false, false, false, false, "driven"],
    [false, true, true, false, "driven"],
  ] as const;
  for (const [iommu, offers, refuses, assumeAccessPlatform, outcome] of ways) {
    using device = new FakeFunction();
    device.iommu.iommu = iommu;
    device.features = bit(32) | (offers ? bit(33) : 0n);
    using transport = PciModernTransport.open(device, { assumeAccessPlatform });
    using virtio = new VirtioDevice(transport);
    const negotiate = () => virtio.negotiate({ refused: refuses ? bit(33) : 0n });
    if (outcome === "driven") {
      assertEquals(negotiate(), bit(32) | (offers && !refuses ? bit(33) : 0n));
    } else if (outcome === "refused") {
      const error = assertThrows(negotiate, UnsupportedError, "VIRTIO_F_ACCESS_PLATFORM");
      assert(error.message.includes(device.name) && error.hint.includes("assumeAccessPlatform"), error.hint);
    } else assertThrows(negotiate, UsageError, "VIRTIO_F_ACCESS_PLATFORM");
    if (outcome !== "driven") assertEquals([device.status & 128, device.driverFeatures], [128, 0n]);
  }
});

Deno.test("A-3.12 bit 41 is ADMIN_VQ only where the common structure has admin queues", () => {
  for (const [length, first, count] of [[64, 3, 1], [64, 7, 2], [64, 3, 0], [62, 3, 1]] as const) {
    using device = new FakeFunction(changed(1, { length }));
    using transport = PciModernTransport.open(device);
    device.features = bit(32) | bit(41);
    device.adminQueues = { first, count };
    const there = length === 64 && count > 0;
    assertEquals(transport.readDeviceFeatures(), there ? device.features : bit(32));
    assertEquals(transport.adminQueues, there ? { first, count } : { first: 0, count: 0 });
    device.features = bit(32);
    assertEquals(transport.adminQueues.count, 0, "not offered");
  }
});

Deno.test("2.2 admin queues come after the others: an index below num_queues is the device's fault", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  device.features = bit(32) | bit(41);
  device.adminQueues = { first: 2, count: 1 };
  const error = assertThrows(() => transport.adminQueues, DeviceError);
  assertEquals(error.location, { function: device.name, field: "admin_queue_index" });
});

Deno.test("2.2 admin queues have 16-bit numbers: an index and a number beyond them are the device's fault", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  device.features = bit(32) | bit(41);
  for (const [first, count] of [[0xffff, 1], [3, 0x10000 - 3], [0xfff0, 0x10]] as const) {
    device.adminQueues = { first, count };
    assertEquals(transport.adminQueues, { first, count });
  }
  for (const [first, count] of [[0xffff, 2], [3, 0x10000 - 2], [0xfff0, 0xffff]] as const) {
    device.adminQueues = { first, count };
    const error = assertThrows(() => transport.adminQueues, DeviceError, `${count}`);
    assertEquals(error.location, { function: device.name, field: "admin_queue_num" });
  }
});

Deno.test("N-3.7 VF Migration Capable is read from the SR-IOV capability", () => {
  for (const [capabilities, migrates] of [[undefined, false], [0, false], [2, false], [1, true]] as const) {
    using device = new FakeFunction();
    if (capabilities !== undefined) device.addSriov(capabilities);
    using transport = PciModernTransport.open(device);
    assertEquals(transport.vfMigrationCapable, migrates);
  }
});

Deno.test("2.2 bits 39, 40 and 41 are refused when their registers lie past the structure's length", () => {
  for (
    const [length, unusable] of [
      [56, bit(39) | bit(40) | bit(41)],
      [58, bit(40) | bit(41)],
      [60, bit(41)],
      [62, bit(41)],
      [64, 0n],
      [4096, 0n],
    ] as const
  ) {
    using device = new FakeFunction(changed(1, { length }));
    using transport = PciModernTransport.open(device);
    device.features = bit(32) | bit(39) | bit(40) | bit(41);
    assertEquals(transport.readDeviceFeatures(), device.features & ~unusable, `${length} bytes`);
    for (const one of [bit(39), bit(40), bit(41)]) {
      if ((one & unusable) === 0n) transport.writeDriverFeatures(one);
      else assertThrows(() => transport.writeDriverFeatures(one), UsageError, "no driver can have VIRTIO_F_");
    }
  }
});

Deno.test("A-6.1 6.2 profile queue-state: bit 40 needs the state registers at 64 and 66, not queue_reset", () => {
  for (const [length, usable] of [[56, false], [64, false], [66, false], [67, false], [68, true]] as const) {
    using device = new FakeFunction(changed(1, { length }));
    device.features = bit(32) | bit(40);
    using draft = PciModernTransport.open(device, { profile: "queue-state" });
    assertEquals((draft.readDeviceFeatures() & bit(40)) !== 0n, usable, `${length} bytes`);
    if (usable) draft.writeDriverFeatures(bit(32) | bit(40));
    else assertThrows(() => draft.writeDriverFeatures(bit(40)), UsageError, "VIRTIO_F_QUEUE_STATE");
  }
  // Under the standard the same bit of the same device is RING_RESET.
  using device = new FakeFunction(changed(1, { length: 60 }));
  device.features = bit(32) | bit(40);
  using transport = PciModernTransport.open(device);
  assertEquals(transport.readDeviceFeatures(), bit(32) | bit(40));
});

Deno.test("1.2 SR_IOV is for functions with an SR-IOV capability", () => {
  for (const there of [false, true]) {
    using device = new FakeFunction();
    if (there) device.addSriov(0);
    device.features = bit(32) | bit(37);
    using transport = PciModernTransport.open(device);
    using virtio = new VirtioDevice(transport);
    assertEquals(virtio.negotiate(), bit(32) | (there ? bit(37) : 0n));
    assertEquals(virtio.negotiate({ wanted: bit(37) }), bit(32) | (there ? bit(37) : 0n));
    if (!there) {
      assertThrows(() => transport.writeDriverFeatures(bit(32) | bit(37)), UsageError, "VIRTIO_F_SR_IOV");
    }
  }
});

Deno.test("1.1 the whole way to DRIVER_OK over registers, with exact widths and addresses in halves", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  device.features = bit(32) | bit(29);
  const virtio = new VirtioDevice(transport);
  virtio.negotiate({ wanted: bit(29) });
  device.log.length = 0;
  const queue = virtio.createQueue(1, { size: 64, vector: 3 });
  const { desc } = device.queues[1]!;
  const lo = (value: bigint) => (value & 0xffff_ffffn).toString(16);
  const hi = (value: bigint) => (value >> 32n).toString(16);
  assertEquals(device.log.filter((one) => one.startsWith("w") && !one.startsWith("w2@16")), [
    "w2@1a=3",
    "w2@18=40",
    `w4@20=${lo(desc)}`,
    `w4@24=${hi(desc)}`,
    `w4@28=${lo(desc + 1024n)}`,
    `w4@2c=${hi(desc)}`,
    `w4@30=${lo(desc + 1216n)}`,
    `w4@34=${hi(desc)}`,
    "w2@1c=1",
  ]);
  assert(device.log.every((one) => !one.startsWith("w2@16") || one === "w2@16=1"));
  assertEquals(transport.queueEnabled(1), true);
  assertEquals(transport.queueEnabled(0), false);
  virtio.driverOk();
  assertEquals(device.status, 15);
  device.log.length = 0;
  queue.addSingle(0, 0, 8, true);
  queue.notify();
  assertEquals(device.log, ["w2@3004=1"], "queue 1: notify offset 1 × multiplier 4, 16 bits of queue number");
  virtio.close();
});

Deno.test("2.2 64-bit queue addresses arrive whole", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  const addresses = {
    size: 16,
    descriptorArea: 0x1234_5678_9abc_d000n,
    driverArea: 0xffff_fffe_0000_0000n,
    deviceArea: 0x1_ffff_fff0n,
  };
  transport.enableQueue(1, addresses);
  const { desc, driver, device: used, size } = device.queues[1]!;
  assertEquals({ size, descriptorArea: desc, driverArea: driver, deviceArea: used }, addresses);
});

Deno.test("a queue that does not keep its size or its enable, or is enabled already, is a DeviceError naming it", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  const addresses = { size: 16, descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x3000n };
  const field = (act: () => void) => {
    const error = assertThrows(act, DeviceError);
    assertEquals([error.location.function, error.location.queue], [device.name, 2]);
    return error.location.field;
  };
  device.keep = { size: 8 };
  assertEquals(field(() => transport.enableQueue(2, addresses)), "queue_size");
  device.keep = { enable: 0 };
  assertEquals(field(() => transport.enableQueue(2, addresses)), "queue_enable");
  device.keep = {};
  transport.enableQueue(2, addresses);
  assertEquals(field(() => transport.enableQueue(2, addresses)), "queue_enable");
});

Deno.test("1.6 doorbells: queue number or the device's own data, 16 or 32 bits", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  const write = (features: bigint, nextOffset: number, nextWrap: number) => {
    transport.writeDriverFeatures(features);
    const doorbell = transport.doorbell(2);
    device.log.length = 0;
    doorbell.ring(nextOffset, nextWrap);
    return device.log;
  };
  assertEquals(write(bit(32), 0x1234, 1), ["w2@3008=2"]);
  assertEquals(write(bit(32) | bit(38), 0x1234, 0), ["w4@3008=12340002"]);
  assertEquals(write(bit(32) | bit(38), 0x7fff, 1), ["w4@3008=ffff0002"]);
  assertEquals(write(bit(32) | bit(39), 0x1234, 1), ["w2@3008=102"]);
  assertEquals(write(bit(32) | bit(38) | bit(39), 1, 1), ["w4@3008=80010102"]);
});

Deno.test("2.2 a doorbell outside the notify structure is a DeviceError; one just inside is not", () => {
  using device = new FakeFunction(changed(2, { length: 0x12, multiplier: 4 }));
  using transport = PciModernTransport.open(device);
  device.queues[0]!.notifyOff = 4;
  transport.doorbell(0);
  device.queues[0]!.notifyOff = 5;
  const error = assertThrows(() => transport.doorbell(0), DeviceError);
  assertEquals(error.location, { function: device.name, queue: 0, field: "queue_notify_off" });
  device.queues[0]!.notifyOff = 0xffff;
  assertThrows(() => transport.doorbell(0), DeviceError);
  // The same place with 32 bits of data is past the end.
  transport.writeDriverFeatures(bit(32) | bit(38));
  device.queues[0]!.notifyOff = 4;
  assertThrows(() => transport.doorbell(0), DeviceError);
  device.queues[0]!.notifyOff = 3;
  transport.doorbell(0);
});

Deno.test("2.2 NOTIFICATION_DATA needs a notify structure for 4 bytes: multiplier 2 or 2 bytes will not do", () => {
  for (const change of [{ multiplier: 2 }, { length: 2 }, { offset: 0x3002, length: 0x100 }]) {
    using device = new FakeFunction(changed(2, change));
    using transport = PciModernTransport.open(device);
    device.features = bit(32) | bit(38);
    assertEquals(transport.readDeviceFeatures(), bit(32));
    assertThrows(() => transport.writeDriverFeatures(bit(38)), UsageError);
  }
  // Multiplier 0: one doorbell for all queues.
  using device = new FakeFunction(changed(2, { multiplier: 0 }));
  using transport = PciModernTransport.open(device);
  transport.writeDriverFeatures(bit(32) | bit(38));
  transport.doorbell(2).ring(0, 0);
  assertEquals(device.log.at(-1), "w4@3000=2");
});

Deno.test("2.2 reset waits until 0 reads back; a reset that never ends is a TimeoutError with the status", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  transport.writeStatus(7);
  device.resetReads = 250;
  transport.reset();
  assertEquals(device.status, 0);
  transport.writeStatus(7);
  device.resetReads = Infinity;
  const error = assertThrows(() => transport.reset(20), TimeoutError);
  assert(error.message.includes(device.name) && error.message.includes("DRIVER_OK"), error.message);
});

Deno.test("1.5 a queue is reset only with RING_RESET, and is disabled afterwards", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  transport.enableQueue(0, { size: 8, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n });
  assertThrows(() => transport.resetQueue(0), UnsupportedError);
  transport.writeDriverFeatures(bit(32) | bit(40));
  transport.resetQueue(0);
  assertEquals(transport.queueEnabled(0), false);
  assertEquals(device.log.includes("w2@1c=0"), false, "queue_enable is never written 0");
  using other = new FakeFunction(changed(1, { length: 68 }));
  using draft = PciModernTransport.open(other, { profile: "queue-state" });
  draft.writeDriverFeatures(bit(32) | bit(40));
  assertThrows(() => draft.resetQueue(0), UnsupportedError, "RING_RESET");
});

Deno.test("2.2 MSI-X vectors are read back: a refused one is a DeviceError naming queue and field", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  device.vectorLimit = 2;
  transport.setConfigVector(0);
  transport.setQueueVector(1, 1);
  assertEquals([device.configVector, device.queues[1]!.vector], [0, 1]);
  const config = assertThrows(() => transport.setConfigVector(2), DeviceError, "refuses");
  assertEquals(config.location, { function: device.name, field: "config_msix_vector" });
  const queue = assertThrows(() => transport.setQueueVector(1, 3), DeviceError);
  assertEquals(queue.location, { function: device.name, queue: 1, field: "queue_msix_vector" });
  transport.setQueueVector(1, null);
  transport.setConfigVector(null);
  assertEquals([device.configVector, device.queues[1]!.vector], [0xffff, 0xffff]);
  for (const vector of [-1, 0.5, 2048]) assertThrows(() => transport.setConfigVector(vector), UsageError);
});

Deno.test("close where the device does not take its reset: bus mastering goes off, all the rest is put back", () => {
  using device = new FakeFunction();
  device.config[4] = 0x04;
  const transport = PciModernTransport.open(device);
  const eventFd = transport.enableInterrupts("msix", 1)[0]!.eventFd;
  const write = device.writeRegion.bind(device);
  device.writeRegion = (index, offset, from) => {
    if (index !== 7) throw new TimeoutError("a write that is not answered");
    write(index, offset, from);
  };
  transport.close();
  assertEquals([device.command, eventFd.closed, transport.closed], [0, true, true]);
});

Deno.test("interrupts: eventfds by vector, INTx acknowledged through the ISR and unmasked, all closed at the end", () => {
  using device = new FakeFunction();
  const before = openFdCount();
  using transport = PciModernTransport.open(device);
  assertEquals(["msix", "intx", "msi", "none"].map((kind) => transport.interruptCount(kind as "msix")), [
    4,
    1,
    0,
    0,
  ]);
  const vectors = transport.enableInterrupts("msix", 3);
  assertEquals(vectors.length, 3);
  assertEquals(vectors[0]!.acknowledge(), 3);
  assertEquals(device.irqs.map((one) => [one.index, one.action]), [[2, "trigger"]]);
  assertThrows(() => transport.enableInterrupts("intx", 1), UsageError, "on already");
  transport.disableInterrupts();
  assert(vectors.every((one) => one.eventFd.closed));
  const [line] = transport.enableInterrupts("intx", 1);
  device.isr = 2;
  device.irqs.length = 0;
  assertEquals(line!.acknowledge(), 2);
  assertEquals(device.isr, 0);
  assertEquals(device.irqs, [{ index: 0, action: "unmask", start: 0, count: 1 }]);
  assertThrows(() => transport.enableInterrupts("msix", 5), UsageError);
  transport.close();
  assertEquals(openFdCount(), before);
});

Deno.test("INTx is unmasked only where the server masks it when it fires: AUTOMASKED", () => {
  for (const [flags, unmasked] of [[1, 0], [3, 0], [7, 1]] as const) {
    using device = new FakeFunction();
    device.intxFlags = flags;
    using transport = PciModernTransport.open(device);
    const [line] = transport.enableInterrupts("intx", 1);
    device.isr = 1;
    assertEquals([line!.acknowledge(), line!.acknowledge(), device.isr], [1, 0, 0]);
    assertEquals(
      device.irqs.filter(({ action }) => action === "unmask").length,
      2 * unmasked,
      `flags ${flags}`,
    );
  }
});

Deno.test("config space: one access of the exact width, inside and aligned only", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  assertEquals(transport.configSizeBytes, 32);
  device.log.length = 0;
  assertEquals([transport.readConfig(3, 1), transport.readConfig(2, 2), transport.readConfig(4, 4)], [
    3,
    0x0302,
    0x07060504,
  ]);
  transport.writeConfig(8, 4, 0xdead_beef);
  assertEquals(device.log, ["r1@2003", "r2@2002", "r4@2004", "w4@2008=deadbeef"]);
  for (const [offset, width] of [[1, 2], [2, 4], [32, 1], [30, 4], [-1, 1], [0.5, 1], [NaN, 1]] as const) {
    assertThrows(() => transport.readConfig(offset, width), UsageError);
    assertThrows(() => transport.writeConfig(offset, width, 0), UsageError);
  }
  assertThrows(() => transport.writeConfig(0, 1, 256), UsageError);
  using none = new FakeFunction(USUAL.filter((one) => one.type !== 4));
  using bare = PciModernTransport.open(none);
  assertEquals(bare.configSizeBytes, 0);
  assertThrows(() => bare.readConfig(0, 1), UsageError);
});

Deno.test("1.7 shared memory is mapped by id", () => {
  using device = new FakeFunction([...USUAL, { type: 8, id: 5, bar: 2, offset: 0x800, length: 0x800 }]);
  using transport = PciModernTransport.open(device);
  assertEquals(transport.sharedMemory(4), undefined);
  const region = transport.sharedMemory(5)!;
  assertEquals(region.sizeBytes, 0x800);
  using memory = region.map();
  assertEquals(memory.sizeBytes, 0x800);
  assertEquals(device.log.at(-1), "map 2 800+800");
});

Deno.test("queue numbers are checked; a queue that is not there has size 0", () => {
  using device = new FakeFunction();
  using transport = PciModernTransport.open(device);
  assertEquals(transport.queueCount, 3);
  assertEquals([0, 1, 2, 3, 65535].map((queue) => transport.queueMaxSize(queue)), [64, 128, 256, 0, 0]);
  for (const queue of [-1, 65536, 1.5, NaN]) assertThrows(() => transport.queueMaxSize(queue), UsageError);
});

Deno.test("after close, here or of the function, every call is a ClosedError", () => {
  for (const beneath of [false, true]) {
    using device = new FakeFunction();
    const transport = PciModernTransport.open(device);
    const doorbell = transport.doorbell(0);
    if (beneath) device.close();
    else transport.close();
    assertEquals(transport.closed, true);
    const addresses = { size: 8, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n };
    const calls: (() => unknown)[] = [
      () => transport.readDeviceFeatures(),
      () => transport.writeDriverFeatures(0n),
      () => transport.readStatus(),
      () => transport.writeStatus(1),
      () => transport.reset(),
      () => transport.queueCount,
      () => transport.configGeneration(),
      () => transport.readConfig(0, 1),
      () => transport.writeConfig(0, 1, 0),
      () => transport.queueMaxSize(0),
      () => transport.enableQueue(0, addresses),
      () => transport.queueEnabled(0),
      () => transport.resetQueue(0),
      () => transport.doorbell(0),
      () => doorbell.ring(0, 0),
      () => transport.interruptCount("msix"),
      () => transport.enableInterrupts("msix", 1),
      () => transport.disableInterrupts(),
      () => transport.setConfigVector(0),
      () => transport.setQueueVector(0, 0),
      () => transport.readInterruptStatus(),
      () => transport.sharedMemory(0),
    ];
    for (const call of calls) assertThrows(call, ClosedError);
    transport.close();
  }
});
