import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClosedError, UsageError } from "../../../../lib/errors/mod.ts";
import { createVirtqueue } from "../../../../lib/virtio/queue/create.ts";
import { PackedQueue } from "../../../../lib/virtio/queue/packed.ts";
import { packedLayout } from "../../../../lib/virtio/queue/layout.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { FakeIommu } from "../fake_iommu.ts";
import { FakeTransport } from "../transport/fake_transport.ts";
import { ahead, ModelPackedRing, type Place } from "./model_packed_ring.ts";
import { Random } from "../../../random.ts";
import { addChain, packedFixture } from "./ring_fixture.ts";

const AVAIL = 0x80;
const USED = 0x8000;

Deno.test("1.4 areas: sizes, alignment, any size, and no two areas in one cache line", () => {
  for (const size of [1, 2, 3, 5, 7, 255, 256, 1000, 32767, 32768]) {
    const layout = packedLayout(size, Math.min(size, 4));
    const areas = [
      [layout.descriptorOffset, 16 * size],
      [layout.driverOffset, 4],
      [layout.deviceOffset, 4],
      [layout.tablesOffset, 16 * size * layout.tableSegments],
    ] as const;
    for (const [at, [offset, bytes]] of areas.entries()) {
      assertEquals(offset % 64, 0);
      const next = areas[at + 1]?.[0] ?? layout.totalBytes;
      assert(offset + bytes <= next);
    }
  }
  assertEquals(packedLayout(5), {
    size: 5,
    descriptorOffset: 0,
    driverOffset: 128,
    deviceOffset: 192,
    tablesOffset: 256,
    tableSegments: 0,
    totalBytes: 256,
  });
  for (const size of [0, 32769, 1.5, -2, NaN]) assertThrows(() => packedLayout(size), UsageError);
  for (const segments of [6, -1, 0.5]) assertThrows(() => packedLayout(5, segments), UsageError);
});

Deno.test("1.4 pvirtq_desc by offset: a list of readable then writable parts, its buffer id in the last", () => {
  using fixture = packedFixture({ size: 8 });
  const { queue, ring } = fixture;
  queue.addSingle(0, 0, 1, false);
  assert(queue.begin(2, 1));
  queue.segment(0xffff_f000, 0x1234_5678, 10);
  queue.segment(0x2000, 0, 0xffff);
  queue.segment(0x3000, 0xffff_ffff, 30);
  const id = queue.commit();
  queue.publish();
  assertEquals(ring.descriptor(1), { addr: 0x1234_5678_ffff_f000n, len: 10, id, flags: AVAIL | 1 });
  assertEquals(ring.descriptor(2), { addr: 0x2000n, len: 0xffff, id, flags: AVAIL | 1 });
  assertEquals(ring.descriptor(3), { addr: 0xffff_ffff_0000_3000n, len: 30, id, flags: AVAIL | 2 });
  assertEquals(ring.descriptor(4), { addr: 0n, len: 0, id: 0, flags: 0 });
  assertEquals([queue.freeDescriptors, queue.inFlight, queue.layout], [4, 2, "packed"]);
});

Deno.test("1.4 the head's flags are written last: nothing of a burst is available before publish, all of it after", () => {
  using fixture = packedFixture({ size: 8 });
  const { queue, ring } = fixture;
  addChain(queue, [1, 2], [3]);
  assertEquals(ring.descriptor(0).flags, 0);
  assertEquals(ring.descriptor(1).flags, AVAIL | 1, "the others of the list are complete before");
  assertEquals(ring.hasAvailable, false);
  queue.addSingle(0x5000, 0, 9, true);
  assertEquals(ring.pop(), undefined);
  assertEquals(queue.publish(), true);
  assertEquals(ring.pop()?.parts.map((part) => part.length), [1, 2, 3]);
  assertEquals(ring.pop()?.parts, [{ iova: 0x5000n, length: 9, write: true }]);
  assertEquals(ring.pop(), undefined);
  assertEquals(queue.publish(), false, "nothing new: no store, no notification");
});

