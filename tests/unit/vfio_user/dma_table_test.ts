/** The server's table of a client's memory. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { MappedMemory, mappingCount, pageSizeBytes } from "../../../ffi/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { DmaFault, DmaRegion, DmaTable } from "../../../lib/vfio/vfio_user/mod.ts";

const PAGE = pageSizeBytes;
const both = { deviceReads: true, deviceWrites: true };

function region(iova: bigint, pages: number, access = both): DmaRegion {
  return new DmaRegion(iova, MappedMemory.anonymous(pages * PAGE), access);
}

Deno.test("DMA table: find hits exactly what is mapped, whatever the order it was mapped in", () => {
  const table = new DmaTable();
  const starts = [0x7_0000_0000n, 0x1000n, 0xffff_f000n, 0x2_0000_0000n, 0xffff_ffff_ffff_f000n, 0x9000n];
  for (const start of starts) table.add(region(start, 1));
  assertEquals(table.regions.map((one) => one.iova), [...starts].sort((a, b) => (a < b ? -1 : 1)));
  for (const start of starts) {
    for (const at of [0n, 1n, BigInt(PAGE) - 8n]) {
      const address = start + at;
      assert(table.find(Number(address & 0xffff_ffffn), Number(address >> 32n), 8, true), `${address}`);
      assertEquals([table.region!.iova, table.offset], [start, Number(at)]);
    }
    const past = start + BigInt(PAGE) - 7n;
    assert(!table.find(Number(past & 0xffff_ffffn), Number(past >> 32n), 8, true), `${past}`);
    assert(!table.find(Number((start - 1n) & 0xffff_ffffn), Number((start - 1n) >> 32n), 2, true));
  }
  table.clear();
});

Deno.test("DMA table: the direction counts", () => {
  const table = new DmaTable();
  table.add(region(0x1000n, 1, { deviceReads: true, deviceWrites: false }));
  assert(table.find(0x1000, 0, 4, false));
  assert(!table.find(0x1000, 0, 4, true));
  assertThrows(() => table.resolve(0x1000n, 4, true), DmaFault, "may write");
  table.clear();
});

Deno.test("DMA table: no overlap, also with ranges that came without a file", () => {
  const table = new DmaTable();
  table.add(region(0x4000n, 2));
  table.addUnreachable(0x8000n, 0x2000n);
  for (
    const [iova, size] of [[0x3000n, 0x1001n], [0x5000n, 1n], [0x4000n, 0x2000n], [0x0n, 0x10000n]] as const
  ) {
    assertThrows(() => table.checkFree(iova, size), UsageError, "overlaps");
  }
  assertThrows(() => table.addUnreachable(0x9000n, 0x1000n), UsageError, "overlaps");
  table.checkFree(0x6000n, 0x2000n);
  assertThrows(() => table.checkFree(0xffff_ffff_ffff_f000n, 0x1001n), UsageError, "passes 2^64");
  assertThrows(() => table.resolve(0x8000n, 4, false), DmaFault, "without a file");
  assertEquals(table.count, 2);
  table.clear();
  assertEquals(table.count, 0);
});

Deno.test("DMA table: remove takes out exactly one range, unmaps it, and moves the generation on", () => {
  const before = mappingCount();
  const table = new DmaTable();
  const one = region(0x4000n, 2);
  const { bytes } = one;
  table.add(one);
  table.addUnreachable(0x8000n, 0x1000n);
  const { generation } = table;
  assert(!table.remove(0x4000n, 0x1000n), "a part is no range");
  assert(!table.remove(0x5000n, 0x1000n));
  assert(table.has(0x4000n, 0x2000n));
  assert(table.find(0x4000, 0, 4, false));
  assert(table.remove(0x4000n, 0x2000n));
  assert(table.generation > generation);
  assertEquals(bytes.byteLength, 0, "views are detached");
  assert(!table.find(0x4000, 0, 4, false), "the last hit is forgotten too");
  assert(table.remove(0x8000n, 0x1000n));
  assert(!table.remove(0x8000n, 0x1000n));
  assertEquals(mappingCount(), before);
});
