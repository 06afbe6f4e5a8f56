import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import type { DeviceQueueSetup } from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { checkPackedSetup } from "../../../../../lib/emulation/virtio/queue/packed_setup.ts";
import { UsedDescriptors } from "../../../../../lib/emulation/virtio/queue/packed_used.ts";
import { BASE, FakeClient, FakeOwner } from "../fake_client.ts";
import { Random } from "../../../../random.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";

/** A queue with its driver. */
class Rig implements Disposable {
  readonly client: FakeClient;
  readonly ring: FakePackedRing;
  readonly owner: FakeOwner;
  readonly queue: PackedDeviceQueue;
  readonly chain: Chain;
  readonly buffer: number;

  constructor(size = 8, features: Partial<DeviceQueueSetup> = {}) {
    this.client = new FakeClient(1 << 20);
    this.ring = new FakePackedRing(this.client, size);
    this.owner = new FakeOwner(this.client.dma);
    this.queue = new PackedDeviceQueue(this.ring.setup(0, features), this.owner);
    this.chain = new Chain(size);
    this.buffer = this.client.allocate(4096);
  }

  readable(length = 16): { iova: bigint; length: number } {
    return { iova: this.client.at(this.buffer), length };
  }

  writable(length = 16): { iova: bigint; length: number; write: boolean } {
    return { iova: this.client.at(this.buffer), length, write: true };
  }

  /** The only violation so far. */
  get violation(): string {
    assertEquals(this.owner.violations.length, 1, JSON.stringify(this.owner.violations));
    const { rule, message } = this.owner.violations[0]!;
    return `${rule}: ${message}`;
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
  }
}

Deno.test("1.4 a chain: parts in order, id of its last descriptor, used descriptor byte by byte", () => {
  using r = new Rig(4);
  r.ring.add([r.readable(10), r.writable(20), r.writable(30)], 0xabcd);
  assertEquals(r.queue.pop(r.chain), -1, "not yet available");
  r.ring.publish();
  assertEquals(r.queue.available(), 1);
  assertEquals(r.queue.pop(r.chain), 0xabcd);
  assertEquals([r.chain.id, r.chain.count, r.chain.readableCount], [0xabcd, 3, 1]);
  assertEquals([r.chain.readableBytes, r.chain.writableBytes], [10, 50]);
  assertEquals([r.queue.inFlight, r.queue.available(), r.queue.pop(r.chain)], [1, 0, -1]);
  r.queue.pushUsed(0xabcd, 33);
  assertEquals(r.ring.flags(0), 0x0081, "invisible: AVAIL | NEXT as the driver wrote it");
  assertEquals(r.queue.publish(), true);
  const { view } = r.client;
  assertEquals(view.getUint32(r.ring.desc + 8, true), 33);
  assertEquals(view.getUint16(r.ring.desc + 12, true), 0xabcd);
  assertEquals(r.ring.flags(0), 0x8082, "AVAIL | USED | WRITE");
  assertEquals(r.queue.inFlight, 0);
  assertEquals(r.ring.takeUsed(), [{ id: 0xabcd, length: 33, write: true }]);
  // The next used descriptor lies behind the three of the chain.
  r.ring.add([r.readable()], 7);
  r.ring.publish();
  r.queue.pushUsed(r.queue.pop(r.chain), 0);
  r.queue.publish();
  assertEquals(r.ring.flags(3), 0x8080, "nothing was written: no WRITE");
  assertEquals(r.ring.takeUsed(), [{ id: 7, length: 0, write: false }]);
  assertEquals(r.owner.violations, []);
});

Deno.test("1.4 the used position goes forward and back, and each crossing of the ring's end turns the wrap counter", () => {
  const used = new UsedDescriptors(4);
  const after = (slots: number) => {
    used.skip(slots);
    return [used.slot, used.wrap];
  };
  assertEquals([3, -3, 4, -1, 1, -4, -1].map(after), [[3, 1], [0, 1], [0, 0], [3, 1], [0, 0], [0, 1], [
    3,
    0,
  ]]);
});

