/** Rings of a front end: when they run, where they go on, and what is wrong with them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createMemfd, createSharedFile, mappingCount, openFdCount } from "../../../../../ffi/mod.ts";
import {
  inflightMessage,
  inflightSplitQueue,
  memRegion,
  memTable,
  PROTOCOL_FEATURE,
  REQUEST,
  u64Message,
  VHOST_FEATURE,
  vringAddr,
  vringState,
} from "../../../../../lib/sockets/vhost_user/protocol.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/features.ts";
import { STATUS } from "../../../../../lib/virtio/spec/status.ts";
import { usedBurst } from "../../../../../lib/virtio/queue/used_burst.ts";
import { type RawDriver, RawFrontEnd, TestMachine, USER_OFFSET } from "./raw_front_end.ts";

const RNG = { name: "rng", kind: "virtio-rng" };
const ALL = PROTOCOL_FEATURE.MQ | PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.STATUS |
  PROTOCOL_FEATURE.RESET_DEVICE | PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS;
const MIXES: readonly (readonly [string, bigint])[] = [
  ["split", 0n],
  ["split, event index, indirect", FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC],
  ["split, in order", FEATURE.IN_ORDER],
  ["packed", FEATURE.RING_PACKED],
  ["packed, event index, indirect", FEATURE.RING_PACKED | FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC],
  ["packed, in order", FEATURE.RING_PACKED | FEATURE.IN_ORDER],
];

/** Asks for random bytes `times` times. @returns how many requests were answered, each in full */
function ask(driver: RawDriver, buffer: { iovaLo: number; iovaHi: number }, times: number): number {
  const [queue] = driver.queues;
  const used = usedBurst(times);
  for (let i = 0; i < times; i++) queue!.addSingle(buffer.iovaLo, buffer.iovaHi, 64, true);
  queue!.flush();
  driver.front.machine.run();
  const count = queue!.takeUsed(used);
  for (let i = 0; i < count; i++) assertEquals(used.lengths[i], 64);
  return count;
}

function begin(
  front: RawFrontEnd,
  features: bigint,
  size = 8,
): { driver: RawDriver; buffer: { iovaLo: number; iovaHi: number } } {
  const driver = front.driver(features);
  driver.queue(0, size);
  const memory = driver.space.allocate(4096);
  return { driver, buffer: { iovaLo: memory.iovaLo, iovaHi: memory.iovaHi } };
}

for (const [name, mix] of MIXES) {
  const features = FEATURE.VERSION_1 | mix;

  Deno.test(`vhost-user rings, ${name}: run with DRIVER_OK when they are enabled, keep their place over GET_VRING_BASE`, () => {
    using machine = new TestMachine(RNG);
    using front = new RawFrontEnd(machine, "rng");
    front.tellNumber(REQUEST.setProtocolFeatures, ALL);
    front.tellNumber(REQUEST.setFeatures, features | VHOST_FEATURE.PROTOCOL_FEATURES);
    const { driver, buffer } = begin(front, features);
    driver.sendMemory();
    front.tellNumber(REQUEST.setStatus, BigInt(STATUS.acknowledge | STATUS.driver | STATUS.featuresOk));
    driver.start(0);
    assertEquals(ask(driver, buffer, 1), 0, "neither enabled nor DRIVER_OK");
    front.tellNumber(REQUEST.setStatus, 0xfn);
    assertEquals(ask(driver, buffer, 1), 0, "not enabled");
    driver.enable(0);
    machine.run();
    assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 2);
    assert(driver.calls[0]!.take() > 0, "used buffers are told of");
    assertEquals(ask(driver, buffer, 3), 3);
    // Disabled, it rests; enabled, it goes on.
    driver.enable(0, 0);
    assertEquals(ask(driver, buffer, 1), 0);
    driver.enable(0, 1);
    machine.run();
    assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 1);
    for (let round = 0; round < 9; round++) {
      const base = driver.stop(0);
      const { available, used } = { available: base & 0xffff, used: base >>> 16 };
      if (driver.queues[0]!.layout === "split") assertEquals(base, 6 + 3 * round);
      // All were returned, so that both are at the same place.
      else assertEquals(available, used);
      assertEquals(ask(driver, buffer, 1), 0, "stopped");
      driver.start(0, base);
      machine.run();
      assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 1);
      assertEquals(ask(driver, buffer, 2), 2);
    }
    assertEquals(machine.takeViolations(), []);
  });

  Deno.test(`vhost-user rings, ${name}: without protocol features they run from their kick on; the front end goes and comes back`, () => {
    using machine = new TestMachine(RNG);
    const before = [openFdCount(), mappingCount().mappings];
    for (let round = 0; round < 3; round++) {
      {
        using front = new RawFrontEnd(machine, "rng");
        front.tellNumber(REQUEST.setFeatures, features);
        const { driver, buffer } = begin(front, features);
        driver.sendMemory();
        driver.start(0);
        assertEquals(ask(driver, buffer, 5), 5);
        // A machine that was reset says its features once more; nothing else tells of that.
        driver.stop(0);
        front.tellNumber(REQUEST.setFeatures, features);
      }
      assertEquals([openFdCount(), mappingCount().mappings], before);
    }
    assertEquals(machine.takeViolations(), []);
  });
}

