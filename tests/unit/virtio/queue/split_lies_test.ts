import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { ModelRing } from "./model_ring.ts";
import { addChain, ringFixture } from "./ring_fixture.ts";

const into = usedBurst(16);

/** Runs `lie` on a queue with chain 0 (2 parts, 100 writable bytes), chain 2 (readable only) and a committed, unpublished chain 3. */
function caught(field: string, lie: (ring: ModelRing, queue: Virtqueue) => void): DeviceError {
  using fixture = ringFixture({ size: 8 });
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

  // Broken from now on, always with the same error; what must be given back is still known.
  for (
    const call of [
      () => queue.takeUsed(into),
      () => queue.hasUsed(),
      () => queue.addSingle(0, 0, 1, true),
      () => queue.begin(1, 0),
      () => queue.publish(),
      () => queue.flush(),
      () => queue.notify(),
      () => queue.enableInterrupts(),
      () => queue.suppressInterrupts(),
    ]
  ) {
    assertStrictEquals(assertThrows(call, DeviceError), error);
  }
  assert(queue.inFlightIds().includes(3));
  queue.close();
  return error;
}

Deno.test("lie: used.idx jumps past what the device holds", () => {
  caught("used.idx", (ring) => ring.usedIndex = 3);
  caught("used.idx", (ring) => ring.usedIndex = 0x8000);
});

Deno.test("lie: used.idx goes backwards", () => {
  caught("used.idx", (ring) => ring.usedIndex = 0xffff);
  caught("used.idx", (ring, queue) => {
    ring.push(0, 1);
    queue.takeUsed(into);
    ring.usedIndex = 0;
  });
});

Deno.test("lie: used.idx counts a chain that was not published", () => {
  const error = caught("used.idx", (ring) => {
    ring.push(0, 1);
    ring.push(2, 0);
    ring.push(3, 0);
  });
  assert(error.message.includes("holds 2 chains"));
});

Deno.test("lie: used.id at and past the queue size, up to 2^32 − 1", () => {
  for (const id of [8, 0xffff, 0x1_0000, 0xffff_ffff]) caught("used.id", (ring) => ring.push(id, 0));
});

Deno.test("lie: used.id of a free descriptor, of the middle of a chain, of a chain not yet published", () => {
  caught("used.id", (ring) => ring.push(5, 0));
  caught("used.id", (ring) => ring.push(1, 0));
  const error = caught("used.id", (ring) => ring.push(3, 0));
  assert(error.message.includes("not made available yet"));
});

Deno.test("lie: an id is returned twice, in two bursts and in one", () => {
  caught("used.id", (ring, queue) => {
    ring.push(0, 1);
    assertEquals(queue.takeUsed(into), 1);
    ring.push(0, 1);
  });
  // In one burst: the honest return before the lie is still given out, once.
  caught("used.id", (ring, queue) => {
    ring.fill(0, 7);
    ring.fill(0, 7);
    ring.usedIndex = ring.usedNext;
    assertEquals(queue.takeUsed(into), 1);
    assertEquals([into.ids[0], into.lengths[0]], [0, 7]);
  });
});

Deno.test("lie: used.len over the chain's device-writable bytes", () => {
  caught("used.len", (ring) => ring.push(0, 101));
  caught("used.len", (ring) => ring.push(0, 110)); // readable + writable bytes: still too much
  caught("used.len", (ring) => ring.push(2, 1));
  caught("used.len", (ring) => ring.push(0, 0xffff_ffff));
});

Deno.test("used.len of exactly the writable bytes is no lie", () => {
  using fixture = ringFixture({ size: 8 });
  addChain(fixture.queue, [10], [60, 40]);
  fixture.queue.publish();
  fixture.ring.push(fixture.ring.pop()!.head, 100);
  assertEquals(fixture.queue.takeUsed(into), 1);
  assertEquals(into.lengths[0], 100);
});

Deno.test("a device that writes into rings that only the driver writes cannot mislead it", () => {
  using fixture = ringFixture({ size: 8, maxSegments: 4, indirect: true });
  const { queue, ring, transport } = fixture;
  for (let round = 0; round < 50; round++) {
    const heads = [
      addChain(queue, [1], [2]),
      queue.addSingle(0, 0, 5, true),
      addChain(queue, [1, 1, 1, 1, 1], []),
    ];
    queue.publish();
    for (const head of heads) assertEquals(ring.pop()?.head, head);
    // Everything that the driver wrote is overwritten: descriptors, available ring, tables.
    const { addresses } = ring;
    const bytes = transport.iommu.at(addresses.descriptorArea, 128, true);
    for (let at = 0; at < 128; at++) bytes.setUint8(at, 0xff);
    const available = transport.iommu.at(addresses.driverArea, 22, true);
    for (let at = 4; at < 22; at++) available.setUint8(at, 0xff);
    for (const head of heads) ring.push(head, 0);
    assertEquals(queue.takeUsed(into), 3);
    assertEquals(queue.freeDescriptors, 8);
  }
});