Deno.test("1.4 flags of the first used descriptor of a burst are written last", () => {
  using r = new Rig(8);
  const ids = [1, 2, 3].map((id) => r.ring.add([r.readable()], id));
  r.ring.publish();
  for (const id of ids) assertEquals(r.queue.pop(r.chain), id);
  for (const id of ids) r.queue.pushUsed(id, 0);
  assertEquals([r.ring.flags(0), r.ring.flags(1), r.ring.flags(2)], [0x80, 0x8080, 0x8080]);
  assertEquals(r.ring.takeUsed(), [], "the driver looks at the first alone");
  r.queue.publish();
  assertEquals(r.ring.flags(0), 0x8080);
  assertEquals(r.ring.takeUsed().map(({ id }) => id), ids);
  assertEquals(r.queue.publish(), false, "nothing new");
});

for (const size of [1, 2, 3, 5, 7, 256, 32768]) {
  Deno.test(`1.4 both wrap counters, queue of ${size}: flags of every round, chains across the end`, () => {
    using r = new Rig(size);
    const random = new Random(size);
    const rounds = size > 1000 ? 3 : 9;
    let slots = 0, expectedSlot = 0, expectedWrap = 1;
    while (slots < rounds * size) {
      // Several chains at once, as far as there is room.
      const ids: number[] = [];
      let room = size;
      const lengths: number[] = [];
      do {
        const length = 1 + random.next() % Math.min(room, 4);
        ids.push(r.ring.add(new Array(length).fill(0).map(() => r.writable(8))));
        lengths.push(length);
        room -= length;
      } while (room > 0 && random.below(4) !== 0);
      r.ring.publish();
      assertEquals(r.queue.available(), ids.length);
      for (const id of ids) {
        if (r.queue.pop(r.chain) !== id) throw new Error(`chain ${id} did not come`);
      }
      if (r.queue.pop(r.chain) !== -1) throw new Error("a descriptor of the last round was taken");
      // Out of order: last first.
      const order = [...ids.keys()].reverse();
      for (const i of order) r.queue.pushUsed(ids[i]!, lengths[i]!);
      r.queue.publish();
      for (const i of order) {
        const flags = r.ring.flags(expectedSlot);
        if (flags !== (expectedWrap === 1 ? 0x8082 : 0x0002)) {
          throw new Error(`slot ${expectedSlot}, wrap ${expectedWrap}: flags 0x${flags.toString(16)}`);
        }
        expectedSlot += lengths[i]!;
        if (expectedSlot >= size) {
          expectedSlot -= size;
          expectedWrap ^= 1;
        }
        slots += lengths[i]!;
      }
      const used = r.ring.takeUsed();
      assertEquals(used, order.map((i) => ({ id: ids[i]!, length: lengths[i]!, write: true })));
      assertEquals(r.queue.state(), {
        layout: "packed",
        availableSlot: r.ring.next,
        availableWrap: r.ring.wrap,
        usedSlot: r.ring.usedNext,
        usedWrap: r.ring.usedWrap,
      });
    }
    assertEquals(r.owner.violations, []);
  });
}

Deno.test("1.4 ids are any 16 bits, 0xffff and those above the size too", () => {
  using r = new Rig(2);
  for (const id of [0xffff, 0, 0x8000, 2, 3]) {
    r.ring.add([r.readable()], id);
    r.ring.publish();
    assertEquals(r.queue.pop(r.chain), id);
    r.queue.pushUsed(id, 0);
    r.queue.publish();
    assertEquals(r.ring.takeUsed().map((one) => one.id), [id]);
  }
});

