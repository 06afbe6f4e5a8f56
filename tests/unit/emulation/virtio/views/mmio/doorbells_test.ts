/** Where a driver notifies a virtio-mmio device, and how wide (N-7.6, N-7.7, A-7.8, A-7.14, A-7.15). */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../../lib/errors/mod.ts";
import type { MmioTopology } from "../../../../../../lib/emulation/mod.ts";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import { Random } from "../../../../../random.ts";
import { FakeMmio, mmioRng, REG, RULES, StillModel } from "./rig.ts";

const MMIO_NOTIFICATION = 1n << 39n;
const QUEUES = 4;

function device(mmio: MmioTopology, options: { configBytes?: number; notificationData?: boolean } = {}): {
  mmio: FakeMmio;
  model: StillModel;
} {
  const model = new StillModel(QUEUES, options.configBytes ?? 0);
  return { mmio: new FakeMmio(new MmioView(model, { mmio, ...options })), model };
}

/** Up to DRIVER_OK with all queues. */
function run(mmio: FakeMmio, features = 0n): void {
  mmio.bringUp(RULES | features, [0, 1, 2, 3]);
}

Deno.test("A-7.14, A-7.15, N-7.6: doorbells at many bases and multipliers, 16 and 32 bits wide, each its queue; the window covers them", () => {
  const random = new Random(714);
  const places = [[0x50, 0], [0x200, 4], [0x1000, 2], [0x333, 3], [0x101, 1], [0xffff, 0], [0xfffc, 0xffff], [
    0x120,
    0xfffc,
  ]];
  for (let i = 0; i < 60; i++) places.push([0x100 + random.below(0xff00), random.below(0x1_0000)]);
  for (const [base, multiplier] of places as [number, number][]) {
    for (const form of ["v3", "msi-v2"] as const) {
      const { mmio, model } = device({ form, notify: { base, multiplier } });
      using _device = mmio;
      run(mmio, form === "v3" ? 0n : MMIO_NOTIFICATION);
      assertEquals(mmio.read(REG.queueNotify), base + multiplier * 0x1_0000);
      const last = base + 3 * multiplier;
      assert(mmio.view.windowBytes >= last + 2, `${base} ${multiplier}`);
      const wide = base % 4 === 0 && multiplier % 4 === 0;
      for (const queue of [2, 0, 3, 1]) {
        const at = base + queue * multiplier;
        mmio.write(at, queue, 2);
        assertEquals(model.rung.splice(0), [queue], `${form} ${base} ${multiplier}`);
        mmio.write(at, queue, 4);
        assertEquals(model.rung.splice(0), wide ? [queue] : []);
        assertEquals(mmio.port.take().map((one) => one.split(":")[0]), wide ? [] : ["A-7.14"]);
      }
      if (multiplier > 0) {
        mmio.write(base, 1, 2);
        assertEquals(mmio.port.take(), ["N-7.6: the doorbell of queue 0 was rung for queue 1"]);
      }
    }
  }
});

Deno.test("A-7.8: QueueNotify is a doorbell only if base and multiplier say so", () => {
  const { mmio, model } = device({ form: "v3", notify: { base: 0x200, multiplier: 4 } });
  using _device = mmio;
  run(mmio);
  mmio.read(REG.queueNotify);
  mmio.write(REG.queueNotify, 1);
  assertEquals([model.rung, mmio.port.take()], [[], [
    "A-7.8: QueueNotify was written: its doorbells are elsewhere",
  ]]);
});

Deno.test("N-7.6: without MMIO_NOTIFICATION the other draft is notified as the standard has it", () => {
  const { mmio, model } = device({ form: "msi-v2", notify: { base: 0x200, multiplier: 4 } });
  using _device = mmio;
  run(mmio);
  mmio.write(REG.queueNotify, 2);
  mmio.write(REG.queueNotify, 1, 2);
  mmio.write(0x200, 0);
  assertEquals(model.rung, [2]);
  assertEquals(mmio.port.take(), [
    "7.1: notification of 2 bytes: it must be 4",
    "7.1: write of 4 bytes at 0x200: there is no register",
  ]);
  using without = mmioRng({ form: "msi-v2" }, { featuresOff: 1n << 39n });
  assertEquals(without.read(REG.queueNotify), 0);
  assertEquals(without.port.take(), ["7.1: QueueNotify is write-only"], "not offered");
});

Deno.test("N-7.7: a doorbell that is rung before QueueNotify was read is reported once, till another user comes", () => {
  const { mmio, model } = device({ form: "v3", notify: { base: 0x200, multiplier: 4 } });
  using _device = mmio;
  run(mmio);
  mmio.write(0x200, 0);
  mmio.write(0x204, 1);
  assertEquals(model.rung, [0, 1], "it is a notification all the same");
  const said = "N-7.7: a doorbell was rung, and QueueNotify had not been read for where it is";
  assertEquals(mmio.port.take(), [said]);
  run(mmio);
  mmio.write(0x200, 0);
  assertEquals(mmio.port.take(), [], "a reset by the driver moves no doorbell");
  mmio.view.reset("device");
  run(mmio);
  mmio.write(0x200, 0);
  assertEquals(mmio.port.take(), [said], "another user");
  mmio.view.reset("device");
  mmio.read(REG.queueNotify);
  run(mmio);
  mmio.write(0x200, 0);
  assertEquals(mmio.port.take(), []);
});

