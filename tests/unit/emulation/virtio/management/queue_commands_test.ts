import { assert, assertEquals } from "@std/assert";
import { DmaRegion } from "../../../../../lib/sockets/dma_table.ts";
import { FakeClient, FakeRing } from "../fake_client.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";
import { BAR_ADDRESS } from "../fake_machine.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import {
  ACK,
  aligned,
  BLOCK,
  type CommandName,
  ENTROPY,
  ManagementRig,
  NET,
  number,
  OWN_TYPE,
  PACKED,
  rigWith,
  RING_RESET,
  RULES,
  u16,
  u64,
  u8,
} from "./rig.ts";

const MQ = 1n << 12n;
const disk = (rig: ManagementRig, features = RULES) => rig.create(BLOCK, features, u64(64));

/** Commands with a queue's number, and out-data for queue `queue` that is in order. */
const OF_QUEUES: readonly (readonly [CommandName, (queue: number) => number[]])[] = [
  ["setAddress", (queue) => aligned.areas(queue, 0n, 0n, 0n)],
  ["setEnable", (queue) => aligned.byte(queue, 0)],
  ["getEnable", (queue) => u16(queue)],
  ["setSize", (queue) => aligned.word(queue, 8)],
  ["getSize", (queue) => u16(queue)],
  ["getNotify", (queue) => u16(queue)],
  ["setState", (queue) => aligned.state(queue, 0)],
  ["getState", (queue) => u16(queue)],
  ["setAsid", (queue) => aligned.asid(queue, 0)],
  ["reset", (queue) => u16(queue)],
];

Deno.test("N-4.13, A-4.20, A-4.30: a queue that the device has not is refused by every class, by its number alone", () => {
  using rig = new ManagementRig();
  const id = rig.create(BLOCK, RULES | MQ | RING_RESET, [...u64(64), ...new Array(26).fill(0), ...u16(2)]);
  rig.negotiate(id, RULES | MQ | RING_RESET);
  for (const [name, out] of OF_QUEUES) {
    for (const queue of [2, 3, 0xffff]) {
      assertEquals(rig.ack(name, id, out(queue)), ACK.queue, `${name} ${queue}`);
      // Asking for a size is how a driver finds out how many there are.
      assertEquals(rig.rules(), name === "getSize" ? [] : ["N-4.13"]);
    }
    assertEquals(rig.ack(name, id, out(1)), ACK.ok, name);
  }
});

Deno.test("A-4.30: a queue whose largest size is 0 is none", () => {
  using rig = rigWith(() => Object.assign(new RngModel(), { queueSizes: [64, 0, 64] }));
  const id = rig.create(OWN_TYPE, RULES | RING_RESET);
  rig.negotiate(id, RULES | RING_RESET);
  for (const [name, out] of OF_QUEUES) {
    assertEquals([0, 1, 2].map((queue) => rig.ack(name, id, out(queue))), [ACK.ok, ACK.queue, ACK.ok], name);
  }
});

Deno.test("A-4.30: size, areas, state and address space of a queue that is enabled do not change", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  const other = new FakeRing(rig.fn.client, 8).setup();
  for (
    const [name, out] of [
      ["setSize", aligned.word(0, 8)],
      ["setAddress", aligned.areas(0, other.descriptorArea, other.deviceArea, other.driverArea)],
      ["setState", aligned.state(0, 3)],
      ["setAsid", aligned.asid(0, 1)],
    ] as const
  ) {
    assertEquals(rig.ack(name, id, out), ACK.state, name);
    assertEquals(rig.rules(), ["A-4.30"]);
  }
  assertEquals([...rig.ok("getSize", id, u16(0))], u16(16));
  assertEquals([rig.draw(ring), rig.draw(ring)], [32, 32]);
});

