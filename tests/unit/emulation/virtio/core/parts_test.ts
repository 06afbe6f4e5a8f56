import { assert, assertEquals } from "@std/assert";
import { BlkModel } from "../../../../../lib/emulation/virtio/blk/model.ts";
import { ConsoleModel } from "../../../../../lib/emulation/virtio/console/model.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import {
  BLK_FEATURE,
  commonCfgPart,
  DEV_PART,
  DEV_PART_OPTIONAL,
  type DevicePart,
  FEATURE,
  featuresPart,
  NET_FEATURE,
  netCvqCfgPart,
  partBytes,
  partOrderProblem,
  readCommonCfgPart,
  readFeaturesPart,
  readNetCvqCfgPart,
  readStatusPart,
  readVqCfgPart,
  readVqNotifyCfgPart,
  statusPart,
  vqCfgPart,
  vqNotifyCfgPart,
} from "../../../../../lib/virtio/spec/mod.ts";
import { BASE } from "../fake_client.ts";
import { Random } from "../../../../random.ts";
import { FakeFunction } from "../fake_machine.ts";
import { FakeNic, FEATURES, frame, mac, macBytes } from "../fake_nic.ts";

const ALL = FEATURES | NET_FEATURE.MQ | FEATURE.RING_RESET | FEATURE.NOTIF_CONFIG_DATA;

function pair(): { net: NetSwitch; a: FakeNic; b: FakeNic } & Disposable {
  const net = new NetSwitch("s0", { holdMs: 1e9, now: () => 0 });
  const stack = new DisposableStack();
  const a = stack.use(new FakeNic(net, 1)), b = stack.use(new FakeNic(net, 2));
  return { net, a, b, [Symbol.dispose]: () => stack.dispose() };
}

function of(parts: readonly DevicePart[], type: number): DevicePart[] {
  return parts.filter((part) => part.type === type);
}

function cvq(parts: readonly DevicePart[], kind: number, command: number): number[] | undefined {
  const found = of(parts, DEV_PART.NET_CVQ_CFG).map(readNetCvqCfgPart)
    .find((one) => one.class === kind && one.command === command);
  return found === undefined ? undefined : [...found.data];
}

const ordered = (parts: readonly DevicePart[]) => parts.toSorted((a, b) => a.type - b.type);

Deno.test("3.6 get: every part of a running network device, in the standard's order", () => {
  using nics = pair();
  const { a } = nics;
  a.fn.port.msixEnabled = true;
  a.start(ALL);
  a.fn.write(16, 2, 3);
  a.fn.write(22, 2, 1);
  a.fn.write(26, 2, 2);
  a.fn.write(0, 4, 1);
  const parts = a.front.core.parts.get();
  assertEquals(partOrderProblem(parts), undefined);
  assertEquals(ordered(parts), parts);
  assertEquals(of(parts, DEV_PART.DEV_FEATURES).map(readFeaturesPart), [a.front.core.offered]);
  assertEquals(of(parts, DEV_PART.DEV_FEATURES)[0]!.flags, DEV_PART_OPTIONAL);
  assertEquals(parts.filter(({ flags }) => flags !== 0).length, 1);
  assertEquals(of(parts, DEV_PART.DRV_FEATURES).map(readFeaturesPart), [ALL & a.front.core.offered]);
  assertEquals(
    Object.fromEntries(
      of(parts, DEV_PART.PCI_COMMON_CFG).map(readCommonCfgPart).map((one) => [one.register, one.value]),
    ),
    {
      device_feature_select: 1n,
      driver_feature_select: 1n,
      config_msix_vector: 3n,
      num_queues: 5n,
      config_generation: 0n,
      queue_select: 1n,
    },
  );
  assertEquals(of(parts, DEV_PART.DEVICE_STATUS).map(readStatusPart), [15]);
  const queues = of(parts, DEV_PART.VQ_CFG).map(readVqCfgPart);
  const setup = a.ring(1).setup();
  assertEquals(queues[1], {
    queue: 1,
    size: 64,
    vector: 2,
    enabled: true,
    descriptorArea: setup.descriptorArea,
    driverArea: setup.driverArea,
    deviceArea: setup.deviceArea,
  });
  assertEquals(queues.map((one) => [one.queue, one.vector]), [[0, null], [1, 2], [2, null], [3, null], [
    4,
    null,
  ]]);
  const doorbells = of(parts, DEV_PART.VQ_NOTIFY_CFG).map(readVqNotifyCfgPart);
  a.fn.write(22, 2, 3);
  assertEquals(doorbells[3], { queue: 3, notifyOff: a.fn.read(30, 2), notifyData: a.fn.read(56, 2) });
  assertEquals(doorbells.length, 5);
});

