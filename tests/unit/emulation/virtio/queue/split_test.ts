import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import { checkSplitSetup } from "../../../../../lib/emulation/virtio/queue/split_setup.ts";
import { FakeClient, FakeOwner, FakeRing, type Part } from "../fake_client.ts";

interface Bench extends Disposable {
  client: FakeClient;
  ring: FakeRing;
  owner: FakeOwner;
  queue: SplitDeviceQueue;
  chain: Chain;
  /** Somewhere to point to. */
  buffer: bigint;
}

function bench(options: { size?: number; indirect?: boolean; eventIndex?: boolean } = {}): Bench {
  const client = new FakeClient();
  const ring = new FakeRing(client, options.size ?? 8);
  const owner = new FakeOwner(client.dma);
  const queue = new SplitDeviceQueue(ring.setup(3, options), owner);
  const buffer = client.at(client.allocate(65536));
  return {
    client,
    ring,
    owner,
    queue,
    chain: new Chain(ring.size),
    buffer,
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

/** One pop must be refused with this rule, name the queue, and break it for good. */
function expectViolation(b: Bench, rule: string, text: string): void {
  assertEquals(b.queue.pop(b.chain), -1);
  assertEquals(b.owner.violations.length, 1, "one violation");
  assertEquals(b.owner.violations[0]!.rule, rule);
  assertEquals(b.owner.violations[0]!.queue, 3);
  assertStringIncludes(b.owner.violations[0]!.message, text);
  assert(b.queue.broken);
  // Broken: neither takes nor returns anything any more, and says so only once.
  const before = b.ring.usedIdx;
  assertEquals(b.queue.available(), 0);
  assertEquals(b.queue.pop(b.chain), -1);
  assertEquals(b.queue.publish(), false);
  assertEquals(b.queue.arm(), false);
  assertEquals(b.ring.usedIdx, before);
  assertEquals(b.owner.violations.length, 1);
}

Deno.test("1.3 a chain of direct descriptors arrives with its parts in order", () => {
  using b = bench();
  const parts: Part[] = [
    { iova: b.buffer, length: 12 },
    { iova: b.buffer + 100n, length: 1500 },
    { iova: b.buffer + 4096n, length: 7, write: true },
  ];
  const head = b.ring.add(parts);
  assertEquals(b.queue.pop(b.chain), -1, "nothing before publish");
  b.ring.publish();
  assertEquals(b.queue.available(), 1);
  assertEquals(b.queue.pop(b.chain), head);
  assertEquals(b.chain.id, head);
  assertEquals([b.chain.count, b.chain.readableCount], [3, 2]);
  assertEquals([b.chain.readableBytes, b.chain.writableBytes], [1512, 7]);
  for (let i = 0; i < 3; i++) {
    assertEquals(b.chain.regions[i]!.iova + BigInt(b.chain.offsets[i]!), parts[i]!.iova);
    assertEquals(b.chain.lengths[i], parts[i]!.length);
  }
  assertEquals(b.queue.inFlight, 1);
  b.queue.pushUsed(head, 5);
  assertEquals(b.ring.usedIdx, 0, "invisible before publish");
  assert(b.queue.publish());
  assertEquals(b.ring.takeUsed(), [{ id: head, length: 5 }]);
  assertEquals(b.owner.interrupts, 1);
  assertEquals(b.queue.inFlight, 0);
  assertEquals(b.owner.violations, []);
});

Deno.test("1.3 indirect tables, and direct descriptors followed by one (§2.7.5.3.2)", () => {
  using b = bench();
  const head = b.ring.addIndirect([{ iova: b.buffer, length: 10 }, {
    iova: b.buffer + 64n,
    length: 20,
    write: true,
  }]);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), head);
  assertEquals([b.chain.readableBytes, b.chain.writableBytes, b.chain.count], [10, 20, 2]);

  // desc 1 (readable) → desc 2, an indirect table of two; its WRITE flag means nothing.
  const table = b.client.allocate(32);
  b.ring.writeDesc(0, b.buffer + 1n, 3, 1, 1, table);
  b.ring.writeDesc(1, b.buffer + 2n, 4, 2, 0, table);
  b.ring.writeDesc(1, b.buffer, 9, 1, 2);
  b.ring.writeDesc(2, b.client.at(table), 32, 4 | 2, 77);
  b.ring.offer(1);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), 1);
  assertEquals([b.chain.readableBytes, b.chain.writableBytes, b.chain.count], [12, 4, 3]);
  assertEquals(b.owner.violations, []);
});