Deno.test("N-4.16: VQ_SIZE_GET is the maximum at first, what was set, and the maximum after a reset", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY, RULES | PACKED);
  const size = () => Number(number(rig.ok("getSize", id, u16(0))));
  assertEquals(size(), 64);
  rig.ok("setSize", id, aligned.word(0, 16));
  assertEquals(size(), 16);
  rig.ok("setStatus", id, u8(0));
  assertEquals(size(), 64);
  for (const wrong of [0, 65, 128, 0xffff, 17]) {
    assertEquals(rig.ack("setSize", id, aligned.word(0, wrong)), ACK.value, `${wrong}`);
  }
  assertEquals([size(), new Set(rig.rules())], [64, new Set(["2.2"])]);
  rig.negotiate(id, RULES | PACKED);
  rig.ok("setSize", id, aligned.word(0, 17));
  assertEquals(size(), 17, "a packed ring may have any");
});

Deno.test("4.3: VQ_ADDR has descriptor, device, driver area in this order", () => {
  using rig = new ManagementRig();
  const id = disk(rig);
  rig.ok("setAddress", id, aligned.areas(0, 0x1_0000_1000n, 0x2_0000_2000n, 0x3_0000_3000n));
  const [queue] = rig.model.devices.get(id)!.core.queues;
  assertEquals(queue!.descriptorArea, 0x1_0000_1000n);
  assertEquals(queue!.deviceArea, 0x2_0000_2000n);
  assertEquals(queue!.driverArea, 0x3_0000_3000n);
});

Deno.test("a queue is enabled after FEATURES_OK, before DRIVER_OK, and where its ring can be; else ERR, and the device goes on", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  const enable = () => rig.ack("setEnable", id, aligned.byte(0, 1));
  assertEquals([enable(), rig.rules()], [ACK.state, ["1.1"]]);
  rig.negotiate(id);
  const ring = new FakeRing(rig.fn.client, 16);
  const { descriptorArea, deviceArea, driverArea } = ring.setup();
  rig.ok("setSize", id, aligned.word(0, 16));
  rig.ok("setAddress", id, aligned.areas(0, descriptorArea + 8n, deviceArea, driverArea));
  assertEquals([enable(), rig.rules()], [ACK.state, ["1.3"]], "a descriptor table that is not aligned");
  assertEquals([...rig.ok("getEnable", id, u16(0))], [0]);
  assertEquals(rig.status(id), 11, "no DEVICE_NEEDS_RESET");
  rig.ok("setAddress", id, aligned.areas(0, descriptorArea, deviceArea, driverArea));
  assertEquals([enable(), enable()], [ACK.ok, ACK.ok], "twice is no other state");
  assertEquals([...rig.ok("getEnable", id, u16(0))], [1]);
  for (const value of [2, 255]) assertEquals(rig.ack("setEnable", id, aligned.byte(0, value)), ACK.value);
  rig.ok("setStatus", id, u8(15));
  assertEquals(rig.draw(ring), 32);

  const late = rig.create(ENTROPY);
  rig.negotiate(late);
  rig.ok("setStatus", late, u8(15));
  rig.rules();
  rig.program(late, 0, new FakeRing(rig.fn.client, 16));
  assertEquals(rig.ack("setEnable", late, aligned.byte(0, 1)), ACK.state, "never enabled before DRIVER_OK");
  assertEquals([rig.status(late), rig.rules()], [15, ["1.1"]]);
});

Deno.test("N-4.14, A-4.17: a disabled queue is not touched; enabled again, it goes on where it was", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  assertEquals([rig.draw(ring), rig.draw(ring), rig.draw(ring)], [32, 32, 32]);
  rig.ok("setEnable", id, aligned.byte(0, 0));
  assertEquals([...rig.ok("getEnable", id, u16(0))], [0]);
  assertEquals([rig.draw(ring), rig.draw(ring)], [0, 0], "two more buffers, which wait");
  rig.ok("setEnable", id, aligned.byte(0, 0));
  assertEquals([...rig.ok("getState", id, u16(0))], u16(3));
  rig.ok("setEnable", id, aligned.byte(0, 1));
  assertEquals([...rig.ok("getEnable", id, u16(0))], [1]);
  assertEquals(rig.draw(ring), 3 * 32, "those two, and this one");
  rig.ok("setStatus", id, u8(0));
  assertEquals([...rig.ok("getEnable", id, u16(0))], [0], "a reset of the device");
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.14, A-4.17: the same of a packed queue, over the end of the ring", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY, RULES | PACKED);
  rig.negotiate(id, RULES | PACKED);
  const ring = rig.enablePacked(id, 0);
  rig.ok("setStatus", id, u8(15));
  const { client } = rig.fn;
  const at = client.allocate(64);
  const draw = (count: number) => {
    for (let i = 0; i < count; i++) ring.add([{ iova: client.at(at), length: 64, write: true }]);
    ring.publish();
    rig.model.devices.get(id)!.wake();
    rig.fn.run();
    return ring.takeUsed().length;
  };
  assertEquals(draw(13), 13);
  const state = () => [0, 2, 4, 6].map((byte) => Number(number(rig.ok("getState", id, u16(0)), byte, 2)));
  // counter and index apart, and no queue number.
  assertEquals(state(), [1, 13, 1, 13]);
  rig.ok("setEnable", id, aligned.byte(0, 0));
  assertEquals(draw(2), 0);
  assertEquals(state(), [1, 13, 1, 13]);
  rig.ok("setEnable", id, aligned.byte(0, 1));
  assertEquals(draw(3), 5);
  assertEquals(state(), [0, 2, 0, 2], "18 of 16: once around");
});

