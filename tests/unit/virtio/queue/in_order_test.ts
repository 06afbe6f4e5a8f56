import { assertEquals, assertThrows } from "@std/assert";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { addChain, packedFixture, ringFixture } from "./ring_fixture.ts";

const into = usedBurst(16);

Deno.test("IN_ORDER split: descriptors in ring order from offset 0, next is x + 1, and 0 behind the last", () => {
  using fixture = ringFixture({ size: 8, inOrder: true });
  const { queue, ring } = fixture;
  let at = 0;
  for (let round = 0; round < 30; round++) {
    const parts = 1 + round % 3;
    const head = addChain(queue, Array(parts).fill(5), []);
    assertEquals(head, at, `round ${round}`);
    for (let part = 0; part < parts; part++) {
      const { flags, next } = ring.descriptor((at + part) % 8);
      assertEquals(flags & 1, part < parts - 1 ? 1 : 0);
      // SPEC split virtqueues: "MUST set next to 0 for the last descriptor in the table and to x + 1 for the rest".
      if (part < parts - 1) assertEquals(next, (at + part + 1) % 8);
    }
    at = (at + parts) % 8;
    queue.publish();
    ring.push(ring.pop()!.head, 0);
    assertEquals(queue.takeUsed(into), 1);
  }
});

Deno.test("IN_ORDER split: table entries are linked 1, 2, 3, …", () => {
  using fixture = ringFixture({ size: 8, maxSegments: 4, indirect: true, inOrder: true });
  const head = addChain(fixture.queue, [1, 2], [3, 4]);
  const { addr } = fixture.ring.descriptor(head);
  const table = fixture.transport.iommu.at(addr, 64, false);
  assertEquals([0, 1, 2].map((at) => table.getUint16(16 * at + 14, true)), [1, 2, 3]);
});

Deno.test("IN_ORDER split: one element for a batch completes it; those that were skipped count as used completely", () => {
  using fixture = ringFixture({ size: 8, inOrder: true });
  const { queue, ring } = fixture;
  const heads = [
    addChain(queue, [1], [100]),
    addChain(queue, [1], []),
    addChain(queue, [], [30, 12]),
    addChain(queue, [], [9]),
  ];
  queue.publish();
  for (const _ of heads) ring.pop();
  ring.fillBatch(heads[2]!, 40, 3);
  ring.usedIndex = ring.usedNext;
  // Stale elements behind the batch's one are never looked at.
  assertEquals(queue.hasUsed(), true);
  assertEquals(queue.takeUsed(into), 3);
  assertEquals([...into.ids.subarray(0, 3)], heads.slice(0, 3));
  assertEquals([...into.lengths.subarray(0, 3)], [100, 0, 40]);
  assertEquals([queue.hasUsed(), queue.freeDescriptors, queue.inFlightIds()], [false, 7, [heads[3]!]]);
  // The next element is where the batch ended.
  ring.push(heads[3]!, 9);
  assertEquals(queue.takeUsed(into), 1);
  assertEquals([into.ids[0], into.lengths[0]], [heads[3]!, 9]);
});

Deno.test("IN_ORDER split: a batch is given out in pieces, and something is used until it is over", () => {
  using fixture = ringFixture({ size: 8, inOrder: true, eventIndex: true });
  const { queue, ring } = fixture;
  const heads = [0, 1, 2, 3, 4].map((i) => addChain(queue, [], [10 + i]));
  queue.publish();
  for (const _ of heads) ring.pop();
  ring.fillBatch(heads[4]!, 3, 5);
  ring.usedIndex = ring.usedNext;
  const seen: number[] = [];
  for (const max of [2, 2, 2]) {
    assertEquals([queue.hasUsed(), queue.enableInterrupts()], [true, true]);
    const n = queue.takeUsed(into, max);
    // The ring's memory may change meanwhile: what was read once stands.
    for (let slot = 0; slot < 8; slot++) ring.fill(7, 0xffff);
    for (let i = 0; i < n; i++) seen.push(into.ids[i]!, into.lengths[i]!);
  }
  assertEquals(seen, [heads[0]!, 10, heads[1]!, 11, heads[2]!, 12, heads[3]!, 13, heads[4]!, 3]);
  assertEquals([queue.hasUsed(), queue.enableInterrupts(), queue.inFlight], [false, false, 0]);
});

