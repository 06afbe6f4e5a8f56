import { assertEquals, assertThrows } from "@std/assert";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import type { DmaMemory } from "../../../../lib/memory/mod.ts";
import type { SlotTables, Virtqueue } from "../../../../lib/virtio/queue/virtqueue.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { packedFixture, ringFixture } from "./ring_fixture.ts";

const SLOTS = 4;
/** Of each slot: a table of two entries, then what they name. */
const STRIDE = 64;
const READABLE = 8;

/** Tables as a driver writes them: 8 bytes that the device reads, and `writable[slot]` that it writes. */
class Tables implements SlotTables {
  readonly writable = new Uint32Array(SLOTS);
  readonly memory: DmaMemory;
  readonly #view: DataView;

  constructor(queue: Virtqueue, memory: DmaMemory) {
    this.memory = memory;
    this.#view = new DataView(memory.buffer);
    const iovas = Array.from({ length: SLOTS }, (_, slot) => this.iova(slot));
    queue.bindSlots({
      iovaLo: Uint32Array.from(iovas, (iova) => Number(iova & 0xffff_ffffn)),
      iovaHi: Uint32Array.from(iovas, (iova) => Number(iova >> 32n)),
      lengthBytes: 32,
      deviceWrites: false,
      tables: this,
    });
    for (let slot = 0; slot < SLOTS; slot++) {
      this.writable[slot] = 10 + slot;
      const split = queue.layout === "split";
      this.#entry(slot, 0, READABLE, split ? 1 | 1 << 16 : 0);
      this.#entry(slot, 1, 10 + slot, split ? 2 : 2 << 16);
    }
  }

  iova(slot: number, offset = 0): bigint {
    return this.memory.iova + BigInt(STRIDE * slot + offset);
  }

  partsOf(slot: number) {
    return {
      readable: [{ iova: `0x${this.iova(slot, 32).toString(16)}`, lengthBytes: READABLE }],
      writable: [{ iova: `0x${this.iova(slot, 40).toString(16)}`, lengthBytes: 10 + slot }],
    };
  }

  #entry(slot: number, at: number, bytes: number, flags: number): void {
    const offset = STRIDE * slot + 16 * at;
    this.#view.setBigUint64(offset, this.iova(slot, 32 + 8 * at), true);
    this.#view.setUint32(offset + 8, bytes, true);
    this.#view.setUint32(offset + 12, flags, true);
  }
}

for (const layout of ["split", "packed"] as const) {
  for (const inOrder of [false, true]) {
    const setUp = () => {
      const options = { size: SLOTS, indirect: true, inOrder };
      const fixture = layout === "split" ? ringFixture(options) : packedFixture(options);
      const memory = fixture.transport.dma.allocate(SLOTS * STRIDE, { label: "tables" });
      /** The next chain as the device sees it. */
      const pop = () => {
        if (layout === "split") {
          const ring = fixture.transport.ring(0);
          const chain = ring.pop()!;
          return { ...chain, give: (length: number) => ring.push(chain.head, length) };
        }
        const ring = fixture.transport.packed(0);
        const chain = ring.pop()!;
        return { ...chain, give: (length: number) => ring.push(chain.id, length, chain.count) };
      };
      return { fixture, queue: fixture.queue, tables: new Tables(fixture.queue, memory), pop };
    };

    Deno.test(`slots that are tables, ${layout}${inOrder ? ", in order" : ""}: one descriptor each, whose table is their owner's`, () => {
      const { fixture, queue, tables, pop } = setUp();
      using _ = fixture;
      const used = usedBurst(SLOTS);
      for (let round = 0; round < 5; round++) {
        const slots = Uint16Array.of(3, round % 3, 1 + round % 2 === round % 3 ? 0 : 1 + round % 2);
        assertEquals(queue.addSlots(slots, new Uint32Array(3).fill(32), 3), 3);
        assertEquals([queue.freeDescriptors, queue.inFlight], [1, 3]);
        queue.publish();
        for (const slot of slots) {
          const { table, parts, give } = pop();
          assertEquals(table, true);
          assertEquals(parts.map(({ iova, length, write }) => [iova, length, write]), [
            [tables.iova(slot, 32), READABLE, false],
            [tables.iova(slot, 40), 10 + slot, true],
          ]);
          give(10 + slot);
        }
        assertEquals(queue.takeUsed(used), 3);
        assertEquals([...used.ids.subarray(0, 3)], [...slots]);
        assertEquals([...used.lengths.subarray(0, 3)], [...slots].map((slot) => 10 + slot));
      }
    });

    Deno.test(`slots that are tables, ${layout}${inOrder ? ", in order" : ""}: more bytes than the owner says are a lie`, () => {
      const { fixture, queue, tables, pop } = setUp();
      using _ = fixture;
      // What the owner says when the slot is added counts, not what the table says.
      tables.writable[2] = 5;
      queue.addSlots(Uint16Array.of(2), Uint32Array.of(32), 1);
      queue.publish();
      pop().give(6);
      const error = assertThrows(() => queue.takeUsed(usedBurst(SLOTS)), DeviceError);
      assertEquals(error.location.field, "used.len");
    });

    Deno.test(`slots that are tables, ${layout}${inOrder ? ", in order" : ""}: saved as the owner says, whatever the memory holds, and offered again`, () => {
      const { fixture, queue, tables, pop } = setUp();
      using _ = fixture;
      queue.addSlots(Uint16Array.of(1, 3), Uint32Array.of(32, 32), 2);
      queue.publish();
      const before = tables.memory.bytes(0, SLOTS * STRIDE).slice();
      tables.memory.bytes(0, SLOTS * STRIDE).fill(0xee);
      assertEquals(queue.saveInFlight(), [1, 3].map((id) => ({ id, ...tables.partsOf(id) })));
      tables.memory.bytes(0, SLOTS * STRIDE).set(before);
      queue.restart();
      for (const slot of [1, 3]) assertEquals(pop().parts[1]!.iova, tables.iova(slot, 40));
    });
  }
}
