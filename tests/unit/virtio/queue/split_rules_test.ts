import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClosedError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { createVirtqueue } from "../../../../lib/virtio/queue/create.ts";
import { splitLayout } from "../../../../lib/virtio/queue/layout.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { FakeIommu } from "../fake_iommu.ts";
import { FakeTransport } from "../transport/fake_transport.ts";
import { ModelRing } from "./model_ring.ts";
import { Random } from "../../../random.ts";
import { addChain, ringFixture } from "./ring_fixture.ts";
import { SplitQueue } from "../../../../lib/virtio/queue/split.ts";

Deno.test("1.3 areas: sizes, alignment, and no two areas in one cache line", () => {
  for (const size of [1, 2, 8, 256, 32768]) {
    const layout = splitLayout(size, Math.min(size, 4));
    const areas = [
      [layout.descriptorOffset, 16 * size],
      [layout.driverOffset, 6 + 2 * size],
      [layout.deviceOffset, 6 + 8 * size],
      [layout.tablesOffset, 16 * size * layout.tableSegments],
    ] as const;
    for (const [at, [offset, bytes]] of areas.entries()) {
      assertEquals(offset % 64, 0);
      const next = areas[at + 1]?.[0] ?? layout.totalBytes;
      assert(offset + bytes <= next);
    }
  }
  assertEquals(splitLayout(8), {
    size: 8,
    descriptorOffset: 0,
    driverOffset: 128,
    deviceOffset: 192,
    tablesOffset: 320,
    tableSegments: 0,
    totalBytes: 320,
  });
  for (const size of [0, 3, 6, 65536, 1.5, -2, NaN]) assertThrows(() => splitLayout(size), UsageError);
  assertThrows(() => splitLayout(8, 9), UsageError);
});

Deno.test("1.3 virtq_desc by offset: a chain of readable then writable parts", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  assert(queue.begin(2, 1));
  queue.segment(0xffff_f000, 0x1234_5678, 10);
  queue.segment(0x2000, 0, 0xffff);
  queue.segment(0x3000, 0xffff_ffff, 30);
  const head = queue.commit();
  assertEquals(ring.descriptor(head), { addr: 0x1234_5678_ffff_f000n, len: 10, flags: 1, next: 1 });
  assertEquals(ring.descriptor(1), { addr: 0x2000n, len: 0xffff, flags: 1, next: 2 });
  const last = ring.descriptor(2);
  assertEquals({ addr: last.addr, len: last.len, flags: last.flags }, {
    addr: 0xffff_ffff_0000_3000n,
    len: 30,
    flags: 2,
  });
  assertEquals(queue.freeDescriptors, 5);
  assertEquals(queue.inFlight, 1);
  assertEquals(queue.inFlightIds(), [head]);
});

Deno.test("1.3 nothing is visible before publish, everything after", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  for (let i = 0; i < 3; i++) assertEquals(queue.addSingle(0x1000 * i, 0, 64, i === 1), i);
  assertEquals(ring.availableIndex, 0);
  assertEquals(ring.pop(), undefined);
  assertEquals(queue.publish(), true);
  assertEquals(ring.availableIndex, 3);
  assertEquals([0, 1, 2].map((slot) => ring.availableEntry(slot)), [0, 1, 2]);
  assertEquals(ring.pop()?.parts, [{ iova: 0n, length: 64, write: false }]);
  assertEquals(ring.pop()?.parts, [{ iova: 0x1000n, length: 64, write: true }]);
  assertEquals(queue.publish(), false, "nothing new: no store, no notification");
});