Deno.test("1.4 §5.1.8 get: what control commands set, by class and command", () => {
  using nics = pair();
  const { a } = nics;
  a.start(ALL);
  const before = a.front.core.parts.get();
  for (let command = 0; command < 6; command++) assertEquals(cvq(before, 0, command), [0]);
  assertEquals(cvq(before, 1, 0), new Array(8).fill(0));
  assertEquals(cvq(before, 1, 1), macBytes(mac(1)));
  assertEquals(cvq(before, 4, 0), [1, 0]);
  for (const command of [0, 1, 2, 3, 4, 5]) assertEquals(a.control(0, command, [1]), 0);
  const tables = [1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 2];
  assertEquals(a.control(1, 0, tables), 0);
  assertEquals(a.control(1, 1, [2, 1, 2, 3, 4, 5]), 0);
  assertEquals(a.control(4, 0, [2, 0]), 0);
  const after = a.front.core.parts.get();
  for (let command = 0; command < 6; command++) assertEquals(cvq(after, 0, command), [1]);
  assertEquals(cvq(after, 1, 0), tables);
  assertEquals(cvq(after, 1, 1), [2, 1, 2, 3, 4, 5]);
  assertEquals(cvq(after, 4, 0), [2, 0]);
  // A table that overflowed stands for every address, and so does its part.
  const many = [65, 0, 0, 0, ...new Array(65).fill([2, 0, 0, 0, 1, 0]).flat(), 0, 0, 0, 0];
  assertEquals(a.control(1, 0, many), 0);
  assertEquals(cvq(a.front.core.parts.get(), 1, 0), many);
  // Without the features there is nothing to have set.
  a.fn.status = 0;
  a.start(FEATURES & ~NET_FEATURE.CTRL_RX & ~NET_FEATURE.CTRL_RX_EXTRA & ~NET_FEATURE.CTRL_MAC_ADDR, [
    0,
    1,
    2,
  ]);
  assertEquals(of(a.front.core.parts.get(), DEV_PART.NET_CVQ_CFG), []);
});

Deno.test("3.6 A-3.15 the most that parts take is the same before and after all that a driver can set, and never less than they take", () => {
  using nics = pair();
  const { a } = nics;
  const { parts: member } = a.front.core;
  const size = () => member.get().reduce((sum, part) => sum + partBytes(part), 0);
  const { mostBytes } = member;
  assert(size() < mostBytes);
  a.start(ALL);
  const entries = new Array(70).fill([2, 0, 0, 0, 1, 0]).flat();
  const table = [70, 0, 0, 0, ...entries];
  const multicast = [70, 0, 0, 0, ...new Array(70).fill([3, 0, 0, 0, 1, 0]).flat()];
  assertEquals(a.control(1, 0, [...table, ...multicast]), 0);
  assertEquals([size(), member.mostBytes], [mostBytes, mostBytes], "every feature in use, both tables full");
  a.fn.status = 0;
  a.start(FEATURES & ~NET_FEATURE.CTRL_MAC_ADDR);
  assertEquals(member.mostBytes, mostBytes);
});

Deno.test("3.6 set: registers, filters and pairs are those of the other function; a second get gives them back", () => {
  using nics = pair();
  const { a, b } = nics;
  a.start(ALL);
  assertEquals(a.control(0, 1, [1]), 0);
  assertEquals(a.control(4, 0, [2, 0]), 0);
  assertEquals(a.control(1, 1, [2, 1, 2, 3, 4, 5]), 0);
  const one = a.front.core.parts, other = b.front.core.parts;
  one.setStopped(true);
  other.setStopped(true);
  const parts = one.get();
  assertEquals(other.problemOf(parts), undefined);
  other.set(parts);
  assertEquals(other.get(), parts);
  assertEquals(other.get(), other.get());
  assertEquals([b.front.core.status, b.front.core.live, b.front.core.stopped], [15, false, true]);
  // The client of this test has its own memory, with rings of nobody: what the registers say is what counts here.
  assertEquals([b.model.mac, b.model.activePairs, b.model.filter.allMulticast], [
    "02:01:02:03:04:05",
    2,
    true,
  ]);
  // Once more, in pieces.
  for (const part of parts) {
    const problem = other.problemOf([part]);
    assertEquals(problem, undefined);
    other.set([part]);
  }
  assertEquals(other.get(), parts);
  b.fn.status = 0;
  other.setStopped(false);
  assertEquals(b.model.mac, mac(2));
  assertEquals(readStatusPart(of(other.get(), DEV_PART.DEVICE_STATUS)[0]!), 0);
});

