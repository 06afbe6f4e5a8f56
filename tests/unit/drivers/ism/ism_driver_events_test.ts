import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { IsmError } from "../../../../drivers/ism/virtio_ism.ts";
import { ClosedError, DeviceError, UsageError } from "../../../../lib/errors/mod.ts";
import { withIsm } from "./ism_driven.ts";

const PAGE = 4096;

Deno.test("N-5.13, A-5.11, A-5.12, A-5.13: updates by a vector, and back to the event queue", async () => {
  await withIsm(async (ism, model) => {
    // Vector 0 is for config changes, 1 and 2 for the queues.
    assertEquals(ism.regionVectors, [3, 4]);
    const region = await ism.alloc(1);
    const second = await ism.alloc(1);
    const wrong = await assertRejects(() => ism.setEventVector(region, 2), UsageError);
    assertEquals(wrong.hint, "there are 3, 4");
    await ism.setEventVector(region, 3);
    await ism.setEventVector(second, 3);
    assertEquals([region.vector, second.vector], [3, 3]);
    const waiting = region.waitUpdate(5000);
    model.transport.interrupts[3]!.signal();
    assertEquals(await waiting, true);
    assertEquals([region.updates, second.updates], [1, 1]);
    assertEquals(ism.takeEvents(), [
      { type: "update", region, devid: undefined },
      { type: "update", region: second, devid: undefined },
    ]);
    // The device refuses: the binding stays as it was.
    model.answer = () => ({ ack: 255 });
    await assertRejects(() => ism.setEventVector(region, 4), IsmError);
    await assertRejects(() => ism.setEventVector(region, null), IsmError);
    assertEquals(region.vector, 3);
    model.answer = () => undefined;
    await ism.setEventVector(region, null);
    model.transport.interrupts[3]!.signal();
    assertEquals(ism.pollEvents(), 1);
    assertEquals([region.updates, second.updates], [1, 2]);
    await second.detach();
    model.transport.interrupts[3]!.signal();
    assertEquals(ism.takeEvents().length, 1);
  }, { regionVectors: 2 });
  // Not enough vectors; polling drivers see the vector, too.
  await withIsm(
    async (ism, model) => {
      assertEquals(ism.regionVectors, [3]);
      const region = await ism.alloc(1);
      await ism.setEventVector(region, 3);
      setTimeout(() => model.transport.interrupts[3]!.signal(), 5);
      assertEquals(await ism.waitEvent(5000), true);
      assertEquals(region.updates, 1);
    },
    { regionVectors: 20, interrupts: "msix", wait: "poll" },
    { vectors: 4 },
  );
});

Deno.test("5.6: a kick is one write of 8 bits at the first chunk's notify address, which is looked up once", async () => {
  await withIsm(async (ism, model) => {
    model.chunksFor = () => [17, 4];
    const region = await ism.alloc(5000);
    region.notify();
    region.notify();
    assertEquals([model.notify.kicks, model.notify.doorbells], [[[68, 1, 1], [68, 1, 1]], 1]);
    await region.detach();
    assertThrows(() => region.notify(), ClosedError);
  });
});

Deno.test("5.4: all events, several in a buffer, in order; buffers are posted again", async () => {
  await withIsm(async (ism, model) => {
    model.chunksFor = () => [6];
    const region = await ism.alloc(1);
    assertEquals([region.peers, region.updates, model.postedEvents], [undefined, 0, 32]);
    const offset = BigInt(6 * PAGE);
    model.event(...[2n, offset, 4n, 1n], ...[1n, offset, 4n], ...[4n, offset, 4n, 0n]);
    model.event(1n, BigInt(5 * PAGE), 4n);
    assertEquals(ism.takeEvents(), [
      { type: "attach", region, devid: 4n, peers: 1n },
      { type: "update", region, devid: 4n },
      { type: "detach", region, devid: 4n, peers: 0n },
      // Of a region that is not, or no longer, this driver's.
      { type: "update", region: undefined, devid: 4n },
    ]);
    assertEquals([region.peers, region.updates, model.postedEvents], [0n, 1, 32]);
    const { updates, attaches, detaches, faults } = ism.statistics();
    assertEquals([updates, attaches, detaches, faults], [2, 1, 1, 0]);
    for (let i = 0; i < 100; i++) {
      model.event(1n, offset, 4n);
      assertEquals(ism.pollEvents(), 1);
      assertEquals(ism.takeEvents(5).length, 1);
    }
  });
});

Deno.test("A-5.9: an unknown type, or an event cut short, ends its buffer; what came before counts", async () => {
  await withIsm(async (ism, model) => {
    const region = await ism.alloc(1);
    const update = [1n, 0n, 4n];
    const cases: [bigint[], number, number, string][] = [
      [[...update, 3n, 0n, 4n, ...update], 72, 1, "unknown event type 3"],
      [[0n, 0n, 4n], 24, 0, "unknown event type 0"],
      [[1n << 32n | 1n, 0n, 4n], 24, 0, "unknown event type 4294967297"],
      [[5n, 0n, 4n, 0n], 32, 0, "unknown event type 5"],
      [[...update, ...update], 40, 1, "with 16 of 24 bytes"],
      [[...update, 2n, 0n, 4n, 0n], 48, 1, "with 24 of 32 bytes"],
      [[...update, 1n], 28, 1, "4 bytes after the last event"],
      [[], 0, 0, "came back empty"],
      [[1n, 1n, 4n], 24, 0, "is no chunk of the area"],
      [[4n, BigInt(64 * PAGE), 4n, 0n], 32, 0, "is no chunk of the area"],
      [[1n, 1n << 63n, 4n], 24, 0, "is no chunk of the area"],
      [[8n, 0n], 16, 0, "although the device supplies all memory"],
    ];
    for (const [fields, length, good, message] of cases) {
      model.eventBytes(fields, length);
      const events = ism.takeEvents();
      assertEquals(events.slice(0, -1), new Array(good).fill({ type: "update", region, devid: 4n }), message);
      const last = events.at(-1);
      if (last?.type !== "fault") throw new Error(message);
      assertEquals([last.error.message.includes(message), last.error.location.queue], [true, 1], message);
    }
    assertEquals(ism.statistics().faults, cases.length);
    // It goes on.
    model.event(...update);
    assertEquals(ism.takeEvents().map(({ type }) => type), ["update"]);
    // More than the buffer holds breaks the ring itself.
    model.eventBytes(update, 10_000);
    assertThrows(() => ism.pollEvents(), DeviceError, "used");
  });
});

Deno.test("events that come before the reply to ATTACH are the region's; those of one that is given up are not the next one's", async () => {
  await withIsm(async (ism, model) => {
    model.regions.set(5n, { size: 1n, chunks: [3] });
    model.answer = ({ command }) => {
      if (command !== "2.0") return undefined;
      model.event(1n, BigInt(3 * PAGE), 9n);
      // Somebody looks at the event queue before the reply is taken.
      assertEquals(ism.pollEvents(), 0);
      return undefined;
    };
    const region = await ism.attach(5n);
    assertEquals([region.updates, ism.takeEvents()], [1, [{ type: "update", region, devid: 9n }]]);
    model.answer = ({ command }) => {
      if (command === "3.0") model.event(4n, BigInt(3 * PAGE), 9n, 0n);
      return undefined;
    };
    await region.detach();
    const again = await ism.attach(5n);
    const detach = ism.takeEvents();
    assertEquals([again.peers, detach.map((event) => "region" in event && event.region === again)], [
      undefined,
      [
        false,
      ],
    ]);
  });
});
