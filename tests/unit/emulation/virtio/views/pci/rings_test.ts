import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createVirtioModels } from "../../../../../../lib/emulation/virtio/models.ts";
import type { BehaviourOptions } from "../../../../../../lib/emulation/pci_function.ts";
import { DRAFT_FEATURE, FEATURE } from "../../../../../../lib/virtio/spec/mod.ts";
import { FakeRing } from "../../fake_client.ts";
import { FakeFunction } from "../../fake_machine.ts";
import { FakePackedRing } from "../../fake_packed_ring.ts";
import { capabilityBytes } from "../../capability_bytes.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;
const PACKED = RULES | FEATURE.RING_PACKED;
const STATE = DRAFT_FEATURE.QUEUE_STATE;
const AVAIL_STATE = 64, USED_STATE = 66;

/** An entropy function: one queue, which fills what it is given. */
function rng(options: Partial<BehaviourOptions> = {}): FakeFunction {
  const address = "0000:01:00.0";
  return new FakeFunction(
    createVirtioModels().createBehaviour("virtio-rng", { address, queueSize: 8, ...options }),
  );
}

const stateful = (options: Partial<BehaviourOptions> = {}) => rng({ profile: "queue-state", ...options });

function request(fn: FakeFunction, ring: FakeRing | FakePackedRing, length = 16): number {
  return ring.add([{ iova: fn.client.at(fn.client.allocate(length)), length, write: true }]);
}

Deno.test("1.2 RING_PACKED: rings are packed when the driver accepts it, split when not", () => {
  using fn = rng();
  assert(fn.negotiate(PACKED));
  const ring = fn.enablePacked(0, 8);
  fn.status = 15;
  const ids = [16, 20].map((length) => request(fn, ring, length));
  ring.publish();
  assertEquals(fn.run(), 2);
  assertEquals(ring.takeUsed(), [{ id: ids[0], length: 16, write: true }, {
    id: ids[1],
    length: 20,
    write: true,
  }]);
  assertEquals(fn.port.take(), []);
  fn.bringUp(RULES, [0], 8);
  const plain = fn.rings.get(0)!;
  request(fn, plain);
  plain.publish();
  assertEquals([fn.run(), plain.takeUsed().length], [1, 1]);
  assertEquals(fn.port.take(), []);
});

Deno.test("1.4, 2.2 queue_size: any number up to the maximum for packed rings, a power of two for split ones", () => {
  using fn = rng({ queueSize: 100 });
  fn.negotiate(PACKED);
  fn.write(22, 2, 0);
  assertEquals(fn.read(24, 2), 100);
  for (
    const [value, expected, problem] of [[3, 3, ""], [1, 1, ""], [0, 1, "is not from 1 to 32768"], [
      101,
      1,
      "is above the maximum of 100",
    ], [100, 100, ""]] as const
  ) {
    fn.write(24, 2, value);
    assertEquals(fn.read(24, 2), expected);
    const reports = fn.port.take();
    assertEquals(reports.length, problem === "" ? 0 : 1);
    if (problem !== "") assertStringIncludes(reports[0]!, problem);
  }
  // A split ring of at most 100 entries has 64: the device offers no size that it would not take.
  fn.negotiate(RULES);
  fn.write(22, 2, 0);
  assertEquals(fn.read(24, 2), 64);
  fn.write(24, 2, 3);
  assertStringIncludes(fn.port.take()[0]!, "queue_size 3 is not a power of two");
  fn.status = 0;
  fn.write(22, 2, 0);
  assertEquals(fn.read(24, 2), 100, "the layout is open again");
});

Deno.test("1.4 areas of a packed ring that are not aligned stop the device when the queue is enabled", () => {
  using fn = rng();
  fn.negotiate(PACKED);
  fn.program(0, new FakePackedRing(fn.client, 8));
  fn.write(40, 4, 0x1002);
  fn.write(28, 2, 1);
  assertEquals([fn.read(28, 2), fn.status & 64], [0, 64]);
  assertStringIncludes(fn.port.take()[0]!, "1.4: driverArea");
});

Deno.test("2.2 where RING_PACKED is not offered, queue_size reads a power of two from the start", () => {
  using fn = rng({ queueSize: 100, featuresOff: ["VIRTIO_F_RING_PACKED"] });
  assertEquals(fn.read(24, 2), 64);
  fn.negotiate(RULES);
  assertEquals(fn.read(24, 2), 64);
  fn.status = 0;
  assertEquals(fn.read(24, 2), 64);
});

