import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { Random } from "../../random.ts";
import { BLK, hash, pattern, SECTOR, withBlk } from "./served_disk.ts";

Deno.test("5.2.5 what the device says of itself", async () => {
  const topology = { queues: 4, blockSize: 4096, segMax: 30, sizeMax: 8192, rangeSectors: 100, ranges: 3 };
  await withBlk(1000, topology, async (transport) => {
    await using blk = await VirtioBlk.open(transport, { queues: 4 });
    assertEquals(blk.config, {
      capacitySectors: 1000,
      sizeMax: 8192,
      segMax: 30,
      blockBytes: 4096,
      geometry: { cylinders: 0, heads: 16, sectors: 63 },
      topology: { physicalBlockBytes: 4096, firstAlignedBytes: 0, minimumBytes: 4096, optimalBytes: 0 },
      queues: 4,
      discard: { sectors: 100, segments: 3, alignment: 8 },
      writeZeroes: { sectors: 100, segments: 3, alignment: 1, mayUnmap: true },
    });
    assertEquals([blk.capacitySectors, blk.readOnly, blk.writeback, blk.queues.length], [
      1000,
      false,
      true,
      4,
    ]);
    assertEquals(await blk.id(), BLK);
    assert(blk.featureNames.includes("VIRTIO_BLK_F_MQ"));
    blk.setWriteback(false);
    assertEquals(blk.writeback, false);
    await blk.write(0, pattern(1, 1));
    await blk.reset();
    assertEquals(blk.writeback, true);
  });
});

Deno.test("5.2.6 every command, and the image outside is what was written", async () => {
  const written = pattern(300, 7);
  await withBlk(2048, { serial: "a serial of 20 chars" }, async (transport) => {
    for (const interrupts of ["msix", "intx", "none"] as const) {
      if (interrupts !== "none" && transport.interruptCount(interrupts) === 0) continue;
      await using blk = await VirtioBlk.open(transport, {
        interrupts,
        wait: interrupts === "none" ? "poll" : "eventfd",
      });
      assertEquals(blk.interruptKind, interrupts);
      assertEquals(await blk.id(), "a serial of 20 chars");
      await blk.write(100, written);
      await blk.flush();
      assertEquals(await blk.read(100, 300), written);
      const into = new Uint8Array(2 * SECTOR);
      assertEquals(await blk.read(101, into), into);
      assertEquals(into, written.slice(SECTOR, 3 * SECTOR));
      await blk.writeZeroes(110, 20);
      await blk.writeZeroes(200, 50, { unmap: true });
      assertEquals(await blk.read(110, 20), new Uint8Array(20 * SECTOR));
      assertEquals(await blk.read(200, 50), new Uint8Array(50 * SECTOR));
      assertEquals(await blk.read(109, 1), written.slice(9 * SECTOR, 10 * SECTOR));
      assertEquals(await blk.read(130, 1), written.slice(30 * SECTOR, 31 * SECTOR));
      await blk.discard(1000, 500);
      assertEquals((await blk.read(2048, 0)).length, 0);
      await blk.write(2048, new Uint8Array(0));
      if (interrupts !== "none") assert(blk.statistics().interrupts > 0);
    }
  }, async (image) => {
    written.fill(0, 10 * SECTOR, 30 * SECTOR);
    written.fill(0, 100 * SECTOR, 150 * SECTOR);
    const expected = new Uint8Array(2048 * SECTOR);
    expected.set(written, 100 * SECTOR);
    assertEquals(await hash(image), await hash(expected));
  });
});

/** Random requests at `depth` by bursts; no two in flight touch the same sectors, so that there is one right answer. */
Deno.test("promises: 400 overlapping calls of up to 300 KiB over 4 queues, each split as limits demand", async () => {
  const sectors = 20_000;
  const model = new Uint8Array(sectors * SECTOR);
  await withBlk(
    sectors,
    { queues: 4, sizeMax: 4096, segMax: 9, rangeSectors: 100, ranges: 3 },
    async (transport) => {
      await using blk = await VirtioBlk.open(transport, { queues: 4, depth: 8 });
      assertEquals(blk.queues[0]!.requestBytes, 36864);
      const random = new Random(99);
      for (let round = 0; round < 20; round++) {
        // Twenty places that do not overlap.
        const lane = sectors / 20;
        await Promise.all(Array.from({ length: 20 }, async (_, place) => {
          const count = 1 + random.below(600), sector = place * lane + random.below(lane - count);
          const at = sector * SECTOR, end = at + count * SECTOR;
          const kind = random.below(4), seed = random.next();
          const choice = random.below(2) === 0 ? {} : { queue: random.below(4) };
          if (kind === 0) assertEquals(await blk.read(sector, count, choice), model.slice(at, end));
          else if (kind === 1) {
            await blk.write(sector, pattern(count, seed), choice);
            model.set(pattern(count, seed), at);
          } else if (kind === 2) {
            await blk.writeZeroes(sector, count, { unmap: seed % 2 === 0, ...choice });
            model.fill(0, at, end);
          } else {
            await blk.discard(sector, count, choice);
            model.set(await blk.read(sector, count), at);
          }
        }));
      }
      assertEquals(blk.queues.map((queue) => [queue.freeSlots, queue.inFlight]), [[8, 0], [8, 0], [8, 0], [
        8,
        0,
      ]]);
    },
    async (image) => assertEquals(await hash(image), await hash(model)),
  );
});