Deno.test("1.4 unpop gives chains back, last first, across the end of the ring, and they come again", () => {
  using r = new Rig(5);
  const cycle = (lengths: number[]) => {
    const ids = lengths.map((n) => r.ring.add(new Array(n).fill(r.readable())));
    r.ring.publish();
    return ids;
  };
  for (const id of cycle([3])) {
    assertEquals(r.queue.pop(r.chain), id);
    r.queue.pushUsed(id, 0);
    r.queue.publish();
    r.ring.takeUsed();
  }
  const ids = cycle([1, 3, 1]);
  for (let tries = 0; tries < 3; tries++) {
    for (const id of ids) assertEquals(r.queue.pop(r.chain), id);
    assertEquals([r.queue.inFlight, r.queue.available()], [3, 0]);
    for (let i = 2; i >= tries; i--) r.queue.unpop();
    assertEquals([r.queue.inFlight, r.queue.available()], [tries, 3 - tries]);
    for (let i = tries; i < 3; i++) assertEquals(r.queue.pop(r.chain), ids[i]);
    for (let i = 0; i < 3; i++) r.queue.unpop();
  }
  assertThrows(() => r.queue.unpop(), UsageError, "no chain to give back");
  for (const id of ids) {
    assertEquals(r.queue.pop(r.chain), id);
    r.queue.pushUsed(id, 0);
  }
  assertThrows(() => r.queue.unpop(), UsageError);
  r.queue.publish();
  assertEquals(r.ring.takeUsed().map((one) => one.id), ids);
});

Deno.test("1.4 a device that returns what it does not hold is told so", () => {
  using r = new Rig();
  assertThrows(() => r.queue.pushUsed(0, 0), UsageError, "does not hold chain 0");
  assertThrows(() => r.queue.pushUsed(70000, 0), UsageError);
  r.ring.add([r.readable()], 5);
  r.ring.publish();
  r.queue.pop(r.chain);
  r.queue.pushUsed(5, 0);
  assertThrows(() => r.queue.pushUsed(5, 0), UsageError, "does not hold chain 5");
});

Deno.test("1.4 indirect: all entries, WRITE only, ids and other flags ignored and reported once", () => {
  using r = new Rig(4);
  r.ring.addIndirect([r.readable(1), r.readable(2), r.writable(3), r.writable(4)], 9);
  r.ring.publish();
  assertEquals(r.queue.pop(r.chain), 9);
  assertEquals([r.chain.count, r.chain.readableBytes, r.chain.writableBytes], [4, 3, 7]);
  const reports: string[] = [];
  Object.assign(r.owner, { report: (rule: string, message: string) => reports.push(`${rule}: ${message}`) });
  for (const flags of [0x8085, 1]) {
    r.ring.addIndirect([r.readable(1), r.writable(2)], undefined, flags);
    r.ring.publish();
    assert(r.queue.pop(r.chain) >= 0, "the device ignores them");
    assertEquals([r.chain.count, r.chain.readableBytes, r.chain.writableBytes], [2, 1, 2]);
  }
  assertEquals(reports, [
    "1.4: the chain at slot 1: entry 0 of the indirect table has flags 0x8085: only WRITE may be set",
  ]);
  // Each took one slot.
  assertEquals(r.queue.state(), {
    layout: "packed",
    availableSlot: 3,
    availableWrap: 1,
    usedSlot: 0,
    usedWrap: 1,
  });
  assertEquals(r.owner.violations, []);
});

type Raw = { iova: bigint; length: number; flags: number };
const at = BASE + 0x8000n;
const one = (flags: number, length = 16, iova = at): Raw => ({ iova, length, flags });