Deno.test("1.5 a packed queue that was reset starts at slot 0 with both wrap counters 1; another size will do", () => {
  using fn = rng();
  fn.negotiate(PACKED | FEATURE.RING_RESET);
  const ring = fn.enablePacked(0, 5);
  fn.status = 15;
  for (let n = 0; n < 7; n++) {
    request(fn, ring);
    ring.publish();
    fn.run();
    assertEquals(ring.takeUsed().length, 1);
  }
  assertEquals([ring.next, ring.wrap], [2, 0]);
  request(fn, ring);
  ring.publish();
  fn.write(22, 2, 0);
  fn.write(58, 2, 1);
  assertEquals([fn.read(58, 2), fn.read(28, 2), fn.read(24, 2)], [0, 0, 8]);
  assertEquals([fn.run(), ring.takeUsed()], [0, []], "the device does nothing more for it");
  const again = fn.enablePacked(0, 3);
  for (let n = 0; n < 7; n++) {
    request(fn, again);
    again.publish();
    fn.run();
    assertEquals(again.takeUsed().length, 1);
  }
  assertEquals(fn.port.take(), []);
});

Deno.test("1.6 NOTIF_CONFIG_DATA: the doorbell is rung with what queue_notif_config_data says", () => {
  using fn = rng();
  fn.negotiate(PACKED | FEATURE.NOTIF_CONFIG_DATA);
  fn.enablePacked(0, 8);
  fn.status = 15;
  const identifier = fn.read(56, 2);
  assert(identifier !== 0);
  fn.write(0x3000, 2, identifier);
  assertEquals(fn.port.take(), []);
  fn.write(0x3000, 2, 0);
  assertEquals(fn.port.take(), [
    `1.6: the doorbell of queue 0 was rung for identifier 0, its queue_notif_config_data is ${identifier}`,
  ]);
  using without = rng({ featuresOff: ["VIRTIO_F_NOTIF_CONFIG_DATA"] });
  assertEquals(without.read(56, 2), 0);
});

Deno.test("1.6 NOTIFICATION_DATA: position and identifier of a 32-bit doorbell are checked against the ring", () => {
  using fn = rng({ featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] });
  fn.negotiate(PACKED | FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA);
  const ring = fn.enablePacked(0, 8);
  fn.status = 15;
  const identifier = fn.read(56, 2);
  const ringWith = (offset: number, wrap: number) =>
    fn.write(0x3000, 4, identifier + offset * 65536 + wrap * 0x8000_0000);
  ringWith(0, 1);
  request(fn, ring);
  ring.publish();
  ringWith(1, 1);
  assertEquals(fn.port.take(), []);
  ringWith(2, 1);
  ringWith(8, 1);
  ringWith(0, 0);
  assertEquals(fn.port.take().map((one) => one.slice(0, 64)), [
    "1.6: the notification says that the next descriptor is slot 2, w",
    "1.6: the notification's next_off 8 is not a slot of 8",
    "1.6: the notification says that the next descriptor is slot 0, w",
  ]);
  assertEquals(fn.status, 15, "the device goes on");
  assertEquals(fn.run(), 1);

  using split = rng({ featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] });
  split.bringUp(RULES | FEATURE.NOTIFICATION_DATA, [0], 8);
  const old = split.rings.get(0)!;
  request(split, old);
  old.publish();
  split.write(0x3000, 4, 65536);
  assertEquals(split.port.take(), []);
  split.write(0x3000, 4, 2 * 65536);
  assertEquals(split.port.take(), ["1.6: the notification says that avail.idx is 2, it is 1"]);
});

Deno.test("1.2 usedBatches: a burst is one used descriptor with IN_ORDER, one each without", () => {
  for (const inOrder of [true, false]) {
    using fn = rng({ usedBatches: true });
    fn.negotiate(PACKED | (inOrder ? FEATURE.IN_ORDER : 0n));
    const ring = fn.enablePacked(0, 8);
    fn.status = 15;
    const ids = [1, 2, 3].map(() => request(fn, ring));
    ring.publish();
    fn.run();
    assertEquals(ring.takeUsed(inOrder).map((one) => one.id), inOrder ? [ids[2]] : ids);
  }
});

// ---- profile queue-state ----

Deno.test("A-6.1 profile queue-state: bit 40 is QUEUE_STATE, there is no ring reset, and two registers more", () => {
  using fn = stateful();
  assertEquals(fn.offered & STATE, STATE);
  const common = capabilityBytes(fn.behaviour.vendorCapabilities).find((one) => one[3] === 1)!;
  assertEquals(new DataView(common.buffer).getUint32(12, true), 68);
  fn.negotiate(RULES | STATE);
  const ring = fn.enable(0, 8);
  fn.write(22, 2, 0);
  fn.write(58, 2, 1);
  assertEquals([fn.read(28, 2), ring.size], [1, 8]);
  assertStringIncludes(fn.port.take()[0]!, "1.5: queue_reset was written, RING_RESET is not negotiated");
  fn.read(64, 4);
  assertStringIncludes(fn.port.take()[0]!, "read of 4 bytes at offset 64, queue_avail_state has 2");
  using refused = stateful();
  assertEquals(refused.negotiate(RULES | STATE | FEATURE.NOTIFICATION_DATA), false);

  using spec = rng();
  const short = capabilityBytes(spec.behaviour.vendorCapabilities).find((one) => one[3] === 1)!;
  assertEquals(new DataView(short.buffer).getUint32(12, true), 64);
  spec.write(AVAIL_STATE, 2, 5);
  assertEquals(spec.read(AVAIL_STATE, 2), 0, "nothing is there");
  using off = stateful({ featuresOff: ["VIRTIO_F_QUEUE_STATE"] });
  assertEquals(off.offered & STATE, 0n);
});

