/** Bursts: chains of one part, and slots that are described once. */
import { assertEquals, assertThrows } from "@std/assert";
import { ClosedError, DeviceError, UsageError } from "../../../../lib/errors/mod.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import type { ModelPackedRing } from "./model_packed_ring.ts";
import type { ModelRing } from "./model_ring.ts";
import type { PackedQueueState, SplitQueueState } from "../../../../lib/virtio/spec/queue_state.ts";
import { addChain, packedFixture, ringFixture } from "./ring_fixture.ts";

const layouts = { split: ringFixture, packed: packedFixture } as const;
const into = usedBurst(16);
const lo = Uint32Array.of(0xffff_f000, 0x2000, 0x3000, 0x4000);
const hi = Uint32Array.of(0x1234_5678, 0, 0xffff_ffff, 7);
const SLOTS = { iovaLo: lo, iovaHi: hi, lengthBytes: 100 };

type Ring = ModelRing | ModelPackedRing;

/** What a device sees of the next chain: its one part. */
function popped(ring: Ring) {
  const { parts } = ring.pop()!;
  assertEquals(parts.length, 1);
  const { iova, length, write } = parts[0]!;
  return [iova, length, write];
}

function giveBack(ring: Ring, id: number, length: number): void {
  if ("usedIndex" in ring) ring.push(id, length);
  else ring.push(id, length, 1);
}