Deno.test("1.3 indirect table by offset: one ring descriptor, NEXT inside the table, never NEXT with INDIRECT", () => {
  using fixture = ringFixture({ size: 8, maxSegments: 4, indirect: true });
  const { queue, ring, transport } = fixture;
  queue.addSingle(0, 0, 1, false);
  const head = addChain(queue, [16, 32], [64, 128]);
  assertEquals(head, 1);
  assertEquals(queue.freeDescriptors, 6);
  const descriptor = ring.descriptor(head);
  assertEquals(descriptor.flags, 4);
  assertEquals(descriptor.len, 64);
  const table = transport.iommu.at(descriptor.addr, 64, false);
  const entry = (at: number) => [
    table.getBigUint64(16 * at, true),
    table.getUint32(16 * at + 8, true),
    table.getUint16(16 * at + 12, true),
    table.getUint16(16 * at + 14, true),
  ];
  assertEquals(entry(0), [0x7_0000_1000n, 16, 1, 1]);
  assertEquals(entry(1), [0x7_0000_2000n, 32, 1, 2]);
  assertEquals(entry(2), [0x7_0000_3000n, 64, 3, 3]);
  assertEquals(entry(3).slice(0, 3), [0x7_0000_4000n, 128, 2]);
  // Tables of different chains do not overlap.
  const second = ring.descriptor(addChain(queue, [1], [2])).addr;
  assert(second >= descriptor.addr + 64n || second + 64n <= descriptor.addr);
});

Deno.test("1.3 a chain longer than the tables goes direct; a single part never takes a table", () => {
  using fixture = ringFixture({ size: 8, maxSegments: 2, indirect: true });
  const { queue, ring } = fixture;
  addChain(queue, [1, 2, 3], []);
  assertEquals(queue.freeDescriptors, 5);
  addChain(queue, [], [4]);
  assertEquals(queue.freeDescriptors, 4);
  queue.publish();
  assertEquals(ring.pop()?.table, false);
  assertEquals(ring.pop()?.table, false);
});

Deno.test("1.3 without INDIRECT_DESC negotiated, maxSegments makes no table", () => {
  using fixture = ringFixture({ size: 8, maxSegments: 8, indirect: false });
  addChain(fixture.queue, [1, 2], [3]);
  fixture.queue.publish();
  assertEquals(fixture.ring.pop()?.table, false);
  assertEquals(fixture.queue.freeDescriptors, 5);
});

Deno.test("1.3 an indirect table's address carries into the upper half", () => {
  // The only IOVAs end up around 4 GiB, so the tables of one memory lie on both sides of it.
  const iommu = new FakeIommu([{ start: 0xffff_c000n, last: 0x1_0010_0000n }]);
  const layout = splitLayout(256, 4);
  using memory = iommu.space.allocate(layout.totalBytes);
  assertEquals(memory.iova, 0xffff_c000n);
  const tables = memory.iova + BigInt(layout.tablesOffset);
  assert(tables < 1n << 32n && tables + 16384n > 1n << 32n);
  const queue = new SplitQueue({
    function: "fake",
    index: 0,
    layout,
    memory,
    doorbell: { ring: () => {} },
    eventIndex: false,
  });
  const ring = new ModelRing(iommu, {
    size: 256,
    descriptorArea: memory.iova,
    driverArea: memory.iova + BigInt(layout.driverOffset),
    deviceArea: memory.iova + BigInt(layout.deviceOffset),
  });
  for (let i = 0; i < 256; i++) addChain(queue, [i + 1], [1]);
  queue.publish();
  for (let i = 0; i < 256; i++) {
    const chain = ring.pop();
    assertEquals(chain?.table, true);
    assertEquals(chain?.parts[0]?.length, i + 1);
  }
  queue.close();
  iommu.space.close();
});

Deno.test("1.3 the queue fills, refuses more without an error, and takes more after a return", () => {
  using fixture = ringFixture({ size: 4 });
  const { queue, ring } = fixture;
  for (let i = 0; i < 4; i++) assert(queue.addSingle(0, 0, 8, true) >= 0);
  assertEquals(queue.addSingle(0, 0, 8, true), -1);
  assertEquals(queue.begin(1, 0), false);
  assertEquals(queue.begin(2, 2), false);
  queue.publish();
  const chain = ring.pop()!;
  ring.push(chain.head, 5);
  const into = usedBurst(4);
  assertEquals(queue.hasUsed(), true);
  assertEquals(queue.takeUsed(into), 1);
  assertEquals([into.ids[0], into.lengths[0]], [chain.head, 5]);
  assertEquals(queue.hasUsed(), false);
  assertEquals(queue.takeUsed(into), 0);
  assertEquals(queue.addSingle(0, 0, 8, true), chain.head);
});