Deno.test("1.3 an indirect table may lie at any address, and its entries in any order", () => {
  using b = bench();
  const table = b.client.allocate(64) + 5;
  b.ring.writeDesc(0, b.buffer, 3, 1, 2, table);
  b.ring.writeDesc(2, b.buffer + 16n, 4, 0, 0, table);
  b.ring.writeDesc(0, b.client.at(table), 48, 4, 0);
  b.ring.offer(0);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), 0);
  assertEquals([b.chain.readableBytes, b.chain.count], [7, 2]);
});

Deno.test("1.3 indices run freely past 65535", () => {
  using b = bench({ size: 4 });
  for (let i = 0; i < 70_000; i++) {
    const head = b.ring.add([{ iova: b.buffer, length: 1 + i % 100, write: true }]);
    b.ring.publish();
    if (b.queue.pop(b.chain) !== head || b.chain.writableBytes !== 1 + i % 100) throw new Error(`at ${i}`);
    b.queue.pushUsed(head, i % 100);
    b.queue.publish();
    const [used, ...more] = b.ring.takeUsed();
    if (used?.id !== head || used.length !== i % 100 || more.length > 0) throw new Error(`used at ${i}`);
  }
  assertEquals(b.owner.violations, []);
  assertEquals(b.owner.interrupts, 70_000);
});

Deno.test("1.3 unpop gives chains back, last first, and they come again", () => {
  using b = bench();
  const heads = [0, 1, 2].map(() => b.ring.add([{ iova: b.buffer, length: 8, write: true }]));
  b.ring.publish();
  assertEquals(heads.map(() => b.queue.pop(b.chain)), heads);
  b.queue.unpop();
  b.queue.unpop();
  assertEquals(b.queue.inFlight, 1);
  assertEquals(b.queue.available(), 2);
  assertEquals(b.queue.pop(b.chain), heads[1]);
  b.queue.unpop();
  b.queue.unpop();
  assertThrows(() => b.queue.unpop(), UsageError, "no chain to give back");
});

Deno.test("a device cannot return what it does not hold", () => {
  using b = bench();
  const head = b.ring.add([{ iova: b.buffer, length: 8, write: true }]);
  b.ring.publish();
  assertThrows(() => b.queue.pushUsed(head, 0), UsageError, "does not hold chain");
  b.queue.pop(b.chain);
  b.queue.pushUsed(head, 0);
  assertThrows(() => b.queue.pushUsed(head, 0), UsageError);
  assertThrows(() => b.queue.pushUsed(1 << 20, 0), UsageError);
});

Deno.test("1.3 avail.idx that jumps by more than the size is a violation", () => {
  using b = bench();
  b.ring.setIdx(9);
  expectViolation(b, "1.3", "avail.idx jumped from 0 to 9");
});

Deno.test("1.3 avail.idx that jumps by exactly the size is legal", () => {
  using b = bench({ size: 4 });
  for (let i = 0; i < 4; i++) b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.available(), 4);
  assertEquals(b.owner.violations, []);
});

Deno.test("1.3 avail.idx that goes back is a violation", () => {
  using b = bench();
  for (let i = 0; i < 3; i++) b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.available(), 3);
  b.ring.setIdx(2);
  assertEquals(b.queue.available(), 0);
  assertStringIncludes(b.owner.violations[0]!.message, "went back from 3 to 2");
});

Deno.test("1.3 a head outside the descriptor table is a violation", () => {
  using b = bench();
  b.ring.offer(8);
  b.ring.publish();
  expectViolation(b, "1.3", "avail.ring[0] = 8");
});

Deno.test("1.3 next outside the descriptor table is a violation", () => {
  using b = bench();
  b.ring.writeDesc(0, b.buffer, 1, 1, 8);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "1.3", "next = 8");
});

Deno.test("1.3 a loop is a violation", () => {
  using b = bench();
  b.ring.writeDesc(0, b.buffer, 1, 1, 1);
  b.ring.writeDesc(1, b.buffer, 1, 1, 0);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "1.3", "a loop");
});