Deno.test("class 12: a queue begins where VQ_STATE_SET says, and after a reset at the beginning (A-6.9)", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  assertEquals(rig.ack("setState", id, aligned.state(0, 7)), ACK.state, "the layout is not known");
  assertEquals(rig.rules(), ["6.3"]);
  rig.negotiate(id);
  rig.ok("setState", id, aligned.state(0, 0xfffe));
  assertEquals([...rig.ok("getState", id, u16(0))], u16(0xfffe));
  const ring = new FakeRing(rig.fn.client, 16);
  ring.availIdx = ring.usedSeen = 0xfffe;
  ring.publish();
  // The device goes on with the used index that is in the ring.
  rig.fn.client.view.setUint16(ring.used + 2, 0xfffe, true);
  rig.enable(id, 0, ring);
  rig.ok("setStatus", id, u8(15));
  assertEquals([rig.draw(ring), rig.draw(ring), rig.draw(ring)], [32, 32, 32]);
  assertEquals([...rig.ok("getState", id, u16(0))], u16(1));
  rig.ok("setStatus", id, u8(0));
  assertEquals([...rig.ok("getState", id, u16(0))], u16(0));
  rig.negotiate(id);
  rig.ok("setState", id, aligned.state(0, 9));
  rig.ok("setStatus", id, u8(0));
  assertEquals([...rig.ok("getState", id, u16(0))], u16(0), "one that was set and never used");
});

Deno.test("A-4.21, A-4.22, A-6.8: packed state: two words a side, a counter is 0 or 1, an index below the size; else ERR, and nothing changed", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY, RULES | PACKED);
  rig.negotiate(id, RULES | PACKED);
  const state = () => [0, 2, 4, 6].map((byte) => Number(number(rig.ok("getState", id, u16(0)), byte, 2)));
  assertEquals(state(), [1, 0, 1, 0], "wrap counters begin at 1");
  assertEquals(rig.ok("getState", id, u16(0)).length, 8);
  rig.ok("setSize", id, aligned.word(0, 10));
  rig.ok("setState", id, aligned.state(0, 0, 9, 1, 4));
  assertEquals(state(), [0, 9, 1, 4]);
  for (const wrong of [[2, 0, 1, 0], [1, 10, 1, 0], [1, 0, 0xffff, 0], [1, 0, 1, 0x8000]]) {
    assertEquals(rig.ack("setState", id, aligned.state(0, ...wrong)), ACK.value, `${wrong}`);
  }
  assertEquals([state(), new Set(rig.rules())], [[0, 9, 1, 4], new Set(["A-6.8"])]);
  rig.ok("setSize", id, aligned.word(0, 5));
  const ring = new FakePackedRing(rig.fn.client, 5).setup();
  rig.ok("setAddress", id, aligned.areas(0, ring.descriptorArea, ring.deviceArea, ring.driverArea));
  assertEquals(
    rig.ack("setEnable", id, aligned.byte(0, 1)),
    ACK.state,
    "slot 9 of a ring that was made smaller since",
  );
  assertEquals([rig.rules(), rig.status(id)], [["A-6.6"], 11]);
});

