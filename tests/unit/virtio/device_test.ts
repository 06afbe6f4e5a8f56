import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../lib/virtio/device.ts";
import { chooseFeatures, refusedRingFeatures } from "../../../lib/virtio/features.ts";
import { bindInterrupts } from "../../../lib/virtio/interrupts.ts";
import { FakeTransport } from "./transport/fake_transport.ts";

const bit = (n: number) => 1n << BigInt(n);
const VERSION_1 = bit(32);

Deno.test("1.1 initialisation: reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK read back, queues, DRIVER_OK", () => {
  using transport = new FakeTransport({ features: VERSION_1 | bit(29) | bit(5), queueSizes: [8] });
  const device = new VirtioDevice(transport);
  assertEquals(transport.log, [], "making the object touches nothing");
  assertEquals(device.negotiate({ wanted: bit(29) }), VERSION_1 | bit(29));
  device.createQueue(0, { size: 8, vector: null });
  device.driverOk();
  const order = transport.log.filter((entry) => !entry.startsWith("read status"));
  assertEquals(order, [
    "reset",
    "status 1",
    "status 3",
    "read features",
    "write features",
    "status 11",
    "max 0",
    "queue 0 vector null",
    "enable 0",
    "doorbell 0",
    "status 15",
  ]);
  const featuresOk = transport.log.indexOf("status 11");
  assertEquals(transport.log[featuresOk + 1], "read status", "FEATURES_OK is read back before anything else");
  assertEquals(device.state, "live");
  device.close();
});

Deno.test("a device that is driven is not reset by another driver on its transport, nor by that one's closing", () => {
  using transport = new FakeTransport({ queueSizes: [8] });
  const device = new VirtioDevice(transport), other = new VirtioDevice(transport);
  device.negotiate();
  device.createQueue(0, { size: 8 });
  device.driverOk();
  const before = transport.log.length;
  for (const call of [() => other.negotiate(), () => other.reset()]) {
    const error = assertThrows(call, UsageError, "fake 0 is driven already");
    assertEquals(error.hint, "close that driver first");
  }
  other.close();
  assertEquals([transport.log.length, device.state], [before, "live"]);
  device.close();
  const next = new VirtioDevice(transport);
  next.negotiate();
  next.fail();
  // One that gave up drives nothing.
  const last = new VirtioDevice(transport);
  last.negotiate();
  next.close();
  assertEquals([last.state, transport.status], ["negotiated", 11]);
  last.close();
});

Deno.test("1.1 a device that refuses FEATURES_OK: DeviceError, FAILED, and no queue before a new start", () => {
  using transport = new FakeTransport();
  transport.onStatus = (status) => status & ~8;
  const device = new VirtioDevice(transport);
  const error = assertThrows(() => device.negotiate(), DeviceError, "FEATURES_OK");
  assertEquals(error.location, { function: "fake 0", field: "device_status" });
  assertEquals(transport.status & 128, 128);
  assertEquals(device.state, "failed");
  assertThrows(() => device.createQueue(0), UsageError);
  transport.onStatus = (status) => status;
  device.negotiate();
  assertEquals(transport.status, 11, "the new start began with a reset");
});

Deno.test("1.1 VERSION_1 must be offered; required bits must be; unknown bits do not matter", () => {
  using transport = new FakeTransport({ features: bit(5) });
  const device = new VirtioDevice(transport);
  assertThrows(() => device.negotiate(), UnsupportedError, "VIRTIO_F_VERSION_1");
  assertEquals(transport.status & 128, 128);
  transport.offered = VERSION_1 | bit(47) | bit(63) | bit(30) | bit(24) | bit(27);
  assertThrows(() => device.negotiate({ required: bit(29) }), UnsupportedError, "VIRTIO_F_EVENT_IDX");
  assertEquals(device.negotiate(), VERSION_1, "1.2: reserved, legacy and unknown bits stay unaccepted");
});

Deno.test("1.2 bits that a driver should accept are accepted, by profile and transport", () => {
  const offered = VERSION_1 | bit(33) | bit(34) | bit(35) | bit(36) | bit(37) | bit(38) | bit(39) | bit(40) |
    bit(41) | bit(43) | bit(28) | bit(29);
  const on = (
    carrier: "pci-modern" | "mmio",
    profile: "spec" | "queue-state" | "mmio-msi-v2",
    refused = 0n,
  ) => {
    // A transport says which bits are its own.
    const own = carrier === "mmio" ? {} : { ownFeatures: new FakeTransport().ownFeatures };
    return chooseFeatures({ ...own, profile, name: "f", deviceId: 4 }, offered, { refused });
  };
  const common = VERSION_1 | bit(33) | bit(36) | bit(34) | bit(35) | bit(28) | bit(29);
  assertEquals(on("pci-modern", "spec"), common | bit(37) | bit(38) | bit(39) | bit(40));
  assertEquals(on("mmio", "spec"), common | bit(40));
  // 0.3, A-6.1: there, bit 40 is QUEUE_STATE, or MMIO_MSI, and 39 MMIO_NOTIFICATION.
  assertEquals(on("pci-modern", "queue-state"), common | bit(37) | bit(38) | bit(39) | bit(40));
  assertEquals(on("mmio", "mmio-msi-v2"), common);
  assertEquals(on("pci-modern", "spec", bit(38) | bit(40)), common | bit(37) | bit(39));
});