Deno.test("1.3 a chain of exactly the queue's size is legal, also with an indirect table", () => {
  using b = bench({ size: 4 });
  const parts = Array.from({ length: 4 }, () => ({ iova: b.buffer, length: 5 }));
  b.ring.add(parts);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), 0);
  assertEquals(b.chain.count, 4);
  b.queue.pushUsed(0, 0);
  b.queue.publish();
  b.ring.addIndirect(parts);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), 0);
  assertEquals(b.owner.violations, []);
});

Deno.test("1.3 an indirect chain longer than the queue's size is a violation", () => {
  using b = bench({ size: 4 });
  b.ring.addIndirect(Array.from({ length: 5 }, () => ({ iova: b.buffer, length: 5 })));
  b.ring.publish();
  expectViolation(b, "1.3", "longer than the queue's 4 descriptors");
});

Deno.test("1.3 direct descriptors and those of the table together may be as many as the queue's size", () => {
  for (const [direct, legal] of [[2, true], [3, false]] as const) {
    using b = bench({ size: 4 });
    const table = b.client.allocate(32);
    b.ring.writeDesc(0, b.buffer, 1, 1, 1, table);
    b.ring.writeDesc(1, b.buffer, 1, 0, 0, table);
    for (let i = 0; i < direct; i++) b.ring.writeDesc(i, b.buffer, 1, 1, i + 1);
    b.ring.writeDesc(direct, b.client.at(table), 32, 4, 0);
    b.ring.offer(0);
    b.ring.publish();
    if (legal) assertEquals([b.queue.pop(b.chain), b.chain.count], [0, 4]);
    else expectViolation(b, "1.3", "longer than the queue's 4 descriptors");
  }
});

Deno.test("1.3 a loop inside an indirect table is a violation", () => {
  using b = bench();
  const table = b.client.allocate(16);
  b.ring.writeDesc(0, b.buffer, 1, 1, 0, table);
  b.ring.writeDesc(0, b.client.at(table), 16, 4, 0);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "1.3", "a loop");
});

Deno.test("1.3 INDIRECT without INDIRECT_DESC is a violation", () => {
  using b = bench({ indirect: false });
  b.ring.addIndirect([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  expectViolation(b, "1.3", "INDIRECT_DESC was not negotiated");
});

Deno.test("1.3 INDIRECT with NEXT is a violation", () => {
  using b = bench();
  const table = b.client.allocate(16);
  b.ring.writeDesc(0, b.buffer, 1, 0, 0, table);
  b.ring.writeDesc(0, b.client.at(table), 16, 4 | 1, 1);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "1.3", "both INDIRECT and NEXT");
});

Deno.test("1.3 an indirect table inside an indirect table is a violation", () => {
  using b = bench();
  const table = b.client.allocate(16);
  b.ring.writeDesc(0, b.client.at(table), 16, 4, 0, table);
  b.ring.writeDesc(0, b.client.at(table), 16, 4, 0);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "1.3", "indirect itself");
});

for (const length of [0, 8, 17, 31]) {
  Deno.test(`1.3 an indirect table of ${length} bytes is a violation`, () => {
    using b = bench();
    b.ring.writeDesc(0, b.buffer, length, 4, 0);
    b.ring.offer(0);
    b.ring.publish();
    expectViolation(b, "1.3", `an indirect table of ${length} bytes`);
  });
}

Deno.test("1.3 next outside an indirect table is a violation", () => {
  using b = bench();
  const table = b.client.allocate(32);
  b.ring.writeDesc(0, b.buffer, 1, 1, 2, table);
  b.ring.writeDesc(0, b.client.at(table), 32, 4, 0);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "1.3", "next = 2 is not an entry");
});

Deno.test("1.3 device-readable after device-writable is a violation", () => {
  using b = bench();
  b.ring.add([{ iova: b.buffer, length: 1, write: true }, { iova: b.buffer, length: 1 }]);
  b.ring.publish();
  expectViolation(b, "1.3", "comes after a device-writable one");
});

Deno.test("1.3 a descriptor of length 0 is a violation", () => {
  using b = bench();
  b.ring.add([{ iova: b.buffer, length: 0 }]);
  b.ring.publish();
  expectViolation(b, "1.3", "length of 0");
});

