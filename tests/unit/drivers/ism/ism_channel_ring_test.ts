import { assert, assertEquals, assertThrows } from "@std/assert";
import { channelBytes, RING_CONTROL, RING_CONTROL_AT } from "../../../../drivers/ism/channel/layout.ts";
import { RingConsumer, RingProducer } from "../../../../drivers/ism/channel/ring.ts";
import { ProtocolError } from "../../../../lib/errors/mod.ts";
import { Random } from "../../../random.ts";
import { pattern, withDevices } from "./ism_channels.ts";

const CAPACITY = 4096;
const WRAP = 2 ** 32;
const { head, tail } = RING_CONTROL.fields;

interface Ring {
  readonly producer: RingProducer;
  readonly consumer: RingConsumer;
  /** What the other side could write at any time. */
  readonly set: (field: "head" | "tail", value: number) => void;
  readonly get: (field: "head" | "tail") => number;
}

/** An empty ring whose positions are at `position`: the producer at one device, the consumer at another. */
async function withRing(ring: 0 | 1, position: number, use: (ring: Ring) => void): Promise<void> {
  await withDevices(async (one, two) => {
    const mine = await one.alloc(channelBytes(CAPACITY));
    const theirs = await two.attach(mine.token);
    const at = (field: "head" | "tail") => RING_CONTROL_AT[ring] + { head, tail }[field].offset;
    mine.setUint32(at("head"), position);
    mine.setUint32(at("tail"), position);
    use({
      producer: new RingProducer(mine, ring, CAPACITY, position),
      consumer: new RingConsumer(theirs, ring, CAPACITY, position),
      set: (field, value) => mine.setUint32(at(field), value),
      get: (field) => mine.getUint32(at(field)),
    });
  });
}

/** Has `change` happen after the `nth` look at a word from now on, as a peer could that runs at the same time. */
function betweenLooks<T>(nth: number, change: () => void, act: () => T): T {
  const load = Atomics.load;
  let looks = 0;
  const looked = (words: Uint32Array<ArrayBuffer>, index: number): number => {
    const value = load(words, index);
    if (++looks === nth) change();
    return value;
  };
  Atomics.load = looked as typeof Atomics.load;
  try {
    return act();
  } finally {
    Atomics.load = load;
  }
}

