import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { BufferPool } from "../../../../lib/virtio/queue/buffer_pool.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { SavedChain } from "../../../../lib/virtio/queue/saved_queue.ts";
import { FakeTransport } from "../transport/fake_transport.ts";
import { FakeIommu } from "../fake_iommu.ts";

const PAGE = 4096;

function queued() {
  const transport = new FakeTransport({ features: 1n << 32n, queueSizes: [8] });
  const device = new VirtioDevice(transport);
  device.negotiate();
  const queue = device.createQueue(0, { size: 8 });
  device.driverOk();
  return { transport, device, queue, ring: transport.ring(0) };
}

Deno.test("slots are taken, added, returned under their own numbers and given back, one by one and by the burst", () => {
  const { transport, queue, ring } = queued();
  using pool = new BufferPool(queue, transport.dma, { label: "buffers", slotBytes: 100, chains: "readable" });
  assertEquals([pool.count, pool.free], [8, 8]);
  assertEquals(transport.dma.usage.labels.at(-1), "queue 0 buffers");
  const slots = Array.from({ length: 8 }, () => pool.take());
  assertEquals([slots, pool.take()], [[0, 1, 2, 3, 4, 5, 6, 7], -1]);
  for (const slot of slots) {
    pool.views[slot]![0] = slot;
    pool.add(slot, 100);
  }
  queue.flush();
  const heads = slots.map(() => ring.pop()!);
  const seen = heads.map(({ parts: [one] }) => transport.iommu.at(one!.iova, 100, false).getUint8(0));
  assertEquals(seen, slots);
  const used = usedBurst(8);
  for (const slot of [5, 2]) ring.push(heads[slot]!.head, 0);
  assertEquals([pool.takeUsed(used), ...used.ids.subarray(0, 2)], [2, 5, 2]);
  for (const slot of [5, 2]) pool.add(slot, 100);
  queue.flush();
  const [first, second] = [ring.pop()!, ring.pop()!];
  for (const { head } of [second, first]) ring.push(head, 0);
  assertEquals([pool.takeUsed(used), ...used.ids.subarray(0, 2)], [2, 2, 5]);
  pool.give(5);
  assertEquals([pool.free, pool.take()], [1, 5]);
  pool.giveBurst(Uint16Array.of(2, 5, 77), 2);
  const taken = new Uint16Array(8);
  assertEquals([pool.free, pool.takeBurst(taken, 8), pool.free], [2, 2, 0]);
  assertEquals([...taken.subarray(0, 3)], [2, 5, 0]);
  assertEquals(pool.addBurst(taken, Uint32Array.of(40, 100), 2), 2);
  queue.flush();
  assertEquals([ring.pop()!.parts[0]!.length, ring.pop()!.parts[0]!.length], [40, 100]);
  assertThrows(() => pool.add(5, 100), UsageError, "slot 5 is in flight already");
  pool[Symbol.dispose]();
  assertEquals([pool.closed, pool.views[0]!.length], [true, 0]);
  transport.close();
});

Deno.test("chains that are put together come back as the slots that they were committed as", () => {
  const { transport, queue, ring } = queued();
  using heads = new BufferPool(queue, transport.dma, { label: "heads", slotBytes: 16 });
  using bodies = new BufferPool(queue, transport.dma, { label: "bodies", slotBytes: 100 });
  for (const slot of [6, 3]) {
    queue.begin(2, 0);
    heads.addPart(slot, 0, 16);
    bodies.addPart(slot, 0, 100);
    assertEquals(bodies.slotOf(bodies.commit(slot)), slot);
  }
  queue.flush();
  const used = usedBurst(8);
  for (const { head } of [ring.pop()!, ring.pop()!].reverse()) ring.push(head, 0);
  assertEquals([bodies.takeUsed(used), ...used.ids.subarray(0, 2)], [2, 3, 6]);
  assertThrows(() => bodies.add(0, 1), UsageError, "bindSlots");
  transport.close();
});

Deno.test("a slot across 4 GiB: the low half carries into the high one", () => {
  const start = 0xffff_e000n;
  const iommu = new FakeIommu([{ start, last: 0x1_0010_0000n }]);
  const { transport, queue } = queued();
  const options = { label: "buffers", count: 2, slotBytes: 3 * PAGE, alignBytes: PAGE };
  using pool = new BufferPool(queue, iommu.space, options);
  pool.queue.begin(2, 2);
  pool.addPart(0, 0, 64);
  pool.addPart(0, 2 * PAGE - 1, 1);
  pool.addPart(0, 2 * PAGE, 64);
  pool.addPart(1, 8, 16);
  pool.commit(1);
  const [{ readable, writable }] = queue.saveInFlight() as [SavedChain];
  assertEquals([...readable, ...writable].map(({ iova }) => BigInt(iova)), [
    start,
    0xffff_ffffn,
    0x1_0000_0000n,
    0x1_0000_1008n,
  ]);
  transport.close();
});

Deno.test("what is behind a slot's head begins on a cache line, and slots are an odd number of lines apart", () => {
  const { transport, queue } = queued();
  for (
    const [headBytes, slotBytes, stride] of [[12, 2048, 33 * 64], [10, 1524, 25 * 64], [12, 76, 3 * 64], [
      0,
      64,
      64,
    ]]
  ) {
    const options = { label: "buffers", count: 4, slotBytes: slotBytes!, headBytes };
    using pool = new BufferPool(queue, transport.dma, options);
    assertEquals(pool.strideBytes, stride);
    pool.views.forEach((view, slot) => {
      assertEquals((view.byteOffset + headBytes!) % 64, 0);
      view[headBytes!] = 0x50 + slot;
      view[0] = 0x60 + slot;
      assertEquals(pool.words[slot * stride! / 4]! & 0xff, view[headBytes!]);
      assertEquals(pool.halves[slot * stride! / 2]! & 0xff, view[0]);
      assertEquals(
        BigInt(pool.partOf(slot, 0, 1).iova),
        BigInt(pool.iovaLo[slot]!) + (BigInt(pool.iovaHi[slot]!) << 32n),
      );
      assertEquals(
        transport.iommu.at(BigInt(pool.partOf(slot, 0, 1).iova), slotBytes!, false).getUint8(0),
        0x60 + slot,
      );
    });
  }
  transport.close();
});

Deno.test("slots of no size are refused, and nothing is allocated", () => {
  const { transport, queue } = queued();
  const before = transport.dma.usage.allocations;
  for (const slotBytes of [0, -1, 1.5, NaN]) {
    assertThrows(() => new BufferPool(queue, transport.dma, { label: "x", slotBytes }), UsageError);
  }
  assertEquals(transport.dma.usage.allocations, before);
  transport.close();
});