const WRONG: [name: string, features: Partial<DeviceQueueSetup>, list: Raw[], violation: string][] = [
  [
    "device-readable after device-writable",
    {},
    [one(3), one(0)],
    "1.4: the chain at slot 0: device-readable",
  ],
  ["a length of 0", {}, [one(0, 0)], "1.4: the chain at slot 0: descriptor 0 has a length of 0"],
  ["INDIRECT and NEXT", {}, [one(5), one(0)], "1.4: the chain at slot 0: slot 0 is both INDIRECT and"],
  [
    "INDIRECT at the end of a list",
    {},
    [one(1), one(4)],
    "1.4: the chain at slot 0: slot 1 is both INDIRECT and",
  ],
  [
    "INDIRECT not negotiated",
    { indirect: false },
    [one(4)],
    "1.4: the chain at slot 0: slot 0 is indirect, INDIR",
  ],
  [
    "an indirect table of 24 bytes",
    {},
    [one(4, 24)],
    "1.4: the chain at slot 0: an indirect table of 24 bytes",
  ],
  ["an indirect table of 0 bytes", {}, [one(4, 0)], "1.4: the chain at slot 0: an indirect table of 0 bytes"],
  [
    "an indirect table longer than the queue",
    {},
    [one(4, 80)],
    "1.4: the chain at slot 0: longer than the queue's 4",
  ],
  [
    "a chain longer than the queue",
    {},
    [one(1), one(1), one(1), one(1)],
    "1.4: the chain at slot 0: longer than",
  ],
  [
    "a buffer that is not mapped",
    {},
    [one(0, 16, 0x99n)],
    "DMA: the chain at slot 0: descriptor 0: 16 bytes at",
  ],
  [
    "a buffer past its mapping",
    {},
    [one(2, 32, BASE + 0xffff0n)],
    "DMA: the chain at slot 0: descriptor 0: 32 bytes",
  ],
  [
    "an indirect table that is not mapped",
    {},
    [one(4, 16, 0x99n)],
    "DMA: the chain at slot 0: entry 0 of the ind",
  ],
  ["more than 2^32 bytes", {}, [one(1, 0xffff_fff0, BASE), one(0, 17)], "DMA: "],
];
for (const [name, features, list, violation] of WRONG) {
  Deno.test(`${violation.split(":")[0]} packed, a violation: ${name}`, () => {
    using r = new Rig(4, features);
    r.ring.addRaw(list, 1);
    r.ring.publish();
    assertEquals(r.queue.pop(r.chain), -1);
    assertStringIncludes(r.violation, violation);
    // Broken for good: it takes and gives nothing.
    assertEquals([r.queue.broken, r.queue.available(), r.queue.pop(r.chain), r.queue.arm()], [
      true,
      0,
      -1,
      false,
    ]);
    assertEquals([r.queue.publish(), r.owner.violations.length], [false, 1]);
  });
}

Deno.test("1.4 a violation: an unavailable descriptor in the middle of a chain", () => {
  for (const wrong of [0x0000, 0x8080, 0x8000]) {
    using r = new Rig(4);
    r.ring.add([r.readable(), r.readable(), r.readable()], 1);
    r.ring.setFlags(1, 1 | wrong);
    r.ring.publish();
    assertEquals(r.queue.available(), 1, "counted, so that it is popped and found out");
    assertEquals(r.queue.pop(r.chain), -1);
    assertEquals(r.violation, "1.4: the chain at slot 0: slot 1 in its middle is not available");
  }
  // Across the end of the ring the expected bits change.
  using r = new Rig(3);
  r.ring.add([r.readable(), r.readable()], 1);
  r.ring.publish();
  r.queue.pushUsed(r.queue.pop(r.chain), 0);
  r.queue.publish();
  r.ring.takeUsed();
  r.ring.add([r.readable(), r.readable()], 2);
  r.ring.setFlags(0, 0x80);
  r.ring.publish();
  assertEquals(r.queue.pop(r.chain), -1);
  assertStringIncludes(r.violation, "slot 0 in its middle is not available");
});

Deno.test("1.4 a violation: an id that the device has already", () => {
  using r = new Rig(4);
  r.ring.add([r.readable()], 3);
  r.ring.add([r.readable()], 3);
  r.ring.publish();
  assertEquals([r.queue.pop(r.chain), r.queue.pop(r.chain)], [3, -1]);
  assertEquals(r.violation, "1.4: the chain at slot 1: id 3 was made available while the device has it");
});