Deno.test("3.6 set: what a device must refuse, with nothing changed", () => {
  using nics = pair();
  const { a, b } = nics;
  a.start(ALL);
  const parts = [...a.front.core.parts.get()];
  const to = b.front.core.parts;
  assertEquals(to.problemOf(parts), "the device is not stopped");
  to.setStopped(true);
  const before = to.get();
  const features = featuresPart(DEV_PART.DRV_FEATURES, ALL & b.front.core.offered);
  const with_ = (change: (part: DevicePart) => DevicePart | undefined) =>
    parts.flatMap((part) => change(part) ?? []);
  const vq = (change: Partial<ReturnType<typeof readVqCfgPart>>) =>
    with_((part) =>
      part.type === DEV_PART.VQ_CFG && part.selector === 0n
        ? vqCfgPart({ ...readVqCfgPart(part), ...change })
        : part
    );
  const instead = (type: number, part: DevicePart) => with_((one) => one.type === type ? part : one);
  const field = (part: DevicePart) =>
    with_((one) => one.type === part.type && one.selector === part.selector ? part : one);
  const odd = { type: 0x106, flags: 0, selector: 0n, value: new Uint8Array(1) };
  const cases: [DevicePart[], string][] = [
    [[...parts].reverse(), "comes after"],
    [[...parts, parts.at(-1)!], "comes twice"],
    [with_((part) => part.type === DEV_PART.DRV_FEATURES ? undefined : part), "needs DRV_FEATURES before it"],
    [[...parts.slice(0, -8), odd, ...of(parts, DEV_PART.NET_CVQ_CFG)], "part 0x0106 is unknown"],
    [
      instead(DEV_PART.DEV_FEATURES, featuresPart(DEV_PART.DEV_FEATURES, 1n)),
      "were offered, this device offers",
    ],
    [
      instead(DEV_PART.DEV_FEATURES, {
        ...featuresPart(DEV_PART.DEV_FEATURES, b.front.core.offered),
        value: new Uint8Array(16),
      }),
      "this device's has 8",
    ],
    [instead(DEV_PART.DRV_FEATURES, featuresPart(DEV_PART.DRV_FEATURES, ALL | 1n)), "0x1 were not offered"],
    [
      instead(DEV_PART.DRV_FEATURES, featuresPart(DEV_PART.DRV_FEATURES, ALL & ~FEATURE.ACCESS_PLATFORM)),
      "must be accepted: VIRTIO_F_ACCESS_PLATFORM",
    ],
    [
      instead(DEV_PART.DRV_FEATURES, featuresPart(DEV_PART.DRV_FEATURES, ALL & ~NET_FEATURE.CTRL_VQ)),
      "needs",
    ],
    [field(commonCfgPart("num_queues", 4)), "num_queues is 4, this device's is 5"],
    [field(commonCfgPart("config_msix_vector", 6)), "there is no vector 6"],
    [[features, commonCfgPart("device_status", 15)], "not exchanged as a field by itself"],
    [[features, commonCfgPart("queue_desc", 4096n)], "not exchanged as a field by itself"],
    [instead(DEV_PART.DEVICE_STATUS, statusPart(4)), "no driver can reach"],
    [instead(DEV_PART.DEVICE_STATUS, statusPart(0x2f)), "mean nothing"],
    [instead(DEV_PART.DEVICE_STATUS, statusPart(3)), "enabled before FEATURES_OK"],
    [vq({ size: 128 }), "above the maximum"],
    [vq({ size: 48 }), "not a power of two"],
    [vq({ vector: 6 }), "there is no vector 6"],
    [vq({ deviceArea: 1n }), "not aligned"],
    [
      with_((part) => part.type === DEV_PART.VQ_CFG ? { ...part, selector: part.selector + 5n } : part),
      "no such queue",
    ],
    [
      with_((part) =>
        part.type === DEV_PART.VQ_NOTIFY_CFG && part.selector === 2n
          ? vqNotifyCfgPart({ queue: 2, notifyOff: 3, notifyData: 3 })
          : part
      ),
      "queue_notify_off 3",
    ],
    [[...parts, netCvqCfgPart({ class: 4, command: 1, data: new Uint8Array(9) })], "no configuration"],
    [field(netCvqCfgPart({ class: 0, command: 0, data: Uint8Array.of(2) })), "neither 0 (off) nor 1 (on)"],
    [field(netCvqCfgPart({ class: 1, command: 1, data: Uint8Array.of(1, 0, 0, 0, 0, 0) })), "multicast"],
    [field(netCvqCfgPart({ class: 4, command: 0, data: Uint8Array.of(3, 0) })), "3 queue pairs"],
    [
      instead(
        DEV_PART.DRV_FEATURES,
        featuresPart(DEV_PART.DRV_FEATURES, ALL & ~NET_FEATURE.MQ & b.front.core.offered),
      ),
      "its feature was not negotiated",
    ],
  ];
  for (const [given, message] of cases) {
    const problem = to.problemOf(given);
    assert(problem !== undefined && problem.includes(message), `${problem} / ${message}`);
    assertEquals(to.get(), before);
  }
  // Every value one byte shorter, and one longer.
  for (const [i, part] of parts.entries()) {
    for (const length of [part.value.length - 1, part.value.length + 1]) {
      const changed = [...parts];
      const value = new Uint8Array(length);
      value.set(part.value.subarray(0, length));
      changed[i] = { ...part, value };
      assert(to.problemOf(changed) !== undefined, `part ${i} with ${length} bytes`);
    }
  }
  assertEquals(to.problemOf(parts), undefined);
  // What is optional and means nothing here may be there.
  const optional = [...parts, netCvqCfgPart({ class: 2, command: 0, data: new Uint8Array(512) })]
    .map((part, i) => i < parts.length ? part : { ...part, flags: DEV_PART_OPTIONAL });
  assertEquals(to.problemOf(ordered(optional)), undefined);
  to.set(ordered(optional));
  assertEquals(to.get(), parts);
});