Deno.test("takeUsed gives at most max, at most what the arrays hold, in the order of return", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  for (let i = 0; i < 8; i++) queue.addSingle(0, 0, 100, true);
  queue.publish();
  const order = [3, 0, 7, 1, 2, 6, 5, 4];
  for (const head of order) ring.push(head, head + 10);
  const into = usedBurst(3);
  const seen: number[] = [];
  assertEquals(queue.takeUsed(into, 1), 1);
  seen.push(into.ids[0]!);
  for (;;) {
    const n = queue.takeUsed(into);
    assert(n <= 3);
    for (let i = 0; i < n; i++) {
      assertEquals(into.lengths[i], into.ids[i]! + 10);
      seen.push(into.ids[i]!);
    }
    if (n === 0) break;
  }
  assertEquals(seen, order);
  assertEquals(queue.freeDescriptors, 8);
});

Deno.test("1.3 indices run through 2^16 more than once, with chains out of order", () => {
  for (const size of [1, 8, 256]) {
    using fixture = ringFixture({ size, eventIndex: true });
    const { queue, ring } = fixture;
    const into = usedBurst(size);
    const random = new Random(size);
    let serial = 0;
    const expected = new Map<number, number>();
    while (serial < 140_000) {
      const burst = 1 + random.below(size);
      for (let i = 0; i < burst; i++) {
        const id = queue.addSingle(serial, 0, 64, true);
        if (id < 0) throw new Error("full");
        expected.set(id, serial++);
      }
      queue.publish();
      assertEquals(ring.availableIndex, serial & 0xffff);
      const heads: number[] = [];
      for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
        if (chain.parts[0]!.iova !== BigInt(expected.get(chain.head)!)) {
          throw new Error(`serial of ${chain.head}`);
        }
        heads.push(chain.head);
      }
      for (const head of heads.reverse()) ring.push(head, 1);
      if (queue.takeUsed(into) !== burst) throw new Error(`at ${serial}`);
      if (queue.hasUsed() || queue.enableInterrupts()) throw new Error(`at ${serial}: more?`);
      expected.clear();
    }
    assertEquals(queue.inFlight, 0);
    assertEquals(queue.freeDescriptors, size);
  }
});

Deno.test("1.3 event index: the batch formula equals a search through the positions just filled", () => {
  using fixture = ringFixture({ size: 16, eventIndex: true });
  const { queue, ring } = fixture;
  const into = usedBurst(16);
  const random = new Random(99);
  let old = 0;
  let yes = 0;
  for (let round = 0; round < 60_000; round++) {
    const count = 1 + random.below(16);
    // Mostly near the positions in question, sometimes anywhere.
    const event = (random.below(8) === 0 ? random.below(65536) : old - 3 + random.below(count + 6)) & 0xffff;
    ring.availableEvent = event;
    ring.usedFlags = random.below(2); // must be ignored
    for (let i = 0; i < count; i++) queue.addSingle(0, 0, 1, true);
    let expected = false;
    for (let i = 0; i < count; i++) if (((old + i) & 0xffff) === event) expected = true;
    const notify = queue.publish();
    if (notify !== expected) throw new Error(`old ${old}, ${count} more, event ${event}: ${notify}`);
    if (notify) yes++;
    old = (old + count) & 0xffff;
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) ring.push(chain.head, 0);
    queue.takeUsed(into);
  }
  assert(yes > 10_000 && yes < 50_000);
});

