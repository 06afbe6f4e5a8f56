import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceError, ExhaustedError, UsageError } from "../../../../lib/errors/mod.ts";
import {
  checkQueueState,
  initialQueueState,
  type QueueState,
  queueStateFromWords,
  queueStateToWords,
} from "../../../../lib/virtio/spec/queue_state.ts";
import { checkSavedChains, checkSavedQueue } from "../../../../lib/virtio/queue/saved_queue.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { ahead } from "./model_packed_ring.ts";
import { addChain, packedFixture, ringFixture } from "./ring_fixture.ts";

const into = usedBurst(16);

Deno.test("6.1 A-6.8 state words: split is the index; packed is slot in bits 0–14 and wrap counter in bit 15", () => {
  assertEquals(queueStateToWords({ layout: "split", availableIndex: 0xfffe }), {
    available: 0xfffe,
    used: 0,
  });
  const packed: QueueState = {
    layout: "packed",
    availableSlot: 5,
    availableWrap: 1,
    usedSlot: 3,
    usedWrap: 0,
  };
  assertEquals(queueStateToWords(packed), { available: 0x8005, used: 3 });
  assertEquals(queueStateFromWords("packed", 6, { available: 0x8005, used: 3 }), packed);
  assertEquals(queueStateToWords(initialQueueState("packed")), { available: 0x8000, used: 0x8000 });
  assertEquals(queueStateToWords(initialQueueState("split")), { available: 0, used: 0 });
  for (let word = 0; word < 0x10000; word += 7) {
    const state = queueStateFromWords("packed", 32768, { available: word, used: 0xffff - word });
    assertEquals(queueStateToWords(state), { available: word, used: 0xffff - word });
  }
});

Deno.test("A-6.6 a packed slot outside the queue is refused before it reaches a device", () => {
  for (const words of [{ available: 5, used: 0 }, { available: 0, used: 0x8005 }]) {
    assertThrows(
      () => queueStateFromWords("packed", 5, words),
      UsageError,
      "Slot 5 is not an integer from 0 to 4",
    );
  }
  const good = { layout: "packed", availableSlot: 4, availableWrap: 0, usedSlot: 4, usedWrap: 0 };
  assertEquals(checkQueueState({ ...good, more: 1 }, 5), good as QueueState);
  for (const wrong of [{ availableWrap: 2 }, { usedWrap: true }, { usedSlot: -1 }, { availableSlot: 0.5 }]) {
    assertThrows(() => checkQueueState({ ...good, ...wrong }, 5), UsageError, Object.keys(wrong)[0]);
  }
  for (const wrong of [null, 5, [], { layout: "both" }, { layout: "split", availableIndex: 65536 }]) {
    assertThrows(() => checkQueueState(wrong, 5), UsageError);
  }
});

Deno.test("A-6.7 saveInFlight: every chain that did not come back, in the order of commits, with its parts", () => {
  for (const make of [ringFixture, packedFixture]) {
    using fixture = make({ size: 8, maxSegments: 2, indirect: true });
    const { queue } = fixture;
    const first = addChain(queue, [1], [2]);
    const second = addChain(queue, [1, 2], [3]);
    const third = queue.addSingle(0xffff_fff0, 0xffff_ffff, 0xffff_ffff, true);
    queue.publish();
    if (queue.layout === "split") ringReturn(fixture as ReturnType<typeof ringFixture>, first);
    else packedReturn(fixture as ReturnType<typeof packedFixture>, first);
    assertEquals(queue.takeUsed(into), 1);
    // Its id is used again, but it is the youngest; it was not even published.
    assertEquals(addChain(queue, [4], []), first);
    assertEquals(queue.saveInFlight(), [
      {
        id: second,
        readable: [{ iova: "0x700001000", lengthBytes: 1 }, { iova: "0x700002000", lengthBytes: 2 }],
        writable: [{ iova: "0x700003000", lengthBytes: 3 }],
      },
      { id: third, readable: [], writable: [{ iova: "0xfffffffffffffff0", lengthBytes: 0xffff_ffff }] },
      { id: first, readable: [{ iova: "0x700001000", lengthBytes: 4 }], writable: [] },
    ]);
    addChain(queue, [5], [6]);
    assertEquals(queue.saveInFlight().at(-1), {
      id: queue.inFlightIds().find((id) => ![first, second, third].includes(id))!,
      readable: [{ iova: "0x700001000", lengthBytes: 5 }],
      writable: [{ iova: "0x700002000", lengthBytes: 6 }],
    });
  }
});

