/** A device that is gone without a reset, and another that goes on with its rings: every chain comes back once, whatever the first had done. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceError, UsageError } from "../../../../lib/errors/mod.ts";
import { usedBurst } from "../../../../lib/virtio/mod.ts";
import type {
  PackedQueueState,
  QueueState,
  SplitQueueState,
} from "../../../../lib/virtio/spec/queue_state.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { Random } from "../../../random.ts";
import { ModelPackedRing } from "./model_packed_ring.ts";
import { ModelRing } from "./model_ring.ts";
import { addChain, type FixtureOptions, packedFixture, ringFixture } from "./ring_fixture.ts";

interface Held {
  readonly id: number;
  readonly count: number;
}

/** The device's side of either layout, as far as this needs it. */
interface Side {
  pop(): Held | undefined;
  push(of: Held): void;
}

function split(ring: ModelRing): Side {
  return {
    pop: () => {
      const chain = ring.pop();
      return chain === undefined ? undefined : { id: chain.head, count: 1 };
    },
    push: ({ id }) => ring.push(id, 0),
  };
}

function packed(ring: ModelPackedRing): Side {
  return { pop: () => ring.pop(), push: ({ id, count }) => ring.push(id, 0, count) };
}

function splitState(state: QueueState): SplitQueueState {
  if (state.layout !== "split") throw new Error("a packed state");
  return state;
}

function packedState(state: QueueState): PackedQueueState {
  if (state.layout !== "packed") throw new Error("a split state");
  return state;
}

interface Rig extends Disposable {
  readonly queue: Virtqueue;
  /** The device that there is. */
  side: Side;
  /** Another device. */
  replace(offersAgain: boolean): void;
}

function rig(layout: "split" | "packed", options: FixtureOptions): Rig {
  if (layout === "split") {
    const fixture = ringFixture(options);
    return {
      queue: fixture.queue,
      side: split(fixture.ring),
      replace(offersAgain) {
        const state = splitState(fixture.queue.takeOver(offersAgain));
        const ring = new ModelRing(fixture.ring.iommu, fixture.ring.addresses);
        ring.start(state.availableIndex);
        this.side = split(ring);
      },
      [Symbol.dispose]: () => fixture[Symbol.dispose](),
    };
  }
  const fixture = packedFixture(options);
  return {
    queue: fixture.queue,
    side: packed(fixture.ring),
    replace(offersAgain) {
      const state = packedState(fixture.queue.takeOver(offersAgain));
      const ring = new ModelPackedRing(fixture.ring.iommu, fixture.ring.addresses);
      ring.start(state);
      this.side = packed(ring);
    },
    [Symbol.dispose]: () => fixture[Symbol.dispose](),
  };
}

for (const layout of ["split", "packed"] as const) {
  for (const inOrder of [false, true]) {
    for (const indirect of [false, true]) {
      const mix = `${layout}${inOrder ? ", in order" : ""}${indirect ? ", indirect" : ""}`;
      Deno.test(`take over, ${mix}: at any moment of random traffic, each chain comes back once`, () => {
        for (let seed = 0; seed < 40; seed++) {
          traffic(layout, { inOrder, indirect, eventIndex: seed % 2 === 0 }, seed);
        }
      });
    }
  }
}