Deno.test("N-4.19, A-4.23, A-4.24: VQ_RESET needs RING_RESET of the managed device; what it leaves is the state of the beginning", () => {
  using rig = new ManagementRig();
  const without = rig.entropy();
  assertEquals(rig.ack("reset", without.id, u16(0)), ACK.notNegotiated);
  assertEquals(rig.rules(), ["N-4.19"]);
  assertEquals(rig.draw(without.ring), 32, "it goes on");
  const offered = rig.create(ENTROPY, RULES | RING_RESET);
  rig.negotiate(offered, RULES);
  assertEquals(rig.ack("reset", offered, u16(0)), ACK.notNegotiated, "offered is not negotiated");
  assertEquals(rig.rules(), ["N-4.19"]);

  const { id, ring } = rig.entropy(RULES | RING_RESET);
  const device = rig.model.devices.get(id)!;
  assertEquals([rig.draw(ring), rig.draw(ring)], [32, 32]);
  // An address space, too: of a queue that is enabled it cannot be set.
  rig.ok("setEnable", id, aligned.byte(0, 0));
  rig.ok("setAsid", id, aligned.asid(0, 3));
  rig.ok("reset", id, u16(0));
  assertEquals(device.asid(0), 0);
  assertEquals(rig.draw(rig.enable(id, 0)), 32);
  rig.ok("reset", id, u16(0));
  assertEquals([...rig.ok("getEnable", id, u16(0))], [0]);
  assertEquals([...rig.ok("getSize", id, u16(0))], u16(64));
  assertEquals([...rig.ok("getState", id, u16(0))], u16(0));
  assertEquals([device.core.queues[0]!.descriptorArea, device.asid(0)], [0n, 0]);
  assertEquals(rig.draw(ring), 0, "it consumes nothing");
  const again = rig.enable(id, 0);
  assertEquals(rig.draw(again), 32, "N-4.20: enabled again after DRIVER_OK");
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.17, A-4.28: VQ_NOTIFY is an address in the function's BAR for each queue, where its number is written as 16 bits", () => {
  using rig = new ManagementRig({ virtqueues: 8 });
  const { id, ring } = rig.entropy();
  const nic = rig.create(NET, RULES);
  const area = (device: bigint, queue: number) => {
    const data = rig.ok("getNotify", device, u16(queue));
    return [number(data, 0, 8), number(data, 8, 8)];
  };
  const places = [area(id, 0), area(nic, 0), area(nic, 1)].map(([address, size]) => {
    assertEquals(size, 4n);
    return Number(address! - BAR_ADDRESS);
  });
  assertEquals(new Set(places).size, 3, "each has its own");
  const structures = rig.fn.behaviour.bars.find(({ index }) => index === 4)!;
  for (const place of places) assert(place >= 0x4000 && place + 4 <= structures.sizeBytes);
  const notify = (value: number, width = 2) => {
    rig.fn.write(places[0]!, width, value);
    rig.fn.run();
  };
  const { client } = rig.fn;
  ring.add([{ iova: client.at(client.allocate(16)), length: 16, write: true }]);
  ring.publish();
  notify(0);
  assertEquals(ring.takeUsed().length, 1);
  assertEquals(rig.rules(), []);
  notify(1);
  notify(0, 4);
  rig.fn.write(places[1]!, 2, 0);
  assertEquals(rig.rules(), ["2.2", "2.2", "1.1"], "another queue, another width, a device without a driver");
  // Each place is for its queue: at that of queue 1 queue 1 is notified, and no other.
  rig.negotiate(nic);
  for (const queue of [0, 1]) rig.enable(nic, queue);
  rig.ok("setStatus", nic, u8(15));
  for (const [place, queue] of [[1, 0], [2, 1], [1, 1], [2, 0]] as const) {
    rig.fn.write(places[place]!, 2, queue);
    assertEquals(rig.rules(), place - 1 === queue ? [] : ["2.2"], `queue ${queue} at place ${place}`);
  }
  rig.ok("destroy", id);
  notify(0);
  assertEquals(rig.rules(), ["N-4.17"], "nobody's any more");
});