function ringReturn({ ring }: ReturnType<typeof ringFixture>, id: number): void {
  while (ring.pop() !== undefined);
  ring.push(id, 0);
}

function packedReturn({ ring }: ReturnType<typeof packedFixture>, id: number): void {
  let count = 0;
  for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
    if (chain.id === id) count = chain.count;
  }
  ring.push(id, 0, count);
}

Deno.test("6.1 a fresh ring at any index: both indices stand there, events ask there, 2^16 is passed", () => {
  for (const index of [1, 255, 0x7fff, 0x8000, 0xfffe, 0xffff]) {
    using fixture = ringFixture({
      size: 4,
      eventIndex: true,
      start: { layout: "split", availableIndex: index },
    });
    const { queue, ring, notified } = fixture;
    assertEquals([ring.availableIndex, ring.usedNext, queue.hasUsed()], [index, index, false]);
    assertEquals(queue.position, { layout: "split", availableIndex: index });
    // 1.6: a notification before anything was published, and with something that was not published yet.
    queue.notify();
    assertEquals(notified.pop(), { queue: 0, nextOffset: index & 0x7fff, nextWrap: index >> 15 });
    const early = addChain(queue, [1], []);
    queue.notify();
    assertEquals(notified.pop(), { queue: 0, nextOffset: index & 0x7fff, nextWrap: index >> 15 });
    assertEquals(queue.restart(), { layout: "split", availableIndex: index });
    ring.start(index);
    assertEquals(ring.pop()?.head, early);
    ring.push(early, 0);
    assertEquals(queue.takeUsed(into), 1);
    queue.restart({ layout: "split", availableIndex: index });
    ring.start(index);
    for (let n = 0; n < 10; n++) {
      const id = addChain(queue, [1], [2]);
      // The ring's own memory asks for the first notification; later the device would.
      assertEquals(queue.flush(), n === 0);
      if (n === 0) {
        const next = (index + 1) & 0xffff;
        assertEquals(notified, [{ queue: 0, nextOffset: next & 0x7fff, nextWrap: next >> 15 }]);
        assertEquals(ring.usedEvent, index, "and for the first interrupt");
      }
      assertEquals(ring.pop()?.head, id);
      ring.push(id, 1);
      assertEquals(queue.takeUsed(into), 1);
    }
    assertEquals(queue.position, { layout: "split", availableIndex: (index + 10) & 0xffff });
  }
});

Deno.test("6.1 a fresh packed ring at any slot and either wrap counter: nothing looks available or used that is not", () => {
  for (const size of [1, 2, 3, 8]) {
    for (let slot = 0; slot < size; slot++) {
      for (const wrap of [0, 1] as const) {
        const start = {
          layout: "packed",
          availableSlot: slot,
          availableWrap: wrap,
          usedSlot: slot,
          usedWrap: wrap,
        } as const;
        using fixture = packedFixture({ size, start });
        const { queue, ring } = fixture;
        assertEquals(ring.next, { slot, wrap });
        for (let n = 0; n < 3 * size; n++) {
          assertEquals([ring.hasAvailable, queue.hasUsed()], [false, false], `${size} ${slot} ${wrap} ${n}`);
          const id = queue.addSingle(n, 0, 8, true);
          queue.publish();
          assertEquals(ring.pop()?.parts[0]?.iova, BigInt(n));
          assertEquals(queue.hasUsed(), false);
          ring.push(id, 8, 1);
          assertEquals(queue.takeUsed(into), 1);
        }
        const end = ahead({ slot, wrap }, size * 3 % (2 * size) === 0 ? 0 : size, size);
        assertEquals(queue.position, {
          layout: "packed",
          availableSlot: end.slot,
          availableWrap: end.wrap,
          usedSlot: end.slot,
          usedWrap: end.wrap,
        });
      }
    }
  }
});

