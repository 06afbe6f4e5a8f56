import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { DEVICE_FAMILY, type DeviceLie } from "../../../../../lib/emulation/virtio/lies/device.ts";
import { parseLie } from "../../../../../lib/emulation/virtio/lies/lie.ts";
import { PACKED_LIES, QUEUE_LIES } from "../../../../../lib/emulation/virtio/lies/queues.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeFunction } from "../fake_machine.ts";
import { mac } from "../fake_nic.ts";
import { capabilityBytes } from "../capability_bytes.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;

function liar(lie: string, kind = "virtio-rng"): FakeFunction {
  return new FakeFunction(
    createVirtioModels().createBehaviour(kind, { address: "0000:01:00.0", mac: mac(1), lie }),
  );
}

Deno.test("lies: name, first occasion and number of them", () => {
  const numbers = (text: string) => parseLie(text, DEVICE_FAMILY).numbers;
  assertEquals(parseLie("used-twice", DEVICE_FAMILY), { lie: "used-twice", numbers: [0, 1] });
  assertEquals(parseLie("used-twice:100", DEVICE_FAMILY), { lie: "used-twice", numbers: [100, 1] });
  assertEquals(parseLie("queue-size-zero:2:3", DEVICE_FAMILY), { lie: "queue-size-zero", numbers: [2, 3] });
  assertEquals(numbers("generation-never-settles"), [0, Infinity]);
  assertEquals(numbers("reset-never-finishes"), [0, 1]);
  for (const bad of ["", "nonsense", "used-twice:x", "used-twice:1:2:3", "used-twice:-1"]) {
    assertThrows(() => numbers(bad), UsageError);
  }
});

/** Three requests of 16 bytes, the second lied about. @returns the used ring as the driver finds it */
function usedBy(
  lie: DeviceLie,
): { idx: number; elements: { id: number; length: number }[]; heads: number[] } {
  using fn = liar(`${lie}:1`);
  fn.bringUp(RULES, [0], 8);
  const ring = fn.rings.get(0)!;
  const heads = [0, 1, 2].map(() => ring.add([{ iova: fn.client.at(0), length: 16, write: true }]));
  ring.publish();
  assertEquals(fn.run(), 3);
  const idx = ring.usedIdx;
  const view = fn.client.view;
  const elements = Array.from({ length: 4 }, (_, i) => ({
    id: view.getUint32(ring.used + 4 + 8 * i, true),
    length: view.getUint32(ring.used + 8 + 8 * i, true),
  }));
  // The driver resets the device, and the second life is an honest one.
  fn.bringUp(RULES, [0], 8);
  const again = fn.rings.get(0)!;
  again.add([{ iova: fn.client.at(0), length: 16, write: true }]);
  again.publish();
  fn.run();
  assertEquals(again.takeUsed(), [{ id: 0, length: 16 }]);
  return { idx, elements, heads };
}

Deno.test("lies of queues: exactly one element is wrong, as named", () => {
  const honest = (id: number) => ({ id, length: 16 });
  const none = { id: 0, length: 0 };
  const expected: Record<typeof QUEUE_LIES[number], [number, { id: number; length: number }[]]> = {
    "used-id-out-of-range": [3, [honest(0), { id: 8, length: 16 }, honest(2), none]],
    "used-length-over": [3, [honest(0), { id: 1, length: 17 }, honest(2), none]],
    "used-twice": [4, [honest(0), honest(1), honest(1), honest(2)]],
    "used-not-in-flight": [3, [honest(0), honest(5), honest(2), none]],
    "used-index-jump": [11, [honest(0), honest(1), honest(2), none]],
    "used-index-back": [1, [honest(2), none, none, none]],
  };
  for (const lie of QUEUE_LIES) {
    const { idx, elements } = usedBy(lie);
    assertEquals([idx, elements], expected[lie], lie);
  }
});

/** Three requests of two parts in a packed ring of 8, the second lied about. @returns id, length and flags of each slot */
function packedUsedBy(lie: DeviceLie): [id: number, length: number, flags: number][] {
  using fn = liar(`${lie}:1`);
  fn.negotiate(RULES | FEATURE.RING_PACKED);
  const ring = fn.enablePacked(0, 8);
  fn.status = 15;
  const part = { iova: fn.client.at(0x8000), length: 8, write: true };
  for (const id of [1, 2, 3]) ring.add([part, part], id);
  ring.publish();
  // The second of two used descriptors lies over a chain that the device has not read yet.
  assertEquals(fn.run(), lie === "used-twice" ? 2 : 3, lie);
  const { view } = fn.client;
  const slots = Array.from({ length: 8 }, (_, i): [number, number, number] => [
    view.getUint16(ring.desc + 16 * i + 12, true),
    view.getUint32(ring.desc + 16 * i + 8, true),
    view.getUint16(ring.desc + 16 * i + 14, true),
  ]);
  // The driver resets the device, and the second life is an honest one.
  fn.negotiate(RULES | FEATURE.RING_PACKED);
  const again = fn.enablePacked(0, 8);
  fn.status = 15;
  again.add([part, part], 1);
  again.publish();
  fn.run();
  assertEquals(again.takeUsed(), [{ id: 1, length: 16, write: true }]);
  return slots;
}

