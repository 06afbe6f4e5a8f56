import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors/mod.ts";
import { decodeRing, ringBytes, type RingShape } from "../../../../lib/virtio/view/ring_image.ts";
import type { QueueState } from "../../../../lib/virtio/mod.ts";
import { campaign, Random, rounds } from "../../../random.ts";

function areas(shape: RingShape) {
  const bytes = ringBytes(shape);
  return {
    descriptorArea: new Uint8Array(bytes.descriptorArea),
    driverArea: new Uint8Array(bytes.driverArea),
    deviceArea: new Uint8Array(bytes.deviceArea),
  };
}

const view = (bytes: Uint8Array) => new DataView(bytes.buffer);

Deno.test("1.3 a split ring decoded by offset: indices, events, chains with their parts", () => {
  const shape = { layout: "split", size: 4, eventIndex: true } as const;
  const memory = areas(shape);
  assertEquals(Object.values(memory).map((one) => one.length), [64, 14, 38]);
  const [table, avail, used] = [
    view(memory.descriptorArea),
    view(memory.driverArea),
    view(memory.deviceArea),
  ];
  // Chain 3 → 1, made available at index 65535, slot 3.
  table.setBigUint64(48, 0x1_0000_1000n, true);
  table.setUint32(56, 16, true);
  table.setUint16(60, 1, true);
  table.setUint16(62, 1, true);
  table.setBigUint64(16, 0x2000n, true);
  table.setUint32(24, 32, true);
  table.setUint16(28, 2, true);
  avail.setUint16(2, 0, true);
  avail.setUint16(4 + 2 * 3, 3, true);
  avail.setUint16(4 + 2 * 4, 77, true);
  used.setUint16(2, 0xffff, true);
  used.setUint16(4 + 8 * 4, 88, true);
  assertEquals(decodeRing(shape, memory, { layout: "split", availableIndex: 0xffff }), {
    available: { index: 0 },
    used: { index: 0xffff },
    driverEvent: { index: 77 },
    deviceEvent: { index: 88 },
    waiting: 1,
    chains: [{
      id: 3,
      slot: 3,
      indirect: false,
      parts: [
        { iova: "0x100001000", lengthBytes: 16, deviceWrites: false },
        { iova: "0x2000", lengthBytes: 32, deviceWrites: true },
      ],
    }],
  });
  table.setUint16(28, 3, true);
  table.setUint16(30, 3, true);
  const loop = decodeRing(shape, memory, { layout: "split", availableIndex: 0xffff });
  assertEquals([loop.chains[0]!.problem, loop.chains[0]!.parts.length], ["a loop", 4]);
  table.setUint16(30, 4, true);
  assertEquals(
    decodeRing(shape, memory, { layout: "split", availableIndex: 0xffff }).chains[0]!.problem,
    "descriptor 4 of 4",
  );
  avail.setUint16(2, 9, true);
  const jump = decodeRing(shape, memory, { layout: "split", availableIndex: 0xffff });
  assertEquals(jump.problem, "avail.idx 9 is 10 ahead of 65535 in a ring of 4");
  const flags = decodeRing({ ...shape, eventIndex: false }, memory, { layout: "split", availableIndex: 9 });
  assertEquals([flags.driverEvent, flags.deviceEvent], ["always", "always"]);
});

Deno.test("1.4 a packed ring decoded by offset, over its end: ids from the last descriptor, wrap counters, event suppression", () => {
  const shape = { layout: "packed", size: 3, eventIndex: true } as const;
  const memory = areas(shape);
  const ring = view(memory.descriptorArea);
  const put = (slot: number, iova: bigint, length: number, id: number, flags: number) => {
    ring.setBigUint64(16 * slot, iova, true);
    ring.setUint32(16 * slot + 8, length, true);
    ring.setUint16(16 * slot + 12, id, true);
    ring.setUint16(16 * slot + 14, flags, true);
  };
  // Wrap counter 1 in slot 2, 0 in slot 0; slot 1 is of the lap before.
  put(2, 0x1000n, 16, 99, 1 | 1 << 7);
  put(0, 0x2000n, 32, 5, 2 | 1 << 15);
  put(1, 0n, 0, 0, 1 << 7 | 1 << 15);
  view(memory.driverArea).setUint32(0, 1 << 16, true);
  view(memory.deviceArea).setUint32(0, 2 << 16 | 1 << 15 | 2, true);
  const from: QueueState = { layout: "packed", availableSlot: 2, availableWrap: 1, usedSlot: 1, usedWrap: 1 };
  assertEquals(decodeRing(shape, memory, from), {
    available: { index: 1, wrap: 0 },
    used: { index: 1, wrap: 1 },
    driverEvent: "never",
    deviceEvent: { index: 2, wrap: 1 },
    waiting: 1,
    chains: [{
      id: 5,
      slot: 2,
      indirect: false,
      parts: [
        { iova: "0x1000", lengthBytes: 16, deviceWrites: false },
        { iova: "0x2000", lengthBytes: 32, deviceWrites: true },
      ],
    }],
  });
  put(0, 0x2000n, 32, 5, 1 << 7);
  assertEquals(decodeRing(shape, memory, from).chains[0]!.problem, "slot 0 in its middle is not available");
  assertThrows(() => decodeRing(shape, memory, { layout: "split", availableIndex: 0 }), UsageError);
  assertThrows(() => decodeRing({ ...shape, size: 4 }, memory, from), UsageError, "descriptorArea");
});

Deno.test(campaign("any bytes at all decode to something of bounded length: 20,000 rings of noise", () => {
  const random = new Random(31);
  const below = (most: number) => random.below(most);
  let waiting = 0;
  for (let round = 0; round < rounds(20_000, 1000); round++) {
    const layout = round % 2 === 0 ? "split" : "packed";
    const size = layout === "split" ? 1 << below(4) : 1 + below(9);
    const shape: RingShape = { layout, size, eventIndex: random.fraction() < 0.5 };
    const memory = areas(shape);
    for (const area of Object.values(memory)) {
      for (let at = 0; at < area.length; at++) area[at] = random.fraction() < 0.5 ? below(256) : below(4);
    }
    const state: QueueState = layout === "split" ? { layout, availableIndex: below(0x10000) } : {
      layout,
      availableSlot: below(size),
      availableWrap: below(2) as 0 | 1,
      usedSlot: below(size),
      usedWrap: below(2) as 0 | 1,
    };
    const image = decodeRing(shape, memory, state, 4);
    waiting += image.chains.length;
    assertEquals(image.chains.length <= Math.min(4, size), true);
    for (const { parts } of image.chains) assertEquals(parts.length <= size, true);
  }
  assertEquals(waiting > 1000, true);
}));
