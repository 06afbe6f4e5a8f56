import { requireQueueState } from "../../../../lib/virtio/transport/pci_queue_state.ts";
import { readQueueStates, tryQueueStates } from "../../../../lib/virtio/inspect_queues.ts";
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
import { findVirtioLayout } from "../../../../lib/virtio/transport/pci_layout.ts";
import type { QueueState } from "../../../../lib/virtio/spec/queue_state.ts";
import { PciModernTransport } from "../../../../lib/virtio/transport/pci_modern.ts";
import { type FakeCapability, FakeFunction, USUAL } from "../fake_function.ts";

const bit = (n: number) => 1n << BigInt(n);

/** The layout of a function with these capabilities. */
function layoutOf(capabilities: readonly FakeCapability[], deviceId = 0x1044) {
  const device = new FakeFunction(capabilities, deviceId);
  return findVirtioLayout("f", device.config, (bar) => device.barBytes[bar] ?? 0);
}

/** The usual capabilities with one of them changed. */
function changed(type: number, change: Partial<FakeCapability>): FakeCapability[] {
  return USUAL.map((one) => one.type === type ? { ...one, ...change } : one);
}

Deno.test("2.1 structures are found with bar, offset, length and multiplier", () => {
  const layout = layoutOf([...USUAL, { type: 8, id: 5, bar: 2, offset: 0x800, length: 0x100 }]);
  assertEquals(layout, {
    deviceId: 4,
    common: { bar: 4, offset: 0, lengthBytes: 64 },
    isr: { bar: 4, offset: 0x1001, lengthBytes: 1 },
    device: { bar: 4, offset: 0x2000, lengthBytes: 32 },
    notify: { bar: 4, offset: 0x3000, lengthBytes: 0x1000 },
    notifyOffMultiplier: 4,
    sharedMemory: new Map([[5, { bar: 2, offset: 0x800, lengthBytes: 0x100 }]]),
  });
});

Deno.test("2 device ids: modern from the PCI device id, transitional from the subsystem id", () => {
  assertEquals(layoutOf(USUAL, 0x1041).deviceId, 1);
  assertEquals(layoutOf(USUAL, 0x106c).deviceId, 44);
  assertEquals(layoutOf(USUAL, 0x1005).deviceId, 4);
  assertThrows(() => layoutOf(USUAL, 0x1040), UnsupportedError);
  assertThrows(() => layoutOf(USUAL, 0x0fff), UnsupportedError);
  const other = new FakeFunction();
  other.config[0] = 0x86;
  assertThrows(() => PciModernTransport.open(other), UnsupportedError, "not a virtio function");
});

Deno.test("2.1 reserved types and BARs, and places outside their BAR, are passed over for the first usable instance", () => {
  const common = USUAL[0]!;
  const wrong: readonly Partial<FakeCapability>[] = [
    { bar: 6 },
    { bar: 7 },
    { bar: 1 }, // does not exist
    { bar: 2, offset: 0xfe0 }, // what lies inside the BAR is too short for the structure
    { bar: 2, offset: 0x1000 }, // begins at the end of the BAR
    { offset: 0xffff_fff0 }, // wraps in 32 bits
    { length: 55 }, // too short for the structure
    { offset: 0x102 }, // 32-bit registers would not be aligned
    { type: 6 },
    { type: 0 },
    { type: 200 },
  ];
  for (const one of wrong) {
    assertEquals(layoutOf([{ ...common, ...one }, ...USUAL]).common, {
      bar: 4,
      offset: 0,
      lengthBytes: 64,
    });
    const error = assertThrows(() => layoutOf([{ ...common, ...one }, ...USUAL.slice(1)]), DeviceError);
    assertEquals(error.location, { function: "f", field: "virtio_pci_cap" });
    assert(error.message.includes("common"));
  }
  // Two usable ones: the first.
  assertEquals(layoutOf([{ ...common, offset: 0x400 }, ...USUAL]).common.offset, 0x400);
});