Deno.test("A-7.14: NOTIFICATION_DATA is a word of 32 bits, at multiples of 4 only", () => {
  const data = 1n << 38n;
  const { mmio, model } = device({ form: "v3", notify: { base: 0x200, multiplier: 8 } }, {
    notificationData: true,
  });
  using _device = mmio;
  run(mmio, data);
  mmio.read(REG.queueNotify);
  mmio.write(0x208, 1);
  mmio.write(0x208, 1, 2);
  mmio.write(0x208, 2);
  assertEquals(model.rung, [1]);
  assertEquals(mmio.port.take(), [
    "A-7.14: notification of 2 bytes: it must be 4",
    "N-7.6: the doorbell of queue 1 was rung for queue 2",
  ]);
  // The high half is the position, and no part of the queue's number.
  mmio.write(0x208, 1 | 1 << 16);
  assertEquals(mmio.port.take(), ["1.6: the notification says that avail.idx is 1, it is 0"]);
  for (const notify of [{ base: 0x202, multiplier: 4 }, { base: 0x200, multiplier: 6 }]) {
    assertThrows(
      () => device({ form: "v3", notify }, { notificationData: true }),
      UsageError,
      "mmio.notify: NOTIFICATION_DATA needs multiples of 4 (A-7.14)",
    );
  }
});

Deno.test("A-7.14: doorbells where registers or the configuration are cannot be", () => {
  const refused = (base: number, multiplier: number, where: string, configBytes = 0) =>
    assertThrows(
      () => device({ form: "v3", notify: { base, multiplier } }, { configBytes }),
      UsageError,
      where,
    );
  refused(0x70, 0, "the doorbell of queue 0 would be at 0x70, where Status is");
  refused(0x50, 0x10, "the doorbell of queue 1 would be at 0x60, where InterruptStatus is");
  refused(0x52, 0, "the doorbell of queue 0 would be at 0x52, where QueueNotify is");
  refused(0x4e, 1, "the doorbell of queue 1 would be at 0x4f, where QueueNotify is");
  refused(0x0fe, 0, "where ConfigGeneration is");
  refused(0x104, 0, "the doorbell of queue 0 would be at 0x104, where the configuration is", 8);
  using _config = device({ form: "v3", notify: { base: 0x108, multiplier: 0 } }, { configBytes: 8 }).mmio;
  using _gap = device({ form: "v3", notify: { base: 0x50, multiplier: 4 } }).mmio;
});

Deno.test("doorbell eventfds stand for writes of each width: told apart by value where all are one, and by place else", () => {
  const cases: [MmioTopology, [number, number, number | undefined][]][] = [
    [{ form: "modern" }, [[0x50, 4, 0], [0x50, 4, 1]]],
    [{ form: "legacy" }, [[0x50, 4, 0], [0x50, 4, 1]]],
    [{ form: "v3" }, [[0x50, 4, 0], [0x50, 2, 0], [0x50, 4, 1], [0x50, 2, 1]]],
    [{ form: "v3", notify: { base: 0x200, multiplier: 6 } }, [[0x200, 2, undefined], [0x206, 2, undefined]]],
    [{ form: "msi-v2", notify: { base: 0x200, multiplier: 8 } }, [
      [0x50, 4, 0],
      [0x200, 4, undefined],
      [0x200, 2, undefined],
      [0x50, 4, 1],
      [0x208, 4, undefined],
      [0x208, 2, undefined],
    ]],
  ];
  for (const [mmio, places] of cases) {
    const model = Object.assign(new StillModel(2), { deviceId: 4 });
    using one = new FakeMmio(new MmioView(model, { mmio }));
    const list = one.view.doorbells(0);
    assertEquals(list.map(({ offset, sizeBytes, value }) => [offset, sizeBytes, value]), places);
    assertEquals(new Set(list.map(({ fd }) => fd)).size, 2, "one for each queue");
    assert(one.view.doorbells(0) === list, "the same till the user goes");
    const first = list.filter(({ fd }, i) => list.findIndex((other) => other.fd === fd) === i);
    one.view.rang(0, first[1]!.offset, first[1]!.value);
    assertEquals(model.rung, [], "before DRIVER_OK it may be from before a reset");
    if (mmio.form === "legacy") continue;
    one.bringUp(RULES, [0, 1]);
    one.view.rang(0, first[1]!.offset, first[1]!.value);
    one.view.rang(0, first[0]!.offset, first[0]!.value);
    assertEquals([model.rung, one.port.take()], [[1, 0], []]);
    one.view.detached();
    assert(list.every(({ fd }) => fd.closed));
  }
});