Deno.test("1.4 a violation: descriptors that the device has not returned are made available again", () => {
  using r = new Rig(4);
  for (const id of [0, 1, 2, 3]) r.ring.add([r.readable()], id);
  r.ring.publish();
  for (let i = 0; i < 4; i++) r.queue.pop(r.chain);
  r.queue.pushUsed(0, 0);
  // Pushed is not published: the driver cannot know yet.
  r.ring.add([r.readable()], 4);
  r.ring.publish();
  assertEquals(r.queue.pop(r.chain), -1);
  assertEquals(
    r.violation,
    "1.4: the chain at slot 0: slot 0 was made available before the device had returned it",
  );

  using two = new Rig(4);
  two.ring.add([two.readable(), two.readable(), two.readable()], 0);
  two.ring.publish();
  two.queue.pop(two.chain);
  two.ring.add([two.readable(), two.readable()], 1);
  two.ring.publish();
  assertEquals(two.queue.pop(two.chain), -1);
  assertStringIncludes(two.violation, "slot 0 was made available before the device had returned it");
});

Deno.test("1.4 setup: any size from 1 to 32768, alignment of each area", () => {
  using r = new Rig();
  const good = r.ring.setup();
  for (const size of [1, 3, 100, 32767, 32768]) assertEquals(checkPackedSetup({ ...good, size }), undefined);
  for (const size of [0, 32769, -1, 1.5]) {
    assertStringIncludes(checkPackedSetup({ ...good, size })!, `queue_size ${size} is not from 1 to 32768`);
  }
  for (const [area, alignment] of [["descriptorArea", 16], ["driverArea", 4], ["deviceArea", 4]] as const) {
    for (let off = 1; off < alignment; off++) {
      const setup = { ...good, [area]: good[area] + BigInt(off) };
      assertStringIncludes(checkPackedSetup(setup)!, `is not aligned to ${alignment} bytes`);
      assertThrows(() => new PackedDeviceQueue(setup, r.owner), UsageError, area);
    }
  }
});

Deno.test("DMA packed: areas that are not mapped, or not for both directions, are found out at first use", () => {
  const map = [
    ["descriptorArea", "descriptor area", { deviceReads: true, deviceWrites: false }],
    ["descriptorArea", "descriptor area", { deviceReads: false, deviceWrites: true }],
    ["driverArea", "driver area", { deviceReads: false, deviceWrites: true }],
    ["deviceArea", "device area", { deviceReads: true, deviceWrites: false }],
    ["deviceArea", "device area", undefined],
  ] as const;
  for (const [field, name, access] of map) {
    using r = new Rig();
    if (access !== undefined) r.client.map(0x4000n, 4096, access);
    const queue = new PackedDeviceQueue({ ...r.ring.setup(), [field]: 0x4000n }, r.owner);
    assertEquals(r.owner.violations, []);
    assertEquals(queue.pop(r.chain), -1);
    assertStringIncludes(r.violation, `DMA: ${name}: `);
  }
});

Deno.test("DMA packed: the ring is found again after another mapping came and went, also in mid-burst", () => {
  using r = new Rig();
  const ids = [0, 1].map((id) => r.ring.add([r.readable()], id));
  r.ring.publish();
  for (const id of ids) assertEquals(r.queue.pop(r.chain), id);
  r.queue.pushUsed(0, 0);
  const region = r.client.map(0x4000n, 4096);
  r.queue.pushUsed(1, 0);
  r.client.dma.remove(region.iova, 4096n);
  r.queue.publish();
  assertEquals(r.ring.takeUsed().map((one) => one.id), ids);
});

// ---- notifications ----

