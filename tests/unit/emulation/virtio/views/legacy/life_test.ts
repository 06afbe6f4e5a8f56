import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { RngModel } from "../../../../../../lib/emulation/virtio/rng/model.ts";
import { commonCfgPart, featuresPart } from "../../../../../../lib/virtio/spec/device_part_values.ts";
import { DEV_PART, FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { FakeRing } from "../../fake_client.ts";
import { FakeLegacy } from "../../fake_legacy.ts";

const INDIRECT = 1 << 28;
const RING_BITS = 1 << 28 | 1 << 29;

/** Counts how often a driver was told to be there. */
class CountingModel extends RngModel {
  starts = 0;
  resets = 0;
  start(): void {
    this.starts++;
  }
  reset(): void {
    this.resets++;
  }
}

const rng = () => new CountingModel({ queueSize: 64 });

function ask(t: FakeLegacy, indirect = false): void {
  const { client } = t.fn;
  const parts = [{ iova: client.at(client.allocate(8)), length: 8, write: true }];
  if (indirect) t.ring(0).addIndirect(parts);
  else t.ring(0).add(parts);
  t.ring(0).publish();
}

Deno.test("1.1 a driver that has set FAILED, and a device that needs a reset, are not started by a notification", () => {
  for (const how of ["failed", "needs reset"] as const) {
    const model = rng();
    using t = new FakeLegacy(model);
    t.status = 3;
    t.write(4, 4, RING_BITS);
    t.setUp(0);
    ask(t);
    if (how === "failed") t.status = 0x83;
    else {
      // Without a client's memory no ring can be made.
      const { dma } = t.fn.port;
      t.fn.port.dma = null;
      t.write(8, 4, 16);
      t.fn.port.dma = dma;
      assertEquals(t.status, 0x43);
      t.take();
      t.setUp(0);
    }
    t.notify(0);
    t.fn.write(0x4000, 2, 0);
    t.front.rang(4, 0x3000);
    assertEquals([model.starts, t.front.core.live, t.front.core.negotiatedFeatures, t.run()], [
      0,
      false,
      0n,
      0,
    ], how);
    // Nothing but a reset helps, and it does.
    t.bringUp(RING_BITS, [0]);
    ask(t);
    t.notify(0);
    assertEquals([model.starts, t.run(), t.status], [1, 1, 7], how);
  }
});

Deno.test("3.6 a legacy driver that comes upon parts of a former one has a device as after a reset, also when it is resumed", () => {
  using t = new FakeLegacy(rng());
  const parts = t.front.core.parts;
  parts.setStopped(true);
  const set = [
    featuresPart(DEV_PART.DEV_FEATURES, t.front.core.offered),
    featuresPart(DEV_PART.DRV_FEATURES, FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.RING_PACKED),
    commonCfgPart("config_msix_vector", 1),
  ];
  assertEquals(parts.problemOf(set), undefined);
  parts.set(set);
  t.status = 1;
  t.status = 3;
  t.write(4, 4, INDIRECT);
  t.setUp(0);
  t.fn.port.msixEnabled = true;
  assertEquals([t.read(4, 4), t.read(20, 2)], [INDIRECT, 0xffff]);
  assertEquals(parts.problemOf(set), "a driver uses the legacy interface, which parts do not describe");
  parts.setStopped(false);
  t.status = 7;
  ask(t, true);
  t.notify(0);
  assertEquals([t.run(), t.take(), t.status], [1, [], 7]);
});

Deno.test("2.3 queue_select outlives the first write that makes the device a legacy driver's", () => {
  using t = new FakeLegacy(rng());
  t.write(14, 2, 1);
  t.status = 3;
  assertEquals([t.read(14, 2), t.read(12, 2)], [1, 0]);
  // Both interfaces have one of their own, so neither's driver is led astray by the other's.
  t.fn.write(22, 2, 0);
  t.take();
  assertEquals(t.read(14, 2), 1);
  t.status = 0;
  t.fn.write(22, 2, 5);
  t.write(14, 2, 0);
  assertEquals([t.fn.read(22, 2), t.read(14, 2)], [5, 0]);
});

Deno.test("N-6.3 states of queues that a reset kept end with the next driver, a legacy one too", () => {
  for (const legacy of [false, true]) {
    using t = new FakeLegacy(rng(), { profile: "queue-state" });
    t.fn.bringUp(FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | 1n << 40n, [0]);
    const { client } = t.fn;
    t.fn.rings.get(0)!.add([{ iova: client.at(client.allocate(8)), length: 8, write: true }]);
    t.fn.rings.get(0)!.publish();
    t.fn.notify(0);
    assertEquals(t.run(), 1);
    t.fn.status = 0;
    if (legacy) {
      t.status = 2;
      t.status = 0;
    }
    t.fn.write(22, 2, 0);
    assertEquals(t.fn.read(64, 2), legacy ? 0 : 1);
  }
});

Deno.test("a ring whose memory is unmapped rests; one that never was mapped: DMA, DEVICE_NEEDS_RESET, and a reset helps", () => {
  const model = rng();
  using t = new FakeLegacy(model);
  const { client } = t.fn;
  const iova = 0x7_0000_0000n;
  const region = client.map(iova, 0x10000);
  const place = () => {
    t.bringUp(0, []);
    t.write(14, 2, 0);
    t.write(8, 4, Number(iova / 4096n));
  };
  place();
  const view = new DataView(region.memory.buffer);
  const offer = (at: number) => {
    view.setBigUint64(0, iova + 0x8000n, true);
    view.setUint32(8, 8, true);
    view.setUint16(12, 2, true);
    view.setUint16(1024 + 2, at, true);
  };
  offer(1);
  t.notify(0);
  assertEquals([t.run(), view.getUint16(4096 + 2, true), t.take()], [1, 1, []]);
  offer(2);
  client.dma.remove(iova, 0x10000n);
  t.notify(0);
  assertEquals([t.run(), t.take(), t.status], [0, [], 7]);
  place();
  t.notify(0);
  t.run();
  assertStringIncludes(t.take()[0]!, "DMA: descriptor area: 1024 bytes at IOVA 0x700000000 are not mapped");
  assertEquals([t.status, t.front.core.live], [0x47, false]);
  t.notify(0);
  assertEquals([t.run(), t.take()], [0, []], "said once");
  t.bringUp(0, [0]);
  ask(t);
  t.notify(0);
  assertEquals([t.run(), t.status, model.starts, model.resets], [1, 7, 3, 2]);
});

Deno.test("Bus Master Enable goes and comes under a running legacy driver: nothing is touched meanwhile, nothing is lost", () => {
  using t = new FakeLegacy(rng());
  t.fn.port.msixEnabled = true;
  t.bringUp(0, [0]);
  t.write(22, 2, 1);
  for (let round = 1; round <= 3; round++) {
    t.fn.port.busMaster = false;
    ask(t);
    t.notify(0);
    const used = t.ring(0).usedIdx;
    assertEquals([t.run(), t.fn.behaviour.arm(), t.ring(0).usedIdx, used], [0, false, round - 1, round - 1]);
    assertEquals(t.fn.port.vectors, []);
    t.fn.port.busMaster = true;
    assertEquals([t.run(), t.ring(0).usedIdx, t.fn.port.vectors.splice(0)], [1, round, [1]]);
  }
  assertEquals([t.status, t.take()], [7, []]);
});

Deno.test("MSI-X off and on again under a running legacy driver: the ISR says it meanwhile, then the vectors as they were", () => {
  using t = new FakeLegacy(rng());
  t.fn.port.msixEnabled = true;
  t.bringUp(0, [0]);
  t.write(20, 2, 0);
  t.write(22, 2, 1);
  const round = () => {
    ask(t);
    t.notify(0);
    t.run();
    return [t.fn.port.vectors.splice(0), t.read(19, 1), t.fn.port.intx];
  };
  assertEquals(round(), [[1], 0, false]);
  t.fn.port.msixEnabled = false;
  assertEquals(round(), [[], 1, false], "reading the ISR took the line back");
  t.fn.port.msixEnabled = true;
  assertEquals(round(), [[1], 0, false]);
  assertEquals([t.read(20, 2), t.read(22, 2)], [0, 1]);
});

Deno.test("a hundred thousand wrong accesses of a driver leave a bounded number of reports", () => {
  using t = new FakeLegacy(rng());
  for (let i = 0; i < 100_000; i++) {
    t.notify(i & 0xffff);
    if ((i & 1023) === 0) {
      t.status = 0;
      t.status = 3;
    }
  }
  assert(t.fn.port.reports.length <= 256, `${t.fn.port.reports.length} reports`);
});

Deno.test("FLR, a device reset of either interface and the client's end, before and after first use: nothing of the driver is left", () => {
  for (const used of [false, true]) {
    for (const how of ["flr", "device", "detached", "legacy", "modern"] as const) {
      const model = rng();
      using t = new FakeLegacy(model);
      t.status = 3;
      t.write(4, 4, RING_BITS);
      const ring = t.setUp(0);
      if (used) {
        ask(t);
        t.notify(0);
        t.run();
      }
      if (how === "legacy") t.status = 0;
      else if (how === "modern") t.fn.status = 0;
      else t.fn.behaviour.reset(how);
      const what = `${how}, ${used ? "used" : "not used"}`;
      assertEquals([t.front.core.legacy, t.front.core.live, t.status, t.read(8, 4), t.read(14, 2)], [
        false,
        false,
        0,
        0,
        0,
      ], what);
      assertEquals([model.starts, model.resets], [used ? 1 : 0, 1], what);
      // What comes late for the ring that was there reaches nothing.
      ring.offer(0);
      ring.publish();
      t.front.rang(4, 0x3000);
      t.notify(0);
      assertEquals([t.run(), model.starts], [0, used ? 1 : 0], what);
      // A modern driver has all of it.
      t.take();
      t.fn.bringUp(FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM, []);
      const modern = new FakeRing(t.fn.client, 16);
      assertEquals(
        [modern.size, t.front.core.legacy, t.front.core.live, t.take()],
        [16, false, true, []],
        what,
      );
    }
  }
});