Deno.test("1.4 flags through both laps: AVAIL is the driver's wrap counter, USED its inverse, a list across the end has both", () => {
  using fixture = packedFixture({ size: 3 });
  const { queue, ring } = fixture;
  const into = usedBurst(3);
  let place: Place = { slot: 0, wrap: 1 };
  for (let round = 0; round < 20; round++) {
    const id = addChain(queue, [1], [8]);
    queue.publish();
    for (let part = 0; part < 2; part++) {
      const at = ahead(place, part, 3);
      const wrapFlags = at.wrap === 1 ? AVAIL : USED;
      assertEquals(ring.descriptor(at.slot).flags, wrapFlags | (part === 0 ? 1 : 2), `round ${round}`);
    }
    const chain = ring.pop()!;
    assertEquals([chain.id, chain.count], [id, 2]);
    ring.push(id, 5, 2);
    assertEquals(queue.takeUsed(into), 1);
    assertEquals([into.ids[0], into.lengths[0]], [id, 5]);
    place = ahead(place, 2, 3);
    assertEquals(ring.usedNext, place);
  }
});

Deno.test("1.4 used means both flags equal the device's wrap counter; available, zeroed and used in the lap before do not", () => {
  using fixture = packedFixture({ size: 2 });
  const { queue, ring } = fixture;
  const into = usedBurst(2);
  const set = (flags: number) => ring.ring.setUint16(14, flags, true);
  queue.addSingle(0, 0, 8, true);
  queue.publish();
  for (const flags of [0, AVAIL, USED, 2, 0x7f7f]) {
    set(flags);
    assertEquals([queue.hasUsed(), queue.takeUsed(into)], [false, 0], flags.toString(16));
  }
  set(AVAIL | USED);
  assertEquals([queue.hasUsed(), queue.takeUsed(into)], [true, 1]);
  // The second lap: the inverse.
  queue.addSingle(0, 0, 8, true);
  queue.publish();
  ring.ring.setUint16(16 + 14, AVAIL | USED, true);
  assertEquals(queue.takeUsed(into), 1);
  const id = queue.addSingle(0, 0, 8, true);
  queue.publish();
  ring.ring.setUint16(12, id, true);
  for (const flags of [AVAIL | USED, AVAIL, USED, 0xffff, AVAIL | USED | 2]) {
    set(flags);
    assertEquals([queue.hasUsed(), queue.takeUsed(into)], [false, 0], flags.toString(16));
  }
  set(0);
  assertEquals([queue.hasUsed(), queue.takeUsed(into)], [true, 1]);
});

Deno.test("1.4 indirect table by offset: one ring descriptor, entries contiguous, WRITE the only flag inside", () => {
  using fixture = packedFixture({ size: 7, maxSegments: 4, indirect: true });
  const { queue, ring, transport } = fixture;
  queue.addSingle(0, 0, 1, false);
  const id = addChain(queue, [16, 32], [64, 128]);
  queue.publish();
  assertEquals(queue.freeDescriptors, 5);
  const descriptor = ring.descriptor(1);
  assertEquals([descriptor.flags, descriptor.len, descriptor.id], [AVAIL | 4, 64, id]);
  const table = transport.iommu.at(descriptor.addr, 64, false);
  const entry = (at: number) => [
    table.getBigUint64(16 * at, true),
    table.getUint32(16 * at + 8, true),
    table.getUint16(16 * at + 12, true),
    table.getUint16(16 * at + 14, true),
  ];
  assertEquals(entry(0), [0x7_0000_1000n, 16, 0, 0]);
  assertEquals(entry(1), [0x7_0000_2000n, 32, 0, 0]);
  assertEquals(entry(2), [0x7_0000_3000n, 64, 0, 2]);
  assertEquals(entry(3), [0x7_0000_4000n, 128, 0, 2]);
  // Longer than a table, or one part alone: direct.
  addChain(queue, [1, 2, 3, 4, 5], []);
  queue.publish();
  assertEquals([0, 1, 2].map(() => ring.pop()?.table), [false, true, false]);
  assertEquals(queue.freeDescriptors, 0);
});