Deno.test("1.3 without event index, used.flags decides about notifications", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring, notified } = fixture;
  ring.usedFlags = 1;
  queue.addSingle(0, 0, 1, true);
  assertEquals(queue.flush(), false);
  assertEquals(notified.length, 0);
  ring.usedFlags = 0;
  queue.addSingle(0, 0, 1, true);
  assertEquals(queue.flush(), true);
  assertEquals(notified.length, 1);
});

Deno.test("1.3 interrupts without event index: NO_INTERRUPT in the driver's flags", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  assertEquals(ring.availableFlags, 0);
  queue.suppressInterrupts();
  assertEquals(ring.availableFlags, 1);
  assertEquals(queue.enableInterrupts(), false);
  assertEquals(ring.availableFlags, 0);
  queue.addSingle(0, 0, 1, true);
  queue.publish();
  ring.push(ring.pop()!.head, 1);
  assertEquals(queue.enableInterrupts(), true, "the race with the device is seen");
});

Deno.test("1.3 interrupts with event index: flags stay 0, used_event says when", () => {
  using fixture = ringFixture({ size: 8, eventIndex: true });
  const { queue, ring } = fixture;
  const into = usedBurst(8);
  for (let round = 0; round < 5; round++) {
    queue.addSingle(0, 0, 1, true);
    queue.publish();
    ring.push(ring.pop()!.head, 1);
    queue.takeUsed(into);
  }
  assertEquals(queue.enableInterrupts(), false);
  assertEquals(ring.usedEvent, 5, "an interrupt for the very next return");
  queue.suppressInterrupts();
  assertEquals(ring.availableFlags, 0);
  // The device interrupts when (new − event − 1) < (new − old): not for any of the next 2^16 − 1 returns.
  for (let from = 5; from < 5 + 65_535; from++) {
    if (((from & 0xffff) - ring.usedEvent & 0xffff) === 0) throw new Error(`interrupt at ${from}`);
  }
  queue.addSingle(0, 0, 1, true);
  queue.publish();
  ring.push(ring.pop()!.head, 1);
  assertEquals(queue.enableInterrupts(), true);
});

Deno.test("1.6 the doorbell is given the available index as offset and wrap", () => {
  using fixture = ringFixture({ size: 256 });
  const { queue, ring, notified } = fixture;
  const into = usedBurst(256);
  for (let round = 0; round < 258; round++) {
    for (let i = 0; i < 256; i++) queue.addSingle(0, 0, 1, true);
    queue.flush();
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) ring.push(chain.head, 0);
    queue.takeUsed(into);
  }
  assertEquals(notified[0], { queue: 0, nextOffset: 256, nextWrap: 0 });
  assertEquals(notified[126], { queue: 0, nextOffset: 127 * 256, nextWrap: 0 });
  assertEquals(notified[127], { queue: 0, nextOffset: 0, nextWrap: 1 });
  assertEquals(notified[128], { queue: 0, nextOffset: 256, nextWrap: 1 });
  assertEquals(notified[255], { queue: 0, nextOffset: 0, nextWrap: 0 });
  assertEquals(notified[256], { queue: 0, nextOffset: 256, nextWrap: 0 });
});

Deno.test("1.3 chains that can never be: too long, empty, not numbers, more than 2^32 bytes", () => {
  using fixture = ringFixture({ size: 8, maxSegments: 8, indirect: true });
  const { queue } = fixture;
  assertThrows(() => queue.begin(5, 4), UsageError, "can never fit");
  for (const [readable, writable] of [[0, 0], [-1, 2], [0.5, 0.5], [NaN, 1]] as const) {
    assertThrows(() => queue.begin(readable, writable), UsageError);
  }
  for (
    const [lo, hi, length] of [[-1, 0, 1], [0, 2 ** 32, 1], [0, 0, 0], [0, 0, 1.5], [NaN, 0, 1]] as const
  ) {
    assertThrows(() => queue.addSingle(lo, hi, length, true), UsageError);
    assert(queue.begin(1, 0));
    assertThrows(() => queue.segment(lo, hi, length), UsageError);
  }
  assert(queue.begin(0, 2));
  queue.segment(0, 0, 0xffff_ffff);
  assertThrows(() => queue.segment(0, 0, 2), UsageError, "2^32");
  assert(queue.begin(0, 2));
  queue.segment(0, 0, 0xffff_ffff);
  queue.segment(0, 0, 1);
  queue.commit();
  assertEquals(queue.inFlight, 1);
});

