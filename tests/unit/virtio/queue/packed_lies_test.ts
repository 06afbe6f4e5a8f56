import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { ModelPackedRing } from "./model_packed_ring.ts";
import { addChain, packedFixture } from "./ring_fixture.ts";

const into = usedBurst(16);

/** Runs `lie` on a queue with chain 0 (2 parts, 100 writable bytes), chain 2 (readable only) and a committed, unpublished chain 3. */
function caught(field: string, lie: (ring: ModelPackedRing, queue: Virtqueue) => void): DeviceError {
  using fixture = packedFixture({ size: 7 });
  const { queue, ring } = fixture;
  assertEquals(addChain(queue, [10], [100]), 0);
  assertEquals(addChain(queue, [10], []), 2);
  queue.publish();
  assertEquals(addChain(queue, [], [10]), 3);
  ring.pop();
  ring.pop();
  lie(ring, queue);
  const error = assertThrows(() => queue.takeUsed(into), DeviceError);
  assertEquals(error.location, { function: "fake 0", queue: 0, field });
  assert(error.message.includes("fake 0, queue 0, " + field), error.message);
  for (
    const call of [
      () => queue.takeUsed(into),
      () => queue.hasUsed(),
      () => queue.addSingle(0, 0, 1, true),
      () => queue.begin(1, 0),
      () => queue.publish(),
      () => queue.notify(),
      () => queue.enableInterrupts(),
      () => queue.suppressInterrupts(),
      () => queue.save(),
      () => queue.restart(),
      () => queue.reoffer([]),
    ]
  ) {
    assertStrictEquals(assertThrows(call, DeviceError), error);
  }
  assert(queue.inFlightIds().includes(3));
  assert(queue.saveInFlight().some(({ id }) => id === 3));
  assertEquals(queue.snapshot().fault, error.message);
  queue.close();
  return error;
}

Deno.test("lie: buffer id at and past the queue size", () => {
  for (const id of [7, 8, 0x7fff, 0xffff]) caught("used.id", (ring) => ring.push(id, 0, 1));
});

Deno.test("lie: buffer id that is free, of the middle of a list, of a chain not yet published, returned twice", () => {
  caught("used.id", (ring) => ring.push(5, 0, 1));
  caught("used.id", (ring) => ring.push(1, 0, 1));
  const error = caught("used.id", (ring) => ring.push(3, 0, 1));
  assert(error.message.includes("not made available yet"));
  caught("used.id", (ring, queue) => {
    ring.push(0, 7, 2);
    ring.push(0, 7, 1);
    assertEquals(queue.takeUsed(into), 1, "the honest return before the lie is given out, once");
    assertEquals([into.ids[0], into.lengths[0]], [0, 7]);
  });
});

Deno.test("lie: length over the chain's device-writable bytes", () => {
  for (const length of [101, 110, 0xffff_ffff]) caught("used.len", (ring) => ring.push(0, length, 2));
  caught("used.len", (ring) => ring.push(2, 1, 1));
});

Deno.test("lie: more used than the device was given", () => {
  caught("used.flags", (ring, queue) => {
    ring.push(0, 1, 2);
    ring.push(2, 0, 1);
    assertEquals(queue.takeUsed(into), 2);
    ring.push(3, 0, 1);
  });
  using fixture = packedFixture({ size: 4 });
  fixture.ring.push(0, 0, 1);
  assertEquals(fixture.queue.hasUsed(), true);
  const error = assertThrows(() => fixture.queue.takeUsed(into), DeviceError);
  assertEquals(error.location.field, "used.flags");
});

Deno.test("lie: the wrong wrap bit is never taken for used, whatever else the descriptor says", () => {
  using fixture = packedFixture({ size: 4 });
  const { queue, ring } = fixture;
  for (let lap = 0; lap < 6; lap++) {
    const id = addChain(queue, [], [8]);
    queue.publish();
    ring.pop();
    const { slot, wrap } = ring.usedNext;
    ring.lie({ slot, wrap: wrap === 1 ? 0 : 1 }, id, 8);
    assertEquals([queue.hasUsed(), queue.takeUsed(into), queue.inFlight], [false, 0, 1]);
    ring.push(id, 8, 1);
    assertEquals(queue.takeUsed(into), 1);
    for (let n = 0; n < 2; n++) {
      const other = addChain(queue, [], [8]);
      queue.publish();
      ring.pop();
      ring.push(other, 1, 1);
      assertEquals(queue.takeUsed(into), 1);
    }
  }
});

Deno.test("lie: a list skipped by fewer slots than it has: what the device writes there is never read", () => {
  using fixture = packedFixture({ size: 8 });
  const { queue, ring } = fixture;
  const long = addChain(queue, [1, 1, 1], [5]);
  const next = addChain(queue, [], [9]);
  queue.publish();
  ring.pop();
  ring.pop();
  ring.push(long, 5, 1);
  ring.push(next, 9, 1); // in slot 1, where a list of one would have ended
  assertEquals(queue.takeUsed(into), 1);
  assertEquals([into.ids[0], queue.hasUsed(), queue.takeUsed(into)], [long, false, 0]);
  assertEquals(queue.inFlightIds(), [next]);
});

Deno.test("IN_ORDER lies: an id that was returned with its batch, one not published, a length of the last", () => {
  const broken = (lie: (ring: ModelPackedRing, queue: Virtqueue) => void): string | undefined => {
    using fixture = packedFixture({ size: 8, inOrder: true });
    for (let i = 0; i < 3; i++) addChain(fixture.queue, [], [10]);
    fixture.queue.publish();
    addChain(fixture.queue, [], [10]);
    for (let i = 0; i < 3; i++) fixture.ring.pop();
    lie(fixture.ring, fixture.queue);
    return assertThrows(() => fixture.queue.takeUsed(into), DeviceError).location.field;
  };
  assertEquals(
    broken((ring, queue) => {
      ring.push(1, 10, 2);
      assertEquals(queue.takeUsed(into), 2);
      ring.push(0, 10, 1);
    }),
    "used.id",
  );
  assertEquals(broken((ring) => ring.push(3, 10, 4)), "used.id");
  assertEquals(broken((ring) => ring.push(2, 11, 3)), "used.len");
});

Deno.test("a device that overwrites everything that it can reach cannot mislead the driver about its chains", () => {
  using fixture = packedFixture({ size: 7, maxSegments: 4, indirect: true });
  const { queue, ring, transport } = fixture;
  for (let round = 0; round < 50; round++) {
    const ids = [
      addChain(queue, [1], [2]),
      queue.addSingle(0, 0, 5, true),
      addChain(queue, [1, 1, 1, 1, 1], []),
    ];
    queue.publish();
    const counts = ids.map(() => ring.pop()!.count);
    const wanted = queue.saveInFlight();
    const { addresses } = ring;
    const bytes = transport.iommu.at(addresses.descriptorArea, 7 * 16, true);
    // Neither available nor used: AVAIL and USED differ, and are not the driver's.
    for (let slot = 0; slot < 7; slot++) {
      for (let at = 0; at < 14; at++) bytes.setUint8(16 * slot + at, 0xa5);
    }
    assertEquals(queue.saveInFlight(), wanted);
    ids.forEach((id, at) => ring.push(id, 0, counts[at]!));
    assertEquals(queue.takeUsed(into), 3);
    assertEquals(queue.freeDescriptors, 7);
  }
});
