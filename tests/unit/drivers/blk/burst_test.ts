import { assert, assertEquals, assertThrows } from "@std/assert";
import { BlockQueue } from "../../../../drivers/blk/queue.ts";
import { RequestBurst } from "../../../../drivers/blk/request_burst.ts";
import { COUNT } from "../../../../drivers/blk/statistics.ts";
import { DeviceError, UsageError } from "../../../../lib/errors/mod.ts";
import { BLK_STATUS, BLK_TYPE } from "../../../../lib/virtio/spec/blk.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import { type FixtureOptions, packedFixture, ringFixture } from "../../virtio/queue/ring_fixture.ts";
import type { FakeTransport } from "../../virtio/transport/fake_transport.ts";
import type { Part } from "../../virtio/queue/model_ring.ts";

const SECTOR = 512;
const REQUEST_BYTES = 8 * SECTOR;
const SLOTS = 8;
const CAPACITY = 2 ** 33;

interface Setup {
  readonly layout: "split" | "packed";
  readonly indirect: boolean;
  readonly inOrder: boolean;
  /** Bytes of a data segment. */
  readonly segmentBytes: number;
}

const SETUPS: readonly Setup[] = (["split", "packed"] as const).flatMap((layout) =>
  [true, false].flatMap((indirect) =>
    [true, false].flatMap((inOrder) =>
      [REQUEST_BYTES, 1536].map((segmentBytes) => ({ layout, indirect, inOrder, segmentBytes }))
    )
  )
);

/** A request as the device sees it. */
interface Seen {
  readonly parts: readonly Part[];
  readonly type: number;
  readonly sector: number;
  /** Bytes of data, and whether the device writes them. */
  readonly data: number;
  readonly writes: boolean;
  /** Answers it. */
  give(status: number | null, length: number): void;
  /** Answers under another number. */
  giveAs(id: number, length: number): void;
}

/** A block queue over a ring, and the device's side of it. */
class Rig implements Disposable {
  readonly queue: BlockQueue;
  readonly transport: FakeTransport;
  readonly counts = new Float64Array(16);
  readonly #setup: Setup;
  readonly #fixture: Disposable;

  constructor(setup: Setup) {
    const { layout, indirect, inOrder, segmentBytes } = setup;
    const options: FixtureOptions = { size: 64, indirect, inOrder, eventIndex: true };
    const fixture = layout === "split" ? ringFixture(options) : packedFixture(options);
    this.#setup = setup;
    this.#fixture = fixture;
    this.transport = fixture.transport;
    this.queue = new BlockQueue({
      name: "rig",
      queue: fixture.queue,
      dma: fixture.transport.dma,
      slots: SLOTS,
      requestBytes: REQUEST_BYTES,
      indirect,
      limits: {
        capacitySectors: CAPACITY,
        readOnly: false,
        flush: true,
        discardSegments: 4,
        writeZeroesSegments: 4,
        segmentBytes,
      },
      counts: this.counts,
    });
  }

  /** The next request; undefined when there is none. */
  pop(): Seen | undefined {
    if (this.#setup.layout === "split") {
      const ring = this.transport.ring(0);
      const chain = ring.pop();
      return chain && this.#seen(chain.parts, chain.head, (id, length) => ring.push(id, length));
    }
    const ring = this.transport.packed(0);
    const chain = ring.pop();
    return chain && this.#seen(chain.parts, chain.id, (id, length) => ring.push(id, length, chain.count));
  }

  #seen(parts: readonly Part[], id: number, push: (id: number, length: number) => void): Seen {
    const { iommu } = this.transport;
    const [header, ...data] = parts;
    const status = data.pop()!;
    assertEquals([header!.length, header!.write, status.length, status.write], [16, false, 1, true]);
    const words = iommu.at(header!.iova, 16, false);
    assertEquals(words.getUint32(4, true), 0, "reserved");
    return {
      parts,
      type: words.getUint32(0, true),
      sector: Number(words.getBigUint64(8, true)),
      data: data.reduce((sum, { length }) => sum + length, 0),
      writes: data.some(({ write }) => write),
      give: (value, length) => {
        if (value !== null) iommu.at(status.iova, 1, true).setUint8(0, value);
        push(id, length);
      },
      giveAs: (other, length) => push(other, length),
    };
  }

  [Symbol.dispose](): void {
    this.queue.close();
    this.#fixture[Symbol.dispose]();
  }
}

const text = ({ layout, indirect, inOrder, segmentBytes }: Setup) =>
  `${layout}${indirect ? ", indirect" : ""}${inOrder ? ", in order" : ""}, segments of ${segmentBytes}`;