Deno.test("A-6.7 restart split: what is in flight lies behind the used index, in its old order, with its old ids", () => {
  using fixture = ringFixture({
    size: 8,
    eventIndex: true,
    start: { layout: "split", availableIndex: 0xfffd },
  });
  const { queue, ring } = fixture;
  const ids = [
    addChain(queue, [1], []),
    addChain(queue, [2], [2]),
    addChain(queue, [3], []),
    addChain(queue, [4], []),
  ];
  queue.publish();
  ring.pop();
  ring.pop();
  ring.pop();
  // Out of order, so that the available ring's own entries are not those in flight.
  ring.push(ids[2]!, 0);
  assertThrows(() => queue.restart(), UsageError, "take them first");
  assertEquals(queue.takeUsed(into), 1);
  const late = addChain(queue, [5], []); // committed, never published
  const state = queue.restart();
  assertEquals(state, { layout: "split", availableIndex: 0xfffe });
  assertEquals([ring.availableIndex, queue.inFlight, queue.hasUsed()], [(0xfffe + 4) & 0xffff, 4, false]);
  ring.start(0xfffe);
  const again = [ring.pop(), ring.pop(), ring.pop(), ring.pop()].map((
    chain,
  ) => [chain?.head, chain?.parts[0]?.length]);
  assertEquals(again, [[ids[0], 1], [ids[1], 2], [ids[3], 4], [late, 5]]);
  assertEquals(ring.pop(), undefined);
  for (const id of [ids[3]!, ids[0]!, late, ids[1]!]) ring.push(id, 0);
  assertEquals(queue.takeUsed(into), 4);
  assertEquals([...into.ids.subarray(0, 4)], [ids[3], ids[0], late, ids[1]]);
  assertEquals(queue.freeDescriptors, 8);
});

Deno.test("A-6.7 restart packed: also where the device had overwritten descriptors of chains in flight", () => {
  using fixture = packedFixture({ size: 5, maxSegments: 2, indirect: true });
  const { queue, ring } = fixture;
  const a = addChain(queue, [1, 1, 1], []);
  const b = addChain(queue, [], [7]);
  const c = addChain(queue, [2], [3]);
  queue.publish();
  for (let i = 0; i < 3; i++) ring.pop();
  ring.push(c, 3, 1); // into the first slot of `a`
  ring.push(b, 7, 1); // into the second
  assertEquals(queue.takeUsed(into), 2);
  const state = queue.restart();
  assertEquals(state, { layout: "packed", availableSlot: 2, availableWrap: 1, usedSlot: 2, usedWrap: 1 });
  ring.start(state as Extract<QueueState, { layout: "packed" }>);
  const chain = ring.pop()!;
  assertEquals([chain.id, chain.parts.map((part) => part.length)], [a, [1, 1, 1]]);
  ring.push(a, 0, 3);
  assertEquals(queue.takeUsed(into), 1);
  assertEquals([queue.freeDescriptors, queue.inFlight], [5, 0]);
});

Deno.test("restart at the beginning: for a device that keeps no state, in both layouts and in order", () => {
  for (const inOrder of [false, true]) {
    for (const make of [ringFixture, packedFixture]) {
      using fixture = make({ size: 4, inOrder });
      const { queue, ring } = fixture;
      for (let n = 0; n < 5; n++) {
        const id = queue.addSingle(n, 0, 1, false);
        queue.publish();
        ring.pop();
        if ("usedIndex" in ring) ring.push(id, 0);
        else ring.push(id, 0, 1);
        queue.takeUsed(into);
      }
      const ids = [queue.addSingle(100, 0, 1, false), queue.addSingle(101, 0, 1, false)];
      queue.publish();
      const state = queue.restart(initialQueueState(queue.layout));
      if ("usedIndex" in ring) ring.start((state as { availableIndex: number }).availableIndex);
      else ring.start(state as Extract<QueueState, { layout: "packed" }>);
      for (const [at, id] of ids.entries()) {
        const chain = ring.pop()!;
        assertEquals(["head" in chain ? chain.head : chain.id, chain.parts[0]!.iova], [
          id,
          100n + BigInt(at),
        ]);
      }
      assertEquals(ring.pop(), undefined);
      if ("usedIndex" in ring) { for (const id of ids) ring.push(id, 0); }
      else for (const id of ids) ring.push(id, 0, 1);
      assertEquals(queue.takeUsed(into), 2);
    }
  }
});