Deno.test("1.4 without EVENT_IDX the driver's ENABLE and DISABLE decide, all else is a violation", () => {
  for (
    const [flags, outcome] of [
      [0, true],
      [1, false],
      [2, "for EVENT_IDX"],
      [3, "reserved"],
      [4, "reserved"],
      [
        0x8001,
        "reserved",
      ],
    ] as const
  ) {
    using r = new Rig();
    r.ring.setEvent(flags, 0x7fff, 1);
    r.ring.add([r.readable()], 0);
    r.ring.publish();
    r.queue.pushUsed(r.queue.pop(r.chain), 0);
    assertEquals(r.queue.publish(), outcome === true);
    assertEquals(r.owner.interrupts, outcome === true ? 1 : 0);
    if (typeof outcome === "string") assertStringIncludes(r.violation, outcome);
    else assertEquals(r.owner.violations, []);
    assertEquals(r.ring.takeUsed().length, 1, "what was returned is there all the same");
  }
});

Deno.test("1.4 with EVENT_IDX: reserved flags and an offset past the ring are violations, that of other flags is not", () => {
  for (
    const [flags, offset, violation] of [[3, 0, "reserved"], [2, 8, "offset 8"], [
      2,
      0x7fff,
      "offset 32767",
    ]] as const
  ) {
    using r = new Rig(8, { eventIndex: true });
    r.ring.setEvent(flags, offset, 1);
    r.ring.add([r.readable()], 0);
    r.ring.publish();
    r.queue.pushUsed(r.queue.pop(r.chain), 0);
    assertEquals(r.queue.publish(), false);
    assertStringIncludes(r.violation, violation);
  }
  using r = new Rig(8, { eventIndex: true });
  r.ring.setEvent(1, 0x7fff, 1);
  r.ring.add([r.readable()], 0);
  r.ring.publish();
  r.queue.pushUsed(r.queue.pop(r.chain), 0);
  assertEquals([r.queue.publish(), r.owner.violations.length], [false, 0]);
});

Deno.test("1.4 DESC: an interrupt exactly when the burst uses the descriptor that the driver named", () => {
  for (const size of [1, 3, 5, 8]) {
    using r = new Rig(size, { eventIndex: true });
    const random = new Random(100 + size);
    // Absolute position of each descriptor that was ever used; wrap counter of a position.
    let position = 0;
    for (let n = 0; n < 3000; n++) {
      const lengths: number[] = [];
      let sum = 0;
      while (sum < size && (lengths.length === 0 || random.below(3) !== 0)) {
        const length = 1 + random.below(size - sum);
        lengths.push(length);
        sum += length;
      }
      for (const length of lengths) r.ring.add(new Array(length).fill(r.readable()));
      r.ring.publish();
      // Anywhere from just behind the device to a round ahead, where positions and (slot, wrap) are one to one.
      const event = position + random.below(2 * size) - (position >= size - 1 ? size - 1 : 0);
      if (event === position + size) continue2(r);
      else {
        r.ring.setEvent(2, event % size, (1 + Math.floor(event / size)) % 2);
        for (const _ of lengths) r.queue.pushUsed(r.queue.pop(r.chain), 0);
        const before = r.owner.interrupts;
        const told = r.queue.publish();
        const expected = event >= position && event < position + sum;
        if (told !== expected || r.owner.interrupts - before !== (expected ? 1 : 0)) {
          throw new Error(`size ${size}: event ${event}, used ${position} to ${position + sum}: ${told}`);
        }
      }
      r.ring.takeUsed();
      position += sum;
    }
  }
});

/** A burst with notifications off. */
function continue2(r: Rig): void {
  r.ring.setEvent(1);
  while (r.queue.pop(r.chain) >= 0) r.queue.pushUsed(r.chain.id, 0);
  assertEquals(r.queue.publish(), false);
}