for (const setup of SETUPS) {
  Deno.test(`5.2.6 bursts, ${text(setup)}: what the arrays say is what the device sees, and its answers come back in arrays`, () => {
    using rig = new Rig(setup);
    const { queue } = rig;
    const random = new Random(5);
    const slots = new Uint16Array(SLOTS), types = new Uint8Array(SLOTS);
    const sectors = new Float64Array(SLOTS), lengths = new Uint32Array(SLOTS);
    const burst = new RequestBurst(SLOTS);
    for (let i = 0; i < SLOTS; i++) slots[i] = queue.reserve();
    assertEquals(queue.reserve(), -1);
    let reads = 0, failures = 0;
    for (let round = 0; round < 40; round++) {
      const count = 1 + random.below(SLOTS);
      const wanted = new Map<number, { type: number; bytes: number; status: number }>();
      for (let i = 0; i < count; i++) {
        const type = random.pick([BLK_TYPE.in, BLK_TYPE.in, BLK_TYPE.out, BLK_TYPE.flush, BLK_TYPE.discard]);
        const data = type === BLK_TYPE.in || type === BLK_TYPE.out;
        // Often the same again: then nothing of the chain is written.
        const bytes = data ? SECTOR * random.pick([8, 8, 8, 1, 3]) : type === BLK_TYPE.flush ? 0 : 32;
        types[i] = type;
        lengths[i] = bytes;
        sectors[i] = data ? random.below(2 ** 31) * 4 + i : 0;
        const status = random.below(8) === 0 ? BLK_STATUS.ioErr : BLK_STATUS.ok;
        wanted.set(slots[i]!, { type, bytes, status });
        if (type === BLK_TYPE.in) reads++;
        if (status !== BLK_STATUS.ok) failures++;
      }
      queue.submitBurst(slots, types, sectors, lengths, count);
      assertEquals(queue.inFlight, count);
      for (let i = 0; i < count; i++) {
        const seen = rig.pop()!;
        const { bytes, status } = wanted.get(slots[i]!)!;
        const type = types[i]!;
        assertEquals([seen.type, seen.sector, seen.data], [type, sectors[i], bytes]);
        assertEquals(seen.parts.length, 2 + Math.ceil(bytes / setup.segmentBytes));
        if (bytes > 0) assertEquals(seen.writes, type === BLK_TYPE.in);
        seen.give(status, type === BLK_TYPE.in ? bytes + 1 : 1);
      }
      assertEquals(rig.pop(), undefined);
      // In two parts, when there is more than one.
      const some = new RequestBurst(1 + random.below(SLOTS));
      const got = queue.complete(some) + queue.complete(burst);
      assertEquals([got, some.count + burst.count, queue.inFlight], [count, count, 0]);
      for (const { count, slots, statuses, lengths } of [some, burst]) {
        for (let i = 0; i < count; i++) {
          const { bytes, status } = wanted.get(slots[i]!)!;
          wanted.delete(slots[i]!);
          assertEquals([statuses[i], lengths[i]], [status, status === BLK_STATUS.ok ? bytes : 0]);
        }
      }
      assertEquals(wanted.size, 0);
    }
    assertEquals([rig.counts[COUNT.reads], rig.counts[COUNT.failures]], [reads, failures]);
  });
}

for (const layout of ["split", "packed"] as const) {
  Deno.test(`${layout}: the chain of a request like the slot's last one is not written again; another length or direction is`, () => {
    using rig = new Rig({ layout, indirect: true, inOrder: false, segmentBytes: REQUEST_BYTES });
    const { queue, transport: { iommu } } = rig;
    const slot = queue.reserve();
    const burst = new RequestBurst(1);
    const submit = (type: number, sectors: number) => {
      queue.submit(slot, type, 7, sectors * SECTOR);
      queue.notify();
      return rig.pop()!;
    };
    const answer = (seen: Seen, length: number) => {
      seen.give(BLK_STATUS.ok, length);
      assertEquals(queue.complete(burst), 1);
    };
    const first = submit(BLK_TYPE.in, 8);
    // The table lies before the header: 3 entries of 16 bytes. Its first entry's length is changed behind the driver's back.
    const table = iommu.at(first.parts[0]!.iova - 48n, 48, false);
    const data = first.parts[1]!;
    assertEquals([table.getBigUint64(16, true), table.getUint32(24, true)], [data.iova, 8 * SECTOR]);
    answer(first, 8 * SECTOR + 1);
    table.setUint32(24, 3 * SECTOR, true);
    const again = submit(BLK_TYPE.in, 8);
    assertEquals([again.sector, again.data], [7, 3 * SECTOR]);
    answer(again, 8 * SECTOR + 1);
    for (const [type, sectors] of [[BLK_TYPE.in, 2], [BLK_TYPE.in, 8], [BLK_TYPE.out, 8]] as const) {
      const seen = submit(type, sectors);
      assertEquals([seen.data, seen.writes], [sectors * SECTOR, type === BLK_TYPE.in]);
      answer(seen, type === BLK_TYPE.in ? sectors * SECTOR + 1 : 1);
    }
  });
}