Deno.test("vhost-user rings: a packed base without its used half, as DPDK has it, begins both at the same place", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  const features = FEATURE.VERSION_1 | FEATURE.RING_PACKED;
  front.tellNumber(REQUEST.setFeatures, features);
  const { driver, buffer } = begin(front, features);
  driver.sendMemory();
  driver.start(0, 0x8000);
  for (let round = 0; round < 5; round++) assertEquals(ask(driver, buffer, 3), 3);
  assertEquals(driver.stop(0), 0x0007_0007);
  assertEquals(machine.takeViolations(), []);
});

Deno.test("vhost-user rings: SET_STATUS 0, RESET_DEVICE and RESET_OWNER forget rings and features, not the memory", () => {
  for (const how of ["status", "device", "owner"] as const) {
    using machine = new TestMachine(RNG);
    using front = new RawFrontEnd(machine, "rng");
    front.tellNumber(REQUEST.setProtocolFeatures, ALL);
    const features = FEATURE.VERSION_1;
    const { driver, buffer } = begin(front, features);
    driver.sendMemory();
    const set = () => {
      front.tellNumber(REQUEST.setFeatures, features | VHOST_FEATURE.PROTOCOL_FEATURES);
      front.tellNumber(REQUEST.setStatus, 0xfn);
    };
    set();
    driver.start(0);
    driver.enable(0);
    assertEquals(ask(driver, buffer, 2), 2);
    if (how === "status") front.tellNumber(REQUEST.setStatus, 0n);
    else front.tell(how === "device" ? REQUEST.resetDevice : REQUEST.resetOwner, new Uint8Array());
    assertEquals(front.askNumber(REQUEST.getStatus), 0n);
    set();
    driver.enable(0);
    assertEquals(ask(driver, buffer, 1), 0, "no ring is started");
    driver.start(0, 2);
    machine.run();
    assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 1);
    assertEquals(machine.takeViolations(), []);
  }
});

Deno.test("vhost-user rings: with STATUS and without DRIVER_OK, as QEMU's vhost-user-base has it, they run while one is enabled", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(REQUEST.setProtocolFeatures, ALL);
  const features = FEATURE.VERSION_1;
  for (let round = 0; round < 3; round++) {
    front.tellNumber(REQUEST.setFeatures, features | VHOST_FEATURE.PROTOCOL_FEATURES);
    front.tellNumber(REQUEST.setStatus, BigInt(STATUS.featuresOk));
    const { driver, buffer } = begin(front, features);
    driver.sendMemory();
    driver.start(0);
    assertEquals(ask(driver, buffer, 1), 0, "not enabled");
    driver.enable(0);
    machine.run();
    assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 1, "enabled");
    driver.stop(0);
    driver.enable(0, 0);
    assertEquals(ask(driver, buffer, 1), 0, "stopped");
    // As after a reset of the machine: other features may come.
    front.tellNumber(REQUEST.setFeatures, features | FEATURE.EVENT_IDX | VHOST_FEATURE.PROTOCOL_FEATURES);
  }
  assertEquals(machine.takeViolations(), []);
});