Deno.test("a chain is begun, filled and committed in this order; a mistake drops it and the queue goes on", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  assertThrows(() => queue.commit(), UsageError);
  assertThrows(() => queue.segment(0, 0, 1), UsageError);
  assert(queue.begin(2, 0));
  assertThrows(() => queue.begin(1, 0), UsageError, "not committed");
  assert(queue.begin(2, 0));
  queue.segment(0, 0, 1);
  assertThrows(() => queue.commit(), UsageError, "1 of 2");
  assert(queue.begin(1, 0));
  queue.segment(0, 0, 1);
  assertThrows(() => queue.segment(0, 0, 1), UsageError);
  assert(queue.begin(1, 0));
  assertThrows(() => queue.addSingle(0, 0, 1, true), UsageError);
  assertEquals(queue.freeDescriptors, 8);
  assertEquals(queue.inFlight, 0);
  addChain(queue, [1, 2], [3]);
  queue.publish();
  assertEquals(ring.pop()?.parts.map((part) => part.length), [1, 2, 3]);
  assertEquals(ring.pop(), undefined);
});

Deno.test("createVirtqueue: a power of two up to what caller and device allow, freed when enabling fails", () => {
  const transport = new FakeTransport({ queueSizes: [100, 0, 64] });
  transport.driverFeatures = 1n << 32n;
  const first = createVirtqueue(transport, 0, { size: 1000 });
  assertEquals(first.size, 64);
  assertThrows(() => createVirtqueue(transport, 1), UnsupportedError);
  assertThrows(() => createVirtqueue(transport, 9), UnsupportedError);
  assertThrows(() => createVirtqueue(transport, 2, { size: 0 }), UsageError);
  assertThrows(() => createVirtqueue(transport, 0)); // the fake refuses to enable twice
  assertEquals(transport.dma.usage.labels, ["queue 0 rings"]);
  first.close();
  assertEquals(transport.dma.usage.allocations, 0);
  transport.close();
});

Deno.test("1.1 a queue does not notify before DRIVER_OK", () => {
  const gate = { live: false };
  using fixture = ringFixture({ size: 8, gate });
  fixture.queue.addSingle(0, 0, 1, true);
  assertThrows(() => fixture.queue.flush(), UsageError, "DRIVER_OK");
  assertEquals(fixture.notified.length, 0);
  gate.live = true;
  fixture.queue.notify();
  assertEquals(fixture.notified.length, 1);
});

Deno.test("after close every call is a ClosedError, also when the memory went away beneath", () => {
  const into = usedBurst(4);
  for (const beneath of [false, true]) {
    using fixture = ringFixture({ size: 8 });
    const { queue, transport } = fixture;
    queue.addSingle(0, 0, 8, true);
    if (beneath) transport.dma.close();
    else queue.close();
    assertEquals(queue.closed, true);
    const calls: (() => unknown)[] = [
      () => queue.begin(1, 0),
      () => queue.segment(0, 0, 1),
      () => queue.commit(),
      () => queue.addSingle(0, 0, 1, true),
      () => queue.publish(),
      () => queue.notify(),
      () => queue.flush(),
      () => queue.hasUsed(),
      () => queue.takeUsed(into),
      () => queue.suppressInterrupts(),
      () => queue.enableInterrupts(),
      () => queue.inFlightIds(),
      () => queue.freeDescriptors,
      () => queue.inFlight,
    ];
    for (const call of calls) assertThrows(call, ClosedError, "queue 0");
    queue.close();
  }
});