Deno.test("2.1 longer capabilities and longer structures are fine; a missing config space too, other structures are needed", () => {
  const longer = changed(1, { length: 0x1000, capLength: 28 });
  assertEquals(layoutOf(longer).common.lengthBytes, 0x1000);
  assertEquals(layoutOf(changed(2, { capLength: 24 })).notifyOffMultiplier, 4);
  assertEquals(layoutOf(USUAL.filter((one) => one.type !== 4)).device, undefined);
  for (const type of [1, 2, 3]) {
    assertThrows(() => layoutOf(USUAL.filter((one) => one.type !== type)), DeviceError);
  }
  assertThrows(() => layoutOf(changed(2, { capLength: 16 })), DeviceError, "notify_off_multiplier");
  assertThrows(() => layoutOf([]), UnsupportedError, "legacy");
});

Deno.test("2.1 a structure that reaches beyond its BAR is used as far as the BAR goes", () => {
  for (const length of [0x4000, 0x8000, 0xffff_ffff]) {
    const layout = layoutOf(USUAL.map((one) => ({ ...one, length })));
    assertEquals(layout.common, { bar: 4, offset: 0, lengthBytes: 0x4000 });
    assertEquals(layout.isr, { bar: 4, offset: 0x1001, lengthBytes: 0x2fff });
    assertEquals(layout.device, { bar: 4, offset: 0x2000, lengthBytes: 0x2000 });
    assertEquals(layout.notify, { bar: 4, offset: 0x3000, lengthBytes: 0x1000 });
  }
  // With the end of the BAR the registers of bits 40 and 41 are cut off, whatever the capability says.
  assertEquals(layoutOf(changed(1, { bar: 2, offset: 0x1000 - 60 })).common.lengthBytes, 60);
  // The last byte counts: 56 bytes of common structure are enough, 52 are not.
  assertEquals(layoutOf(changed(1, { bar: 2, offset: 0x1000 - 56 })).common.lengthBytes, 56);
  assertThrows(() => layoutOf(changed(1, { bar: 2, offset: 0x1000 - 52 })), DeviceError, "56 bytes");
  assertEquals(layoutOf(changed(2, { bar: 2, offset: 0xffe })).notify.lengthBytes, 2);
  // 1.7: a shared memory region has the size that it says, or is not there.
  const beyond = { type: 8, id: 5, bar: 2, offset: 0x800, length: 0x1000 };
  assertEquals(layoutOf([...USUAL, beyond]).sharedMemory.size, 0);
});

Deno.test("2.1 a config space that cannot be used is an error, not a device without one", () => {
  for (const wrong of [{ bar: 1 }, { offset: 0x4000 }, { offset: 0x2002 }]) {
    const error = assertThrows(() => layoutOf(changed(4, wrong)), DeviceError, "no usable device structure");
    assertEquals(error.location, { function: "f", field: "virtio_pci_cap" });
    // The first usable one counts.
    assertEquals(layoutOf([...changed(4, wrong), USUAL[2]!]).device?.offset, 0x2000);
  }
  // A reserved BAR is to be ignored, and no bytes are no config space.
  for (const none of [{ bar: 6 }, { length: 0 }]) assertEquals(layoutOf(changed(4, none)).device, undefined);
});

Deno.test("2.2 notify_off_multiplier is 0 or a power of two from 2 on", () => {
  for (const multiplier of [0, 2, 4, 4096, 2 ** 31]) {
    assertEquals(layoutOf(changed(2, { multiplier })).notifyOffMultiplier, multiplier);
  }
  for (const multiplier of [1, 3, 6, 4097, 2 ** 32 - 1]) {
    const error = assertThrows(() => layoutOf(changed(2, { multiplier })), DeviceError);
    assertEquals(error.location.field, "notify_off_multiplier");
  }
});

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
      else assertThrows(() => transport.writeDriverFeatures(one), UsageError, "no registers");
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