Deno.test("restart asks for notifications and interrupts as a new ring does, whatever was wished before", () => {
  for (const eventIndex of [false, true]) {
    using packed = packedFixture({ size: 4, eventIndex });
    packed.queue.suppressInterrupts();
    packed.ring.setDeviceEvent(0, 1);
    packed.queue.restart();
    assertEquals(packed.ring.driverEvent, { desc: 0, flags: 0 });
    packed.queue.addSingle(0, 0, 1, true);
    assertEquals(packed.queue.flush(), true);

    using split = ringFixture({ size: 4, eventIndex });
    split.queue.suppressInterrupts();
    split.ring.usedFlags = 1;
    split.ring.availableEvent = 0x8000;
    split.queue.restart();
    assertEquals([split.ring.availableFlags, split.ring.usedEvent], [0, 0]);
    split.queue.addSingle(0, 0, 1, true);
    assertEquals(split.queue.flush(), true);
  }
});

Deno.test("restart and save refuse a chain half added, returns not taken, and a state of another layout or split in two", () => {
  using split = ringFixture({ size: 4 });
  split.queue.begin(1, 0);
  assertThrows(() => split.queue.save(), UsageError, "not committed");
  assertThrows(() => split.queue.restart(initialQueueState("packed")), UsageError, "packed");
  using packed = packedFixture({ size: 4 });
  const state = { layout: "packed", availableSlot: 1, availableWrap: 1, usedSlot: 0, usedWrap: 1 } as const;
  assertThrows(() => packed.queue.restart(state), UsageError, "A-6.7");
  assertThrows(() => packed.queue.restart({ ...state, availableSlot: 4, usedSlot: 4 }), UsageError, "Slot 4");
  assertThrows(() => packedFixture({ size: 4, start: state }), UsageError, "A-6.7");
  assertThrows(() => packedFixture({ size: 4, start: initialQueueState("split") }), UsageError, "split");
  const id = packed.queue.addSingle(0, 0, 1, true);
  packed.queue.publish();
  packed.ring.pop();
  packed.ring.push(id, 1, 1);
  assertThrows(() => packed.queue.save(), UsageError, "take them first");
});

Deno.test("A-6.7 the device's state is held against the ring: split", () => {
  using fixture = ringFixture({ size: 8 });
  const { queue, ring } = fixture;
  for (let n = 0; n < 3; n++) addChain(queue, [1], []);
  queue.publish();
  addChain(queue, [1], []); // not published: the device cannot have read it
  ring.push(ring.pop()!.head, 0);
  queue.takeUsed(into);
  for (const availableIndex of [1, 2, 3]) {
    assertEquals(queue.save({ layout: "split", availableIndex }).state, {
      layout: "split",
      availableIndex: 1,
    });
  }
  for (const availableIndex of [0, 4, 0xffff]) {
    const error = assertThrows(() => queue.save({ layout: "split", availableIndex }), DeviceError);
    assertEquals(error.location.field, "queue_avail_state");
  }
  assertThrows(() => queue.save(initialQueueState("packed")), DeviceError);
});