for (const [name, mix] of MIXES.filter(([name]) => !name.includes("order"))) {
  Deno.test(`vhost-user rings, ${name}: of a network device that runs, frames for a ring that was turned off are dropped, and nothing is received`, () => {
    const net = (name: string) => ({ name, kind: "virtio-net", queuePairs: 2 });
    using machine = new TestMachine(net("a"), net("b"));
    const features = FEATURE.VERSION_1 | mix;
    const connect = (name: string) => {
      const front = new RawFrontEnd(machine, name);
      front.tellNumber(REQUEST.setProtocolFeatures, ALL);
      front.tellNumber(REQUEST.setFeatures, features | VHOST_FEATURE.PROTOCOL_FEATURES);
      const driver = front.driver(features);
      for (const queue of [0, 1]) driver.queue(queue, 8);
      const { iovaLo, iovaHi } = driver.space.allocate(4096);
      driver.sendMemory();
      for (const queue of [0, 1]) driver.start(queue);
      const add = (queue: number, bytes: number) => {
        driver.queues[queue]!.addSingle(iovaLo, iovaHi, bytes, queue === 0);
        driver.queues[queue]!.flush();
        machine.run();
      };
      const back = (queue: number) => driver.queues[queue]!.takeUsed(usedBurst(8));
      const leave = () => front[Symbol.dispose]();
      return { front, driver, add, back, [Symbol.dispose]: leave };
    };
    using a = connect("a");
    using b = connect("b");
    for (const one of [a, b]) for (const queue of [0, 1]) one.driver.enable(queue);
    b.add(0, 2048);
    // Addresses of zeroes are nobody's: the frame goes to all.
    a.add(1, 100);
    assertEquals([a.back(1), b.back(0)], [1, 1]);

    a.driver.enable(1, 0);
    b.add(0, 2048);
    for (let sent = 0; sent < 20; sent++) {
      a.add(1, 100);
      assertEquals([a.back(1), b.back(0)], [1, 0], "dropped");
    }
    // Its notification wakes whoever sleeps.
    assertEquals(machine.machine.vhostUserDevice("vhost-user:a").arm(), false);
    a.add(1, 100);
    assertEquals(a.back(1), 1);
    // Of one that is turned off and stopped nothing is taken, and it goes on behind what was dropped.
    const base = a.driver.stop(1);
    a.add(1, 100);
    assertEquals(a.back(1), 0);
    a.driver.start(1, base);
    assertEquals(a.back(1), 1, "started, and still off");
    a.driver.enable(1);
    a.add(1, 100);
    assertEquals([a.back(1), b.back(0)], [1, 1]);

    b.driver.enable(0, 0);
    b.add(0, 2048);
    a.add(1, 100);
    assertEquals([b.back(0)], [0], "it receives nothing");
    b.driver.enable(0);
    a.add(1, 100);
    assert(b.back(0) > 0);
    assertEquals(a.back(1), 2);

    // All of them off: what was sent is dropped all the same, and the device is no new one.
    for (const queue of [0, 1]) a.driver.enable(queue, 0);
    b.add(0, 2048);
    a.add(1, 100);
    assertEquals([a.back(1), b.back(0)], [1, 0]);
    assertEquals(machine.takeViolations(), []);
  });
}

Deno.test("vhost-user rings: of a network device that is not turned on yet, nothing is dropped", () => {
  using machine = new TestMachine({ name: "a", kind: "virtio-net", queuePairs: 2 });
  using front = new RawFrontEnd(machine, "a");
  front.tellNumber(REQUEST.setProtocolFeatures, ALL);
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1 | VHOST_FEATURE.PROTOCOL_FEATURES);
  const { driver, buffer } = begin(front, FEATURE.VERSION_1);
  const queue = driver.queue(1, 8);
  driver.sendMemory();
  for (const index of [0, 1]) driver.start(index);
  queue.addSingle(buffer.iovaLo, buffer.iovaHi, 100, false);
  queue.flush();
  driver.enable(0);
  machine.run();
  assertEquals(queue.takeUsed(usedBurst(8)), 0, "the first runs, this one waits for its turn");
  driver.enable(1);
  machine.run();
  assertEquals(queue.takeUsed(usedBurst(8)), 1);
  assertEquals(machine.takeViolations(), []);
});

Deno.test("vhost-user rings: one whose kick is none is polled, one whose call is none calls nobody", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
  const { driver, buffer } = begin(front, FEATURE.VERSION_1);
  driver.sendMemory();
  driver.start(0);
  front.tellNumber(REQUEST.setVringKick, 0x100n);
  front.tellNumber(REQUEST.setVringCall, 0x100n);
  const behaviour = machine.machine.vhostUserDevice("vhost-user:rng");
  assert(behaviour.arm(), "it never sleeps");
  assertEquals(ask(driver, buffer, 2), 2);
  assertEquals(driver.calls[0]!.take(), 0);
});