Deno.test("a burst that holds something wrong: what came before is submitted, the rest stays the caller's", () => {
  for (const setup of SETUPS.filter(({ segmentBytes }) => segmentBytes === REQUEST_BYTES)) {
    using rig = new Rig(setup);
    const { queue } = rig;
    const slots = Uint16Array.from({ length: 4 }, () => queue.reserve());
    const types = new Uint8Array(4).fill(BLK_TYPE.in);
    const lengths = new Uint32Array(4).fill(SECTOR);
    const wrong = (at: number, change: (arrays: { slots: Uint16Array; sectors: Float64Array }) => void) => {
      const arrays = { slots: slots.slice(), sectors: new Float64Array(4) };
      change(arrays);
      assertThrows(
        () => queue.submitBurst(arrays.slots, types, arrays.sectors, lengths, 4),
        UsageError,
        "",
        text(setup),
      );
      assertEquals(queue.inFlight, at);
      const burst = new RequestBurst(4);
      for (let i = 0; i < at; i++) rig.pop()!.give(BLK_STATUS.ok, SECTOR + 1);
      assertEquals([rig.pop(), queue.complete(burst)], [undefined, at]);
    };
    wrong(2, ({ slots }) => slots[2] = slots[1]!);
    wrong(1, ({ slots }) => slots[1] = SLOTS);
    wrong(3, ({ sectors }) => sectors[3] = CAPACITY);
    wrong(0, ({ sectors }) => sectors[0] = 0.5);
    wrong(0, ({ sectors }) => sectors[0] = NaN);
    wrong(1, ({ sectors }) => sectors[1] = -1);
    const sectors = new Float64Array(4);
    for (const count of [5, -1, 0.5, NaN]) {
      assertThrows(() => queue.submitBurst(slots, types, sectors, lengths, count), UsageError);
    }
    const untyped = queue.submitBurst.bind(queue) as (...args: unknown[]) => void;
    assertThrows(() => untyped([...slots], types, sectors, lengths, 4), UsageError);
    assertThrows(() => untyped(slots, types, new Float32Array(4), lengths, 4), UsageError);
    assertEquals([queue.inFlight, rig.pop()], [0, undefined]);
  }
});

const FIELDS = ["status", "used.len", "used.id", "used.idx", "used.flags"];
const LIVES = rounds(8000);

Deno.test(
  campaign(
    `${LIVES} queues whose device answers anything, by bursts: only what was asked comes back, and the rest is a DeviceError`,
    () => {
      const random = new Random(0xb10c);
      const found = new Map<string, number>();
      let answered = 0;
      for (let life = 0; life < LIVES; life++) {
        const setup = random.pick(SETUPS);
        using rig = new Rig(setup);
        const { queue } = rig;
        const burst = new RequestBurst(1 + random.below(SLOTS));
        const mine = new Set<number>();
        const slots = new Uint16Array(SLOTS), types = new Uint8Array(SLOTS);
        const sectors = new Float64Array(SLOTS), lengths = new Uint32Array(SLOTS);
        const asked = new Map<number, number>();
        for (let slot = queue.reserve(); slot >= 0; slot = queue.reserve()) mine.add(slot);
        try {
          for (let turn = 0; turn < 100; turn++) {
            const count = random.below(mine.size + 1);
            [...mine].slice(0, count).forEach((slot, i) => {
              slots[i] = slot;
              types[i] = random.pick([BLK_TYPE.in, BLK_TYPE.out]);
              lengths[i] = SECTOR * (1 + random.below(8));
              sectors[i] = random.next();
              mine.delete(slot);
              asked.set(slot, lengths[i]!);
            });
            queue.submitBurst(slots, types, sectors, lengths, count);
            for (let seen = rig.pop(); seen !== undefined; seen = rig.pop()) {
              const right = seen.writes ? seen.data + 1 : 1;
              const kind = random.below(512);
              if (kind === 0) seen.give(random.next() & 0xff, right);
              else if (kind === 1) {
                seen.give(BLK_STATUS.ok, random.below(2) === 0 ? random.next() : right + 1 - random.below(3));
              } else if (kind === 2) seen.give(null, right);
              else if (kind === 3) {
                seen.giveAs(random.below(2) === 0 ? random.below(64) : random.next() & 0xffff, right);
              } else seen.give(random.below(12) === 0 ? BLK_STATUS.unsupp : BLK_STATUS.ok, right);
            }
            for (let got = queue.complete(burst); got > 0; got = queue.complete(burst)) {
              for (let i = 0; i < got; i++) {
                const slot = burst.slots[i]!;
                assert(asked.has(slot), `${text(setup)}: slot ${slot} was not asked for`);
                assert(burst.statuses[i]! <= BLK_STATUS.unsupp);
                assertEquals(burst.lengths[i], burst.statuses[i] === BLK_STATUS.ok ? asked.get(slot) : 0);
                asked.delete(slot);
                mine.add(slot);
                answered++;
              }
            }
          }
        } catch (error) {
          if (!(error instanceof DeviceError)) throw error;
          const { field = "", queue: number } = error.location;
          assert(FIELDS.includes(field) && number === 0, `${text(setup)}: ${error.message}`);
          found.set(field, (found.get(field) ?? 0) + 1);
          // It stays broken, with the same error, and what is the caller's can be given back.
          const again = assertThrows(() => queue.complete(burst), DeviceError);
          assertEquals(again.location, error.location);
          for (const slot of mine) queue.release(slot);
        }
      }
      assert(answered > 50 * LIVES, `${answered} answers`);
      for (const field of ["status", "used.len", "used.id"]) assert((found.get(field) ?? 0) > 0, field);
    },
  ),
);