Deno.test("IN_ORDER split lies: a batch longer than used.idx moved, an id twice, an id before the oldest", () => {
  const broken = (lie: (fixture: ReturnType<typeof ringFixture>) => void): DeviceError => {
    using fixture = ringFixture({ size: 8, inOrder: true });
    for (let i = 0; i < 4; i++) addChain(fixture.queue, [], [10]);
    fixture.queue.publish();
    for (let i = 0; i < 4; i++) fixture.ring.pop();
    lie(fixture);
    const error = assertThrows(() => fixture.queue.takeUsed(into), DeviceError);
    assertThrows(() => fixture.queue.hasUsed(), DeviceError);
    return error;
  };
  const long = broken(({ ring }) => {
    ring.fill(2, 0);
    ring.usedIndex = 2;
  });
  assertEquals(long.location, { function: "fake 0", queue: 0, field: "used.id" });
  assertEquals(long.message.includes("batch of 3"), true);
  const twice = broken(({ ring, queue }) => {
    ring.fillBatch(1, 0, 2);
    ring.usedIndex = 2;
    assertEquals(queue.takeUsed(into), 2);
    ring.push(1, 0);
  });
  assertEquals(twice.location.field, "used.id");
  const second = broken(({ ring, queue }) => {
    ring.fill(0, 0);
    ring.fill(2, 0);
    ring.usedIndex = 2;
    assertEquals(queue.takeUsed(into), 1, "the honest return before the lie");
  });
  assertEquals(second.message.includes("batch of 2, but used.idx has only 1 more"), true);
  assertEquals(
    broken(({ ring }) => ring.push(3, 0)).location.field,
    "used.id",
    "out of order is a batch of four",
  );
  assertEquals(broken(({ ring }) => ring.push(0, 11)).location.field, "used.len");
});

Deno.test("IN_ORDER packed: a batch by its last id; skips go over the whole batch, through the wrap", () => {
  using fixture = packedFixture({ size: 7, inOrder: true, eventIndex: true });
  const { queue, ring } = fixture;
  for (let round = 0; round < 40; round++) {
    const ids = [
      addChain(queue, [1], [100]),
      addChain(queue, [1, 1], []),
      addChain(queue, [], [30]),
    ];
    queue.publish();
    const counts = ids.map(() => ring.pop()!.count);
    assertEquals(counts, [2, 2, 1]);
    if (round % 3 === 0) {
      ring.push(ids[2]!, 7, 5);
    } else {
      ring.push(ids[1]!, 0, 4);
      ring.push(ids[2]!, 7, 1);
    }
    const got: number[] = [];
    for (const max of [1, 16]) {
      assertEquals(queue.hasUsed(), true);
      const n = queue.takeUsed(into, max);
      for (let i = 0; i < n; i++) got.push(into.ids[i]!, into.lengths[i]!);
    }
    assertEquals(got, [ids[0]!, 100, ids[1]!, 0, ids[2]!, 7], `round ${round}`);
    assertEquals([queue.hasUsed(), queue.freeDescriptors], [false, 7]);
    assertEquals(queue.enableInterrupts(), false);
    const { slot, wrap } = ring.usedNext;
    assertEquals(
      ring.driverEvent.desc,
      slot | (wrap << 15),
      "the next used descriptor lies behind the batch",
    );
  }
});

Deno.test("IN_ORDER packed: ids follow one another as descriptors do", () => {
  using fixture = packedFixture({ size: 5, inOrder: true });
  let next = 0;
  for (let round = 0; round < 20; round++) {
    const parts = 1 + round % 2;
    const id = addChain(fixture.queue, Array(parts).fill(1), []);
    assertEquals(id, next);
    next = (next + parts) % 5;
    fixture.queue.publish();
    fixture.ring.push(id, 0, fixture.ring.pop()!.count);
    assertEquals(fixture.queue.takeUsed(into), 1);
  }
});

Deno.test("IN_ORDER: 2^32 writable bytes that were skipped are as many as a length can say", () => {
  using fixture = packedFixture({ size: 4, inOrder: true });
  const { queue, ring } = fixture;
  queue.begin(0, 2);
  queue.segment(0, 0, 0xffff_ffff);
  queue.segment(0, 1, 1);
  queue.commit();
  const last = addChain(queue, [], [4]);
  queue.publish();
  ring.pop();
  ring.pop();
  ring.push(last, 4, 3);
  assertEquals(queue.takeUsed(into), 2);
  assertEquals([...into.lengths.subarray(0, 2)], [0xffff_ffff, 4]);
});