Deno.test("1.4 without INDIRECT_DESC negotiated, maxSegments makes no table", () => {
  using fixture = packedFixture({ size: 8, maxSegments: 8 });
  addChain(fixture.queue, [1, 2], [3]);
  fixture.queue.publish();
  assertEquals([fixture.ring.pop()?.table, fixture.queue.freeDescriptors], [false, 5]);
});

Deno.test("1.4 an indirect table's address carries into the upper half", () => {
  const iommu = new FakeIommu([{ start: 0xffff_c000n, last: 0x1_0010_0000n }]);
  const layout = packedLayout(256, 4);
  using memory = iommu.space.allocate(layout.totalBytes);
  const tables = memory.iova + BigInt(layout.tablesOffset);
  assert(tables < 1n << 32n && tables + 16384n > 1n << 32n);
  const queue = new PackedQueue({
    function: "fake",
    index: 0,
    layout,
    memory,
    doorbell: { ring: () => {} },
    eventIndex: false,
  });
  const ring = new ModelPackedRing(iommu, queue.addresses);
  for (let i = 0; i < 256; i++) addChain(queue, [i + 1], [1]);
  queue.publish();
  for (let i = 0; i < 256; i++) {
    const chain = ring.pop();
    assertEquals([chain?.table, chain?.parts[0]?.length], [true, i + 1]);
  }
  queue.close();
  iommu.space.close();
});

Deno.test("1.4 buffer ids: out of order, reused only after the return, list length remembered by id", () => {
  using fixture = packedFixture({ size: 6 });
  const { queue, ring } = fixture;
  const into = usedBurst(6);
  const a = addChain(queue, [1, 1, 1], []);
  const b = addChain(queue, [], [40]);
  const c = addChain(queue, [1], [9]);
  queue.publish();
  assertEquals([queue.freeDescriptors, queue.addSingle(0, 0, 1, true)], [0, -1]);
  const counts = [ring.pop()!, ring.pop()!, ring.pop()!].map((chain) => chain.count);
  assertEquals(counts, [3, 1, 2]);
  ring.push(c, 9, 2);
  ring.push(b, 40, 1);
  assertEquals(queue.takeUsed(into), 2);
  assertEquals([...into.ids.subarray(0, 2), ...into.lengths.subarray(0, 2)], [c, b, 9, 40]);
  assertEquals([queue.freeDescriptors, queue.inFlightIds()], [3, [a]]);
  // The driver's next descriptors go over what the device wrote, while `a` is in flight still.
  const d = addChain(queue, [2, 2, 2], []);
  assert(d !== a);
  queue.publish();
  assertEquals(ring.pop()?.parts.map((part) => part.length), [2, 2, 2]);
  ring.push(a, 0, 3);
  ring.push(d, 0, 3);
  assertEquals(queue.takeUsed(into), 2);
  assertEquals([...into.ids.subarray(0, 2)], [a, d]);
  assertEquals(queue.freeDescriptors, 6);
});

Deno.test("1.4 a used descriptor without WRITE: its length is ignored where it cannot be one, and for a chain that is only read", () => {
  using fixture = packedFixture({ size: 4 });
  const { queue, ring } = fixture;
  const into = usedBurst(4);
  const lengths = [[0, 1234], [10, 11], [10, 10], [10, 7]].map(([writable, said]) => {
    const id = queue.addSingle(0, 0, writable === 0 ? 5 : writable!, writable !== 0);
    queue.publish();
    ring.pop();
    ring.push(id, said!, 1, false);
    assertEquals(queue.takeUsed(into), 1);
    return into.lengths[0];
  });
  // The last two as QEMU writes them: it never sets the flag.
  assertEquals(lengths, [0, 0, 10, 7]);
});

