import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { Burst } from "../../../../../lib/emulation/virtio/queue/burst.ts";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import type { DeviceQueueSetup } from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { checkPackedSetup } from "../../../../../lib/emulation/virtio/queue/packed_setup.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { checkSplitSetup } from "../../../../../lib/emulation/virtio/queue/split_setup.ts";
import { FakeClient, FakeOwner, FakeRing } from "../fake_client.ts";
import { Random } from "../../../../random.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

type Options = Partial<DeviceQueueSetup>;

function split(size: number, options: Options) {
  const client = new FakeClient();
  const ring = new FakeRing(client, size);
  const owner = new FakeOwner(client.dma);
  const make = (more: Options = {}) => new SplitDeviceQueue({ ...ring.setup(0), ...options, ...more }, owner);
  return {
    client,
    ring,
    owner,
    make,
    chain: new Chain(size),
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

function packed(size: number, options: Options) {
  const client = new FakeClient();
  const ring = new FakePackedRing(client, size);
  const owner = new FakeOwner(client.dma);
  const make = (more: Options = {}) => new PackedDeviceQueue(ring.setup(0, { ...options, ...more }), owner);
  return {
    client,
    ring,
    owner,
    make,
    chain: new Chain(size),
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

/** Where the parts of these tests are. */
const IOVA = 0x1_2346_0000n;
const writable = (length: number) => ({ iova: IOVA, length, write: true });
const readable = (length: number) => ({ iova: IOVA, length });

// ---- IN_ORDER ----

Deno.test("1.2 IN_ORDER, both layouts: a device that returns chains out of order is told so, and can still return them in order", () => {
  for (const layout of [split, packed]) {
    using r = layout(8, { inOrder: true });
    const queue = r.make();
    const ids = [0, 1, 2].map(() => r.ring.add([readable(4)]));
    r.ring.publish();
    for (const id of ids) assertEquals(queue.pop(r.chain), id);
    assertThrows(
      () => queue.pushUsed(ids[1]!, 0),
      UsageError,
      `chain ${ids[1]} is returned before chain ${ids[0]}`,
    );
    queue.unpop();
    queue.pushUsed(ids[0]!, 0);
    queue.pushUsed(ids[1]!, 0);
    assertThrows(() => queue.pushUsed(ids[2]!, 0), UsageError, "does not hold");
    assertEquals(queue.pop(r.chain), ids[2]);
    queue.pushUsed(ids[2]!, 0);
    queue.publish();
    assertEquals(r.ring.takeUsed().map((one) => one.id), ids);
    // Without IN_ORDER any order will do.
    using free = layout(8, {});
    const other = free.make();
    const two = [0, 1].map(() => free.ring.add([readable(4)]));
    free.ring.publish();
    for (const _ of two) other.pop(free.chain);
    for (const id of two.reverse()) other.pushUsed(id, 0);
    other.publish();
    assertEquals(free.ring.takeUsed().map((one) => one.id), two);
  }
});

Deno.test("1.3 IN_ORDER with the quirk any-head: chains begin where they like, one by one and in bursts, and come back in order", () => {
  for (const inBursts of [false, true]) {
    using r = split(8, { inOrder: true, anyHead: true });
    const queue = r.make();
    const burst = new Burst(8);
    for (const head of [0, 0, 5, 3, 0]) {
      r.ring.free = head;
      r.ring.add([readable(1)]);
      r.ring.publish();
      if (inBursts) assertEquals([queue.popBurst(burst, 8, false), burst.ids[0]], [1, head]);
      else assertEquals(queue.pop(r.chain), head);
      queue.pushUsed(head, 0);
      queue.publish();
    }
    assertEquals(r.owner.violations, []);
  }
  using r = split(8, { inOrder: true });
  const queue = r.make();
  r.ring.free = 3;
  r.ring.add([readable(1)]);
  r.ring.publish();
  assertEquals(queue.pop(r.chain), -1);
  assertStringIncludes(r.owner.violations[0]!.message, '"quirks": ["any-head"]');
});

Deno.test("1.3 IN_ORDER: chains that do not use the table in ring order are violations", () => {
  const cases: [string, (ring: FakeRing) => void][] = [
    ["avail.ring[0] = 1: with IN_ORDER descriptors are used in ring order, 0 is next", (ring) => {
      ring.free = 1;
      ring.add([readable(1)]);
    }],
    ["avail.ring[1] = 2: with IN_ORDER descriptors are used in ring order, 1 is next", (ring) => {
      ring.add([readable(1)]);
      ring.free = 2;
      ring.add([readable(1)]);
    }],
    ["chain 0: desc[0].next = 2: with IN_ORDER it is the descriptor that follows", (ring) => {
      ring.writeDesc(0, IOVA, 1, 1, 2);
      ring.writeDesc(2, IOVA, 1, 0, 0);
      ring.offer(0);
    }],
    ["chain 0: entry 0 of the indirect table has next = 2: with IN_ORDER", (ring) => {
      const table = ring.client.allocate(48);
      ring.writeDesc(0, IOVA, 1, 1, 2, table);
      ring.writeDesc(2, IOVA, 1, 0, 0, table);
      ring.writeDesc(0, ring.client.at(table), 48, 4, 0);
      ring.offer(0);
    }],
  ];
  for (const [message, offer] of cases) {
    for (const inOrder of [true, false]) {
      using r = split(8, { inOrder });
      const queue = r.make();
      offer(r.ring);
      r.ring.publish();
      while (queue.pop(r.chain) >= 0);
      assertEquals(r.owner.violations.length, inOrder ? 1 : 0, message);
      if (inOrder) assertStringIncludes(r.owner.violations[0]!.message, message);
    }
  }
  // Round the end of the table, with chains of all kinds, and after giving some back.
  using r = split(8, { inOrder: true });
  const queue = r.make();
  for (let n = 0; n < 50; n++) {
    r.ring.add(new Array(1 + n % 3).fill(readable(1)));
    r.ring.addIndirect([readable(1), writable(1)]);
    r.ring.publish();
    assert(queue.pop(r.chain) >= 0);
    assert(queue.pop(r.chain) >= 0);
    if (n % 2 === 0) {
      queue.unpop();
      queue.unpop();
      queue.pop(r.chain);
      queue.pop(r.chain);
    }
    const first = (queue.state() as { availableIndex: number }).availableIndex - 2;
    for (const at of [first, first + 1]) {
      queue.pushUsed(r.client.view.getUint16(r.ring.avail + 4 + 2 * (at % 8), true), 0);
    }
    queue.publish();
  }
  assertEquals(r.owner.violations, []);
});

Deno.test("1.2 IN_ORDER split, batches: one element with the last id at the place of the first, idx by the size of the batch", () => {
  using r = split(8, { inOrder: true, usedBatches: true });
  const queue = r.make();
  for (let i = 0; i < 5; i++) r.ring.add([readable(4)]);
  r.ring.publish();
  for (let i = 0; i < 5; i++) queue.pop(r.chain);
  for (const id of [0, 1, 2]) queue.pushUsed(id, 0);
  assertEquals(r.ring.usedIdx, 0);
  queue.publish();
  const element = (i: number) => [
    r.client.view.getUint32(r.ring.used + 4 + 8 * i, true),
    r.client.view.getUint32(r.ring.used + 8 + 8 * i, true),
  ];
  assertEquals([r.ring.usedIdx, element(0), element(1), element(2)], [3, [2, 0], [0, 0], [0, 0]]);
  queue.pushUsed(3, 0);
  queue.publish();
  assertEquals([r.ring.usedIdx, element(3)], [4, [3, 0]], "a burst of one");
});

Deno.test("1.2 IN_ORDER packed, batches: one descriptor with the last id at the place of the first, the next behind the batch", () => {
  using r = packed(8, { inOrder: true, usedBatches: true });
  const queue = r.make();
  for (const [id, parts] of [[10, 2], [11, 1], [12, 3], [13, 1]] as const) {
    r.ring.add(new Array(parts).fill(readable(4)), id);
  }
  r.ring.publish();
  for (let i = 0; i < 4; i++) queue.pop(r.chain);
  for (const id of [10, 11, 12]) queue.pushUsed(id, 0);
  assertEquals(r.ring.flags(0) & 0x8080, 0x80, "invisible until publish");
  queue.publish();
  assertEquals([r.ring.flags(0), r.client.view.getUint16(r.ring.desc + 12, true)], [0x8080, 12]);
  assertEquals(
    [2, 3].map((slot) => r.ring.flags(slot) & 0x8080),
    [0x80, 0x80],
    "those skipped are not touched",
  );
  queue.pushUsed(13, 0);
  queue.publish();
  assertEquals(r.ring.flags(6), 0x8080);
  assertEquals(r.ring.takeUsed(true).map((one) => one.id), [12, 13]);
});

Deno.test("1.2 IN_ORDER, batches: only chains that were used to their last byte are skipped", () => {
  for (const layout of [split, packed]) {
    using r = layout(16, { inOrder: true, usedBatches: true });
    const queue = r.make();
    const ids = [100, 100, 100, 100, 100, 100].map((length) => r.ring.add([readable(5), writable(length)]));
    r.ring.publish();
    for (const _ of ids) queue.pop(r.chain);
    // The third and the fourth are written in part: the driver must hear how far.
    [100, 100, 60, 0, 100, 30].forEach((length, i) => queue.pushUsed(ids[i]!, length));
    queue.publish();
    const { ring } = r;
    if (ring instanceof FakePackedRing) {
      assertEquals(ring.takeUsed(true).map(({ id, length }) => [id, length]), [
        [ids[2], 60],
        [ids[3], 0],
        [ids[5], 30],
      ]);
    } else {
      assertEquals(ring.usedIdx, 6);
      const element = (i: number) => r.client.view.getUint32(ring.used + 4 + 8 * i, true);
      assertEquals([element(0), element(3), element(4)], [ids[2], ids[3], ids[5]]);
    }
  }
});

// ---- states ----

Deno.test("6.1 state: fresh rings are at split 0, packed slot 0 with both wrap counters 1", () => {
  using s = split(8, {});
  assertEquals(s.make().state(), { layout: "split", availableIndex: 0 });
  using p = packed(8, {});
  assertEquals(p.make().state(), {
    layout: "packed",
    availableSlot: 0,
    availableWrap: 1,
    usedSlot: 0,
    usedWrap: 1,
  });
});

Deno.test("A-6.7 split: a chain that was popped counts as taken until it is given back, whether it was returned or not", () => {
  using r = split(8, {});
  const queue = r.make();
  for (let i = 0; i < 3; i++) r.ring.add([readable(1)]);
  r.ring.publish();
  const at = () => (queue.state() as { availableIndex: number }).availableIndex;
  assertEquals(at(), 0, "made available is not taken");
  queue.pop(r.chain);
  queue.pop(r.chain);
  assertEquals(at(), 2);
  queue.unpop();
  assertEquals(at(), 1);
  queue.pushUsed(0, 0);
  assertEquals([at(), r.ring.usedIdx], [1, 0]);
  queue.publish();
  assertEquals([at(), r.ring.usedIdx], [1, 1]);
});

Deno.test("A-6.7 packed: the available state moves with pop and unpop, the used state with publish", () => {
  using r = packed(4, {});
  const queue = r.make();
  const state = () => {
    const now = queue.state();
    if (now.layout !== "packed") throw new Error(now.layout);
    return [now.availableSlot, now.availableWrap, now.usedSlot, now.usedWrap];
  };
  r.ring.add([readable(1), readable(1), readable(1)], 5);
  r.ring.add([readable(1)], 6);
  r.ring.publish();
  assertEquals(state(), [0, 1, 0, 1]);
  queue.pop(r.chain);
  assertEquals(state(), [3, 1, 0, 1]);
  queue.pop(r.chain);
  assertEquals(state(), [0, 0, 0, 1]);
  queue.unpop();
  assertEquals(state(), [3, 1, 0, 1]);
  queue.pop(r.chain);
  queue.pushUsed(5, 0);
  assertEquals(state(), [0, 0, 0, 1], "not published");
  queue.publish();
  assertEquals(state(), [0, 0, 3, 1]);
  queue.pushUsed(6, 0);
  queue.publish();
  assertEquals(state(), [0, 0, 0, 0]);
});

Deno.test("6.1 a queue goes on where another left off: both layouts, a thousand changes, indices past 2^16", () => {
  for (const layout of [split, packed]) {
    using r = layout(layout === split ? 8 : 7, { inOrder: true });
    const random = new Random(77);
    let queue = r.make();
    for (let n = 0, chains = 0; chains < 70_000; n++) {
      const ids: number[] = [];
      for (let slots = 1 + random.below(3); slots <= 7; slots += 1 + random.below(3)) {
        ids.push(r.ring.add(new Array(1).fill(writable(1 + random.below(9)))));
      }
      r.ring.publish();
      let taken = 0;
      const stop = random.below(ids.length + 1);
      while (taken < stop) {
        if (queue.pop(r.chain) !== ids[taken]) throw new Error(`round ${n}: chain ${taken}`);
        queue.pushUsed(ids[taken++]!, 1);
      }
      queue.publish();
      if (random.below(8) === 0) queue = r.make({ state: queue.state() });
      while (taken < ids.length) {
        if (queue.pop(r.chain) !== ids[taken]) throw new Error(`round ${n}: chain ${taken} after the change`);
        queue.pushUsed(ids[taken++]!, 1);
      }
      queue.publish();
      assertEquals(queue.pop(r.chain), -1);
      if (r.ring.takeUsed().map((one) => one.id).join() !== ids.join()) throw new Error(`round ${n}: used`);
      chains += ids.length;
    }
    assertEquals(r.owner.violations, []);
  }
});

Deno.test("6.1 the used index of a split ring is the ring's, and interrupts are decided from there", () => {
  using r = split(8, { eventIndex: true });
  r.client.view.setUint16(r.ring.used + 2, 0xfffe, true);
  r.ring.availIdx = 3;
  r.ring.setIdx(3);
  r.ring.setUsedEvent(0xfffe);
  const queue = r.make({ state: { layout: "split", availableIndex: 3 } });
  r.ring.free = 5;
  r.ring.add([readable(1)]);
  r.ring.publish();
  assertEquals([queue.available(), queue.pop(r.chain)], [1, 5]);
  queue.pushUsed(5, 0);
  assertEquals(queue.publish(), true);
  assertEquals(r.ring.usedIdx, 0xffff);
  assertEquals(r.client.view.getUint32(r.ring.used + 4 + 8 * 6, true), 5, "element 0xfffe mod 8");
  // What the former life used is what the next decision starts from.
  const third = r.make({ state: { layout: "split", availableIndex: 4 } });
  r.ring.setUsedEvent(0xffff);
  r.ring.add([readable(1)]);
  r.ring.publish();
  third.pushUsed(third.pop(r.chain), 0);
  assertEquals(third.publish(), true);
});

Deno.test("1.6 split: a notification's position is judged against avail.idx", () => {
  using r = split(8, {});
  const queue = r.make({ state: { layout: "split", availableIndex: 0x7ffe } });
  r.ring.availIdx = 0x7ffe;
  for (let i = 0; i < 4; i++) r.ring.add([readable(1)]);
  r.ring.publish();
  assertEquals(queue.checkNotification(2, 1), undefined);
  assertEquals(queue.checkNotification(0x7ffe, 0), undefined, "an old one");
  assertStringIncludes(queue.checkNotification(3, 1)!, "avail.idx is 32771, it is 32770");
  assertStringIncludes(queue.checkNotification(10, 1)!, "avail.idx is 32778");
});

Deno.test("A-6.6 states that a queue cannot have are refused", () => {
  using s = split(8, {});
  using p = packed(8, {});
  const state = (availableSlot: number, availableWrap: 0 | 1, usedSlot: number, usedWrap: 0 | 1) => ({
    layout: "packed" as const,
    availableSlot,
    availableWrap,
    usedSlot,
    usedWrap,
  });
  const good = p.ring.setup();
  for (const one of [state(0, 1, 0, 1), state(7, 0, 7, 1), state(3, 0, 5, 1), state(5, 1, 5, 1)]) {
    assertEquals(checkPackedSetup({ ...good, state: one }), undefined);
  }
  for (
    const [one, problem] of [
      [state(8, 1, 0, 1), "slots 8 and 0, the queue 8"],
      [state(0, 1, 8, 1), "slots 0 and 8"],
      [state(2, 1, 3, 1), "the used state (slot 3, wrap 1) is not at most a round behind"],
      [state(4, 0, 3, 1), "is not at most a round behind"],
    ] as const
  ) {
    assertStringIncludes(checkPackedSetup({ ...good, state: one })!, problem);
  }
  assertStringIncludes(
    checkPackedSetup({ ...good, state: { layout: "split", availableIndex: 0 } })!,
    "one of a split ring",
  );
  assertStringIncludes(
    checkSplitSetup({ ...s.ring.setup(), state: state(0, 1, 0, 1) })!,
    "one of a packed ring",
  );
});

Deno.test("6.1 packed: slots in flight from a former life stay the driver's, and are counted as used up", () => {
  using r = packed(4, {});
  // Three slots were taken and not returned; the driver has one left.
  const queue = r.make({
    state: { layout: "packed", availableSlot: 3, availableWrap: 1, usedSlot: 0, usedWrap: 1 },
  });
  r.ring.next = 3;
  r.ring.add([readable(1)], 9);
  r.ring.add([readable(1)], 10);
  r.ring.publish();
  assertEquals([queue.pop(r.chain), queue.pop(r.chain)], [9, -1]);
  assertStringIncludes(
    r.owner.violations[0]!.message,
    "slot 0 was made available before the device had returned it",
  );
});