function traffic(layout: "split" | "packed", features: FixtureOptions, seed: number): void {
  const random = new Random(seed * 7919 + 1);
  const size = layout === "split" ? 8 : 3 + random.below(7);
  using r = rig(layout, { ...features, size, maxSegments: 3 });
  const { queue } = r;
  const into = usedBurst(4);
  /** What the driver waits for, and what the device has. */
  const waited = new Set<number>();
  let held: Held[] = [];
  let deaths = 0;
  const take = () => {
    const count = queue.takeUsed(into, 1 + random.below(4));
    for (let at = 0; at < count; at++) {
      assert(waited.delete(into.ids[at]!), `seed ${seed}: id ${into.ids[at]} came back twice`);
    }
  };
  for (let step = 0; step < 400; step++) {
    const dice = random.below(20);
    if (dice < 6) {
      const parts = 1 + random.below(3);
      if (parts <= size && queue.begin(parts, 0)) {
        for (let part = 0; part < parts; part++) queue.segment(0x10000 + step, 0, 1 + part);
        waited.add(queue.commit());
      }
      if (dice < 4) queue.publish();
    } else if (dice < 11) {
      const chain = r.side.pop();
      if (chain !== undefined) held.push(chain);
    } else if (dice < 15) {
      if (held.length > 0) r.side.push(held.splice(features.inOrder ? 0 : random.below(held.length), 1)[0]!);
    } else if (dice < 19) take();
    else {
      // The device dies with what it holds; what it has returned is not taken yet, or only in part.
      r.replace(true);
      held = [];
      deaths++;
    }
  }
  // The last device does all that is left.
  queue.publish();
  for (let chain = r.side.pop(); chain !== undefined; chain = r.side.pop()) held.push(chain);
  for (let rounds = 0; rounds < 100 && waited.size > 0; rounds++) {
    const next = held.shift();
    if (next !== undefined) r.side.push(next);
    take();
  }
  assertEquals(
    [waited.size, queue.inFlight, queue.freeDescriptors],
    [0, 0, size],
    `seed ${seed}, ${deaths} deaths`,
  );
}

Deno.test("take over, split: the device's flag and event index are void, so that the next chain is notified of", () => {
  for (const eventIndex of [false, true]) {
    using fixture = ringFixture({ size: 8, eventIndex });
    const { queue, ring } = fixture;
    addChain(queue, [1], []);
    queue.publish();
    // As a device that polled would have left them.
    ring.usedFlags = 1;
    queue.takeOver(false);
    assertEquals(addChain(queue, [1], []) >= 0 && queue.publish(), true);
  }
});

Deno.test("take over, left alone: what was in flight stays where it is, for a device that knows what was taken", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  const ids = [1, 2, 3].map((length) => addChain(queue, [length], []));
  queue.publish();
  for (let n = 0; n < 3; n++) ring.pop();
  ring.push(ids[1]!, 0);
  assertEquals(queue.takeOver(false), { layout: "split", availableIndex: 1 });
  assertEquals([ring.availableIndex, ring.pop()], [3, undefined]);
  ring.push(ids[0]!, 0);
  ring.push(ids[2]!, 0);
  const into = usedBurst(8);
  assertEquals([queue.takeUsed(into), ...into.ids.subarray(0, 3)], [3, ids[1], ids[0], ids[2]]);
});

Deno.test("take over, IN_ORDER: of a batch that is returned and given out in part, the rest stays to be taken", () => {
  for (const layout of ["split", "packed"] as const) {
    using fixture = layout === "split"
      ? ringFixture({ size: 8, inOrder: true })
      : packedFixture({ size: 8, inOrder: true });
    const { queue } = fixture;
    const ids = [1, 2, 3, 4].map((length) => addChain(queue, [length], []));
    queue.publish();
    for (let n = 0; n < 4; n++) fixture.ring.pop();
    const { ring } = fixture;
    if (ring instanceof ModelRing) {
      ring.fillBatch(ids[2]!, 0, 3);
      ring.usedIndex = ring.usedNext;
    } else ring.push(ids[2]!, 0, 3);
    const into = usedBurst(8);
    assertEquals([queue.takeUsed(into, 1), into.ids[0]], [1, ids[0]]);
    const state = queue.takeOver(true);
    assertEquals(state.layout === "split" ? state.availableIndex : state.availableSlot, 3);
    assertEquals([queue.takeUsed(into), into.ids[0], into.ids[1]], [2, ids[1], ids[2]]);
    assertEquals(queue.inFlightIds(), [ids[3]]);
  }
});

Deno.test("take over: a device that lied before it went breaks the queue; so does a chain half added", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  queue.begin(2, 0);
  assertThrows(() => queue.takeOver(true), UsageError, "was not committed");
  ring.usedIndex = 5;
  assertThrows(() => queue.takeOver(true), DeviceError, "used.idx");
});