Deno.test("1.4 suppress and arm without EVENT_IDX: DISABLE, ENABLE", () => {
  using r = new Rig();
  assertEquals(r.ring.deviceEvent, { flags: 0, offset: 0, wrap: 0 });
  r.queue.suppress();
  assertEquals(r.ring.deviceEvent.flags, 1);
  assertEquals(r.queue.arm(), false);
  assertEquals(r.ring.deviceEvent, { flags: 0, offset: 0, wrap: 0 });
  r.ring.add([r.readable(), r.readable()], 0);
  r.ring.publish();
  assertEquals([r.queue.arm(), r.queue.arm(1)], [true, false]);
});

Deno.test("1.4 suppress and arm with EVENT_IDX: DISABLE, DESC at the next chain or behind those that are there", () => {
  using r = new Rig(5, { eventIndex: true });
  r.queue.suppress();
  assertEquals(r.ring.deviceEvent.flags, 1);
  assertEquals(r.queue.arm(), false);
  assertEquals(r.ring.deviceEvent, { flags: 2, offset: 0, wrap: 1 });
  r.ring.add([r.readable(), r.readable(), r.readable()], 0);
  r.ring.add([r.readable()], 1);
  r.ring.publish();
  assertEquals(r.queue.arm(1), true);
  assertEquals(r.ring.deviceEvent, { flags: 2, offset: 3, wrap: 1 });
  assertEquals(r.queue.arm(2), false);
  assertEquals(r.ring.deviceEvent, { flags: 2, offset: 4, wrap: 1 });
  assertEquals(r.queue.arm(9), false, "no further than what is there");
  assertEquals(r.ring.deviceEvent, { flags: 2, offset: 4, wrap: 1 });
  for (const id of [0, 1]) {
    assertEquals(r.queue.pop(r.chain), id);
    r.queue.pushUsed(id, 0);
  }
  r.queue.publish();
  r.ring.takeUsed();
  r.ring.add([r.readable(), r.readable()], 2);
  r.ring.publish();
  r.queue.suppress();
  assertEquals(r.queue.arm(1), false);
  assertEquals(r.ring.deviceEvent, { flags: 2, offset: 1, wrap: 0 });
  assertEquals(r.queue.arm(), true);
  assertEquals(r.ring.deviceEvent, { flags: 2, offset: 4, wrap: 1 });
});

Deno.test("1.6 packed: a notification's position is judged against the ring", () => {
  using r = new Rig(4);
  assertEquals(r.queue.checkNotification(0, 1), undefined);
  assertStringIncludes(r.queue.checkNotification(1, 1)!, "1 of those before it are not available");
  assertStringIncludes(r.queue.checkNotification(4, 1)!, "next_off 4 is not a slot of 4");
  assertStringIncludes(r.queue.checkNotification(0, 0)!, "4 of those before it");
  r.ring.add([r.readable(), r.readable()], 0);
  r.ring.publish();
  assertEquals(r.queue.checkNotification(2, 1), undefined);
  assertEquals(r.queue.checkNotification(0, 1), undefined, "an old one");
  for (let i = 0; i < 5; i++) {
    r.queue.pop(r.chain);
    r.queue.unpop();
  }
  assertStringIncludes(r.queue.checkNotification(3, 1)!, "1 of those before it");
  for (let n = 0; n < 20; n++) {
    r.queue.pushUsed(r.queue.pop(r.chain), 0);
    r.queue.publish();
    r.ring.takeUsed();
    assertEquals(r.queue.checkNotification(r.ring.next, r.ring.wrap), undefined);
    r.ring.add(new Array(1 + n % 4).fill(r.readable()), 0);
    r.ring.publish();
    assertEquals(r.queue.checkNotification(r.ring.next, r.ring.wrap), undefined);
    const slot = r.ring.next + 1;
    assertStringIncludes(
      r.queue.checkNotification(slot % 4, slot === 4 ? r.ring.wrap ^ 1 : r.ring.wrap)!,
      "1 of those before it are not available",
    );
  }
  assertEquals(r.owner.violations, []);
});
