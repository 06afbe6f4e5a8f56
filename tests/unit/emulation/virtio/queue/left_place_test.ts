import { assert, assertEquals } from "@std/assert";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { FakeClient, FakeOwner, FakeRing } from "../fake_client.ts";
import { Random } from "../../../../random.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

const SIZE = 7;

/** Chains of up to three descriptors, now and then through a table, as long as there is room. */
function fill(ring: FakePackedRing, client: FakeClient, random: Random, most: number): void {
  for (let n = 0; n < most; n++) {
    const parts = Array.from({ length: 1 + random.below(3) }, (_, i) => ({
      iova: client.at(4096 + 64 * i),
      length: 64,
      write: true,
    }));
    if (ring.freeSlots < parts.length) break;
    ring.add(parts);
  }
  // Sometimes the driver is in the middle of it when the device goes on.
  if (random.below(3) !== 0) ring.publish();
}

for (const eventIndex of [false, true]) {
  Deno.test(`1.4 packed${eventIndex ? ", event index" : ""}: a device goes on where another left the ring, whatever the order of return and the driver's work meanwhile`, () => {
    using client = new FakeClient(1 << 16);
    client.allocate(8192);
    const random = new Random(eventIndex ? 3 : 4);
    const ring = new FakePackedRing(client, SIZE);
    const owner = new FakeOwner(client.dma);
    const chain = new Chain(SIZE);
    let queue = new PackedDeviceQueue(ring.setup(0, { eventIndex }), owner);
    const places = new Set<string>();
    let full = 0;
    for (let n = 0; n < 5000; n++) {
      ring.publish();
      fill(ring, client, random, random.below(4));
      const held: number[] = [];
      while (random.below(4) !== 0) {
        const id = queue.pop(chain);
        if (id < 0) break;
        held.push(id);
      }
      // Out of order.
      while (held.length > 0) queue.pushUsed(held.splice(random.below(held.length), 1)[0]!, 64);
      if (random.below(2) === 0) queue.publish();
      if (random.below(2) === 0) queue.suppress();
      else queue.arm(random.below(3));
      queue.leave();
      const state = queue.state();
      if (state.layout !== "packed") throw new Error(state.layout);
      assertEquals([state.usedSlot, state.usedWrap], [state.availableSlot, state.availableWrap]);
      assertEquals(ring.deviceEvent, {
        flags: eventIndex ? 2 : 0,
        offset: state.usedSlot,
        wrap: state.usedWrap,
      });
      // The driver goes on while the device is stopped.
      ring.takeUsed();
      fill(ring, client, random, random.below(4));
      if (ring.freeSlots === 0) full++;
      queue = new PackedDeviceQueue(ring.setup(0, { eventIndex, left: true }), owner);
      queue.available();
      assertEquals(owner.violations, []);
      assertEquals(queue.state(), state);
      places.add(`${state.usedSlot} ${state.usedWrap}`);
    }
    assertEquals(places.size, 2 * SIZE);
    assert(full > 100, `${full} times the ring was full`);
  });
}

Deno.test("1.4 packed: a place that the ring contradicts is found out before anything is taken", () => {
  using client = new FakeClient(1 << 16);
  client.allocate(8192);
  const part = [{ iova: client.at(4096), length: 64, write: true }];
  const ring = new FakePackedRing(client, SIZE);
  const first = new PackedDeviceQueue(ring.setup(), new FakeOwner(client.dma));
  const chain = new Chain(SIZE);
  for (let i = 0; i < 5; i++) ring.add(part);
  ring.publish();
  // Three are returned, two more wait, and two slots are free.
  for (let i = 0; i < 3; i++) first.pushUsed(first.pop(chain), 64);
  first.leave();
  assertEquals(ring.deviceEvent, { flags: 0, offset: 3, wrap: 1 });
  const outcomes: Record<string, string> = {};
  for (const wrap of [0, 1]) {
    for (let slot = 0; slot <= SIZE; slot++) {
      client.view.setUint16(ring.device, slot | wrap << 15, true);
      const owner = new FakeOwner(client.dma);
      const queue = new PackedDeviceQueue(ring.setup(0, { left: true }), owner);
      queue.available();
      const [violation] = owner.violations;
      assertEquals(queue.broken, violation !== undefined);
      if (violation !== undefined) assertEquals(queue.pop(chain), -1);
      outcomes[`${slot}.${wrap}`] = violation === undefined
        ? "taken"
        : violation.message.replace(/^.*?, (?=slot|the queue)/, "");
    }
  }
  assertEquals(outcomes, {
    "0.0": "slot 6 before it has not been made available",
    "1.0": "slot 0 before it has not been made available",
    "2.0": "slot 1 before it has not been made available",
    "3.0": "slot 2 before it has not been made available",
    // A chain's inner descriptors look as if they were available for ever: what may be the inside of one cannot be told from its end.
    "4.0": "taken",
    "5.0": "slot 5 has been used already",
    "6.0": "slot 6 has been used already",
    "7.0": "the queue has 7 slots",
    "0.1": "slot 0 has been used already",
    "1.1": "slot 1 has been used already",
    "2.1": "slot 2 has been used already",
    "3.1": "taken",
    "4.1": "taken",
    "5.1": "taken",
    "6.1": "slot 5 before it has not been made available",
    "7.1": "the queue has 7 slots",
  });
});

Deno.test("1.3 split: a device goes on at the used index, also when it wraps", () => {
  using client = new FakeClient(1 << 16);
  client.allocate(8192);
  const random = new Random(8);
  const ring = new FakeRing(client, 8);
  const owner = new FakeOwner(client.dma);
  const chain = new Chain(8);
  let queue = new SplitDeviceQueue(ring.setup(), owner);
  let added = 0;
  for (let n = 0; added < 0x1_8000; n++) {
    while (random.below(4) !== 0 && ((ring.availIdx - ring.usedIdx) & 0xffff) < 8) {
      ring.add([{ iova: client.at(4096), length: 64, write: true }]);
      added++;
    }
    ring.publish();
    const held: number[] = [];
    for (let id = queue.pop(chain); id >= 0 && random.below(4) !== 0; id = queue.pop(chain)) held.push(id);
    if (queue.inFlight > held.length) queue.unpop();
    while (held.length > 0) queue.pushUsed(held.splice(random.below(held.length), 1)[0]!, 64);
    queue.leave();
    assertEquals(queue.state(), { layout: "split", availableIndex: ring.usedIdx });
    const waiting = queue.available();
    queue = new SplitDeviceQueue({ ...ring.setup(), left: true }, owner);
    assertEquals(queue.available(), waiting);
    assertEquals(queue.state(), { layout: "split", availableIndex: ring.usedIdx });
  }
  assertEquals(owner.violations, []);
});