Deno.test("6.1 fresh states: split 0, packed 0x8000 twice", () => {
  using fn = stateful();
  fn.negotiate(RULES | STATE);
  assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], [0, 0]);
  fn.negotiate(PACKED | STATE);
  assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], [0x8000, 0x8000]);
  fn.write(22, 2, 9);
  assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], [0, 0], "no such queue");
  assertEquals(fn.port.take(), []);
});

/** Brings a function up with this state, or without. */
function resume(
  fn: FakeFunction,
  features: bigint,
  ring: FakeRing | FakePackedRing,
  state?: [number, number],
): void {
  if (!fn.negotiate(features)) throw new Error(fn.port.take().join());
  fn.program(0, ring);
  if (state !== undefined) {
    fn.write(AVAIL_STATE, 2, state[0]);
    fn.write(USED_STATE, 2, state[1]);
  }
  fn.write(28, 2, 1);
  fn.status = 15;
}

for (const layout of ["split", "packed"] as const) {
  const features = (layout === "split" ? RULES : PACKED) | STATE;
  const fresh: [number, number] = layout === "split" ? [0, 0] : [0x8000, 0x8000];

  Deno.test(`N-6.2, N-6.3 ${layout}: the state outlives a device reset, and a second one, until ACKNOWLEDGE is set`, () => {
    using fn = stateful();
    const ring = layout === "split" ? new FakeRing(fn.client, 8) : new FakePackedRing(fn.client, 8);
    resume(fn, features, ring, fresh);
    for (let n = 0; n < 11; n++) {
      request(fn, ring);
      ring.publish();
      fn.run();
      ring.takeUsed();
    }
    assertEquals(fn.port.take(), []);
    const expected = layout === "split" ? [11, 0] : [3, 3];
    fn.write(22, 2, 0);
    assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], expected);
    const reports = fn.port.take();
    assertEquals(reports.length, 2);
    assertStringIncludes(reports[0]!, "N-6.2: the state was read from a device that had not been reset");
    for (let n = 0; n < 2; n++) {
      fn.status = 0;
      assertEquals([fn.status, fn.read(28, 2)], [0, 0]);
      assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], expected);
    }
    fn.status = 1;
    assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], [0, 0]);
    fn.negotiate(features);
    assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], fresh);
    assertEquals(fn.port.take(), []);
  });

  Deno.test(`N-6.3 ${layout}: resets of the PCI function and the next client find no state`, () => {
    for (const kind of ["flr", "device", "detached"] as const) {
      using fn = stateful();
      const ring = layout === "split" ? new FakeRing(fn.client, 8) : new FakePackedRing(fn.client, 8);
      resume(fn, features, ring, fresh);
      request(fn, ring);
      ring.publish();
      fn.run();
      fn.behaviour.reset(kind);
      assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], [0, 0], kind);
    }
  });

  Deno.test(`N-6.1 ${layout}: a ring goes on in another device where the first left off, at any point`, () => {
    for (let stop = 0; stop < 40; stop++) {
      using a = stateful();
      using b = stateful();
      const make = (fn: FakeFunction) =>
        layout === "split" ? new FakeRing(fn.client, 8) : new FakePackedRing(fn.client, 5);
      const ring = make(a);
      resume(a, features, ring, fresh);
      const take = () => ring.takeUsed().length;
      for (let n = 0; n < stop; n++) {
        request(a, ring);
        ring.publish();
        a.run();
        assertEquals(take(), 1);
      }
      // Two more are available when the device is stopped: not one, not half of one.
      request(a, ring);
      request(a, ring);
      ring.publish();
      if (stop % 2 === 1) assertEquals(a.behaviour.poll(1), 1);
      a.status = 0;
      a.write(22, 2, 0);
      const state: [number, number] = [a.read(AVAIL_STATE, 2), a.read(USED_STATE, 2)];
      assertEquals(a.run(), 0);
      // The other device finds the same memory at the same place.
      const other = b.client.bytes;
      other.set(a.client.bytes);
      const copy = make(b);
      resume(b, features, copy, state);
      assertEquals(b.run(), stop % 2 === 1 ? 1 : 2, `${stop}`);
      a.client.bytes.set(other);
      assertEquals(take(), 2);
      assertEquals([...a.port.take(), ...b.port.take()], []);
    }
  });

  Deno.test(`N-6.1 ${layout}: DRIVER_OK without a state is reported, writes at other times are refused`, () => {
    using fn = stateful();
    const ring = layout === "split" ? new FakeRing(fn.client, 8) : new FakePackedRing(fn.client, 8);
    const refused = (rule: string, text: string) => {
      const before = [fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)];
      fn.port.take();
      fn.write(AVAIL_STATE, 2, 1);
      fn.write(USED_STATE, 2, 1);
      const reports = fn.port.take();
      assertEquals(reports.length, 2);
      for (const one of reports) {
        assertStringIncludes(one, `${rule}: queue_`);
        assertStringIncludes(one, text);
      }
      assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], before);
      fn.port.take();
    };
    refused("N-6.1", "before QUEUE_STATE was negotiated");
    fn.status = 1;
    fn.status = 3;
    fn.accept(features);
    refused("N-6.1", "before QUEUE_STATE was negotiated");
    fn.status = 11;
    fn.program(0, ring);
    fn.write(28, 2, 1);
    refused("A-6.5", "after the queue was enabled");
    fn.status = 15;
    assertEquals(fn.port.take(), ["N-6.1: DRIVER_OK was set before the state of the queue"]);
    refused("N-6.1", "after DRIVER_OK");
    // Not negotiated: nothing is asked for, nothing is kept.
    fn.negotiate(features & ~STATE);
    fn.program(0, ring);
    fn.write(28, 2, 1);
    refused("N-6.1", "before QUEUE_STATE was negotiated");
    fn.status = 15;
    request(fn, ring);
    ring.publish();
    fn.run();
    fn.status = 0;
    fn.write(22, 2, 0);
    assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2)], [0, 0]);
    assertEquals(fn.port.take(), []);
    // Half of a packed state is none.
    fn.negotiate(features);
    fn.program(0, layout === "split" ? new FakeRing(fn.client, 8) : new FakePackedRing(fn.client, 8));
    fn.write(AVAIL_STATE, 2, fresh[0]);
    fn.write(28, 2, 1);
    fn.status = 15;
    assertEquals(fn.port.take().length, layout === "split" ? 0 : 1);
  });
}

