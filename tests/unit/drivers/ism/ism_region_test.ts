import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type IsmRegion, VirtioIsm } from "../../../../drivers/ism/virtio_ism.ts";
import { chunkRuns } from "../../../../drivers/ism/chunks.ts";
import { RegionMemory } from "../../../../drivers/ism/region_memory.ts";
import { createMemfd, MappedMemory, SyscallError } from "../../../../ffi/mod.ts";
import { UsageError } from "../../../../lib/errors/mod.ts";
import type { RegionArea } from "../../../../lib/vfio/mod.ts";
import type { SharedMemory } from "../../../../lib/virtio/mod.ts";
import { Random } from "../../../random.ts";
import { ModelIsm } from "./model_ism.ts";

const PAGE = 4096;
/** Three pieces of 2, 3 and 1 chunks; the last chunk is used in part. */
const CHUNKS = [5, 6, 2, 3, 4, 9];
const SIZE = 5 * PAGE + 1234;

async function withRegion(
  use: (region: IsmRegion, model: ModelIsm) => void,
  options: { mappable?: boolean; chunks?: number[]; sizeBytes?: number } = {},
): Promise<void> {
  using model = new ModelIsm();
  model.area.mappable = options.mappable ?? true;
  model.chunksFor = () => options.chunks ?? CHUNKS;
  await using ism = await VirtioIsm.open(model.transport);
  use(await ism.alloc(options.sizeBytes ?? SIZE), model);
}

/** Where a byte of the region is in the area. */
function place(offset: number): number {
  return CHUNKS[Math.floor(offset / PAGE)]! * PAGE + offset % PAGE;
}

Deno.test("chunks that follow each other are one run, in whatever order the runs are", () => {
  const run = (chunks: number[]) =>
    chunkRuns(chunks.map((chunk) => chunk * 8), 8).map((
      { areaOffset, sizeBytes },
    ) => [areaOffset / 8, sizeBytes / 8]);
  assertEquals(run([4]), [[4, 1]]);
  assertEquals(run([0, 1, 2, 3]), [[0, 4]]);
  assertEquals(run([5, 6, 2, 3, 4, 9]), [[5, 2], [2, 3], [9, 1]]);
  assertEquals(run([3, 2, 1]), [[3, 1], [2, 1], [1, 1]]);
});

Deno.test("a region of scattered chunks: a mapping a run, views within one, and no view across", async () => {
  await withRegion((region, model) => {
    assertEquals(region.segments, [
      { offset: 0, sizeBytes: 2 * PAGE, areaOffset: 5 * PAGE, mapped: true },
      { offset: 2 * PAGE, sizeBytes: 3 * PAGE, areaOffset: 2 * PAGE, mapped: true },
      { offset: 5 * PAGE, sizeBytes: 1234, areaOffset: 9 * PAGE, mapped: true },
    ]);
    assertEquals([region.contiguous, region.mapped, region.mappedBytes], [false, true, 6 * PAGE]);
    assertEquals(model.area.maps.map(({ offset }) => offset), [5 * PAGE, 2 * PAGE, 9 * PAGE]);
    region.bytes(2 * PAGE, 3 * PAGE).fill(7);
    assertEquals(model.area.memory.bytes(2 * PAGE, 3 * PAGE), new Uint8Array(3 * PAGE).fill(7));
    assertThrows(() => region.bytes(2 * PAGE - 1, 2), UsageError, "not in one piece");
    assertThrows(() => region.bytes(), UsageError, "not in one piece");
  });
  await withRegion((region) => {
    assertEquals([region.contiguous, region.bytes().length], [true, SIZE]);
  }, { chunks: [1, 2, 3, 4, 5, 6] });
});

Deno.test("N-5.14: the tail of the last chunk is not reached, nor mapped further than its page", async () => {
  await withRegion((region) => {
    for (
      const [offset, length] of [[SIZE - 1, 2], [SIZE, 1], [-1, 1], [0, SIZE + 1], [0.5, 1], [
        NaN,
        1,
      ]] as const
    ) {
      const bytes = new Uint8Array(length);
      assertThrows(() => region.read(offset, bytes), UsageError);
      assertThrows(() => region.write(offset, bytes), UsageError);
      assertThrows(() => region.bytes(offset, length), UsageError);
    }
    assertThrows(() => region.getUint32(SIZE - 3), UsageError, "N-5.14");
    assertThrows(() => region.setBigUint64(SIZE - 7, 0n), UsageError);
    region.setUint8(SIZE - 1, 1);
    assertEquals(region.bytes(SIZE - 4).length, 4);
  });
  using model = new ModelIsm({ chunkSize: 16 * PAGE, chunks: 4 });
  await using ism = await VirtioIsm.open(model.transport);
  const region = await ism.alloc(PAGE + 1);
  assertEquals([model.area.maps[0]!.sizeBytes, region.mappedBytes], [2 * PAGE, 2 * PAGE]);
});

