/** DMA memory out of pools: few ranges for the peer, each allocation a mapping of its own. */
import { assertEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount, pageSizeBytes } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError } from "../../../lib/errors/mod.ts";
import { type DmaMapper, MappedMemory, PooledDmaSpace } from "../../../lib/memory/mod.ts";
import { Random } from "../../random.ts";

function peer(refuse = { now: false }) {
  const live = new Map<bigint, { sizeBytes: number; memory: MappedMemory }>();
  const mapper: DmaMapper = {
    name: "peer",
    iovaRanges: [{ start: 0x1000n, last: (1n << 40n) - 1n }],
    pageSizes: BigInt(pageSizeBytes),
    needsFile: true,
    mapDma(_memory, file, iova, sizeBytes) {
      if (refuse.now) throw new DeviceError("no");
      // As a peer has it: a mapping of its own, of the whole file.
      live.set(iova, { sizeBytes, memory: MappedMemory.map(file!, sizeBytes) });
    },
    unmapDma(iova, sizeBytes) {
      assertEquals(live.get(iova)?.sizeBytes, sizeBytes);
      live.get(iova)!.memory.close();
      live.delete(iova);
    },
  };
  const at = (iova: bigint, length: number) => {
    for (const [start, { sizeBytes, memory }] of live) {
      if (iova >= start && iova < start + BigInt(sizeBytes)) {
        return memory.bytes(Number(iova - start), length);
      }
    }
    throw new Error(`the peer has nothing at ${iova}`);
  };
  return { mapper, live, at, refuse };
}

Deno.test("pooled DMA memory: what is written at an address is what the peer reads there, for any order of allocations and ends", () => {
  const before = [openFdCount(), mappingCount().mappings];
  const { mapper, live, at } = peer();
  const space = new PooledDmaSpace(mapper);
  const random = new Random(3);
  const held: ReturnType<PooledDmaSpace["allocate"]>[] = [];
  for (let step = 0; step < 300; step++) {
    if (held.length > 0 && random.below(5) < 2) {
      held.splice(random.below(held.length), 1)[0]!.close();
      continue;
    }
    const memory = space.allocate(1 + random.below(200_000), { huge: "never" });
    // Memory that was used before is zero again.
    assertEquals(memory.bytes().every((byte) => byte === 0), true);
    memory.bytes().fill(step + 1);
    held.push(memory);
    for (const one of held) {
      const [value] = one.bytes(0, 1);
      assertEquals([at(one.iova, 1)[0], at(one.iova, one.sizeBytes)[one.sizeBytes - 1]], [value, value]);
    }
  }
  assertEquals([space.usage.allocations, live.size], [held.length, space.pools]);
  assertEquals(space.pools <= 4, true, `${space.pools} pools`);
  space.close();
  assertEquals([live.size, held[0]!.closed], [0, true]);
  assertThrows(() => space.allocate(1), ClosedError);
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("pooled DMA memory: a pool that is larger than the last, and gone when nothing is left in it; one stays", () => {
  const { mapper, live } = peer();
  using space = new PooledDmaSpace(mapper);
  const sizes = () => [...live.values()].map(({ sizeBytes }) => sizeBytes >> 20);
  const small = space.allocate(1, { huge: "never" });
  const [a, b] = [9, 17].map((mebibytes) => space.allocate(mebibytes << 20, { huge: "never" }));
  assertEquals(sizes(), [8, 9, 17]);
  a!.close();
  assertEquals(sizes(), [8, 17]);
  small.close();
  assertEquals(sizes(), [17]);
  b!.close();
  assertEquals(sizes(), [17]);
  assertEquals(space.allocate(1, { huge: "never" }).sizeBytes, pageSizeBytes);
});

Deno.test("pooled DMA memory: a pool that the peer refuses leaves nothing", () => {
  const { mapper, refuse, live } = peer({ now: true });
  using space = new PooledDmaSpace(mapper);
  const before = [openFdCount(), mappingCount().mappings];
  assertThrows(() => space.allocate(1, { huge: "never" }), DeviceError);
  assertEquals([openFdCount(), mappingCount().mappings, space.usage.allocations], [...before, 0]);
  refuse.now = false;
  space.allocate(1, { huge: "never" });
  assertEquals(live.size, 1);
});

Deno.test("pooled DMA memory: address limits hold", () => {
  const { mapper } = peer();
  using space = new PooledDmaSpace(mapper);
  const memory = space.allocate(1, { addressBits: 32, huge: "never" });
  assertEquals(memory.iova < 1n << 32n, true);
});

Deno.test("pooled DMA memory: parts lie where they are asked for, in a pool that is there or in a new one", () => {
  const { mapper } = peer();
  using space = new PooledDmaSpace(mapper);
  space.setAddressBits(30);
  for (const alignBytes of [4096, 1 << 16, 1 << 21, 1 << 24]) {
    const { iova } = space.allocate(4096, { alignBytes });
    assertEquals([iova % BigInt(alignBytes), iova < 1n << 30n], [0n, true]);
    const boundaryBytes = 16 * pageSizeBytes, page = BigInt(pageSizeBytes);
    const crossing = space.allocate(3 * pageSizeBytes, { boundaryBytes }).iova;
    assertEquals(crossing / (16n * page), (crossing + 3n * page - 1n) / (16n * page));
  }
});