Deno.test("1.3 a chain of more than 2^32 bytes is a violation", () => {
  using b = bench();
  // Read-only mappings of the same small memory would do as little: the length is checked before the mapping.
  b.ring.add([{ iova: b.buffer, length: 4 }, { iova: b.buffer, length: 0xffff_fffd }]);
  b.ring.publish();
  expectViolation(b, "1.3", "longer than 2^32 bytes");
});

Deno.test("1.3 a head that the device holds already is a violation", () => {
  using b = bench();
  const head = b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), head);
  b.ring.offer(head);
  b.ring.publish();
  expectViolation(b, "1.3", `chain ${head} was made available while the device has it`);
});

Deno.test("DMA: a buffer that is not mapped, or runs past its mapping, is a violation", () => {
  for (const [iova, length] of [[0x10n, 1], [0n, 1], [0xffff_ffff_ffff_ffffn, 1], [-1n, 2]] as const) {
    using b = bench();
    b.ring.add([{ iova: iova < 0n ? b.client.at(b.client.bytes.length - 1) : iova, length }]);
    b.ring.publish();
    expectViolation(b, "DMA", "are not mapped for the device to read");
  }
});

Deno.test("DMA: a mapping is good for its own direction only", () => {
  for (const write of [false, true]) {
    using b = bench();
    b.client.map(0x9000_0000n, 4096, { deviceReads: write, deviceWrites: !write });
    b.ring.add([{ iova: 0x9000_0000n, length: 16, write }]);
    b.ring.publish();
    expectViolation(b, "DMA", write ? "to write" : "to read");
  }
});

Deno.test("DMA: an indirect table that is not mapped is a violation", () => {
  using b = bench();
  b.ring.writeDesc(0, 0x77_0000n, 32, 4, 0);
  b.ring.offer(0);
  b.ring.publish();
  expectViolation(b, "DMA", "entry 0 of the indirect table");
});

Deno.test("DMA: a buffer over adjacent mappings becomes one segment each", () => {
  using b = bench();
  b.client.map(0xffff_f000n, 4096);
  b.client.map(0x1_0000_0000n, 4096);
  b.ring.add([{ iova: 0xffff_ff00n, length: 512, write: true }]);
  b.ring.publish();
  assertEquals(b.queue.pop(b.chain), 0);
  assertEquals([b.chain.count, b.chain.writableBytes], [2, 512]);
  assertEquals([b.chain.offsets[0], b.chain.lengths[0]], [0xf00, 256]);
  assertEquals([b.chain.offsets[1], b.chain.lengths[1]], [0, 256]);
  assertEquals(b.chain.regions[1]!.iova, 0x1_0000_0000n);
});

Deno.test("DMA: the ring is found again after another mapping came and went", () => {
  using b = bench();
  const other = b.client.map(0x5000_0000n, 4096);
  b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.available(), 1);
  b.client.dma.remove(other.iova, 4096n);
  assertEquals(b.queue.pop(b.chain), 0);
  b.queue.pushUsed(0, 0);
  b.queue.publish();
  assertEquals(b.ring.takeUsed(), [{ id: 0, length: 0 }]);
});

Deno.test("1.3 setup: size and alignment", () => {
  using client = new FakeClient();
  const good = new FakeRing(client, 8).setup();
  assertEquals(checkSplitSetup(good), undefined);
  for (const size of [0, 3, 12, 65536, -8]) {
    assertStringIncludes(checkSplitSetup({ ...good, size })!, `queue_size ${size} is not a power of two`);
  }
  assertEquals(checkSplitSetup({ ...good, size: 1 }), undefined);
  assertEquals(checkSplitSetup({ ...good, size: 32768 }), undefined);
  assertStringIncludes(checkSplitSetup({ ...good, descriptorArea: 0x1008n })!, "descriptorArea 0x1008");
  assertStringIncludes(checkSplitSetup({ ...good, driverArea: 0x1001n })!, "driverArea 0x1001");
  assertStringIncludes(checkSplitSetup({ ...good, deviceArea: 0x1002n })!, "deviceArea 0x1002");
  assertThrows(() => new SplitDeviceQueue({ ...good, size: 3 }, new FakeOwner(client.dma)), UsageError);
});

