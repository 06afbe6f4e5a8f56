import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../../lib/errors/mod.ts";
import type { DeviceModel } from "../../../../../../lib/emulation/device_model.ts";
import { BlkModel } from "../../../../../../lib/emulation/virtio/blk/model.ts";
import { ConsoleModel } from "../../../../../../lib/emulation/virtio/console/model.ts";
import { NetModel } from "../../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../../lib/emulation/virtio/net/switch.ts";
import { PciView } from "../../../../../../lib/emulation/virtio/views/pci/view.ts";
import { RngModel } from "../../../../../../lib/emulation/virtio/rng/model.ts";
import { FEATURE, NET_FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { campaign, Random, rounds } from "../../../../../random.ts";
import { FakeLegacy } from "../../fake_legacy.ts";
import { mac } from "../../fake_nic.ts";

const NO_VECTOR = 0xffff;
/** Behind BAR 4's common configuration, ISR, device configuration and doorbells, a page each. */
const NOTIFY_PAGE = 0x4000;
const RING_BITS = 1 << 28 | 1 << 29;

const net = (queueSize = 64) => new NetModel(new NetSwitch("s0"), { mac: mac(1), queueSize, queuePairs: 2 });
const blk = () => new BlkModel({ sizeBytes: 64 * 512, queueSize: 64 });
/** Fills buffers with random bytes: the plainest device. */
const rng = (queueSize = 64) => new RngModel({ queueSize });

/** Offers one buffer of an entropy device. */
function ask(t: FakeLegacy, length = 8, queue = 0): number {
  const { client } = t.fn;
  const at = client.allocate(length);
  t.ring(queue).add([{ iova: client.at(at), length, write: true }]);
  t.ring(queue).publish();
  return at;
}

Deno.test("2.3 the block after reset, register by register", () => {
  using t = new FakeLegacy(net());
  assertEquals(
    t.offered,
    Number((t.front.core.model.features | FEATURE.ANY_LAYOUT) & 0xffff_ffffn) + RING_BITS,
  );
  assertEquals(t.offered & 1 << 27, 1 << 27, "ANY_LAYOUT");
  assertEquals(t.read(4, 4), 0);
  assertEquals(t.read(8, 4), 0);
  assertEquals(t.read(12, 2), 64);
  assertEquals(t.read(14, 2), 0);
  assertEquals(t.read(16, 2), 0);
  assertEquals(t.read(18, 1), 0);
  assertEquals(t.read(19, 1), 0);
  t.fn.port.msixEnabled = true;
  assertEquals([t.read(20, 2), t.read(22, 2)], [NO_VECTOR, NO_VECTOR]);
  assertEquals(t.take(), []);
});

Deno.test("A-3.13 the vector registers are fields only while MSI-X is enabled; device configuration starts at 0 in its own space", () => {
  using t = new FakeLegacy(net());
  for (const msix of [false, true, false]) {
    t.fn.port.msixEnabled = msix;
    for (const [offset, width] of [[20, 2], [22, 2], [20, 1], [23, 1]] as const) {
      assertEquals(t.legacy.isCommonField(offset, width), msix, `${width} at ${offset}, MSI-X ${msix}`);
    }
    assert(!t.legacy.isCommonField(20, 4), "two fields");
    assert(!t.legacy.isCommonField(24, 1));
    assertEquals(t.readDevice(0, 1), 0x52);
  }
  // What was written while they were there is kept.
  t.fn.port.msixEnabled = true;
  t.status = 1;
  t.write(20, 2, 2);
  t.fn.port.msixEnabled = false;
  const gone = new Uint8Array(2);
  t.legacy.readCommon(20, gone);
  assertEquals([...gone], [0xff, 0xff]);
  t.legacy.writeCommon(20, Uint8Array.of(1, 0));
  assertStringIncludes(t.take()[0]!, "2.3: write of 2 bytes at 20, which is no register");
  t.fn.port.msixEnabled = true;
  assertEquals(t.read(20, 2), 2);
});

Deno.test("N-3.14 an access is one register or inside one; anything else is no field", () => {
  using t = new FakeLegacy(net());
  t.fn.port.msixEnabled = true;
  const fields = [[0, 4], [4, 4], [8, 4], [12, 2], [14, 2], [16, 2], [18, 1], [19, 1], [20, 2], [22, 2]];
  for (let offset = 0; offset < 32; offset++) {
    for (let length = 0; length < 10; length++) {
      const expected = length > 0 &&
        fields.some(([start, width]) => offset >= start! && offset + length <= start! + width!);
      assertEquals(t.legacy.isCommonField(offset, length), expected, `${length} bytes at ${offset}`);
    }
  }
  // Parts read as the bytes of their register.
  assertEquals(t.read(1, 1), t.offered >>> 8 & 0xff);
  assertEquals(t.read(2, 2), t.offered >>> 16 & 0xffff);
});

Deno.test("N-3.14 fields of the device configuration: net, block, console, entropy", () => {
  const check = (model: DeviceModel, sizes: readonly number[]) => {
    using t = new FakeLegacy(model);
    const bounds: [number, number][] = [];
    for (let at = 0, i = 0; i < sizes.length; at += sizes[i]!, i++) bounds.push([at, sizes[i]!]);
    for (let offset = 0; offset < 110; offset++) {
      for (const length of [0, 1, 2, 3, 4, 6, 7, 8, 9]) {
        const expected = length > 0 &&
          bounds.some(([start, size]) => offset >= start && offset + length <= start + size);
        assertEquals(t.legacy.isDeviceField(offset, length), expected, `${length} bytes at ${offset}`);
      }
    }
  };
  // mac, status, max_virtqueue_pairs, mtu
  check(net(), [6, 2, 2, 2]);
  // Up to write_zeroes_may_unmap, and no further: the padding is no field.
  check(blk(), [8, 4, 4, 2, 1, 1, 4, 1, 1, 2, 4, 1, 1, 2, 4, 4, 4, 4, 4, 1]);
  check(new ConsoleModel({}), [2, 2, 4, 4]);
  check(rng(), []);
});

Deno.test("2.3 features: the low 32 bits of what is offered, ANY_LAYOUT unless switched off", () => {
  const offered = (options: ConstructorParameters<typeof FakeLegacy>[1]) => {
    using t = new FakeLegacy(net(), options);
    return t.offered;
  };
  const all = offered({});
  assertEquals(offered({ legacy: { anyLayout: false } }), all - (1 << 27));
  assertEquals(offered({ featuresOff: FEATURE.EVENT_IDX | FEATURE.ANY_LAYOUT }), all - (1 << 27) - (1 << 29));
  assertEquals(all & 1 << 30, 0, "bit 30 is not to be negotiated");

  using t = new FakeLegacy(net());
  t.status = 3;
  t.write(4, 4, all & ~(1 << 5) | 1 << 30 | 1);
  assertStringIncludes(
    t.take()[0]!,
    "1.1: the driver accepted what was not offered: VIRTIO_NET_F_CSUM, bit 30",
  );
  assertEquals(t.read(4, 4), all & ~(1 << 5));
  assertEquals(t.front.core.negotiatedFeatures, 0n, "not before first use");
  t.status = 7;
  assertEquals(t.front.core.negotiatedFeatures, BigInt(all & ~(1 << 5)));
  assertEquals(t.front.core.negotiatedFeatures & FEATURE.VERSION_1, 0n);
  t.write(4, 4, 0);
  assertStringIncludes(
    t.take()[0]!,
    "virtio 1.2 §3.1.2: driver_features was written after the device had been used",
  );
  assertEquals(t.read(4, 4), all & ~(1 << 5));
});

Deno.test("virtio 1.2 §3.1.2 features that cannot be stop the device at first use: nothing could refuse them before", () => {
  using t = new FakeLegacy(net());
  t.bringUp(Number(NET_FEATURE.MQ), [0, 1]);
  assertStringIncludes(t.take()[0]!, "features that cannot be: VIRTIO_NET_F_MQ needs CTRL_VQ");
  assertEquals([t.status, t.front.core.live], [0x47, false]);
  t.bringUp(0, [0, 1]);
  assertEquals([t.status, t.front.core.live, t.take()], [7, true, []]);
});

Deno.test("2.3 queue_size is the device's: a power of two, 0 for a queue that is not there, read-only", () => {
  using t = new FakeLegacy(rng(100));
  assertEquals(t.read(12, 2), 64);
  t.write(12, 2, 16);
  assertStringIncludes(t.take()[0]!, "2.3: queue_size is read-only");
  assertEquals(t.read(12, 2), 64);
  t.write(14, 2, 1);
  assertEquals([t.read(14, 2), t.read(12, 2), t.read(8, 4)], [1, 0, 0]);
  t.write(8, 4, 5);
  assertStringIncludes(t.take()[0]!, "2.3: queue_pfn was written for a queue that does not exist");
  assertEquals(t.read(8, 4), 0);
});

Deno.test("2.3 queue_pfn: where the three parts of a ring lie; 0 stops the queue; another only before first use", () => {
  using t = new FakeLegacy(rng(256));
  t.status = 3;
  const pfn = Number(t.fn.client.iova / 4096n);
  const areas = () => {
    const [queue] = t.front.queueReport().queues;
    return [queue!.descriptorArea, queue!.driverArea, queue!.deviceArea, queue!.enabled, queue!.size];
  };
  const at = (offset: number) => `0x${(t.fn.client.iova + BigInt(offset)).toString(16)}`;
  t.write(8, 4, pfn);
  assertEquals(t.read(8, 4), pfn);
  // 256 entries: 4096 of descriptors, 518 of available ring, the next page.
  assertEquals(areas(), [at(0), at(4096), at(8192), true, 256]);
  // Byte by byte, as nothing forbids: the device has not been used.
  const [low, ...rest] = [pfn + 4, (pfn + 4) / 256, (pfn + 4) / 65536, (pfn + 4) / 2 ** 24].map((n) =>
    n & 0xff
  );
  t.write(8, 1, low!);
  rest.forEach((byte, i) => t.write(9 + i, 1, byte));
  assertEquals(t.read(8, 4), pfn + 4);
  assertEquals(areas(), [at(16384), at(16384 + 4096), at(16384 + 8192), true, 256]);
  t.status = 7;
  t.write(8, 4, pfn);
  assertStringIncludes(t.take()[0]!, "2.3: queue_pfn was written while the queue is in use");
  assertEquals(t.read(8, 4), pfn + 4);
  t.write(8, 4, 0);
  assertEquals([t.read(8, 4), t.read(12, 2), t.front.core.queue(0)], [0, 256, undefined]);
  assertEquals(areas().slice(3), [false, 256]);
  t.setUp(0);
  ask(t);
  t.notify(0);
  assertEquals([t.run(), t.take()], [1, []]);
});

Deno.test("2.3 a queue that was stopped takes nothing more, and the others go on", () => {
  using t = new FakeLegacy(net());
  t.bringUp(0, [0, 1, 2]);
  t.write(14, 2, 1);
  t.write(8, 4, 0);
  assertEquals([t.front.core.queue(0) !== undefined, t.front.core.queue(1)], [true, undefined]);
  t.notify(1);
  assertStringIncludes(t.take()[0]!, "2.3: queue 1 was notified, it has no ring");
  assertEquals(t.status, 7, "it does no harm");
});

Deno.test("2.3 PFNs of 32 bits: rings beyond 4 GiB, and none that wraps", () => {
  using t = new FakeLegacy(rng());
  t.status = 3;
  t.write(8, 4, 0xffff_ffff);
  assertEquals(t.front.queueReport().queues[0]!.descriptorArea, "0xffffffff000");
  t.status = 7;
  t.notify(0);
  t.run();
  assertStringIncludes(t.take()[0]!, "DMA: descriptor area");
  assertEquals(t.status, 0x47);
});

Deno.test("1.1 device_status without FEATURES_OK; 0 resets", () => {
  using t = new FakeLegacy(rng());
  t.status = 1;
  assertEquals(t.status, 1);
  t.status = 3;
  t.status = 0x0b;
  assertStringIncludes(t.take()[0]!, "1.1: bits 0x8 have no meaning for this device");
  assertEquals(t.status, 3);
  t.status = 4 | 3;
  assertEquals([t.status, t.front.core.live], [7, true]);
  t.status = 1;
  assertStringIncludes(t.take()[0]!, "were cleared without a reset");
  t.status = 0x87;
  assertEquals([t.status, t.front.core.live], [0x87, false]);
  t.status = 0;
  assertEquals([t.status, t.front.core.legacy], [0, false]);
  t.status = 4;
  assertStringIncludes(t.take()[0]!, "DRIVER_OK was set before DRIVER");
  assertEquals([t.status, t.front.core.live], [0, false]);
});

Deno.test("2.3 isr_status: reading clears it; with MSI-X the vectors say it", () => {
  using t = new FakeLegacy(rng());
  t.bringUp(0, [0]);
  ask(t);
  t.notify(0);
  t.run();
  assertEquals([t.fn.port.intx, t.read(19, 1), t.read(19, 1), t.fn.port.intx], [true, 1, 0, false]);

  t.fn.port.msixEnabled = true;
  t.write(22, 2, 1);
  ask(t);
  t.notify(0);
  t.run();
  assertEquals([t.fn.port.vectors.splice(0), t.read(19, 1)], [[1], 0]);
  t.write(22, 2, NO_VECTOR);
  ask(t);
  t.run();
  assertEquals([t.fn.port.vectors, t.ring(0).takeUsed().length, t.take()], [[], 3, []]);
});

Deno.test("N-3.14 vectors past the table read back as NO_VECTOR, as the registers would", () => {
  using t = new FakeLegacy(rng());
  t.fn.port.msixEnabled = true;
  t.status = 3;
  for (const at of [20, 22]) {
    for (const [value, back] of [[0, 0], [1, 1], [2, NO_VECTOR], [1, 1], [0x7ff, NO_VECTOR]] as const) {
      t.write(at, 2, value);
      assertEquals(t.read(at, 2), back, `${value} at ${at}`);
    }
  }
  t.write(14, 2, 9);
  assertEquals(t.read(22, 2), NO_VECTOR);
  t.write(22, 2, 0);
  assertStringIncludes(t.take()[0]!, "queue_msix_vector was written for a queue that does not exist");
});

Deno.test("2.3 the configuration interrupt by its vector", () => {
  const model = net();
  using t = new FakeLegacy(model);
  t.fn.port.msixEnabled = true;
  t.bringUp(Number(NET_FEATURE.STATUS), [0, 1]);
  t.write(20, 2, 3);
  model.setLink(false);
  assertEquals([t.fn.port.vectors, t.readDevice(6, 2)], [[3], 0]);
});

Deno.test("virtio 1.2 §3.1.2 a device is used before DRIVER_OK, even before the features; those are final then", () => {
  using t = new FakeLegacy(rng());
  t.status = 3;
  t.setUp(0);
  ask(t);
  assertEquals([t.run(), t.front.core.live], [0, false], "not before it is notified");
  t.notify(0);
  assertEquals([t.front.core.live, t.run(), t.ring(0).takeUsed()], [true, 1, [{ id: 0, length: 8 }]]);
  t.write(4, 4, RING_BITS);
  assertStringIncludes(t.take()[0]!, "driver_features was written after the device had been used");
  t.status = 7;
  ask(t);
  assertEquals([t.run(), t.take()], [1, []]);
});

Deno.test("virtio 1.2 §3.1.2 features written after the rings are the rings' features", () => {
  for (const features of [0, 1 << 28]) {
    using t = new FakeLegacy(rng());
    t.status = 3;
    t.setUp(0);
    t.write(4, 4, features);
    t.status = 7;
    const { client } = t.fn;
    t.ring(0).addIndirect([{ iova: client.at(client.allocate(8)), length: 8, write: true }]);
    t.ring(0).publish();
    t.notify(0);
    t.run();
    assertEquals(t.status, features === 0 ? 0x47 : 7);
  }
});

Deno.test("2.3 EVENT_IDX in a ring of the legacy layout", () => {
  using t = new FakeLegacy(rng());
  t.bringUp(RING_BITS, [0]);
  t.ring(0).setUsedEvent(2);
  for (let i = 0; i < 3; i++) {
    ask(t);
    t.notify(0);
    t.run();
  }
  assertEquals(t.read(19, 1), 1);
  assertEquals([t.ring(0).takeUsed().length, t.fn.behaviour.arm(), t.ring(0).availEvent], [3, false, 3]);
});

Deno.test("virtio 1.2 §2.2.3, N-3.14: a device is used through the legacy interface or the modern one", () => {
  using t = new FakeLegacy(rng());
  t.bringUp(0, [0]);
  // The modern driver, while the legacy one has the device.
  for (
    const [offset, width, value] of [[20, 1, 15], [12, 4, 1], [24, 2, 8], [28, 2, 1], [0x3000, 2, 0]] as const
  ) {
    t.fn.write(offset, width, value);
    assertStringIncludes(
      t.take()[0]!,
      `virtio 1.2 §2.2.3: 0x${
        offset.toString(16)
      } of BAR 4 was written while a driver uses the legacy interface`,
    );
  }
  assertEquals([t.status, t.fn.status, t.read(12, 2), t.front.core.live], [7, 7, 64, true]);
  ask(t);
  t.notify(0);
  assertEquals(t.run(), 1);

  // Its reset is one of both.
  t.fn.status = 0;
  assertEquals([t.status, t.read(8, 4), t.front.core.legacy, t.take()], [0, 0, false, []]);
  t.fn.bringUp(FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM, [0]);
  for (const [offset, width, value] of [[18, 1, 3], [4, 4, 0], [8, 4, 77]] as const) {
    t.write(offset, width, value);
    assertStringIncludes(
      t.take()[0]!,
      "was written through the legacy interface while a driver uses the modern one",
    );
  }
  t.notify(0);
  assertStringIncludes(t.take()[0]!, "notification of queue 0, no driver uses the legacy interface");
  assertEquals([t.status, t.read(8, 4), t.front.core.legacy, t.front.core.live], [15, 0, false, true]);
  t.status = 0;
  assertEquals([t.fn.status, t.front.core.live, t.take()], [0, false, []]);
  t.bringUp(0, [0]);
  assertEquals([t.front.core.live, t.take()], [true, []]);
});

Deno.test("what was left in the modern registers before a status does not reach a legacy driver", () => {
  using t = new FakeLegacy(rng());
  t.fn.accept(FEATURE.VERSION_1 | FEATURE.RING_PACKED);
  t.fn.write(22, 2, 0);
  t.fn.write(24, 2, 8);
  t.fn.write(26, 2, 1);
  t.take();
  t.fn.port.msixEnabled = true;
  t.status = 3;
  assertEquals([t.read(4, 4), t.read(12, 2), t.read(22, 2)], [0, 64, NO_VECTOR]);
  t.setUp(0);
  t.status = 7;
  ask(t);
  t.notify(0);
  assertEquals([t.run(), t.take()], [1, []]);
});

Deno.test("resets of the function and its client's end clear the legacy state; without a client it can be read", () => {
  for (const how of ["flr", "device", "detached"] as const) {
    using t = new FakeLegacy(rng());
    t.fn.port.msixEnabled = true;
    t.bringUp(RING_BITS, [0]);
    t.write(20, 2, 0);
    t.write(22, 2, 1);
    t.fn.behaviour.reset(how);
    assertEquals([t.status, t.read(4, 4), t.read(8, 4), t.read(20, 2), t.read(22, 2)], [
      0,
      0,
      0,
      NO_VECTOR,
      NO_VECTOR,
    ]);
    assertEquals([t.front.core.legacy, t.front.core.live, t.front.core.negotiatedFeatures], [
      false,
      false,
      0n,
    ]);
  }
  using t = new FakeLegacy(blk());
  t.fn.port.dma = null;
  assertEquals([t.read(12, 2), t.readDevice(0, 8), t.take()], [64, 64, []]);
  t.status = 3;
  t.write(8, 4, 16);
  assertStringIncludes(t.take()[0]!, "DMA: a queue was enabled without a client's memory");
  assertEquals([t.status, t.read(8, 4)], [0x43, 0]);
});

Deno.test("without Bus Master Enable a legacy driver's rings are not touched", () => {
  using t = new FakeLegacy(rng());
  t.fn.port.busMaster = false;
  t.bringUp(0, [0]);
  ask(t);
  t.notify(0);
  assertEquals([t.run(), t.front.core.live], [0, false]);
  t.fn.port.busMaster = true;
  assertEquals(t.run(), 1);
});

Deno.test("N-3.15 notify area: in a BAR that is there, 2-aligned; a write of 16 bits acts as queue_notify does", () => {
  using t = new FakeLegacy(net());
  assertEquals(t.legacy.notifyAreas, [{ bar: 4, offset: NOTIFY_PAGE }]);
  const bars = t.front.bars.map(({ index, kind, sizeBytes }) => ({ index, kind, sizeBytes }));
  assertEquals(bars, [{ index: 1, kind: "mem32", sizeBytes: 0x1000 }, {
    index: 4,
    kind: "mem64",
    sizeBytes: 0x8000,
  }]);
  assertEquals(t.front.bars.some(({ index }) => index === 0), false, "BAR 0 is hard-wired to zero");

  t.fn.write(NOTIFY_PAGE, 2, 0);
  assertStringIncludes(t.take()[0]!, "notification of queue 0, no driver uses the legacy interface");
  t.status = 3;
  t.setUp(0);
  t.setUp(2);
  assertEquals(t.front.core.live, false);
  t.fn.write(NOTIFY_PAGE, 2, 2);
  assertEquals([t.front.core.live, t.take()], [true, []], "first use");
  t.fn.write(NOTIFY_PAGE, 2, 1);
  assertStringIncludes(t.take()[0]!, "2.3: queue 1 was notified, it has no ring");
  t.fn.write(NOTIFY_PAGE, 2, 0xffff);
  assertStringIncludes(t.take()[0]!, "2.3: queue 65535 was notified, it has no ring");
  for (
    const [offset, width] of [[NOTIFY_PAGE, 1], [NOTIFY_PAGE, 4], [NOTIFY_PAGE + 2, 2], [0x7ffe, 2]] as const
  ) {
    t.fn.write(offset, width, 0);
    assertStringIncludes(
      t.take()[0]!,
      `2.3: write of ${width} bytes at 0x${offset.toString(16)}: no notification`,
    );
  }
  assertEquals(t.fn.read(NOTIFY_PAGE, 2), 0);
});

Deno.test("N-3.15 many queues: the notify area is behind all doorbells", () => {
  const model = new NetModel(new NetSwitch("s0"), { mac: mac(1), queueSize: 2, queuePairs: 512 });
  const front = new PciView(model, { legacy: true });
  // 1025 queues of 4 bytes take two pages.
  assertEquals(front.memberLegacy!.notifyAreas, [{ bar: 4, offset: 0x5000 }]);
  assertEquals(front.bars.find(({ index }) => index === 4)!.sizeBytes, 0x8000);
  assertEquals(new PciView(rng()).bars.find(({ index }) => index === 4)!.sizeBytes, 0x4000);
});

Deno.test("N-3.15 eventfds stand for notifications: those of the queues once more, told apart by value", () => {
  using t = new FakeLegacy(net());
  const doorbells = t.front.doorbells(4);
  const [modern, legacy] = [doorbells.slice(0, 5), doorbells.slice(5)];
  assertEquals(
    modern.map(({ offset, value }) => [offset, value]),
    [0, 1, 2, 3, 4].map((i) => [0x3000 + 4 * i, undefined]),
  );
  assertEquals(
    legacy.map(({ offset, sizeBytes, value }) => [offset, sizeBytes, value]),
    [0, 1, 2, 3, 4].map((i) => [NOTIFY_PAGE, 2, i]),
  );
  legacy.forEach(({ fd }, i) => assert(fd === modern[i]!.fd, "no descriptor more"));

  t.status = 3;
  t.setUp(1);
  // Too early, or from before a reset: no violation.
  t.front.rang(4, 0x3000);
  assertEquals([t.front.core.live, t.take()], [false, []]);
  t.front.rang(4, 0x3004);
  assertEquals([t.front.core.live, t.take()], [true, []], "first use");
  t.status = 0;
  t.front.rang(4, 0x3004);
  assertEquals([t.front.core.live, t.take()], [false, []]);
  t.fn.behaviour.detached();
  assert(legacy.every(({ fd }) => fd.closed));
});

Deno.test("N-3.15 ids of a non-transitional device; only types that had a legacy interface; no owner is a member", () => {
  using t = new FakeLegacy(net());
  const { deviceId, revision, subsystemId } = t.front.identity;
  assertEquals([deviceId, revision >= 1, subsystemId >= 0x40], [0x1041, true, true]);
  class Ism extends RngModel {
    override readonly deviceId: number = 44;
  }
  const error = assertThrows(() => new PciView(new Ism(), { legacy: true }), UsageError);
  assertStringIncludes(error.message, "virtio device type 44 has no legacy interface");
  assertEquals(new PciView(rng()).groupMember.legacy, undefined);
  assertEquals(new PciView(rng(), { legacy: false }).memberLegacy, undefined);
});

Deno.test("2.3 writes of a part of a register leave the rest as it was", () => {
  using t = new FakeLegacy(net());
  t.status = 3;
  t.write(4, 4, 0x1001_8020);
  t.write(6, 1, 0x02);
  assertEquals(t.read(4, 4), 0x1002_8020);
  t.write(4, 2, 0x8000);
  assertEquals(t.read(4, 4), 0x1002_8000);
  t.write(15, 1, 1);
  assertEquals(t.read(14, 2), 0x100);
  t.write(14, 1, 2);
  assertEquals(t.read(14, 2), 0x102);
});

Deno.test(campaign("2.3 100,000 random accesses: nothing throws, and the device comes up afterwards", () => {
  for (const [model, seed] of [[net(), 11], [blk(), 12], [rng(100), 13]] as const) {
    using t = new FakeLegacy(model);
    const random = new Random(seed);
    const client = t.fn.client;
    let live = 0;
    for (let i = 0; i < rounds(34_000, 1700); i++) {
      const kind = random.below(16);
      // Mostly plausible: fields of the block, small values, and addresses that are mapped.
      const offset = random.below(4) === 0 ? random.below(256) : random.below(24);
      const bytes = new Uint8Array(random.below(3) === 0 ? random.below(9) : [1, 2, 4][random.below(3)]!);
      const value = random.below(3) === 0
        ? random.next()
        : random.below(2) === 0
        ? random.below(8)
        : Number(client.iova / 4096n) + random.below(64);
      for (let k = 0; k < Math.min(4, bytes.length); k++) bytes[k] = value >>> (8 * k);
      if (kind < 5) t.legacy.writeCommon(offset, bytes);
      else if (kind < 8) t.legacy.readCommon(offset, bytes);
      else if (kind === 8) t.legacy.writeDevice(offset, bytes);
      else if (kind === 9) t.legacy.readDevice(offset, bytes);
      else if (kind === 10) t.legacy.notified(value & 0xffff);
      else if (kind === 11) t.front.rang(4, 0x3000 + 4 * (random.below(5)));
      else if (kind === 12) t.fn.behaviour.writeBar(4, random.below(5) * 0x1000 + random.below(64), bytes);
      else if (kind === 13) t.fn.behaviour.readBar(4, random.below(5) * 0x1000 + random.below(64), bytes);
      else if (kind === 14) {
        client.bytes[random.below(0x40000)] = random.next() & 0xff;
        t.run();
        t.fn.behaviour.arm();
      } else {
        const event = random.below(24);
        if (event < 4) t.fn.port.msixEnabled = event < 2;
        else if (event < 6) t.fn.behaviour.reset("flr");
        else if (event < 8) t.fn.behaviour.attached();
      }
      if (t.front.core.legacy && t.front.core.live) live++;
    }
    assert(live > rounds(50), `a driver ran after ${live} accesses`);
    assert(t.fn.port.reports.length > rounds(100));
    t.fn.behaviour.reset("flr");
    t.fn.port.msixEnabled = false;
    client.bytes.fill(0);
    t.take();
    t.bringUp(0, [0]);
    assertEquals([t.status, t.front.core.live, t.take()], [7, true, []]);
  }
}));