Deno.test("1.4 device event suppression: ENABLE, DISABLE, reserved and DESC without EVENT_IDX", () => {
  using fixture = packedFixture({ size: 4 });
  const { queue, ring, notified } = fixture;
  const into = usedBurst(4);
  const flushed = (desc: number, flags: number) => {
    ring.setDeviceEvent(desc, flags);
    const id = queue.addSingle(0, 0, 1, true);
    const before = notified.length;
    const said = queue.flush();
    assertEquals(notified.length - before, said ? 1 : 0);
    ring.pop();
    ring.push(id, 0, 1);
    queue.takeUsed(into);
    return said;
  };
  assertEquals(flushed(0, 0), true);
  assertEquals(flushed(0, 1), false);
  assertEquals(
    flushed(3, 2),
    true,
    "DESC means nothing here: a spurious notification is allowed, a missing one is not",
  );
  assertEquals(flushed(0, 3), true);
  assertEquals(flushed(0, 0xfffd), false, "reserved bits are ignored: DISABLE");
});

Deno.test("1.4 event index: the decision equals a search through the descriptors just filled, in rings of any size", () => {
  for (const size of [1, 2, 3, 5, 16]) {
    using fixture = packedFixture({ size, eventIndex: true });
    const { queue, ring } = fixture;
    const into = usedBurst(size);
    const random = new Random(size);
    let old: Place = { slot: 0, wrap: 1 };
    let yes = 0;
    for (let round = 0; round < 12_000; round++) {
      const event: Place = { slot: random.below(size), wrap: random.below(2) as 0 | 1 };
      ring.askAt(event);
      let filled = 0;
      let expected = false;
      for (let chains = 1 + random.below(size); chains > 0; chains--) {
        const parts = 1 + random.below(2);
        if (parts > queue.freeDescriptors) break;
        addChain(queue, Array(parts).fill(1), []);
        filled += parts;
      }
      for (let i = 0; i < filled; i++) {
        const at = ahead(old, i, size);
        if (at.slot === event.slot && at.wrap === event.wrap) expected = true;
      }
      if (queue.publish() !== expected) {
        throw new Error(`size ${size}: ${JSON.stringify(old)} + ${filled}, event ${JSON.stringify(event)}`);
      }
      if (expected) yes++;
      old = ahead(old, filled, size);
      for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
        ring.push(chain.id, 0, chain.count);
      }
      queue.takeUsed(into);
    }
    assert(yes > 2_000 && yes < 10_000, `size ${size}: ${yes}`);
  }
});

Deno.test("1.4 an event outside the ring notifies: the device may not lose a notification by it", () => {
  using fixture = packedFixture({ size: 5, eventIndex: true });
  fixture.ring.setDeviceEvent(5 | 0x8000, 2);
  fixture.queue.addSingle(0, 0, 1, true);
  assertEquals(fixture.queue.publish(), true);
  fixture.ring.setDeviceEvent(0x7fff, 2);
  fixture.queue.addSingle(0, 0, 1, true);
  assertEquals(fixture.queue.publish(), true);
});

Deno.test("1.4 driver event suppression: DISABLE while polling; ENABLE, or DESC at the next used place with EVENT_IDX", () => {
  for (const eventIndex of [false, true]) {
    using fixture = packedFixture({ size: 3, eventIndex });
    const { queue, ring } = fixture;
    const into = usedBurst(3);
    assertEquals(ring.driverEvent, { desc: 0, flags: 0 }, "asked for at first");
    queue.suppressInterrupts();
    assertEquals(ring.driverEvent.flags, 1);
    for (let round = 0; round < 8; round++) {
      const place = ring.usedNext;
      assertEquals(queue.enableInterrupts(), false);
      assertEquals(
        ring.driverEvent,
        eventIndex ? { desc: place.slot | (place.wrap << 15), flags: 2 } : { desc: 0, flags: 0 },
      );
      const id = queue.addSingle(0, 0, 1, true);
      queue.publish();
      ring.pop();
      ring.push(id, 1, 1);
      assertEquals(ring.interrupts(place, 1), true);
      assertEquals(queue.enableInterrupts(), true, "the race with the device is seen");
      queue.suppressInterrupts();
      assertEquals(ring.interrupts(place, 1), false);
      assertEquals(queue.takeUsed(into), 1);
    }
  }
});