Deno.test("1.2 each ring feature is turned off by its option, and by no other", () => {
  const bits = { packed: 34, indirect: 28, eventIndex: 29, inOrder: 35, notificationData: 38, ringReset: 40 };
  for (const [option, number] of Object.entries(bits)) {
    assertEquals(refusedRingFeatures({ [option]: false }), bit(number), option);
    assertEquals(refusedRingFeatures({ [option]: true }), 0n);
  }
  assertEquals(refusedRingFeatures({}), 0n);
  assertEquals(
    refusedRingFeatures({ ringReset: false }, "queue-state"),
    0n,
    "A-6.1: there it is QUEUE_STATE",
  );
});

Deno.test("1.1 a feature whose needs are not met is not accepted, and takes those that need it along", () => {
  const transport = { kind: "pci-modern", profile: "spec", name: "f", deviceId: 1 } as const;
  const dependencies = [
    { feature: bit(2), anyOf: [bit(1)] },
    { feature: bit(3), anyOf: [bit(4), bit(2)] },
  ];
  const wanted = bit(1) | bit(2) | bit(3) | bit(4);
  const choose = (offered: bigint) =>
    chooseFeatures(transport, offered | VERSION_1, { wanted, dependencies }) & ~VERSION_1;
  assertEquals(choose(wanted), wanted);
  assertEquals(choose(bit(2) | bit(3)), 0n);
  assertEquals(choose(bit(2) | bit(3) | bit(4)), bit(3) | bit(4));
  assertEquals(choose(bit(1) | bit(2) | bit(3)), bit(1) | bit(2) | bit(3));
  assertThrows(
    () => chooseFeatures(transport, bit(2) | VERSION_1, { required: bit(2), dependencies }),
    UnsupportedError,
    "without the features that it needs",
  );
  assertThrows(
    () => chooseFeatures(transport, bit(2) | VERSION_1, { required: bit(2), refused: bit(2) }),
    UsageError,
  );
});

Deno.test("1.1 config is not written before FEATURES_OK, but may be read", () => {
  using transport = new FakeTransport({ config: Uint8Array.of(1, 2, 3, 4) });
  const device = new VirtioDevice(transport);
  assertThrows(() => device.writeConfig(0, 4, 7), UsageError, "FEATURES_OK");
  assertEquals(device.readConfig(0, 4), 0x04030201);
  device.negotiate();
  device.writeConfig(0, 2, 0x0807);
  assertEquals(device.readConfig(0, 4), 0x04030807);
});

Deno.test("1.1 calls out of order are UsageErrors and write nothing", () => {
  using transport = new FakeTransport();
  const device = new VirtioDevice(transport);
  for (const call of [() => device.driverOk(), () => device.createQueue(0), () => device.checkAlive()]) {
    assertThrows(call, UsageError);
  }
  assertEquals(transport.log, []);
  device.negotiate();
  device.createQueue(0);
  assertThrows(() => device.createQueue(0), UsageError, "set up already");
  device.driverOk();
  assertThrows(() => device.createQueue(0), UsageError);
  assertThrows(() => device.driverOk(), UsageError);
  device.close();
});

Deno.test("1.1 no status bit is cleared, not even one that the device set by itself", () => {
  using transport = new FakeTransport();
  transport.onStatus = (status) => status === 3 ? status | 64 : status;
  const device = new VirtioDevice(transport);
  device.negotiate();
  assert(transport.log.includes(`status ${1 | 2 | 8 | 64}`));
  assertEquals(device.needsReset, true);
  const error = assertThrows(() => device.driverOk(), DeviceError);
  assert(error.message.includes("DEVICE_NEEDS_RESET"));
  assertEquals(transport.status & 128, 128);
});

Deno.test("a function that is gone reads all ones: said so, at once", () => {
  using transport = new FakeTransport();
  const device = new VirtioDevice(transport);
  transport.onStatus = () => 0xff;
  assertThrows(() => device.negotiate(), DeviceError, "gone, or its memory decoding is off");
  // Each transport has its own reason why.
  Object.assign(transport, { allOnesReason: "nobody answers" });
  assertThrows(() => device.negotiate(), DeviceError, "gone, or nobody answers");
});

Deno.test("config that changes while it is read is read again; a generation that never settles is a DeviceError", () => {
  using transport = new FakeTransport({ config: new Uint8Array(8) });
  const device = new VirtioDevice(transport);
  let changes = 3;
  transport.onConfigRead = () => {
    if (changes-- <= 0) return;
    transport.generation++;
    transport.config.fill(changes + 10);
  };
  const pair = device.readConsistent(() => [device.readConfig(0, 4), device.readConfig(4, 4)]);
  assertEquals(pair[0], pair[1]);
  assertEquals(pair[0], 0x0a0a0a0a);
  transport.onConfigRead = () => void transport.generation++;
  const error = assertThrows(() => device.readConsistent(() => device.readConfig(0, 4)), DeviceError);
  assertEquals(error.location.field, "config_generation");
  assert(error.message.includes("never settled"));
});