Deno.test("vhost-user rings: what cannot be a ring stops the device, tells the error descriptor, and ends with a reset", () => {
  const size = 8;
  const wrong: readonly [string, (front: RawFrontEnd, driver: RawDriver) => void, RegExp][] = [
    [
      "no memory",
      (front) => front.tell(REQUEST.setMemTable, memTable.encode({ count: 0 })),
      /ring 0: its descriptor area, 128 bytes at user address 0x7f[0-9a-f]+, lies in no region/,
    ],
    ["a guest address", (front, { queues }) => {
      const { descriptorArea, driverArea, deviceArea } = queues[0]!.addresses;
      front.tell(
        REQUEST.setVringAddr,
        vringAddr.encode({ index: 0, descriptor: descriptorArea, available: driverArea, used: deviceArea }),
      );
    }, /lies in no region/],
    ["an unaligned area", (front, { queues }) => {
      const { descriptorArea, driverArea, deviceArea } = queues[0]!.addresses;
      front.tell(
        REQUEST.setVringAddr,
        vringAddr.encode({
          index: 0,
          descriptor: descriptorArea + USER_OFFSET,
          available: driverArea + USER_OFFSET + 1n,
          used: deviceArea + USER_OFFSET,
        }),
      );
    }, /is not aligned to 2 bytes/],
    [
      "an odd size",
      (front) => front.tell(REQUEST.setVringNum, vringState.encode({ index: 0, num: 7 })),
      /a size of 7 is not a power of two/,
    ],
    [
      "too large a size",
      (front) => front.tell(REQUEST.setVringNum, vringState.encode({ index: 0, num: 4096 })),
      /above the maximum of 1024/,
    ],
    [
      "a base of 17 bits",
      (front) => front.tell(REQUEST.setVringBase, vringState.encode({ index: 0, num: 0x1_0000 })),
      /no index of 16 bits/,
    ],
  ];
  for (const [what, act, says] of wrong) {
    using machine = new TestMachine(RNG);
    using front = new RawFrontEnd(machine, "rng");
    front.tellNumber(REQUEST.setProtocolFeatures, ALL);
    front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1 | VHOST_FEATURE.PROTOCOL_FEATURES);
    const { driver, buffer } = begin(front, FEATURE.VERSION_1, size);
    driver.sendMemory();
    driver.start(0);
    front.tellNumber(REQUEST.setVringErr, 0n, [driver.calls[0]!.fd]);
    act(front, driver);
    front.tellNumber(REQUEST.setStatus, 0xfn);
    assertEquals(machine.takeViolations(), [], what);
    driver.enable(0);
    assertMatch(machine.takeViolations().join(), says, what);
    assertEquals(front.askNumber(REQUEST.getStatus), BigInt(0xf | STATUS.deviceNeedsReset), what);
    assert(driver.calls[0]!.take() > 0, "the error descriptor was signalled");
    assertEquals(ask(driver, buffer, 1), 0);
    front.tellNumber(REQUEST.setStatus, 0n);
    front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1 | VHOST_FEATURE.PROTOCOL_FEATURES);
    driver.sendMemory();
    driver.start(0);
    driver.enable(0);
    front.tellNumber(REQUEST.setStatus, 0xfn);
    machine.run();
    assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 1, what);
  }
});

Deno.test("vhost-user rings: size and base of a ring that runs stay, features too; its addresses and its memory may change", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(REQUEST.setProtocolFeatures, ALL & ~PROTOCOL_FEATURE.STATUS);
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
  const { driver, buffer } = begin(front, FEATURE.VERSION_1);
  driver.sendMemory();
  driver.start(0);
  assertEquals(ask(driver, buffer, 1), 1);
  assertEquals(front.acknowledged(REQUEST.setVringNum, vringState.encode({ index: 0, num: 16 })), 1n);
  assertEquals(front.acknowledged(REQUEST.setVringBase, vringState.encode({ index: 0, num: 3 })), 1n);
  assertEquals(
    front.acknowledged(
      REQUEST.setFeatures,
      u64Message.encode({ value: FEATURE.VERSION_1 | FEATURE.EVENT_IDX }),
    ),
    1n,
  );
  const noted = machine.takeViolations();
  assertMatch(noted[0]!, /its size was set while it runs/);
  assertMatch(noted[1]!, /its base was set while it runs/);
  assertMatch(noted[2]!, /features were changed while rings run/);
  // The same again is nothing new: QEMU says it for each pair of queues.
  assertEquals(front.acknowledged(REQUEST.setFeatures, u64Message.encode({ value: FEATURE.VERSION_1 })), 0n);
  // More memory is plugged in: the whole table comes again.
  driver.space.allocate(8192);
  driver.sendMemory();
  assertEquals(ask(driver, buffer, 2), 2);
  // The same memory, which the front end has elsewhere by now.
  const { regions } = driver;
  const payload = memTable.encode({ count: regions.length }, regions.length * memRegion.sizeBytes);
  regions.forEach(({ guestAddress, sizeBytes }, i) =>
    memRegion.encodeInto(payload, memTable.sizeBytes + i * memRegion.sizeBytes, {
      guestAddress,
      sizeBytes,
      userAddress: guestAddress + 2n * USER_OFFSET,
      mmapOffset: 0n,
    })
  );
  const { descriptorArea, driverArea, deviceArea } = driver.queues[0]!.addresses;
  front.tell(REQUEST.setMemTable, payload, regions.map(({ file }) => file));
  assertMatch(machine.takeViolations().join(), /lies in no region of memory/);
  assertEquals(ask(driver, buffer, 1), 0, "the device needs a reset");
  driver.stop(0);
  front.tell(
    REQUEST.setVringAddr,
    vringAddr.encode({
      index: 0,
      descriptor: descriptorArea + 2n * USER_OFFSET,
      available: driverArea + 2n * USER_OFFSET,
      used: deviceArea + 2n * USER_OFFSET,
    }),
  );
  front.tellNumber(REQUEST.setVringKick, 0n, [driver.kicks[0]!.fd]);
  machine.run();
  assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 1, "all rings had stopped: that was a reset");
  assertEquals(machine.takeViolations(), []);
});