Deno.test("DMA: rings that were never mapped are found out at first use", () => {
  using client = new FakeClient();
  const good = new FakeRing(client, 8).setup();
  for (const area of ["descriptorArea", "driverArea", "deviceArea"] as const) {
    const owner = new FakeOwner(client.dma);
    const queue = new SplitDeviceQueue({ ...good, [area]: 0xdead_0000n }, owner);
    assertEquals(owner.violations, []);
    assertEquals(queue.available(), 0);
    assertEquals(owner.violations[0]!.rule, "DMA");
    assertStringIncludes(owner.violations[0]!.message, "0xdead0000");
  }
});

// ---- notifications ----

/** Makes `count` chains go round. @returns interrupts that it took */
function turn(b: Bench, count: number): number {
  const before = b.owner.interrupts;
  for (let i = 0; i < count; i++) b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  for (let i = 0; i < count; i++) b.queue.pushUsed(b.queue.pop(b.chain), 0);
  b.queue.publish();
  b.ring.takeUsed();
  return b.owner.interrupts - before;
}

Deno.test("1.3 without EVENT_IDX the driver's flag decides on interrupts", () => {
  using b = bench();
  assertEquals(turn(b, 3), 1, "one for a burst");
  b.ring.setAvailFlags(1);
  b.ring.setUsedEvent(b.ring.usedIdx);
  assertEquals(turn(b, 3), 0, "used_event is ignored");
  b.ring.setAvailFlags(0);
  assertEquals(turn(b, 1), 1);
  assertEquals(b.queue.publish(), false, "nothing new");
});

Deno.test("1.3 without EVENT_IDX avail.flags above 1 is a violation", () => {
  using b = bench();
  b.ring.setAvailFlags(2);
  turn(b, 1);
  assertEquals(b.owner.violations[0]!.rule, "1.3");
  assertStringIncludes(b.owner.violations[0]!.message, "avail.flags = 0x2");
});

Deno.test("1.3 with EVENT_IDX used_event decides, and flags are ignored", () => {
  using b = bench({ eventIndex: true });
  b.ring.setAvailFlags(1);
  b.ring.setUsedEvent(0);
  assertEquals(turn(b, 2), 1, "0 lies in 0..2");
  assertEquals(turn(b, 2), 0, "0 does not lie in 2..4");
  b.ring.setUsedEvent(3);
  assertEquals(turn(b, 2), 0, "nor 3 in 4..6, though it comes right before");
  b.ring.setUsedEvent(7);
  assertEquals(turn(b, 1), 0, "6..7 does not reach 7");
  assertEquals(turn(b, 1), 1, "7..8 does");
  b.ring.setUsedEvent(20);
  for (let i = 0; i < 12; i++) assertEquals(turn(b, 1), 0);
  assertEquals(turn(b, 1), 1);
});

Deno.test("1.3 with EVENT_IDX interrupts go on when the indices wrap", () => {
  using b = bench({ eventIndex: true });
  let interrupts = 0;
  for (let i = 0; i < 66_000; i++) {
    b.ring.setUsedEvent(b.ring.usedIdx);
    interrupts += turn(b, 1);
  }
  assertEquals(interrupts, 66_000);
  assertEquals(b.queue.broken, false);
});

Deno.test("1.3 without EVENT_IDX suppress and arm set used.flags", () => {
  using b = bench();
  assertEquals(b.ring.usedFlags, 0);
  b.queue.suppress();
  assertEquals(b.ring.usedFlags, 1);
  assertEquals(b.queue.arm(), false);
  assertEquals(b.ring.usedFlags, 0);
  b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.arm(), true, "work is there already");
});

Deno.test("1.3 with EVENT_IDX arm writes avail_event and leaves used.flags 0", () => {
  using b = bench({ eventIndex: true });
  turn(b, 3);
  b.queue.suppress();
  assertEquals(b.ring.usedFlags, 0);
  assertEquals(b.queue.arm(), false);
  assertEquals(b.ring.availEvent, 3);
  b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.arm(), true);
  assertEquals(b.queue.arm(2), false, "no more than the two that it knows of");
  assertEquals(b.ring.availEvent, 5);
  b.ring.add([{ iova: b.buffer, length: 1 }]);
  b.ring.publish();
  assertEquals(b.queue.arm(2), true);
});
