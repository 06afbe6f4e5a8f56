/** Rings and buffers whose mappings are small, or are taken away for a while: QEMU does both, behind a virtual IOMMU and while its firmware runs. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import type { DeviceQueue } from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { DmaRegion, DmaTable } from "../../../../../lib/sockets/dma_table.ts";
import type { FarMemory } from "../../../../../lib/sockets/far_memory.ts";
import { BASE, FakeClient, FakeOwner, FakeRing } from "../fake_client.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

const BYTES = 1 << 20;
const BOTH = { deviceReads: true, deviceWrites: true };

interface Rig {
  readonly queue: DeviceQueue;
  readonly owner: FakeOwner;
  readonly offer: () => void;
  /** Maps the client's memory. */
  readonly map: () => void;
}

/** A ring in memory that can be mapped again and again, in this process or as copies. */
function rigs(client: FakeClient): Rig[] {
  const buffer = client.allocate(64);
  const memory = { buffer: client.memory.buffer, sizeBytes: BYTES, closed: false, close: () => {} };
  const at = (address: bigint) => Number(address - BASE);
  const far: FarMemory = {
    ...BOTH,
    iova: BASE,
    sizeBytes: BYTES,
    read: (address, into) => (into.set(client.bytes.subarray(at(address), at(address) + into.length)), true),
    write: (address, from) => (client.bytes.set(from, at(address)), true),
    close: () => {},
  };
  return [SplitDeviceQueue, PackedDeviceQueue].flatMap((Queue) =>
    [false, true].map((copied) => {
      const ring = Queue === SplitDeviceQueue ? new FakeRing(client, 8) : new FakePackedRing(client, 8);
      const owner = new FakeOwner(new DmaTable());
      return {
        queue: new Queue(ring.setup(), owner),
        owner,
        map: () => copied ? owner.dma.addFar(far) : owner.dma.add(new DmaRegion(BASE, memory, BOTH)),
        offer: () => {
          ring.add([{ iova: client.at(buffer), length: 16, write: true }], 0);
          ring.publish();
        },
      };
    })
  );
}

Deno.test("DMA: a ring that holds nothing rests while its client has it unmapped, and goes on where it was", () => {
  using client = new FakeClient(BYTES);
  for (const { queue, owner, offer, map } of rigs(client)) {
    const chain = new Chain(8);
    map();
    for (let round = 0; round < 20; round++) {
      offer();
      const id = queue.pop(chain);
      assert(id >= 0, `round ${round}`);
      queue.pushUsed(id, 0);
      queue.publish();
      owner.dma.remove(BASE, BigInt(BYTES));
      assertEquals([queue.available(), queue.pop(chain), queue.arm(), queue.publish()], [
        0,
        -1,
        false,
        false,
      ]);
      map();
    }
    assertEquals(owner.violations, []);
    assertEquals(queue.available(), 0);
  }
});

Deno.test("DMA: a ring that was never mapped, or is unmapped while the device has chains of it, is a violation", () => {
  using client = new FakeClient(BYTES);
  for (const never of [true, false]) {
    for (const { queue, owner, offer, map } of rigs(client)) {
      const chain = new Chain(8);
      if (!never) {
        map();
        offer();
        assert(queue.pop(chain) >= 0);
        owner.dma.clear();
      }
      assertEquals([queue.available(), queue.broken, owner.violations.length], [0, true, 1]);
      assertStringIncludes(owner.violations[0]!.message, "not mapped for the device");
    }
  }
});

Deno.test("DMA: a buffer may lie in as many mappings as it has pages", () => {
  const table = new DmaTable();
  const page = 4096, pages = 1000;
  const bytes = new Uint8Array(pages * page);
  // From the last to the first, every second one as a copy.
  for (let i = pages - 1; i >= 0; i--) {
    const iova = BASE + BigInt(i * page);
    const part = bytes.subarray(i * page, (i + 1) * page);
    if (i % 2 === 0) {
      const memory = { buffer: part.slice().fill(i).buffer, sizeBytes: page, closed: false, close: () => {} };
      table.add(new DmaRegion(iova, memory, BOTH));
    } else {
      const read = (_: bigint, into: Uint8Array) => (into.fill(i), true);
      table.addFar({ ...BOTH, iova, sizeBytes: page, read, write: () => true, close: () => {} });
    }
  }
  const chain = new Chain(8);
  chain.begin(0);
  const [lo, hi] = [Number(BASE & 0xffff_ffffn), Number(BASE >> 32n)];
  assert(chain.add(table, lo + 1, hi, pages * page - 1, false));
  assertEquals([chain.count, chain.readableBytes], [pages, pages * page - 1]);
  for (let i = 0; i < pages; i++) assertEquals(chain.readByte(Math.max(i * page - 1, 0)), i & 0xff);
  assert(!chain.add(table, lo + 1, hi, pages * page, false), "a page more than there are");
  for (let i = 0; i < pages; i++) {
    assert(table.has(BASE + BigInt(i * page), BigInt(page)));
    assertEquals(table.extent(lo + i * page + 5, hi), page - 5);
    assert(table.remove(BASE + BigInt(i * page), BigInt(page)));
    assertEquals(table.extent(lo + i * page + 5, hi), 0);
  }
  assertEquals(table.count, 0);
});
