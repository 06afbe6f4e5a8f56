import { assert, assertEquals } from "@std/assert";
import { createMemfd, MappedMemory } from "../../../../../ffi/mod.ts";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import { copyChain } from "../../../../../lib/emulation/virtio/queue/chain_copy.ts";
import { DmaRegion, DmaTable } from "../../../../../lib/sockets/dma_table.ts";
import { Random } from "../../../../random.ts";

const BYTES = 32768;

/** Copies between two mappings at `iova`, of which bytes from `start` on are used. */
function copies(memory: () => MappedMemory, start: number, iova: bigint, rounds: number): void {
  const random = new Random(0xc0b1);
  const tables = [new DmaTable(), new DmaTable()] as const;
  for (const table of tables) {
    table.add(new DmaRegion(iova, memory(), { deviceReads: true, deviceWrites: true }));
  }
  const add = (chain: Chain, table: DmaTable, at: number, length: number, deviceWrites: boolean) => {
    const address = iova + BigInt(start + at);
    assert(chain.add(table, Number(address & 0xffff_ffffn), Number(address >> 32n), length, deviceWrites));
  };
  const [source, target] = tables.map(({ regions }) => regions[0]!.bytes.subarray(start, start + BYTES)) as [
    Uint8Array,
    Uint8Array,
  ];
  for (let i = 0; i < BYTES; i++) source[i] = random.next();
  const from = new Chain(8), to = new Chain(8);
  const expected = new Uint8Array(BYTES);
  for (let round = 0; round < rounds; round++) {
    const most = random.below(8) === 0 ? 9000 : 200;
    from.begin(0);
    to.begin(0);
    // Parts are apart in memory, so that a copy that overruns one is seen.
    const parts: [number, number][] = [], places: [number, number][] = [];
    for (let at = random.below(16), i = 0; i < 3; i++) {
      const length = 1 + random.below(most);
      add(from, tables[0], at, length, false);
      parts.push([at, length]);
      at += length + random.below(16);
    }
    for (let at = random.below(16), i = 0; i < 3; i++) {
      const length = 1 + random.below(most);
      add(to, tables[1], at, length, true);
      places.push([at, length]);
      at += length + 1 + random.below(16);
    }
    const skip = random.below(from.readableBytes), into = random.below(to.writableBytes);
    const count = random.below(Math.min(from.readableBytes - skip, to.writableBytes - into) + 1);
    target.fill(0xa5);
    expected.fill(0xa5);
    const flat = parts.flatMap(([at, length]) => Array.from({ length }, (_, i) => at + i)).slice(
      skip,
      skip + count,
    );
    const goals = places.flatMap(([at, length]) => Array.from({ length }, (_, i) => at + i)).slice(
      into,
      into + count,
    );
    flat.forEach((at, i) => expected[goals[i]!] = source[at]!);
    copyChain(from, skip, to, into, count);
    const wrong = target.findIndex((byte, i) => byte !== expected[i]);
    assertEquals(wrong, -1, `round ${round}: ${count} bytes from ${skip} to ${into}`);
  }
  for (const table of tables) table.clear();
}

Deno.test("copies of any alignment, length and cut move exactly their bytes", () => {
  copies(() => MappedMemory.anonymous(BYTES), 0, 0n, 800);
});

Deno.test("copies in 64 GiB: across 2 and 4 GiB, and where the lower half of an address overflows", () => {
  const large = () => {
    // Sparse: only pages that are touched cost memory.
    using file = createMemfd("large", 64 * 2 ** 30);
    return MappedMemory.map(file, 64 * 2 ** 30);
  };
  for (const start of [2 ** 31 - BYTES / 2, 2 ** 32 - BYTES / 2, 64 * 2 ** 30 - BYTES]) {
    copies(large, start, 2n ** 33n, 20);
    // The used bytes begin 4096 bytes below a multiple of 2^32.
    copies(large, start, 2n ** 47n - BigInt(start) - 4096n, 20);
  }
});