Deno.test("3.6 set: an optional part that is left out says nothing to the others either", () => {
  using nics = pair();
  const { a, b } = nics;
  a.start(ALL);
  let starts = 0;
  b.front.core.model.start = () => void starts++;
  const to = b.front.core.parts;
  to.setStopped(true);
  const parts = a.front.core.parts.get().filter(({ type }) => type <= DEV_PART.DEVICE_STATUS)
    // DRIVER_OK alone: a status that no driver reaches.
    .map((part) =>
      part.type === DEV_PART.DEVICE_STATUS ? { ...statusPart(4), flags: DEV_PART_OPTIONAL } : part
    );
  assertEquals(to.problemOf(parts), undefined);
  to.set(parts);
  assertEquals([b.front.core.status, starts], [0, 0]);
  // Features that are not offered.
  const alien = { ...featuresPart(DEV_PART.DRV_FEATURES, 1n << 63n), flags: DEV_PART_OPTIONAL };
  const others = a.front.core.parts.get().filter(({ type }) => type > DEV_PART.DRV_FEATURES);
  assertEquals(to.problemOf([alien, ...others]), undefined, "the features are those that were set before");
  to.set([alien, ...others]);
  assertEquals([b.front.core.negotiatedFeatures, starts], [a.front.core.negotiatedFeatures, 1]);
});

Deno.test("3.6 set: bytes made at random are refused or taken, and never anything else", () => {
  using nics = pair();
  const { a, b } = nics;
  a.start(ALL);
  const parts = a.front.core.parts.get();
  const random = new Random(99);
  const to = b.front.core.parts;
  let taken = 0;
  for (let n = 0; n < 3000; n++) {
    to.setStopped(true);
    const changed = parts.map((part) => ({ ...part, value: part.value.slice() }));
    for (let changes = random.below(3); changes >= 0; changes--) {
      const part = changed[random.below(changed.length)]!;
      const roll = random.below(4);
      if (roll === 0) Object.assign(part, { selector: BigInt(random.below(70)) });
      else if (roll === 1) Object.assign(part, { flags: random.below(2) });
      else if (part.value.length > 0) part.value[random.below(part.value.length)] = random.next() & 0xff;
    }
    if (to.problemOf(changed) === undefined) {
      to.set(changed);
      taken++;
      to.setStopped(false);
      b.fn.run();
      b.front.arm();
    }
    b.fn.status = 0;
    to.setStopped(false);
  }
  assert(taken > 50 && taken < 2900, `${taken} were taken`);
});