for (const ring of [0, 1] as const) {
  Deno.test(`positions wrap at 2^32 (ring ${ring}): bytes, room and emptiness on both sides of it`, async () => {
    await withRing(ring, WRAP - 2000, ({ producer, consumer, get }) => {
      const all = pattern(7000, 3);
      const into = new Uint8Array(7000);
      assertEquals([producer.free(), consumer.available(), producer.drained], [CAPACITY, 0, true]);
      // Full across the wrap, empty across the wrap.
      assertEquals([producer.write(all, 0, 7000), producer.free(), producer.write(all, 0, 1)], [
        CAPACITY,
        0,
        0,
      ]);
      assertEquals([get("head"), get("tail")], [CAPACITY - 2000, WRAP - 2000]);
      assertEquals([consumer.available(), consumer.read(into, 0, 1999), get("tail")], [
        CAPACITY,
        1999,
        WRAP - 1,
      ]);
      assertEquals([producer.free(), producer.write(all, CAPACITY, 7000)], [1999, 1999]);
      assertEquals([consumer.read(into, 1999, 7000), get("tail")], [CAPACITY, CAPACITY - 1]);
      assertEquals([producer.drained, consumer.available()], [true, 0]);
      assertEquals([...into.subarray(0, 6095)], [...all.subarray(0, 6095)]);
    });
  });

  Deno.test(`positions wrap at 2^32 (ring ${ring}): random pieces around each place where they might go wrong`, async () => {
    for (const position of [WRAP - 1, WRAP - CAPACITY, WRAP - CAPACITY + 1, WRAP / 2 - 77, 0]) {
      await withRing(ring, position, ({ producer, consumer }) => {
        const random = new Random(position % 1000 + ring);
        const all = pattern(30_000, ring);
        const into = new Uint8Array(all.length);
        let written = 0, read = 0;
        while (read < all.length) {
          written += producer.write(all, written, Math.min(all.length, written + random.below(3000)));
          assertEquals(producer.free(), CAPACITY - (written - read));
          assertEquals(consumer.available(), written - read);
          read += consumer.read(into, read, Math.min(all.length, read + random.below(3000)));
        }
        assert(into.every((byte, i) => byte === all[i]), `from ${position}`);
      });
    }
  });

  Deno.test(`hostile positions near 2^32 (ring ${ring}) are ProtocolErrors on either side of the wrap`, async () => {
    const cases: [number, "head" | "tail", number][] = [
      // The consumer is at WRAP − 4 with 10 bytes there: up to WRAP − 4 + 4096 can be.
      [WRAP - 4, "head", WRAP - 5],
      [WRAP - 4, "head", 5],
      [WRAP - 4, "head", CAPACITY - 3],
      [WRAP - 4, "head", WRAP / 2],
      // The producer is at 6: from WRAP − 4 to 6 can be.
      [WRAP - 4, "tail", WRAP - 5],
      [WRAP - 4, "tail", 7],
      [WRAP - 4, "tail", WRAP / 2],
    ];
    for (const [position, field, value] of cases) {
      await withRing(ring, position, ({ producer, consumer, set }) => {
        const bytes = new Uint8Array(CAPACITY);
        producer.write(bytes, 0, 10);
        assertEquals(consumer.available(), 10);
        set(field, value);
        assertThrows(
          () => field === "head" ? consumer.available() : producer.free(),
          ProtocolError,
          String(value),
          `${field} ${value}`,
        );
        assertThrows(
          () => field === "head" ? consumer.read(bytes, 0, CAPACITY) : producer.write(bytes, 0, CAPACITY),
          ProtocolError,
        );
      });
    }
  });
}

Deno.test("hostile peer between two looks: a position is read once, and what was read is what counts", async () => {
  await withRing(0, 100, ({ producer, consumer, set }) => {
    producer.write(pattern(1000, 1), 0, 1000);
    const into = new Uint8Array(CAPACITY).fill(0xee);
    // It says 1000, and the moment that was seen, as much as there can be, or more.
    for (const value of [100 + CAPACITY, 100 + CAPACITY + 1, 0, WRAP - 1]) {
      const count = betweenLooks(1, () => set("head", value), () => consumer.read(into, 0, 10));
      assertEquals([count, into[10]], [10, 0xee], `head ${value}`);
      set("head", 1100);
    }
    const count = betweenLooks(1, () => set("head", 0), () => consumer.read(into, 0, CAPACITY));
    assertEquals([count, into[960]], [960, 0xee]);
    assertThrows(() => consumer.available(), ProtocolError);
  });
  await withRing(0, 100, ({ producer, set, get }) => {
    const bytes = new Uint8Array(2 * CAPACITY);
    producer.write(bytes, 0, CAPACITY - 10);
    const count = betweenLooks(
      1,
      () => set("tail", get("head")),
      () => producer.write(bytes, 0, 2 * CAPACITY),
    );
    assertEquals([count, get("head")], [10, 100 + CAPACITY]);
    set("tail", 101);
    assertEquals(betweenLooks(1, () => set("tail", 99), () => producer.free()), 1);
    assertThrows(() => producer.free(), ProtocolError, "99");
  });
  // Whether the producer is worth waking is decided by a look at a position that is not checked: only its own wake-up is at stake.
  await withRing(0, 0, ({ producer, consumer, set }) => {
    producer.write(new Uint8Array(CAPACITY), 0, CAPACITY);
    producer.sleep(true);
    consumer.read(new Uint8Array(10), 0, 10);
    for (const value of [WRAP - 1, 0, 5, CAPACITY + 11]) {
      set("head", value);
      consumer.wakes();
    }
    producer.sleep(true);
    assertEquals([consumer.wakes(true), consumer.wakes(true)], [true, false]);
  });
});
