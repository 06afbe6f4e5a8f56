/** The server's table of a client's memory. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { MappedMemory, mappingCount, pageSizeBytes } from "../../../ffi/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { DmaFault, DmaRegion, DmaTable, FAR_WINDOW_BYTES } from "../../../lib/sockets/dma_table.ts";
import type { FarMemory } from "../../../lib/sockets/vfio_user/mod.ts";

const PAGE = pageSizeBytes;
const both = { deviceReads: true, deviceWrites: true };

function region(iova: bigint, pages: number, access = both): DmaRegion {
  return new DmaRegion(iova, MappedMemory.anonymous(pages * PAGE), access);
}

/** A range whose bytes are kept somewhere else. */
function far(
  iova: bigint,
  sizeBytes: number,
  access = both,
): FarMemory & { bytes: Uint8Array; gone: boolean } {
  const bytes = new Uint8Array(sizeBytes);
  return {
    iova,
    sizeBytes,
    ...access,
    bytes,
    gone: false,
    read(address, into) {
      if (!this.gone) {
        into.set(bytes.subarray(Number(address - iova), Number(address - iova) + into.byteLength));
      }
      return !this.gone;
    },
    write(address, from) {
      if (!this.gone) bytes.set(from, Number(address - iova));
      return !this.gone;
    },
    close() {
      this.gone = true;
    },
  };
}

Deno.test("DMA table: of memory that is not mapped here a device gets a window, filled when it reads, sent when it says so", () => {
  const table = new DmaTable();
  const client = far(0x7_0000_8000n, 0x2000);
  table.add(region(0x7_0000_4000n, 4));
  table.addFar(client);
  client.bytes.set([1, 2, 3, 4], 0x10);
  assert(table.find(0x8010, 7, 4, false));
  const read = table.region!;
  assertEquals([table.offset, read.iova, ...read.bytes], [0, 0x7_0000_8010n, 1, 2, 3, 4]);
  client.bytes[0x11] = 9;
  assertEquals(read.bytes[1], 2, "a copy");
  assert(read.load(1, 1));
  assertEquals([...read.bytes], [1, 9, 3, 4]);
  assert(table.find(0x8020, 7, 4, true));
  const write = table.region!;
  write.bytes.fill(7);
  assertEquals(client.bytes[0x20], 0);
  assert(write.store(0, 2));
  assertEquals([...client.bytes.subarray(0x20, 0x24)], [7, 7, 0, 0]);
  for (const [lo, length] of [[0x9ffd, 4], [0x7ffe, 4], [0xa000, 1]] as const) {
    assert(!table.find(lo, 7, length, false), `${lo}`);
  }
  assertEquals([table.extent(0x7ffe, 7), table.extent(0x9ffd, 7), table.extent(0xa000, 7)], [2, 3, 0]);
  client.gone = true;
  assert(!table.find(0x8010, 7, 4, false));
  assert(!write.store());
  assertThrows(() => table.resolve(0x7_0000_8010n, 4, false), DmaFault);
  table.clear();
});

Deno.test("DMA table: a window is of limited size, and keeps to its direction", () => {
  const table = new DmaTable();
  table.addFar(far(0x1000n, 4096, { deviceReads: true, deviceWrites: false }));
  table.addFar(Object.assign(far(0x1_0000_0000n, 4096), { sizeBytes: 2 ** 40 }));
  assert(!table.find(0x1000, 0, 4, true));
  assert(!table.find(0, 1, FAR_WINDOW_BYTES + 1, true));
  assert(table.find(0, 1, FAR_WINDOW_BYTES, true));
  table.clear();
});

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
  table.addFar(far(0x8000n, 0x2000));
  for (
    const [iova, size] of [[0x3000n, 0x1001n], [0x5000n, 1n], [0x4000n, 0x2000n], [0x0n, 0x10000n]] as const
  ) {
    assertThrows(() => table.checkFree(iova, size), UsageError, "overlaps");
  }
  assertThrows(() => table.addFar(far(0x9000n, 0x1000)), UsageError, "overlaps");
  table.checkFree(0x6000n, 0x2000n);
  assertThrows(() => table.checkFree(0xffff_ffff_ffff_f000n, 0x1001n), UsageError, "passes 2^64");
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
  table.addFar(far(0x8000n, 0x1000));
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
