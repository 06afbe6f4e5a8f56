import { assertEquals } from "@std/assert";
import { MappedMemory } from "../../../ffi/mod.ts";
import { Chain } from "../../../lib/emulation/virtio/chain.ts";
import { copyChain } from "../../../lib/emulation/virtio/chain_copy.ts";
import { DmaRegion, DmaTable } from "../../../lib/vfio/vfio_user/dma_table.ts";
import { Random } from "../../random.ts";

const BYTES = 32768;

Deno.test("copies of any alignment, length and cut move exactly their bytes", () => {
  const random = new Random(0xc0b1);
  const tables = [new DmaTable(), new DmaTable()] as const;
  for (const table of tables) {
    table.add(new DmaRegion(0n, MappedMemory.anonymous(BYTES), { deviceReads: true, deviceWrites: true }));
  }
  const source = tables[0].regions[0]!.bytes, target = tables[1].regions[0]!.bytes;
  for (let i = 0; i < BYTES; i++) source[i] = random.next();
  const from = new Chain(8), to = new Chain(8);
  const expected = new Uint8Array(BYTES);
  for (let round = 0; round < 800; round++) {
    const most = random.below(8) === 0 ? 9000 : 200;
    from.begin(0);
    to.begin(0);
    // Parts are apart in memory, so that a copy that overruns one is seen.
    const parts: [number, number][] = [], places: [number, number][] = [];
    for (let at = random.below(16), i = 0; i < 3; i++) {
      const length = 1 + random.below(most);
      from.add(tables[0], at, 0, length, false);
      parts.push([at, length]);
      at += length + random.below(16);
    }
    for (let at = random.below(16), i = 0; i < 3; i++) {
      const length = 1 + random.below(most);
      to.add(tables[1], at, 0, length, true);
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
});