const SPLIT_9 = { layout: "split", availableIndex: 9 } as const;
const PACKED_5 = {
  layout: "packed",
  availableSlot: 5,
  availableWrap: 0,
  usedSlot: 3,
  usedWrap: 1,
} as const;

function stateFunction(): { device: FakeFunction; transport: PciModernTransport } {
  const device = new FakeFunction(changed(1, { length: 68 }));
  device.features = bit(32) | bit(34) | bit(40);
  return { device, transport: PciModernTransport.open(device, { profile: "queue-state" }) };
}

Deno.test("6.2 N-6.1 A-6.5 queue state is written at 64 and 66 in 16 bits, between FEATURES_OK and DRIVER_OK, before queue_enable", () => {
  const { device, transport } = stateFunction();
  const write = (queue: number, state: QueueState, size = 16) => () =>
    requireQueueState(transport).write(queue, state, size);
  assertThrows(write(0, SPLIT_9), UnsupportedError, "not negotiated");
  transport.writeDriverFeatures(bit(32) | bit(40));
  for (const status of [0, 1, 3]) {
    transport.writeStatus(status);
    assertThrows(write(0, SPLIT_9), UsageError, "N-6.1");
  }
  transport.writeStatus(11);
  device.log.length = 0;
  requireQueueState(transport).write(1, PACKED_5, 6);
  assertEquals(device.log.filter((one) => one.startsWith("w")), ["w2@16=1", "w2@40=5", "w2@42=8003"]);
  device.log.length = 0;
  requireQueueState(transport).write(0, SPLIT_9, 16);
  assertEquals(
    device.log.filter((one) => one.startsWith("w")),
    ["w2@16=0", "w2@40=9"],
    "split has no used state",
  );
  device.log.length = 0;
  assertThrows(write(1, PACKED_5, 5), UsageError, "Slot 5");
  assertEquals(device.log.filter((one) => one.startsWith("w")), [], "A-6.6: nothing reaches the device");
  transport.enableQueue(2, { size: 8, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n });
  assertThrows(write(2, SPLIT_9), UsageError, "A-6.5");
  transport.writeStatus(15);
  assertThrows(write(0, SPLIT_9), UsageError, "N-6.1");
  transport.close();
  assertThrows(write(0, SPLIT_9), ClosedError);
});

Deno.test("N-6.2 queue state is read only after a reset, and a state that cannot be is the device's fault", () => {
  const { device, transport } = stateFunction();
  for (const status of [1, 11, 15, 64]) {
    device.status = status;
    assertThrows(() => requireQueueState(transport).read(0, "split", 8), UsageError, "N-6.2");
  }
  transport.reset();
  Object.assign(device.queues[1]!, { availState: 0xfffe, usedState: 0x1234 });
  assertEquals(requireQueueState(transport).read(1, "split", 8), { layout: "split", availableIndex: 0xfffe });
  Object.assign(device.queues[1]!, { availState: 5, usedState: 0x8003 });
  assertEquals(requireQueueState(transport).read(1, "packed", 6), PACKED_5);
  const available = assertThrows(
    () => requireQueueState(transport).read(1, "packed", 5),
    DeviceError,
    "A-6.6",
  );
  assertEquals(available.location, { function: device.name, queue: 1, field: "queue_avail_state" });
  const used = assertThrows(() => {
    device.queues[1]!.usedState = 7;
    requireQueueState(transport).read(1, "packed", 6);
  }, DeviceError);
  assertEquals(used.location.field, "queue_used_state");
  device.features = bit(32);
  assertThrows(() => requireQueueState(transport).read(0, "split", 8), UnsupportedError, "not offered");
  transport.close();
});