Deno.test("lies of packed queues: exactly one used descriptor is wrong, as named", () => {
  const USED = 0x8082;
  /** Second descriptors of the chains, and slots that were never used. */
  const rest: Record<number, [number, number, number]> = {
    1: [1, 8, 0x82],
    3: [2, 8, 0x82],
    5: [3, 8, 0x82],
    6: [0, 0, 0],
    7: [0, 0, 0],
  };
  const honest = { 0: [1, 16, USED], 2: [2, 16, USED], 4: [3, 16, USED] };
  const wrong: Record<string, Record<number, number[]>> = {
    "used-id-out-of-range": { 2: [8, 16, USED] },
    "used-length-over": { 2: [2, 17, USED] },
    "used-twice": { 4: [2, 16, USED] },
    "used-not-in-flight": { 2: [6, 16, USED] },
    "used-index-jump": { 2: [0xdead, 8, 0x83], 3: [2, 16, USED], 4: [0xdead, 8, 0x83], 5: [3, 16, USED] },
    "used-index-back": { 2: [3, 16, USED], 4: [0xdead, 8, 0x83] },
    "used-wrap-wrong": { 2: [2, 16, 0x0002] },
    "used-flags-mixed": { 2: [2, 16, 0x8002] },
    "used-skip-short": { 3: [3, 16, USED], 4: [0xdead, 8, 0x83] },
    "used-skip-long": { 4: [0xdead, 8, 0x83], 5: [3, 16, USED] },
  };
  for (const lie of [...QUEUE_LIES, ...PACKED_LIES]) {
    const expected = Object.values({ ...rest, ...honest, ...wrong[lie] });
    assertEquals(packedUsedBy(lie), expected as [number, number, number][], lie);
  }
});

Deno.test("lies of packed queues are not told by split ones, and a chain of one descriptor cannot be shortened", () => {
  for (const lie of PACKED_LIES) {
    using fn = liar(lie);
    fn.bringUp(RULES, [0], 8);
    const ring = fn.rings.get(0)!;
    for (let i = 0; i < 3; i++) ring.add([{ iova: fn.client.at(0x8000), length: 16, write: true }]);
    ring.publish();
    fn.run();
    assertEquals(ring.takeUsed(), [0, 1, 2].map((id) => ({ id, length: 16 })), lie);
  }
  using fn = liar("used-skip-short");
  fn.negotiate(RULES | FEATURE.RING_PACKED);
  const ring = fn.enablePacked(0, 8);
  fn.status = 15;
  for (const id of [1, 2, 3]) ring.add([{ iova: fn.client.at(0x8000), length: 16, write: true }], id);
  ring.publish();
  fn.run();
  assertEquals(ring.takeUsed().map((one) => one.id), [1, 2, 3]);
});

Deno.test("lie: generation-never-settles", () => {
  using fn = liar("generation-never-settles", "virtio-net");
  const reads = Array.from({ length: 10 }, () => fn.read(21, 1));
  assertEquals(new Set(reads).size, 10);
  using twice = liar("generation-never-settles:1:2", "virtio-net");
  assertEquals([0, 0, 0, 0, 0].map(() => twice.read(21, 1)), [0, 1, 2, 0, 0]);
});

Deno.test("lie: reset-never-finishes, and the second reset does", () => {
  using fn = liar("reset-never-finishes");
  fn.status = 0;
  assertEquals(fn.status, 0, "nothing to show on a fresh device");
  fn.bringUp(RULES, [0], 8);
  fn.status = 0;
  for (let i = 0; i < 100; i++) assertEquals(fn.status, 15);
  fn.status = 0;
  assertEquals(fn.status, 0);
  assert(fn.negotiate(RULES));
});

Deno.test("lie: features-ok-refused", () => {
  using fn = liar("features-ok-refused");
  assertEquals(fn.negotiate(RULES), false);
  using once = liar("features-ok-refused:0:1");
  assertEquals([once.negotiate(RULES), once.negotiate(RULES)], [false, true]);
});

Deno.test("lies of registers: each reads what it is named for", () => {
  const cases: [DeviceLie, number, number, number][] = [
    ["queue-size-zero", 24, 2, 0],
    ["queue-size-odd", 24, 2, 3],
    ["queue-enable-ignored", 28, 2, 0],
    ["doorbell-past-structure", 30, 2, 1],
  ];
  for (const [lie, offset, width, value] of cases) {
    using fn = liar(lie);
    fn.negotiate(RULES);
    fn.enable(0, 8);
    assertEquals(fn.read(offset, width), value, lie);
    using honest = liar(`${lie}:1000000`);
    honest.negotiate(RULES);
    honest.enable(0, 8);
    assert(honest.read(offset, width) !== value, `${lie} not yet`);
  }
  using vectors = liar("vector-refused");
  vectors.write(16, 2, 1);
  assertEquals(vectors.read(16, 2), 0xffff);
  using version = liar("version-1-missing");
  assertEquals(version.offered & (FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM), FEATURE.ACCESS_PLATFORM);
});

Deno.test("lie: doorbell-out-of-bar", () => {
  using fn = liar("doorbell-out-of-bar");
  const notify = capabilityBytes(fn.behaviour.vendorCapabilities).find((one) => one[3] === 2)!;
  const offset = new DataView(notify.buffer).getUint32(8, true);
  assertEquals(offset, fn.behaviour.bars.find((one) => one.index === 4)!.sizeBytes);
  assertEquals(fn.behaviour.doorbells(4), []);
});

Deno.test("every lie still serves a driver that does not look", () => {
  for (const lie of DEVICE_FAMILY.names) {
    using fn = liar(lie);
    fn.status = 0;
    fn.status = 3;
    fn.accept(RULES);
    fn.status = 11;
    fn.enable(0, 8);
    fn.status = 15;
    assertEquals(fn.behaviour.poll(8), 0, lie);
    assertEquals(fn.behaviour.arm(), false);
    assertEquals(fn.port.take(), [], lie);
  }
});