Deno.test("A-6.7 the device's state is held against the ring: packed", () => {
  using fixture = packedFixture({ size: 5 });
  const { queue, ring } = fixture;
  const advance = () => {
    const id = addChain(queue, [1], [1]);
    queue.publish();
    ring.pop();
    ring.push(id, 1, 2);
    queue.takeUsed(into);
  };
  advance();
  addChain(queue, [1], [1]);
  addChain(queue, [1], [1]);
  queue.publish();
  addChain(queue, [1], []);
  const state = (availableSlot: number, availableWrap: 0 | 1, usedSlot = 2, usedWrap: 0 | 1 = 1) =>
    ({ layout: "packed", availableSlot, availableWrap, usedSlot, usedWrap }) as const;
  for (const fine of [state(2, 1), state(4, 1), state(1, 0)]) {
    assertEquals(queue.save(fine).inFlight.length, 3);
  }
  for (
    const [wrong, field] of [
      [state(1, 1), "queue_avail_state"],
      [state(2, 0), "queue_avail_state"],
      [state(4, 0), "queue_avail_state"],
      [state(2, 1, 3), "queue_used_state"],
      [state(2, 1, 2, 0), "queue_used_state"],
    ] as const
  ) {
    assertEquals(assertThrows(() => queue.save(wrong), DeviceError).location.field, field);
  }
  assertThrows(() => queue.save(initialQueueState("split")), DeviceError);
});

Deno.test("a saved queue goes through JSON, into a queue of either layout, at other addresses", () => {
  using from = packedFixture({ size: 6, maxSegments: 3, indirect: true });
  addChain(from.queue, [10, 20], [30]);
  addChain(from.queue, [1, 2, 3, 4], []);
  from.queue.publish();
  const saved = checkSavedQueue(JSON.parse(JSON.stringify(from.queue.save())));
  assertEquals(saved, from.queue.save());
  assertEquals([saved.version, saved.queue, saved.size, saved.inFlight.length], [1, 0, 6, 2]);
  for (const make of [ringFixture, packedFixture]) {
    using to = make({ size: 8, inOrder: true });
    const ids = to.queue.reoffer(saved.inFlight, (iova, lengthBytes) => {
      assert(lengthBytes > 0);
      return iova + 0xff_ffff_f000n;
    });
    assertEquals([ids.length, to.queue.inFlight, to.ring.pop()], [2, 2, undefined]);
    to.queue.publish();
    const chain = to.ring.pop()!;
    assertEquals(chain.parts, [
      { iova: 0x107_0000_0000n, length: 10, write: false },
      { iova: 0x107_0000_1000n, length: 20, write: false },
      { iova: 0x107_0000_2000n, length: 30, write: true },
    ]);
    assertEquals("head" in chain ? chain.head : chain.id, ids[0]);
    assertEquals(to.ring.pop()?.parts.map((part) => part.length), [1, 2, 3, 4]);
  }
});

Deno.test("reoffer: all or nothing", () => {
  using fixture = packedFixture({ size: 4 });
  const { queue } = fixture;
  const part = { iova: "0x1000", lengthBytes: 1 };
  const chain = { id: 0, readable: [part, part], writable: [] };
  queue.addSingle(0, 0, 1, true);
  assertThrows(() => queue.reoffer([chain, chain]), ExhaustedError, "need 4 descriptors, 3 are free");
  assertThrows(() => queue.reoffer([chain, { ...chain, readable: [] }]), UsageError, "chains[1]");
  assertThrows(() => queue.reoffer([chain], () => 1n << 64n), UsageError, "64 bits");
  assertThrows(() => queue.reoffer([chain], () => -1n), UsageError, "64 bits");
  assertEquals([queue.inFlight, queue.freeDescriptors], [1, 3]);
  assertEquals(queue.reoffer([chain]).length, 1);
  queue.begin(1, 0);
  assertThrows(() => queue.reoffer([]), UsageError, "not committed");
});