Deno.test("N-4.17: eventfds stand for notifications, at most 60 for however many places", () => {
  using rig = new ManagementRig({ virtqueues: 200 });
  const doorbells = rig.fn.behaviour.doorbells(4);
  assertEquals(doorbells.length, 1 + 200);
  assertEquals(new Set(doorbells.map(({ fd }) => fd)).size, 1 + 60);
  assertEquals(new Set(doorbells.map(({ offset }) => offset)).size, 201);
  const devices = Array.from({ length: 64 }, () => rig.entropy(RULES));
  const { client } = rig.fn;
  const at = client.allocate(16);
  for (const { id, ring } of devices) {
    const address = Number(number(rig.ok("getNotify", id, u16(0)), 0, 8) - BAR_ADDRESS);
    const { fd } = doorbells.find(({ offset }) => offset === address)!;
    // A machine calls `rang` with the first of the places that share the eventfd.
    const first = doorbells.find((one) => one.fd === fd)!.offset;
    ring.add([{ iova: client.at(at), length: 16, write: true }]);
    ring.publish();
    rig.fn.behaviour.rang(4, first);
    rig.fn.run();
    assertEquals(ring.takeUsed().length, 1);
  }
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.18: a queue with an ASID has that address space, for its ring and for its buffers", () => {
  using rig = new ManagementRig();
  const { client } = rig.fn;
  const space = rig.model.addressSpaces[4]!;
  // The same addresses as in the function's own memory, and other bytes.
  using apart = new FakeClient(1 << 16);
  assertEquals(apart.iova, client.iova);
  space.add(new DmaRegion(apart.iova, apart.memory, { deviceReads: true, deviceWrites: true }));
  const id = rig.create(ENTROPY);
  rig.negotiate(id);
  rig.ok("setAsid", id, aligned.asid(0, 5));
  const ring = new FakeRing(apart, 16);
  rig.enable(id, 0, ring);
  rig.ok("setStatus", id, u8(15));
  const at = apart.allocate(64);
  client.bytes.fill(0, at, at + 64);
  ring.add([{ iova: client.at(at), length: 64, write: true }]);
  ring.publish();
  rig.model.devices.get(id)!.wake();
  rig.fn.run();
  assertEquals(ring.takeUsed().length, 1);
  assert(apart.bytes.slice(at, at + 64).some((byte) => byte !== 0), "the bytes are there");
  assert(client.bytes.slice(at, at + 64).every((byte) => byte === 0), "and nowhere else");
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.18: an access outside the address space is a violation of the managed device, which stops; others go on", () => {
  using rig = new ManagementRig();
  const good = rig.entropy();
  const id = rig.create(ENTROPY);
  rig.negotiate(id);
  rig.ok("setAsid", id, aligned.asid(0, 8));
  const ring = rig.enable(id, 0);
  rig.ok("setStatus", id, u8(15));
  rig.draw(ring);
  assertEquals(rig.status(id) & 64, 64);
  const [violation] = rig.fn.port.reports;
  assertEquals([violation!.function, violation!.queue], [`0000:01:00.0/${id}`, 0]);
  assert(/^address space 8: .*IOVA 0x[0-9a-f]+ are not mapped/.test(violation!.message), violation!.message);
  assertEquals(violation!.rule, "N-4.18");
  assertEquals(rig.draw(good.ring), 32);
  rig.ok("setStatus", id, u8(0));
  assertEquals(rig.model.devices.get(id)!.asid(0), 0, "a reset leads it back to address space 0");
});

Deno.test("N-4.18: an address space that the function does not have holds nothing: it is not the function's own", () => {
  using rig = new ManagementRig({ addressSpaces: 2 });
  for (const asid of [3, 0xffff_ffff]) {
    const id = rig.create(ENTROPY);
    rig.negotiate(id);
    rig.ok("setAsid", id, aligned.asid(0, asid));
    const ring = rig.enable(id, 0);
    rig.ok("setStatus", id, u8(15));
    assertEquals([rig.draw(ring), rig.status(id) & 64, rig.rules()], [0, 64, ["N-4.18"]], `${asid}`);
  }
});