Deno.test("A-6.1 under the standard's profile there is no queue state, whatever is offered", () => {
  using device = new FakeFunction(changed(1, { length: 68 }));
  device.features = bit(32) | bit(40);
  using transport = PciModernTransport.open(device);
  transport.writeDriverFeatures(bit(32) | bit(40));
  transport.writeStatus(11);
  assertThrows(() => requireQueueState(transport).write(0, SPLIT_9, 16), UnsupportedError, "A-6.1");
  transport.reset();
  assertThrows(() => requireQueueState(transport).read(0, "split", 16), UnsupportedError, 'profile "spec"');
});

Deno.test("N-6.1 on the way to DRIVER_OK every queue's state is written, used by the driver or not", () => {
  const { device, transport } = stateFunction();
  const virtio = new VirtioDevice(transport);
  virtio.negotiate();
  assertEquals(virtio.features, bit(32) | bit(34) | bit(40));
  for (const queue of device.queues) Object.assign(queue, { availState: 0x1111, usedState: 0x2222 });
  virtio.createQueue(1, {
    size: 7,
    start: { layout: "packed", availableSlot: 6, availableWrap: 0, usedSlot: 6, usedWrap: 0 },
  });
  virtio.driverOk();
  assertEquals(device.queues.map(({ availState, usedState }) => [availState, usedState]), [
    [0x8000, 0x8000],
    [6, 6],
    [0x8000, 0x8000],
  ]);
  const enabled = device.log.indexOf("w2@1c=1");
  const written = device.log.indexOf("w2@42=6");
  const live = device.log.lastIndexOf("w1@14=f");
  assert(written >= 0 && written < enabled && device.log.lastIndexOf("w2@42=8000") < live);
  virtio.close();
  transport.close();
});

Deno.test("N-6.1 administration queues are queues, too: used or not, their state is written", () => {
  for (const accepted of [true, false]) {
    const { device, transport } = stateFunction();
    device.features |= bit(41);
    device.adminQueues = { first: 3, count: 2 };
    device.queues.push(...device.queues.slice(1).map((queue) => ({ ...queue, reset: 0 })));
    const virtio = new VirtioDevice(transport);
    virtio.negotiate({ wanted: accepted ? bit(41) : 0n });
    for (const queue of device.queues) Object.assign(queue, { availState: 0x1111, usedState: 0x2222 });
    virtio.createQueue(accepted ? 3 : 1);
    virtio.driverOk();
    const written = [0x8000, 0x8000];
    assertEquals(device.queues.map(({ availState, usedState }) => [availState, usedState]), [
      written,
      written,
      written,
      ...Array(2).fill(accepted ? written : [0x1111, 0x2222]),
    ]);
    virtio.close();
    transport.close();
  }
});

Deno.test("N-6.3 states are tried also on a device without ACCESS_PLATFORM behind an IOMMU: it is given no address", () => {
  const { device, transport } = stateFunction();
  transport.close();
  device.iommu.iommu = true;
  const state = { layout: "packed", availableSlot: 6, availableWrap: 0, usedSlot: 6, usedWrap: 0 } as const;
  const states = {
    version: 1,
    profile: "queue-state",
    layout: "packed",
    queues: [{ queue: 1, size: 7, state }],
  } as const;
  assertEquals(tryQueueStates(device, states), 1);
  assertEquals(readQueueStates(device, "packed").queues[1]!.state, state);
});

Deno.test("N-6.1 a split ring's first life in profile queue-state writes index 0 everywhere", () => {
  const { device, transport } = stateFunction();
  const virtio = new VirtioDevice(transport);
  virtio.negotiate({ refused: bit(34) });
  for (const queue of device.queues) Object.assign(queue, { availState: 0x1111, usedState: 0x2222 });
  virtio.createQueue(0);
  virtio.driverOk();
  assertEquals(device.queues.map(({ availState, usedState }) => [availState, usedState]), [
    [0, 0x2222],
    [0, 0x2222],
    [0, 0x2222],
  ]);
  virtio.close();
  transport.close();
});