Deno.test("reset closes the queues, forgets the features, and starts over on the same transport", () => {
  using transport = new FakeTransport();
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(0);
  device.driverOk();
  queue.addSingle(0, 0, 1, true);
  queue.flush();
  device.reset();
  assertEquals([device.state, device.features, queue.closed], ["idle", 0n, true]);
  assertThrows(() => queue.flush(), ClosedError);
  assertEquals(transport.dma.usage.allocations, 0);
  device.negotiate();
  device.createQueue(0);
  device.driverOk();
  assertEquals(device.live, true);
  device.close();
  assertEquals(transport.dma.usage.allocations, 0);
  assertEquals(transport.closed, false);
  assertThrows(() => device.negotiate(), ClosedError);
  assertThrows(() => device.readConfig(0, 1), ClosedError);
  new VirtioDevice(transport).negotiate();
});

Deno.test("a reset that never ends: TimeoutError, the queues' memory is gone, close still works", () => {
  using transport = new FakeTransport();
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(0);
  device.driverOk();
  transport.onReset = () => false;
  assertThrows(() => device.reset(), TimeoutError);
  assertEquals(queue.closed, true);
  assertEquals(transport.dma.usage.allocations, 0);
  assertEquals(device.state, "failed");
  assertThrows(() => device.negotiate(), TimeoutError);
  transport.onReset = () => true;
  device.negotiate();
  device.close();
});

Deno.test("a peer that takes no memory back: all queues are closed, and nothing is thrown", () => {
  using transport = new FakeTransport({ queueSizes: [8, 8] });
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queues = [device.createQueue(0), device.createQueue(1)];
  device.driverOk();
  Object.assign(transport.dma.mapper, {
    unmapDma: () => {
      throw new TimeoutError("no answer");
    },
  });
  assertEquals(device.stop(), undefined);
  assertEquals(queues.map(({ closed }) => closed), [true, true]);
  assertEquals(transport.dma.usage.allocations, 0);
});

Deno.test("takeUsed into what has no arrays is a UsageError, split and packed", () => {
  for (const features of [VERSION_1, VERSION_1 | bit(34)]) {
    using transport = new FakeTransport({ features });
    const device = new VirtioDevice(transport);
    device.negotiate();
    const queue = device.createQueue(0);
    for (const into of [undefined, null, new Uint8Array(0), { ids: new Uint16Array(1) }]) {
      assertThrows(() => queue.takeUsed(into as never), UsageError, "takeUsed");
    }
    device.close();
  }
});

Deno.test("checkAlive sees DEVICE_NEEDS_RESET and a device that reset itself", () => {
  using transport = new FakeTransport();
  const device = new VirtioDevice(transport);
  device.negotiate();
  device.driverOk();
  device.checkAlive();
  transport.status |= 64;
  assertThrows(() => device.checkAlive(), DeviceError, "DEVICE_NEEDS_RESET");
  transport.status = 0;
  assertThrows(() => device.checkAlive(), DeviceError, "stopped");
});

Deno.test("2.2 vectors: one each when there are enough, else config and one for all, else one for everything", () => {
  const places = (vectors: number) => {
    using transport = new FakeTransport({ vectors });
    const bound = bindInterrupts(transport, "auto", [0, 1, 4]);
    assertEquals(transport.configVector, 0);
    assertEquals([0, 1, 2].map((at) => bound.carriesConfig(at)), [true, false, false]);
    return [bound.vectors.length, ...[0, 1, 4].map((queue) => bound.queueVector(queue))];
  };
  assertEquals(places(8), [4, 1, 2, 3]);
  assertEquals(places(4), [4, 1, 2, 3]);
  assertEquals(places(3), [2, 1, 1, 1]);
  assertEquals(places(1), [1, 0, 0, 0]);
});

Deno.test("interrupts: auto falls back to INTx and to none; asked for by name they must be there", () => {
  using pin = new FakeTransport({ pin: true });
  assertEquals(bindInterrupts(pin, "auto", [0]).kind, "intx");
  using bare = new FakeTransport();
  assertEquals(bindInterrupts(bare, "auto", [0]).kind, "none");
  assertEquals(bindInterrupts(bare, "none", [0]).vectors, []);
  assertThrows(() => bindInterrupts(bare, "msix", [0]), UnsupportedError, "no MSI-X");
  assertThrows(() => bindInterrupts(bare, "intx", [0]), UnsupportedError, "no interrupt line");
});

Deno.test("a refused config vector turns the interrupts off again", () => {
  using transport = new FakeTransport({ vectors: 2 });
  const refusal = new DeviceError("refused");
  transport.setConfigVector = () => {
    throw refusal;
  };
  assertStrictEquals(assertThrows(() => bindInterrupts(transport, "msix", [0])), refusal);
  assertEquals(transport.interrupts.length, 0);
});