Deno.test("3.6 a config change while a device is stopped is told when it is resumed, and a set counts as one", () => {
  using nics = pair();
  const { a } = nics;
  a.fn.port.msixEnabled = true;
  a.start(ALL);
  a.fn.write(16, 2, 4);
  const { vectors } = a.fn.port;
  const parts = a.front.core.parts;
  parts.setStopped(true);
  a.model.setLink(false);
  a.front.core.violation("0.0", "for the test");
  assertEquals(vectors.splice(0), []);
  parts.setStopped(true);
  parts.setStopped(false);
  assertEquals(vectors.splice(0), [4]);
  parts.setStopped(false);
  assertEquals(vectors.splice(0), []);
  a.fn.status = 0;
  a.model.setLink(true);
  a.start(ALL);
  a.fn.write(16, 2, 4);
  parts.setStopped(true);
  const generation = a.fn.read(21, 1);
  parts.set(parts.get());
  parts.setStopped(false);
  assertEquals(vectors.splice(0), [4]);
  assertEquals(a.fn.read(21, 1), (generation + 1) & 0xff);
});

Deno.test("3.6 a reset clears the parts: by the driver the device stays stopped, with the function it does not", () => {
  using nics = pair();
  const { a, b } = nics;
  const parts = b.front.core.parts;
  const fresh = parts.get();
  a.start(ALL);
  assertEquals(a.control(0, 0, [1]), 0);
  for (const how of ["driver", "flr", "device", "detached"] as const) {
    parts.setStopped(true);
    parts.set(a.front.core.parts.get());
    if (how === "driver") b.fn.status = 0;
    else b.front.reset(how);
    assertEquals(parts.get(), fresh, how);
    assertEquals(parts.stopped, how === "driver", how);
    parts.setStopped(false);
  }
});

Deno.test("3.6 a stopped device answers registers, and accepts notifications before and after it was set", () => {
  using nics = pair();
  const { a, b } = nics;
  a.start(ALL);
  b.front.core.parts.setStopped(true);
  // As DRIVER_OK is not set, this would be a violation of a device that is not stopped.
  b.fn.notify(1);
  b.front.core.parts.set(a.front.core.parts.get());
  b.fn.notify(1);
  b.fn.write(0x3000, 2, 0x1234);
  assertEquals([b.fn.status, b.fn.read(18, 2)], [15, 5]);
  assertEquals(b.fn.port.take(), []);
});

Deno.test("3.6 unicast for a stopped function waits, and goes to the function that takes its address over", () => {
  const net = new NetSwitch("s0", { holdMs: 1e9, now: () => 0 });
  using a = new FakeNic(net, 1).start();
  using b = new FakeNic(net, 2).start();
  using c = new FakeNic(net, 3);
  b.post(4);
  a.send(frame(mac(2), mac(1), 60, 1));
  a.fn.run();
  assertEquals(b.received().length, 1);
  b.front.core.parts.setStopped(true);
  a.send(frame(mac(2), mac(1), 60, 2));
  a.fn.run();
  assertEquals([b.received().length, a.ring(1).takeUsed().length], [0, 1]);
  // A driver of its own on the third function, which then takes the address.
  c.start().post(4);
  assertEquals(c.control(1, 1, macBytes(mac(2))), 0);
  a.fn.run();
  assertEquals([c.received().map((bytes) => bytes.length), b.received().length], [[60], 0]);
  assertEquals(a.ring(1).takeUsed().length, 1);
  // Gone for good: what comes now is not for anybody.
  c.fn.status = 0;
  b.fn.status = 0;
  a.send(frame(mac(2), mac(1), 60, 3));
  a.fn.run();
  assertEquals(a.ring(1).takeUsed().length, 1);
  for (const nic of [a, b, c]) assertEquals(nic.fn.port.take(), []);
});

Deno.test("3.6 devices whose state parts do not hold refuse a running driver's, and take that of one that is not set up", () => {
  const directory = `/tmp`;
  const make: [string, PciView, bigint, string | undefined][] = [
    ["rng", new PciView(new RngModel()), 0n, undefined],
    ["console", new PciView(new ConsoleModel({ directory })), 0n, "parts do not hold"],
    ["blk", new PciView(new BlkModel({ sizeBytes: 1 << 20 })), 0n, undefined],
    [
      "blk wce",
      new PciView(new BlkModel({ sizeBytes: 1 << 20 })),
      BLK_FEATURE.CONFIG_WCE,
      "cache mode",
    ],
  ];
  for (const [name, front, features, message] of make) {
    using fn = new FakeFunction(front);
    const accepted = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | features;
    const parts = front.core.parts;
    parts.setStopped(true);
    assertEquals(parts.problemOf(parts.get()), undefined);
    parts.setStopped(false);
    fn.bringUp(accepted, [0]);
    parts.setStopped(true);
    const problem = parts.problemOf(parts.get());
    if (message === undefined) assertEquals(problem, undefined, name);
    else assert(problem?.includes(message), `${name}: ${problem}`);
    assertEquals(BASE, fn.client.iova);
  }
});