for (const mappable of [true, false]) {
  Deno.test(`20,000 random accesses across chunks, against a plain array (${mappable ? "mapped" : "by messages"})`, async () => {
    await withRegion((region, model) => {
      assertEquals(region.mapped, mappable);
      const random = new Random(mappable ? 5 : 6);
      const expected = new Uint8Array(SIZE);
      const view = new DataView(expected.buffer);
      const device = model.area.memory.bytes();
      for (let round = 0; round < 20_000; round++) {
        // Half of them near the end of a chunk.
        const near = random.below(2) === 0;
        const most = near ? 16 : 9000;
        const length = 1 + random.below(near ? 16 : most);
        const last = SIZE - Math.max(length, 8);
        const at = near
          ? Math.min(last, Math.max(0, (1 + random.below(6)) * PAGE - random.below(12)))
          : random.below(last);
        const value = random.next();
        switch (random.below(10)) {
          case 0: {
            const bytes = Uint8Array.from({ length: Math.min(length, 64) }, () => random.below(256));
            region.write(at, bytes);
            expected.set(bytes, at);
            break;
          }
          case 1:
            region.setUint8(at, value & 0xff);
            view.setUint8(at, value & 0xff);
            break;
          case 2:
            region.setUint16(at, value & 0xffff);
            view.setUint16(at, value & 0xffff, true);
            break;
          case 3:
            region.setUint32(at, value);
            view.setUint32(at, value, true);
            break;
          case 4:
            region.setBigUint64(at, BigInt(value) << 31n);
            view.setBigUint64(at, BigInt(value) << 31n, true);
            break;
          case 5:
            assertEquals(region.getUint8(at), view.getUint8(at));
            break;
          case 6:
            assertEquals(region.getUint16(at), view.getUint16(at, true));
            break;
          case 7:
            assertEquals(region.getUint32(at), view.getUint32(at, true));
            break;
          case 8:
            assertEquals(region.getBigUint64(at), view.getBigUint64(at, true));
            break;
          default: {
            const into = new Uint8Array(length);
            region.read(at, into);
            for (let i = 0; i < length; i++) {
              if (into[i] !== expected[at + i]) throw new Error(`byte ${at + i}`);
            }
          }
        }
      }
      // What the device has, chunk by chunk, and nothing anywhere else.
      const theirs = new Uint8Array(device.length);
      for (let i = 0; i < SIZE; i++) theirs[place(i)] = expected[i]!;
      assert(device.every((byte, i) => byte === theirs[i]));
      assertEquals([model.area.maps.length > 0, model.area.messages.length > 0], [mappable, !mappable]);
      if (!mappable) assertThrows(() => region.bytes(0, 1), UsageError, "not mapped");
    }, { mappable });
  });
}

Deno.test("a mapping that fails: the region is given back, and its chunks are free again", async () => {
  using model = new ModelIsm();
  await using ism = await VirtioIsm.open(model.transport);
  model.chunksFor = () => [1, 5];
  const { area } = model;
  const map = area.map.bind(area);
  area.map = (part, options) => {
    if (part?.offset === 5 * PAGE) throw new SyscallError("mmap", "a chunk", 12);
    return map(part, options);
  };
  await assertRejects(() => ism.alloc(PAGE + 1), SyscallError);
  assertEquals([area.open, ism.regions, model.heard.map(({ command }) => command)], [0, [], ["0.0", "3.0"]]);
  area.map = map;
  assertEquals((await ism.alloc(PAGE + 1)).mapped, true);
});

Deno.test("a region of 6 GiB in two pieces: values, ranges and views on both sides of 2 and 4 GiB", () => {
  const GIB = 2 ** 30;
  // Sparse: only pages that are touched cost memory.
  using file = createMemfd("area", 64 * GIB);
  const area = {
    map: (area?: RegionArea) => MappedMemory.map(file, area!.sizeBytes, { offset: BigInt(area!.offset) }),
  } as Partial<SharedMemory> as SharedMemory;
  const runs = [{ areaOffset: 60 * GIB, sizeBytes: 3 * GIB }, { areaOffset: 5 * GIB, sizeBytes: 3 * GIB }];
  const region = new RegionMemory(area, runs, 6 * GIB, { read: true, write: true }, "region");
  for (const offset of [2 * GIB - 8, 2 * GIB, 3 * GIB, 4 * GIB - 8, 4 * GIB, 6 * GIB - 8]) {
    region.setBigUint64(offset, 0x8877_6655_4433_2211n);
    assertEquals(region.getBigUint64(offset), 0x8877_6655_4433_2211n);
    assertEquals([region.getUint32(offset + 4), region.getUint16(offset + 6), region.getUint8(offset)], [
      0x8877_6655,
      0x8877,
      0x11,
    ]);
    assertEquals([region.getUint32(offset + 1), region.bytes(offset, 8)[7]], [0x5544_3322, 0x88]);
  }
  const across = new Uint8Array(16).map((_, i) => i + 1), back = new Uint8Array(16);
  region.write(3 * GIB - 8, across);
  region.read(3 * GIB - 8, back);
  assertEquals(back, across);
  using first = MappedMemory.map(file, 4096, { offset: BigInt(5 * GIB) });
  assertEquals(first.bytes(0, 8), across.subarray(8));
  region.release();
});