Deno.test("vhost-user rings: memory that goes while a ring is in it stops the device, and nothing else", () => {
  using machine = new TestMachine(RNG, { ...RNG, name: "other" });
  using front = new RawFrontEnd(machine, "rng");
  using otherFront = new RawFrontEnd(machine, "other");
  const [one, other] = [front, otherFront].map((each) => {
    each.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
    const begun = begin(each, FEATURE.VERSION_1);
    begun.driver.sendMemory();
    begun.driver.start(0);
    assertEquals(ask(begun.driver, begun.buffer, 1), 1);
    return begun;
  });
  front.tell(REQUEST.setMemTable, memTable.encode({ count: 0 }));
  assertMatch(machine.takeViolations().join(), /vhost-user:rng: vhost-user: ring 0: .* lies in no region/);
  assertEquals(ask(one!.driver, one!.buffer, 1), 0);
  assertEquals(ask(other!.driver, other!.buffer, 4), 4);
});

Deno.test("vhost-user rings: files that could be cut are copied, and cut they are no bus error", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
  const { driver, buffer } = begin(front, FEATURE.VERSION_1);
  driver.sendMemory();
  driver.start(0);
  assertEquals(ask(driver, buffer, 3), 3);
  assert(driver.regions.length > 0);
});

Deno.test("vhost-user rings: with memory for chains in flight a split ring goes on behind what is used, whatever base is said", () => {
  using machine = new TestMachine(RNG);
  using front = new RawFrontEnd(machine, "rng");
  front.tellNumber(REQUEST.setProtocolFeatures, ALL & ~PROTOCOL_FEATURE.STATUS);
  front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1);
  const { driver, buffer } = begin(front, FEATURE.VERSION_1);
  driver.sendMemory();
  const bytes = 4096;
  using file = createSharedFile("in flight", bytes);
  const said = inflightMessage.encode({ mmapBytes: BigInt(bytes), queueCount: 1, queueSize: 8 });
  front.tell(REQUEST.setInflightFd, said, [file]);
  driver.start(0);
  assertEquals(ask(driver, buffer, 5), 5);
  driver.stop(0);
  assertEquals(ask(driver, buffer, 2), 0);
  // A front end whose back end was gone says how far the driver is.
  driver.start(0, 7);
  machine.run();
  assertEquals(driver.queues[0]!.takeUsed(usedBurst(8)), 2);
  assertEquals(inflightSplitQueue.sizeBytes, 16);
});

Deno.test("vhost-user rings: a front end that leaves in the middle of everything leaves nothing behind", () => {
  using machine = new TestMachine(RNG);
  using file = createMemfd("never mapped", 4096);
  const before = [openFdCount(), mappingCount().mappings];
  for (let after = 0; after < 6; after++) {
    using front = new RawFrontEnd(machine, "rng");
    const steps = [
      () => front.tellNumber(REQUEST.setFeatures, FEATURE.VERSION_1),
      () => driver.sendMemory(),
      () => driver.start(0),
      () => driver.queues[0]!.addSingle(buffer.iovaLo, buffer.iovaHi, 64, true),
      () => driver.queues[0]!.flush(),
      () => front.tell(REQUEST.setOwner, new Uint8Array(), [file]),
    ];
    const { driver, buffer } = begin(front, FEATURE.VERSION_1);
    for (const step of steps.slice(0, after + 1)) step();
    front.leave();
    assertEquals([openFdCount(), mappingCount().mappings], before, `after step ${after}`);
  }
});