Deno.test("A-6.6 a packed slot past the queue: the former value stays, DEVICE_NEEDS_RESET is set", () => {
  for (const register of [AVAIL_STATE, USED_STATE]) {
    using fn = stateful();
    fn.negotiate(PACKED | STATE);
    fn.write(22, 2, 0);
    fn.write(register, 2, 7);
    assertEquals([fn.read(register, 2), fn.status & 64], [7, 0]);
    for (const value of [8, 0x8008, 0xffff]) {
      fn.write(register, 2, value);
      assertEquals([fn.read(register, 2), fn.status & 64], [7, 64]);
    }
    const reports = fn.port.take();
    assertStringIncludes(reports[0]!, "A-6.6: queue_");
    assertStringIncludes(reports[0]!, "slot 8 in a queue of 8");
  }
  // Of a split ring every value is one.
  using fn = stateful();
  fn.negotiate(RULES | STATE);
  fn.write(22, 2, 0);
  fn.write(AVAIL_STATE, 2, 0xffff);
  fn.write(USED_STATE, 2, 0xffff);
  assertEquals([fn.read(AVAIL_STATE, 2), fn.read(USED_STATE, 2), fn.status], [0xffff, 0, 11]);
});

Deno.test("A-6.6 states that became impossible by enabling time stop the device", () => {
  const cases: [write: (fn: FakeFunction) => void, text: string][] = [
    [(fn) => {
      fn.write(AVAIL_STATE, 2, 0x8007);
      fn.write(USED_STATE, 2, 0x8007);
      fn.write(24, 2, 4);
    }, "availableSlot 7"],
    [(fn) => {
      fn.write(AVAIL_STATE, 2, 0x8001);
      fn.write(USED_STATE, 2, 0x8002);
    }, "is not at most a round behind"],
  ];
  for (const [write, text] of cases) {
    using fn = stateful();
    fn.negotiate(PACKED | STATE);
    fn.program(0, new FakePackedRing(fn.client, 8));
    write(fn);
    fn.write(28, 2, 1);
    assertEquals([fn.read(28, 2), fn.status & 64], [0, 64]);
    const [first] = fn.port.take();
    assertStringIncludes(first!, "A-6.6: ");
    assertStringIncludes(first!, text);
  }
});