Deno.test("checkSavedQueue names the field that is wrong", () => {
  const part = { iova: "0x1000", lengthBytes: 1 };
  const chain = { id: 3, readable: [part], writable: [] };
  const good = {
    version: 1,
    queue: 2,
    size: 4,
    state: { layout: "split", availableIndex: 9 },
    inFlight: [chain],
  };
  assertEquals(checkSavedQueue({ ...good, more: true }), checkSavedQueue(good));
  const wrong: readonly (readonly [object | null, string])[] = [
    [null, "saved queue is not an object"],
    [[], "saved queue is not an object"],
    [{ version: 2 }, "version 2"],
    [{ queue: 65536 }, "queue 65536"],
    [{ size: 0 }, "size 0"],
    [{ size: 32769 }, "size 32769"],
    [{ size: 3 }, "no power of two"],
    [{ state: { layout: "split", availableIndex: -1 } }, "availableIndex"],
    [
      { state: { layout: "packed", availableSlot: 1, availableWrap: 1, usedSlot: 0, usedWrap: 1 } },
      "usedSlot and usedWrap",
    ],
    [{ inFlight: {} }, "inFlight is not a list"],
    [{ inFlight: [chain, chain] }, "inFlight[1].id 3 is there twice"],
    [{ inFlight: Array(5).fill(chain) }, "5 chains in a queue of 4"],
    [{ inFlight: [{ ...chain, id: -1 }] }, "inFlight[0].id"],
    [{ inFlight: [{ ...chain, readable: 5 }] }, "inFlight[0].readable"],
    [{ inFlight: [{ ...chain, readable: [] }] }, "0 parts"],
    [{ inFlight: [{ ...chain, readable: Array(5).fill(part) }] }, "5 parts"],
    [{ inFlight: [{ ...chain, writable: [{ ...part, iova: 4096 }] }] }, "writable[0].iova"],
    [{ inFlight: [{ ...chain, writable: [{ ...part, iova: "0x10000000000000000" }] }] }, "writable[0].iova"],
    [{ inFlight: [{ ...chain, writable: [{ ...part, iova: "0xG" }] }] }, "writable[0].iova"],
    [{ inFlight: [{ ...chain, writable: [{ ...part, lengthBytes: 0 }] }] }, "writable[0].lengthBytes"],
    [{ inFlight: [{ ...chain, writable: [{ ...part, lengthBytes: 2 ** 32 }] }] }, "lengthBytes"],
    [{ inFlight: [{ ...chain, writable: [{ ...part, lengthBytes: 2 ** 32 - 1 }, part] }] }, "2^32"],
  ];
  for (const [change, text] of wrong) {
    const value = change === null || Array.isArray(change) ? change : { ...good, ...change };
    assertThrows(() => checkSavedQueue(value), UsageError, text);
  }
  assertThrows(() => checkSavedChains("x", 4), UsageError, "chains is not a list");
});

Deno.test("snapshot: places, events and counts as plain data", () => {
  using split = ringFixture({ size: 4, eventIndex: true });
  split.queue.addSingle(0, 0, 1, true);
  split.queue.publish();
  split.queue.addSingle(0, 0, 1, true);
  split.ring.availableEvent = 7;
  assertEquals(JSON.parse(JSON.stringify(split.queue.snapshot())), {
    queue: 0,
    layout: "split",
    size: 4,
    freeDescriptors: 2,
    inFlight: 2,
    unpublished: 1,
    eventIndex: true,
    inOrder: false,
    tableSegments: 0,
    available: { index: 1 },
    used: { index: 0 },
    driverEvent: { index: 0 },
    deviceEvent: { index: 7 },
  });
  using packed = packedFixture({ size: 3, inOrder: true, eventIndex: true });
  packed.queue.addSingle(0, 0, 1, true);
  packed.queue.publish();
  packed.queue.suppressInterrupts();
  packed.ring.askAt({ slot: 2, wrap: 1 });
  const { available, used, driverEvent, deviceEvent, inOrder } = packed.queue.snapshot();
  assertEquals({ available, used, driverEvent, deviceEvent, inOrder }, {
    available: { index: 1, wrap: 1 },
    used: { index: 0, wrap: 1 },
    driverEvent: "never",
    deviceEvent: { index: 2, wrap: 1 },
    inOrder: true,
  });
  using plain = ringFixture({ size: 2 });
  plain.queue.suppressInterrupts();
  assertEquals([plain.queue.snapshot().driverEvent, plain.queue.snapshot().deviceEvent], ["never", "always"]);
});