for (const [layout, fixtureOf] of Object.entries(layouts)) {
  Deno.test(`${layout}: a burst of chains of one part is visible at publish, by one notification, as if each had been added alone`, () => {
    using fixture = fixtureOf({ size: 8 });
    const { queue, ring, notified } = fixture;
    const ids = new Uint16Array(4);
    const lengths = Uint32Array.of(10, 0xffff_ffff, 30, 1);
    assertEquals(queue.addSingles(lo, hi, lengths, 3, true, ids), 3);
    assertEquals([queue.freeDescriptors, queue.inFlight, ring.pop()], [5, 3, undefined]);
    assertEquals(queue.flush(), true);
    assertEquals(notified.length, 1);
    assertEquals(popped(ring), [0x1234_5678_ffff_f000n, 10, true]);
    assertEquals(popped(ring), [0x2000n, 0xffff_ffff, true]);
    assertEquals(popped(ring), [0xffff_ffff_0000_3000n, 30, true]);
    assertEquals(queue.inFlightIds(), [...ids.subarray(0, 3)].sort());
    assertEquals(queue.saveInFlight().map(({ id }) => id), [...ids.subarray(0, 3)]);
    // Readable: the device may write nothing into it.
    assertEquals(queue.addSingles(lo, hi, lengths, 1, false, ids), 1);
    queue.flush();
    assertEquals(popped(ring), [0x1234_5678_ffff_f000n, 10, false]);
  });

  Deno.test(`${layout}: a burst ends where the queue is full, and a part of no byte ends it with an error`, () => {
    using fixture = fixtureOf({ size: 4 });
    const { queue } = fixture;
    const ids = new Uint16Array(4);
    addChain(queue, [1, 1, 1], []);
    assertEquals(queue.addSingles(lo, hi, Uint32Array.of(1, 2, 3, 4), 4, true, ids), 1);
    assertEquals([queue.addSingles(lo, hi, Uint32Array.of(1, 2, 3, 4), 4, true, ids), queue.inFlight], [
      0,
      2,
    ]);
    using other = fixtureOf({ size: 4 });
    assertThrows(
      () => other.queue.addSingles(lo, hi, Uint32Array.of(1, 2, 0, 4), 4, true, ids),
      UsageError,
      "a part of 0 bytes",
    );
    assertEquals(other.queue.inFlight, 2);
  });

  for (const inOrder of [false, true]) {
    const name = `${layout}${inOrder ? ", IN_ORDER" : ""}`;
    Deno.test(`${name}: slots are known by their numbers, whatever the ring calls them`, () => {
      using fixture = fixtureOf({ size: 8, inOrder });
      const { queue, ring } = fixture;
      queue.bindSlots({ ...SLOTS, deviceWrites: true });
      for (let round = 0; round < 50; round++) {
        const slots = [[3, 1], [2, 0, 3], [0, 1, 2, 3]][round % 3]!;
        const lengths = round % 2 === 0 ? null : Uint32Array.from(slots, (slot) => 10 + slot);
        assertEquals(queue.addSlots(Uint16Array.from(slots), lengths, slots.length, 5), slots.length);
        queue.publish();
        assertEquals(queue.saveInFlight().map(({ id }) => id), slots);
        assertEquals(queue.inFlightIds(), slots.toSorted());
        for (const slot of slots) {
          const chain = ring.pop()!;
          const [part] = chain.parts;
          const iova = (BigInt(hi[slot]!) << 32n) | BigInt(lo[slot]!);
          assertEquals([part!.iova, part!.length, part!.write], [
            iova,
            lengths === null ? 100 : 15 + slot,
            true,
          ]);
          const id = "head" in chain ? chain.head : chain.id;
          if (!inOrder) assertEquals(id, slot);
          giveBack(ring, id, 15);
        }
        assertEquals(queue.takeUsed(into), slots.length);
        assertEquals([...into.ids.subarray(0, slots.length)], slots);
        assertEquals(into.lengths[0], 15);
        assertEquals([queue.inFlight, queue.freeDescriptors], [0, 8]);
      }
    });

    Deno.test(`${name}: a slot that cannot be offered ends the burst with an error that names it; those before it are added`, () => {
      const cases: [slots: number[], lengths: number[] | null, added: number, message: string][] = [
        [[0, 4], null, 1, "slot 4 of 4"],
        [[65535], null, 0, "slot 65535 of 4"],
        [[2, 1, 2], null, 2, "slot 2 is in flight already"],
        [[1, 3], null, 1, "slot 3 is in flight already"],
        [[1, 2], [100, 101], 1, "101 bytes of slot 2, which has 100"],
        [[1, 2], [100, 0xffff_ffff], 1, "4294967295 bytes of slot 2"],
        [[0], [0], 0, "0 bytes of slot 0"],
      ];
      for (const [slots, lengths, added, message] of cases) {
        using fixture = fixtureOf({ size: 8, inOrder });
        const { queue } = fixture;
        queue.bindSlots({ ...SLOTS, deviceWrites: false });
        queue.addSlots(Uint16Array.of(3), null, 1);
        const add = () =>
          queue.addSlots(Uint16Array.from(slots), lengths && Uint32Array.from(lengths), slots.length);
        assertThrows(add, UsageError, message);
        assertEquals(queue.inFlight, 1 + added);
        queue.publish();
        assertEquals(fixture.ring.pop() !== undefined, true);
      }
    });

    Deno.test(`${name}: slots that lie elsewhere are described by their new places, those in flight stay where they are`, () => {
      using fixture = fixtureOf({ size: 8, inOrder });
      const { queue, ring } = fixture;
      queue.bindSlots({ ...SLOTS, deviceWrites: false });
      const otherLo = Uint32Array.of(0x10_0000, 0x20_0000, 0xffff_f000),
        otherHi = Uint32Array.of(0, 7, 0xffff_ffff);
      const whereNow = (slots: number[]) => {
        queue.addSlots(Uint16Array.from(slots), null, slots.length);
        queue.publish();
        return slots.map(() => {
          const chain = ring.pop()!;
          giveBack(ring, "head" in chain ? chain.head : chain.id, 0);
          queue.takeUsed(into);
          return chain.parts[0]!.iova;
        });
      };
      const at = (los: Uint32Array, his: Uint32Array, slot: number) =>
        BigInt(his[slot]!) << 32n | BigInt(los[slot]!);
      const home = (slot: number) => at(lo, hi, slot), away = (slot: number) => at(otherLo, otherHi, slot);
      for (let round = 0; round < 9; round++) {
        queue.placeSlots(Uint16Array.of(2, 0), otherLo, otherHi, Uint16Array.of(1, 2), 2);
        assertEquals(whereNow([0, 1, 2, 3]), [away(2), home(1), away(1), home(3)]);
        queue.placeSlots(Uint16Array.of(0), lo, hi, Uint16Array.of(0), 1);
        assertEquals(whereNow([2, 0]), [away(1), home(0)]);
        queue.placeSlots(Uint16Array.of(2), lo, hi, Uint16Array.of(2), 1);
        assertEquals(whereNow([0, 1, 2]), [home(0), home(1), home(2)]);
      }
      queue.addSlots(Uint16Array.of(1), null, 1);
      const wrong: [slots: unknown, los: unknown, at: unknown, count: number, message: string][] = [
        [Uint16Array.of(0, 1), otherLo, Uint16Array.of(0, 0), 2, "slot 1 is in flight already"],
        [Uint16Array.of(4), otherLo, Uint16Array.of(0), 1, "slot 4 of 4"],
        [Uint16Array.of(3), otherLo, Uint16Array.of(3), 1, "address 3 of 3"],
        [Uint16Array.of(3), otherLo, Uint16Array.of(0), 2, "placeSlots: 2 of"],
        [[3], otherLo, Uint16Array.of(0), 1, "placeSlots: 1 of"],
        [Uint16Array.of(3), otherLo.subarray(1), Uint16Array.of(0), 1, "placeSlots: 1 of"],
      ];
      for (const [slots, los, places, count, message] of wrong) {
        assertThrows(
          () =>
            queue.placeSlots(slots as Uint16Array, los as Uint32Array, otherHi, places as Uint16Array, count),
          UsageError,
          message,
        );
      }
      queue.publish();
      assertEquals(ring.pop()!.parts[0]!.iova, home(1));
    });

    Deno.test(`${name}: slots go on after a restart, in their order, also where the device wrote over their descriptors`, () => {
      using fixture = fixtureOf({ size: 8, inOrder });
      const { queue, ring, transport } = fixture;
      queue.bindSlots({ ...SLOTS, deviceWrites: true });
      queue.addSlots(Uint16Array.of(2, 0, 3), Uint32Array.of(20, 30, 40), 3);
      queue.publish();
      ring.pop();
      transport.iommu.at(queue.addresses.descriptorArea, 128, true).setUint32(0, 0xdead_beef);
      transport.iommu.at(queue.addresses.descriptorArea, 128, true).setUint32(16, 0xdead_beef);
      const state = queue.restart();
      if ("usedIndex" in ring) ring.start((state as SplitQueueState).availableIndex);
      else ring.start(state as PackedQueueState);
      for (const [slot, length] of [[2, 20], [0, 30], [3, 40]] as const) {
        assertEquals(popped(ring), [(BigInt(hi[slot]!) << 32n) | BigInt(lo[slot]!), length, true]);
      }
      queue.addSlots(Uint16Array.of(1), null, 1);
      queue.publish();
      assertEquals(popped(ring), [0x2000n, 100, true]);
    });
  }

  Deno.test(`${layout}: slots are bound once, before anything else, and to them alone`, () => {
    using fixture = fixtureOf({ size: 2 });
    const { queue } = fixture;
    const slots = {
      iovaLo: lo.subarray(0, 2),
      iovaHi: hi.subarray(0, 2),
      lengthBytes: 100,
      deviceWrites: true,
    };
    assertThrows(() => queue.addSlots(Uint16Array.of(0), null, 1), UsageError, "bindSlots says first");
    for (
      const wrong of [
        { iovaLo: lo, iovaHi: hi },
        { iovaLo: lo.subarray(0, 0), iovaHi: hi.subarray(0, 0) },
        { iovaHi: hi.subarray(0, 1) },
        { lengthBytes: 0 },
        { lengthBytes: 2 ** 32 },
        { iovaLo: [1, 2] as never },
      ]
    ) assertThrows(() => queue.bindSlots({ ...slots, ...wrong }), UsageError);
    assertThrows(() => queue.bindSlots(undefined as never), UsageError);
    queue.addSingle(0x1000, 0, 1, true);
    assertThrows(() => queue.bindSlots(slots), UsageError, "before anything is added");
    using other = fixtureOf({ size: 2 });
    other.queue.bindSlots(slots);
    assertThrows(() => other.queue.bindSlots(slots), UsageError, "once");
    assertThrows(() => other.queue.begin(1, 0), UsageError, "chains are slots");
    assertThrows(() => other.queue.addSingle(0, 0, 1, true), UsageError, "chains are slots");
    const ids = new Uint16Array(1);
    assertThrows(() => other.queue.addSingles(lo, hi, lo, 1, true, ids), UsageError, "chains are slots");
    assertThrows(
      () => other.queue.reoffer([{ id: 0, readable: [{ iova: "0x1", lengthBytes: 1 }], writable: [] }]),
      UsageError,
    );
    assertEquals(other.queue.addSlots(Uint16Array.of(0, 1), null, 2), 2);
  });

  Deno.test(`${layout}: arrays that are none or too short are UsageErrors, and nothing is added`, () => {
    using fixture = fixtureOf({ size: 8 });
    const { queue } = fixture;
    const ids = new Uint16Array(4);
    const bad = (call: () => unknown) => assertThrows(call, UsageError);
    for (const count of [5, -1, 1.5, NaN, "1" as never, undefined as never]) {
      bad(() => queue.addSingles(lo, hi, lo, count, true, ids));
    }
    bad(() => queue.addSingles(lo, hi, lo, 4, true, ids.subarray(1)));
    bad(() => queue.addSingles([1] as never, hi, lo, 1, true, ids));
    bad(() => queue.addSingles(lo, hi, lo, 1, true, undefined as never));
    queue.bindSlots({ ...SLOTS, deviceWrites: true });
    for (const count of [2, -1, 0.5, NaN, {} as never]) {
      bad(() => queue.addSlots(Uint16Array.of(0), null, count));
    }
    bad(() => queue.addSlots([0] as never, null, 1));
    bad(() => queue.addSlots(Uint16Array.of(0), undefined as never, 1));
    bad(() => queue.addSlots(Uint16Array.of(0), [1] as never, 1));
    bad(() => queue.addSlots(Uint16Array.of(0), new Uint32Array(0), 1));
    for (const head of [-1, 65536, NaN, "1" as never]) {
      bad(() => queue.addSlots(Uint16Array.of(0), lo, 1, head));
    }
    assertEquals([queue.inFlight, queue.addSlots(Uint16Array.of(0), null, 0)], [0, 0]);
    bad(() => queue.takeUsed({ ids: [0] as never, lengths: lo }));
  });

  Deno.test(`${layout}: bursts on a broken or closed queue throw what broke it`, () => {
    using fixture = fixtureOf({ size: 8 });
    const { queue, ring } = fixture;
    queue.bindSlots({ ...SLOTS, deviceWrites: true });
    queue.addSlots(Uint16Array.of(0, 1, 2), null, 3);
    queue.publish();
    for (let n = 0; n < 3; n++) ring.pop();
    giveBack(ring, 1, 100);
    giveBack(ring, 2, 101);
    // The honest return first, then why there are no more.
    assertEquals([queue.takeUsed(into), into.ids[0]], [1, 1]);
    const calls: ((queue: Virtqueue) => unknown)[] = [
      (queue) => queue.takeUsed(into),
      (queue) => queue.addSlots(Uint16Array.of(1), null, 1),
      (queue) => queue.addSingles(lo, hi, lo, 1, true, new Uint16Array(1)),
      (queue) => queue.bindSlots({ ...SLOTS, deviceWrites: true }),
    ];
    for (const call of calls) {
      assertEquals(assertThrows(() => call(queue), DeviceError).location.field, "used.len");
    }
    assertEquals(queue.inFlightIds(), [0, 2]);
    queue.close();
    for (const call of calls) assertThrows(() => call(queue), ClosedError);
  });
}

Deno.test("split: what stays of a slot's descriptor is written when slots are bound, and only the length with each use", () => {
  using fixture = ringFixture({ size: 4 });
  const { queue, ring } = fixture;
  queue.bindSlots({ ...SLOTS, deviceWrites: true });
  for (const slot of [0, 1, 2, 3]) {
    const addr = (BigInt(hi[slot]!) << 32n) | BigInt(lo[slot]!);
    assertEquals(ring.descriptor(slot), { addr, len: 100, flags: 2, next: 0 });
  }
  queue.addSlots(Uint16Array.of(2), Uint32Array.of(17), 1);
  assertEquals(ring.descriptor(2), { addr: 0xffff_ffff_0000_3000n, len: 17, flags: 2, next: 0 });
});
