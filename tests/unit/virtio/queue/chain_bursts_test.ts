/** Bursts of chains of several parts. */
import { assertEquals, assertThrows } from "@std/assert";
import { ClosedError, UsageError } from "../../../../lib/errors/mod.ts";
import type { ChainParts, Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { type PackedFixture, packedFixture, type RingFixture, ringFixture } from "./ring_fixture.ts";

const layouts = { split: ringFixture, packed: packedFixture } as const;

/** Parts at addresses of their own. */
function partsOf(...lengths: number[]): ChainParts {
  return {
    iovaLo: Uint32Array.from(lengths, (_, at) => 0x1000 * (at + 1)),
    iovaHi: Uint32Array.from(lengths, (_, at) => at),
    lengths: Uint32Array.from(lengths),
  };
}

/** Adds chains by their device-readable and device-writable parts. */
function addChains(queue: Virtqueue, parts: ChainParts, chains: readonly (readonly [number, number])[]) {
  const ids = new Uint16Array(chains.length);
  const readable = Uint16Array.from(chains, ([count]) => count);
  const writable = Uint16Array.from(chains, ([, count]) => count);
  return { added: queue.addChains(parts, readable, writable, chains.length, ids), ids };
}

/** Lengths of the next chain's parts, those of device-writable ones less than 0. */
function popped({ ring }: RingFixture | PackedFixture) {
  return ring.pop()?.parts.map(({ length, write }) => write ? -length : length);
}

for (const [layout, fixtureOf] of Object.entries(layouts)) {
  for (const [kind, options] of Object.entries({ lists: {}, tables: { indirect: true, maxSegments: 2 } })) {
    for (const inOrder of [false, true]) {
      const name = `${layout}, ${kind}${inOrder ? ", IN_ORDER" : ""}`;
      Deno.test(`${name}: a burst of chains is visible at publish, each with its own parts, in order`, () => {
        using fixture = fixtureOf({ size: 16, inOrder, ...options });
        const { queue, notified } = fixture;
        const chains = [[1, 1], [0, 1], [2, 1], [1, 0], [0, 3]] as const;
        const { added, ids } = addChains(queue, partsOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), chains);
        assertEquals([added, popped(fixture)], [5, undefined]);
        assertEquals([queue.inFlight, queue.freeDescriptors], [5, kind === "lists" ? 6 : 7]);
        assertEquals(queue.flush(), true);
        assertEquals(notified.length, 1);
        for (const wanted of [[1, -2], [-3], [4, 5, -6], [7], [-8, -9, -10]]) {
          assertEquals(popped(fixture), wanted);
        }
        const saved = queue.saveInFlight();
        assertEquals(saved.map(({ id }) => id), [...ids]);
        assertEquals(saved[2], {
          id: ids[2]!,
          readable: [{ iova: "0x300004000", lengthBytes: 4 }, { iova: "0x400005000", lengthBytes: 5 }],
          writable: [{ iova: "0x500006000", lengthBytes: 6 }],
        });
      });
    }
  }

  Deno.test(`${layout}: a burst ends before the first chain that does not fit, however short those behind it are`, () => {
    using fixture = fixtureOf({ size: 4 });
    const { queue } = fixture;
    assertEquals(addChains(queue, partsOf(1, 2, 3, 4, 5, 6), [[1, 1], [2, 1], [1, 0]]).added, 1);
    assertEquals([queue.inFlight, queue.freeDescriptors], [1, 2]);
    assertEquals(addChains(queue, partsOf(7, 8), [[1, 1]]).added, 1);
    queue.publish();
    assertEquals([popped(fixture), popped(fixture), popped(fixture)], [[1, -2], [7, -8], undefined]);
    assertEquals(addChains(queue, partsOf(1), [[1, 0]]).added, 0);
  });

  Deno.test(`${layout}: a chain that cannot be ends the burst with an error, and those before it are added`, () => {
    const cases: [lengths: number[], chains: [number, number][], message: string][] = [
      [[1, 2], [[1, 0], [0, 0]], "a chain of 0 parts"],
      [[1, 2], [[1, 0], [1, 1]], "a chain of 2 parts, 1 are there"],
      [[1, 2, 0], [[1, 0], [1, 1]], "a part of 0 bytes"],
      [[1, 2, 3, 4, 5, 6], [[1, 0], [4, 1]], "a chain of 5 parts can never fit into a queue of 4"],
      [[1, 0xffff_ffff, 2], [[1, 0], [1, 1]], "a chain of 4294967297 bytes"],
    ];
    for (const [lengths, chains, message] of cases) {
      using fixture = fixtureOf({ size: 4 });
      const { queue } = fixture;
      assertThrows(() => addChains(queue, partsOf(...lengths), chains), UsageError, message);
      assertEquals(queue.inFlight, 1);
      queue.publish();
      assertEquals([popped(fixture), popped(fixture)], [[1], undefined]);
      // Nothing is left of it.
      assertEquals(addChains(queue, partsOf(9), [[0, 1]]).added, 1);
      queue.publish();
      assertEquals(popped(fixture), [-9]);
    }
  });

  Deno.test(`${layout}: 2^32 bytes are as many as a chain can have`, () => {
    using fixture = fixtureOf({ size: 4 });
    assertEquals(addChains(fixture.queue, partsOf(0xffff_ffff, 1), [[1, 1]]).added, 1);
  });

  Deno.test(`${layout}: arrays of chains that are none or too short are UsageErrors, and nothing is added`, () => {
    using fixture = fixtureOf({ size: 8 });
    const { queue } = fixture;
    const parts = partsOf(1, 2);
    const two = Uint16Array.of(1, 1);
    const bad = (
      of: unknown,
      readable: unknown = two,
      writable: unknown = two,
      count: unknown = 1,
      ids: unknown = new Uint16Array(2),
    ) => {
      const call = () =>
        queue.addChains(of as never, readable as never, writable as never, count as never, ids as never);
      assertThrows(call, UsageError, "addChains");
    };
    bad(undefined);
    bad({});
    bad({ ...parts, iovaLo: [1, 2] });
    bad({ ...parts, iovaHi: new Uint32Array(1) });
    bad(parts, [1]);
    bad(parts, two, [1]);
    bad(parts, two, null);
    for (const count of [3, -1, 0.5, NaN, "1"]) bad(parts, two, two, count);
    bad(parts, two, two, 2, new Uint16Array(1));
    bad(parts, two, two, 1, new Uint32Array(2));
    queue.begin(1, 1);
    assertThrows(() => addChains(queue, parts, [[1, 1]]), UsageError, "was not committed");
    assertEquals([queue.inFlight, addChains(queue, parts, []).added], [0, 0]);
    queue.bindSlots({ iovaLo: parts.iovaLo, iovaHi: parts.iovaHi, lengthBytes: 1, deviceWrites: true });
    assertThrows(() => addChains(queue, parts, [[1, 1]]), UsageError, "chains are slots");
    queue.close();
    assertThrows(() => addChains(queue, parts, [[1, 1]]), ClosedError);
  });
}