Deno.test("1.6 the doorbell is given the next slot to be made available and its wrap counter", () => {
  using fixture = packedFixture({ size: 3 });
  const { queue, ring, notified } = fixture;
  const into = usedBurst(3);
  let place: Place = { slot: 0, wrap: 1 };
  for (let round = 0; round < 10; round++) {
    const id = addChain(queue, [1], [1]);
    queue.notify();
    assertEquals(
      notified.at(-1),
      { queue: 0, nextOffset: place.slot, nextWrap: place.wrap },
      "not published yet",
    );
    queue.publish();
    place = ahead(place, 2, 3);
    queue.notify();
    queue.notify();
    assertEquals(notified.at(-1), { queue: 0, nextOffset: place.slot, nextWrap: place.wrap });
    assertEquals(notified.at(-2), notified.at(-1), "repeated without new buffers: the same values");
    ring.pop();
    ring.push(id, 0, 2);
    queue.takeUsed(into);
  }
});

Deno.test("createVirtqueue: with RING_PACKED any size up to what caller and device allow", () => {
  const transport = new FakeTransport({ queueSizes: [100, 32768, 3] });
  transport.driverFeatures = (1n << 32n) | (1n << 34n);
  const sizes = [[0, 1000], [1, 5], [2, 256]].map(([index, size]) =>
    createVirtqueue(transport, index!, { size: size! }).size
  );
  assertEquals(sizes, [100, 5, 3]);
  transport.close();
});

Deno.test("a packed queue refuses what a split one refuses, and goes on", () => {
  using fixture = packedFixture({ size: 3 });
  const { queue, ring } = fixture;
  assertThrows(() => queue.begin(2, 2), UsageError, "never fit");
  assertThrows(() => queue.begin(0, 0), UsageError);
  assertThrows(() => queue.addSingle(0, 0, 0, true), UsageError);
  queue.begin(1, 1);
  assertThrows(() => queue.commit(), UsageError, "0 of 2");
  queue.begin(1, 0);
  assertThrows(() => queue.segment(-1, 0, 1), UsageError);
  assertEquals(queue.freeDescriptors, 3);
  addChain(queue, [1], [2]);
  queue.publish();
  assertEquals(ring.pop()?.parts.length, 2);
  assertEquals(queue.begin(1, 1), false, "not now, but later");
});

Deno.test("after close every call of a packed queue is a ClosedError", () => {
  using fixture = packedFixture({ size: 4 });
  const { queue } = fixture;
  queue.addSingle(0, 0, 1, true);
  queue.close();
  queue.close();
  assertEquals(queue.closed, true);
  for (
    const call of [
      () => queue.begin(1, 0),
      () => queue.addSingle(0, 0, 1, true),
      () => queue.publish(),
      () => queue.notify(),
      () => queue.hasUsed(),
      () => queue.takeUsed(usedBurst(1)),
      () => queue.suppressInterrupts(),
      () => queue.enableInterrupts(),
      () => queue.inFlightIds(),
      () => queue.saveInFlight(),
      () => queue.save(),
      () => queue.restart(),
      () => queue.reoffer([]),
      () => queue.position,
      () => queue.snapshot(),
      () => queue.freeDescriptors,
    ]
  ) assertThrows(call, ClosedError);
});
