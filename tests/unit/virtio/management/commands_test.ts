import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioManagement } from "../../../../drivers/management/virtio_management.ts";
import { DeviceError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import type { DmaSpace } from "../../../../lib/memory/mod.ts";
import type { ManagedCommands } from "../../../../lib/virtio/management/managed_commands.ts";
import { TVQ_COMMAND, TVQ_TIGHT_HEADER } from "../../../../lib/virtio/spec/mod.ts";
import { FakeDevice } from "../../vfio/fake_device.ts";
import { bytes, FakeManagement, opened, type SeenCommand } from "./fake_management.ts";

const hex = (data: Uint8Array) => data.toHex();

/** Each command of a managed device: what is called, what the device sees in either layout, what it answers, and what comes of that. */
const COMMANDS: readonly (readonly [
  is: string,
  call: (device: ManagedCommands<"now"> | ManagedCommands<"later">) => unknown,
  aligned: string,
  packed: string,
  answer?: Uint8Array,
  result?: unknown,
])[] = [
  ["3.0", (d) => d.features(), "", "", bytes([8, 0x8000_0001_0000_0002n]), 0x8000_0001_0000_0002n],
  ["3.1", (d) => d.setDriverFeatures(0x1_0000_0020n), "2000000001000000", "2000000001000000"],
  ["3.2", (d) => d.driverFeatures(), "", "", bytes([8, 32n]), 32n],
  ["4.0", (d) => d.setStatus(11), "0b", "0b"],
  ["4.1", (d) => d.status(), "", "", bytes([1, 15]), 15],
  ["5.0", (d) => d.generation(), "", "", bytes([1, 200]), 200],
  [
    "6.0",
    (d) => d.readConfig(6, 2),
    "0600000002000000",
    "0600000002000000",
    bytes([2, 0x0102]),
    bytes([2, 0x0102]),
  ],
  ["6.1", (d) => d.writeConfig(1, Uint8Array.of(9, 8)), "01000000020000000908", "01000000020000000908"],
  [
    "7.0",
    (d) => d.setQueueMsi(3, { address: 0xfee0_0000n, data: 5 }),
    "0300000000000000" + "0000e0fe00000000" + "0500000000000000",
    "0300" + "0000e0fe00000000" + "05000000",
  ],
  ["7.1", (d) => d.enableQueueMsi(3, true), "0300010000000000", "030001"],
  ["7.2", (d) => d.maskQueueMsi(3, true), "0300000000000000", "030000"],
  ["7.2", (d) => d.maskQueueMsi(3, false), "0300010000000000", "030001"],
  [
    "7.3",
    (d) => d.setConfigMsi({ address: 0xfee0_0000n, data: 6 }),
    "0000e0fe00000000" + "0600000000000000",
    "0000e0fe00000000" + "06000000",
  ],
  ["7.4", (d) => d.enableConfigMsi(false), "00", "00"],
  ["7.5", (d) => d.maskConfigMsi(true), "00", "00"],
  ["7.5", (d) => d.maskConfigMsi(false), "01", "01"],
  [
    "8.0",
    (d) => d.setQueueAreas(1, { descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x3000n }),
    "0100000000000000" + "0010000000000000" + "0030000000000000" + "0020000000000000",
    "0100" + "0010000000000000" + "0030000000000000" + "0020000000000000",
  ],
  ["9.0", (d) => d.enableQueue(1, true), "0100010000000000", "010001"],
  ["9.0", (d) => d.enableQueue(1, false), "0100000000000000", "010000"],
  ["9.1", (d) => d.queueEnabled(2), "0200", "0200", bytes([1, 1]), true],
  ["10.0", (d) => d.setQueueSize(1, 256), "0100000100000000", "01000001"],
  ["10.1", (d) => d.queueSize(1), "0100", "0100", bytes([2, 1024]), 1024],
  [
    "11.1",
    (d) => d.notifyArea(1),
    "0100",
    "0100",
    bytes([8, 0xe000_1000n], [8, 2n]),
    { address: 0xe000_1000n, sizeBytes: 2n },
  ],
  [
    "12.0",
    (d) => d.setQueueState(1, { layout: "split", availableIndex: 0xfffe }, 8),
    "0100feff00000000",
    "0100feff",
  ],
  [
    "12.0",
    (d) =>
      d.setQueueState(
        1,
        { layout: "packed", availableSlot: 5, availableWrap: 0, usedSlot: 3, usedWrap: 1 },
        8,
      ),
    "0100" + "0000" + "0500" + "0100" + "0300" + "000000000000",
    "0100" + "0000" + "0500" + "0100" + "0300",
  ],
  [
    "12.1",
    (d) => d.queueState(1, "split", 8),
    "0100",
    "0100",
    bytes([2, 0xfffe]),
    { layout: "split", availableIndex: 0xfffe },
  ],
  [
    "12.1",
    (d) => d.queueState(1, "packed", 8),
    "0100",
    "0100",
    bytes([2, 1], [2, 7], [2, 0], [2, 6]),
    { layout: "packed", availableSlot: 7, availableWrap: 1, usedSlot: 6, usedWrap: 0 },
  ],
  ["13.1", (d) => d.setQueueAsid(1, 0), "0100000000000000", "010000000000"],
  ["14.1", (d) => d.resetQueue(1), "0100", "0100"],
];

for (const layout of ["aligned", "packed"] as const) {
  Deno.test(`4.1, 4.3, A-4.3, A-4.7, A-4.8: every command of a managed device on the wire, ${layout}, asynchronous and synchronous`, async () => {
    await using fixture = await opened(() => ({}), { layout });
    const { device, managed } = fixture;
    const covered = new Set<string>();
    for (const [is, call, aligned, packed, answer, result] of COMMANDS) {
      device.answer = () => (answer === undefined ? {} : { data: answer });
      for (const handle of [managed, managed.now]) {
        device.seen.length = 0;
        assertEquals(await call(handle), result, is);
        const [seen] = device.seen as [SeenCommand];
        assertEquals([device.seen.length, seen.deviceId, seen.is], [1, 7n, is]);
        assertEquals(hex(seen.data), layout === "aligned" ? aligned : packed, is);
        assertEquals(seen.writable, 8 + (answer?.length ?? 0), `${is}: room for in-data`);
      }
      covered.add(is);
    }
    // All but those of device 0, and DESTROY.
    const all = Object.values(TVQ_COMMAND).filter((one) => one.class > 2);
    assertEquals([...covered].sort(), all.map((one) => `${one.class}.${one.command}`).sort());
  });
}

Deno.test("N-4.2, N-4.4: AVAIL_RES_GET and CREATE go to device 0, DESTROY to the device; never DESTROY of 0", async () => {
  await using fixture = await opened(() => ({ data: bytes([2, 60], [2, 1], [2, 9], [2, 20]) }));
  const { device, management } = fixture;
  const resources = { queues: 60, minQueues: 1, maxQueues: 9, devices: 20 };
  assertEquals(await management.resources(), resources);
  assertEquals(management.resourcesNow(), resources);
  device.answer = () => ({ data: bytes([8, 9n]) });
  const made = management.createNow({ type: 2, features: 3n << 32n, config: Uint8Array.of(1, 2, 3) });
  assertEquals([made.id, made.type, made.name], [9n, 2, "fake 0/9"]);
  device.answer = () => ({});
  await management.destroy(9n);
  management.destroyNow(7n);
  assertEquals(device.seen.map(({ deviceId, is, writable }) => [deviceId, is, writable]), [
    [0n, "1.0", 16],
    [0n, "1.0", 16],
    [0n, "2.0", 16],
    [9n, "2.1", 8],
    [7n, "2.1", 8],
  ]);
  assertEquals(hex(device.seen[2]!.data), "0200000000000000" + "0000000003000000" + "010203");
  assertEquals(management.devices, []);
  assertThrows(() => management.destroyNow(0n), Error, "no managed device 0");
  assertEquals(device.seen.length, 5);
});

Deno.test("N-4.4, A-4.10: an id has 64 bits, and every one of them goes with each command for the device", async () => {
  for (const id of [(1n << 64n) - 1n, 0x8000_0000_0000_0001n, 1n << 32n]) {
    await using fixture = await opened(() => ({ data: bytes([8, id]) }));
    const { device, management } = fixture;
    const made = await management.create({ type: 4, features: 0n });
    assertEquals([made.id, made.name, management.device(id)], [id, `fake 0/${id}`, made]);
    device.answer = () => ({});
    device.seen.length = 0;
    await made.setStatus(1);
    made.now.setStatus(3);
    await management.destroy(id);
    assertEquals(device.seen.map(({ deviceId }) => deviceId), [id, id, id]);
  }
});

Deno.test("A-4.13, A-4.12: resources that contradict themselves are a DeviceError", async () => {
  await using fixture = await opened(() => ({ data: bytes([2, 60], [2, 9], [2, 1], [2, 20]) }));
  const error = await assertRejects(() => fixture.management.resources(), DeviceError, "max_mdev_vqs is 1");
  assertEquals(error.location.field, "min_mdev_vqs");
  // all devices have as many.
  fixture.device.answer = () => ({ data: bytes([2, 60], [2, 4], [2, 4], [2, 15]) });
  assertEquals(await fixture.management.resources(), { queues: 60, minQueues: 4, maxQueues: 4, devices: 15 });
});

Deno.test("A-4.10: two creations that the device answers with one id: one of them fails, however close they are", async () => {
  for (let turns = 0; turns < 8; turns++) {
    await using fixture = await opened(() => undefined);
    const { device, management } = fixture;
    const request = { type: 4, features: 0n };
    const first = management.create(request).catch((error) => error);
    device.answer = () => ({ data: bytes([8, 9n]) });
    device.release({ data: bytes([8, 9n]) });
    // Takes the answer, with its own.
    management.executeNow({ deviceId: 3n, class: 4, command: 1 });
    for (let turn = 0; turn < turns; turn++) await null;
    let second: unknown;
    try {
      second = management.createNow(request);
    } catch (error) {
      second = error;
    }
    const both = [await first, second];
    const made = both.filter((one) => !(one instanceof Error));
    assertEquals(management.devices.filter(({ id }) => id === 9n), made, `after ${turns} turns: ${both}`);
    assertEquals(made.length, 1);
  }
});

Deno.test("A-4.10: id 0 and the id of another device are refused", async () => {
  await using fixture = await opened();
  const { device, management } = fixture;
  for (const id of [0n, 7n]) {
    device.answer = () => ({ data: bytes([8, id]) });
    const request = { type: 4, features: 0n };
    const error = await assertRejects(() => management.create(request), DeviceError, "A-4.10");
    assertEquals(error.location, { function: "fake 0", field: "device_id" });
  }
  assertEquals(management.devices.map(({ id }) => id), [7n]);
});

Deno.test("N-4.1: both features are negotiated, and a device without one of them is refused; their numbers are options", async () => {
  const VERSION_1 = 1n << 32n;
  for (const features of [0n, 1n << 44n, 1n << 45n]) {
    const device = new FakeManagement(() => ({}), { features: features | VERSION_1 });
    const error = await assertRejects(() => VirtioManagement.open(device.transport), UnsupportedError);
    assert(error.message.includes("VIRTIO_F_TRANSPT_VQ"));
    device.transport.close();
  }
  const device = new FakeManagement(() => ({}), { features: VERSION_1 | 3n << 46n });
  await using management = await VirtioManagement.open(device.transport, {
    featureBits: { vq: 46, mdev: 47 },
  });
  assertEquals(device.transport.driverFeatures & 0xfn << 44n, 3n << 46n);
  management.close();
  await management.settled;
  device.transport.close();
});

Deno.test("R-0: the profile is the caller's choice, and so is the device type", async () => {
  const device = new FakeManagement(() => ({}), { deviceId: 1 });
  await assertRejects(
    () => VirtioManagement.open(device.transport),
    UnsupportedError,
    "no management device",
  );
  await using management = await VirtioManagement.open(device.transport, { deviceId: 1 });
  Object.assign(device.transport, { profile: "spec" });
  const error = await assertRejects(
    () => VirtioManagement.open(device.transport),
    UsageError,
    'profile "spec"',
  );
  assert(error.hint.includes('"transport-vq"'));
  management.close();
  await management.settled;
  device.transport.close();
});

Deno.test("4.2: another header replaces the padded one", async () => {
  await using fixture = await opened(() => ({ data: bytes([2, 64]) }), {
    tight: true,
    header: TVQ_TIGHT_HEADER,
    layout: "packed",
  });
  assertEquals(await fixture.managed.queueSize(1), 64);
  const [seen] = fixture.device.seen as [SeenCommand];
  assertEquals([seen.deviceId, seen.is, hex(seen.data), seen.writable], [7n, "10.1", "0100", 3]);
});

Deno.test("A-4.5, A-4.4, N-4.11: MSI settings are remembered, and forgotten when the device or the queue is reset", async () => {
  await using fixture = await opened();
  const { device, managed } = fixture;
  const initial = { address: 0n, data: 0, enabled: false, masked: false };
  assertEquals([managed.configMsi, managed.queueMsi(2)], [initial, initial]);
  await managed.setQueueMsi(2, { address: 0xfee0_0000n, data: 9 });
  managed.now.enableQueueMsi(2, true);
  await managed.maskQueueMsi(2, true);
  const set = { address: 0xfee0_0000n, data: 9, enabled: true, masked: true };
  assertEquals(managed.queueMsi(2), set);
  assertEquals(managed.queueMsi(3), initial);
  // What the device refuses was not set.
  device.answer = () => ({ ack: 255 });
  await assertRejects(() => managed.maskQueueMsi(2, false));
  assertEquals(managed.queueMsi(2), set);
  device.answer = () => ({});
  managed.now.enableConfigMsi(true);
  await managed.resetQueue(2);
  assertEquals([managed.queueMsi(2), managed.configMsi.enabled], [initial, true]);
  await managed.setStatus(1);
  assertEquals(managed.configMsi.enabled, true);
  await managed.setStatus(0);
  assertEquals(managed.configMsi, initial);
});

Deno.test("A-4.32: a driver reads only the natural size; less is a DeviceError that names device and command", async () => {
  await using fixture = await opened(() => ({ data: bytes([2, 64]) }));
  const { device, managed } = fixture;
  assertEquals(await managed.queueSize(1), 64);
  device.answer = () => ({ data: bytes([1, 64]) });
  assertEquals(await managed.status(), 64);
  assertEquals(device.seen.map(({ writable }) => writable), [8 + 2, 8 + 1], "there is room for no more");
  const error = await assertRejects(
    () => managed.queueSize(1),
    DeviceError,
    "1 bytes of in-data, 2 belong there",
  );
  assertEquals(error.location, { function: "fake 0/7", queue: 1, field: "VQ_SIZE_GET" });
  await assertRejects(() => managed.readConfig(0, 2), DeviceError, "1 bytes of in-data");
  await assertRejects(() => fixture.management.resources(), DeviceError, "1 bytes of in-data");
});

Deno.test("a queue state that cannot be is refused, from the caller and from the device", async () => {
  await using fixture = await opened();
  const { device, managed } = fixture;
  const packed = { layout: "packed", availableSlot: 8, availableWrap: 0, usedSlot: 0, usedWrap: 0 } as const;
  await assertRejects(() => managed.setQueueState(0, packed, 8), UsageError, "availableSlot");
  assertEquals(device.seen.length, 0);
  device.answer = () => ({ data: bytes([2, 2], [2, 0], [2, 0], [2, 0]) });
  const error = await assertRejects(() => managed.queueState(0, "packed", 8), DeviceError, "availableWrap");
  assertEquals(error.location.queue, 0);
});

Deno.test("N-4.18: another address space than 0 needs one of the management function", async () => {
  {
    await using fixture = await opened();
    const { managed, management, device } = fixture;
    await managed.setQueueAsid(1, 0);
    device.seen.length = 0;
    await assertRejects(
      () => managed.setQueueAsid(1, 3),
      UnsupportedError,
      "fake 0: no address space 3 beside 0",
    );
    assertThrows(() => managed.now.setQueueAsid(1, 3), UnsupportedError, "not known which function");
    assertThrows(() => management.openTransport(7n, { addressSpace: 3 }), UnsupportedError, "fake 0");
    assertEquals(device.seen.length, 0);
    management.openTransport(7n).close();
  }
  {
    await using fixture = await opened(() => ({}), { function: new FakeDevice({}) });
    assertThrows(() => fixture.managed.now.setQueueAsid(1, 3), UnsupportedError, "the function has none");
  }
  const asked: number[] = [];
  const fn = Object.assign(new FakeDevice({}), {
    addressSpace: (id: number): DmaSpace => {
      asked.push(id);
      return fixture.device.transport.dma;
    },
  });
  await using fixture = await opened(() => ({}), { function: fn });
  await fixture.managed.setQueueAsid(1, 3);
  assertEquals([hex(fixture.device.seen[0]!.data), asked], ["0100000003000000", [3]]);
});

Deno.test("what does not fit a field is a UsageError before anything is sent, thrown as the call gives its result", async () => {
  await using fixture = await opened();
  const { device, management, managed } = fixture;
  await assertRejects(() => managed.queueSize(0x1_0000), UsageError, "queue_index");
  assertThrows(() => managed.now.queueSize(-1), UsageError, "queue_index");
  await assertRejects(() => managed.setStatus(256), UsageError, "status");
  await assertRejects(() => managed.setDriverFeatures(-1n), UsageError, "features");
  await assertRejects(() => managed.setQueueMsi(0, { address: 1n << 64n, data: 0 }), UsageError, "address");
  await assertRejects(() => managed.readConfig(0, 2 ** 21), UsageError);
  await assertRejects(() => management.create({ type: -1, features: 0n }), UsageError, "virtio_device_id");
  await assertRejects(
    () => management.create({ type: 1, features: 1 as unknown as bigint }),
    UsageError,
    "features",
  );
  await assertRejects(() => management.execute({ deviceId: -1n, class: 1, command: 0 }), UsageError);
  await assertRejects(() => management.execute({ deviceId: 0n, class: 0x1_0000, command: 0 }), UsageError);
  assertThrows(() => management.executeNow({ deviceId: 0n, class: 1, command: 0, inBytes: -1 }), UsageError);
  assertEquals(device.seen.length, 0);
});

Deno.test("an argument that is left out, or of another type, is a UsageError that names device and command, and is not taken for 0, no or the device's fault", async () => {
  await using fixture = await opened();
  const { device, managed } = fixture;
  // deno-lint-ignore no-explicit-any -- as a caller without types
  const later = managed as any, now = managed.now as any;
  const areas = { descriptorArea: 1n, driverArea: undefined, deviceArea: 3n };
  const split = { layout: "split", availableIndex: 1 };
  const calls: readonly (readonly [method: string, values: readonly unknown[], names: string])[] = [
    ["setDriverFeatures", [], "fake 0/7, FEAT_DRIVER_SET: features"],
    ["setStatus", [], "fake 0/7, STATUS_SET: status"],
    ["readConfig", [], "fake 0/7, CONFIG_GET: offset"],
    ["readConfig", [0], "fake 0/7, CONFIG_GET: size"],
    ["writeConfig", [0], "bytes"],
    ["writeConfig", [0, 1], "bytes"],
    ["writeConfig", [undefined, Uint8Array.of(1)], "offset"],
    ["setQueueMsi", [0], "message"],
    ["setQueueMsi", [0, 5], "message"],
    ["setQueueMsi", [0, { address: 1n }], "message"],
    ["setQueueMsi", [undefined, { address: 1n, data: 1 }], "queue_index"],
    ["setConfigMsi", ["x"], "message"],
    ["enableQueueMsi", [0], "enabled"],
    ["enableQueueMsi", [0, 1], "enabled"],
    ["maskQueueMsi", [0, "off"], "masked"],
    ["enableConfigMsi", [null], "enabled"],
    ["maskConfigMsi", [], "masked"],
    ["setQueueAreas", [0], "areas"],
    ["setQueueAreas", [0, areas], "areas"],
    ["enableQueue", [0], "enabled"],
    ["enableQueue", [undefined, true], "queue_index"],
    ["queueEnabled", [], "queue_index"],
    ["setQueueSize", [0], "fake 0/7, VQ_SIZE_SET: size"],
    ["queueSize", [], "queue_index"],
    ["notifyArea", [], "queue_index"],
    ["setQueueState", [0, undefined, 8], "queue state"],
    ["setQueueState", [0, { layout: "ring" }, 8], "layout"],
    ["setQueueState", [0, split], "descriptors"],
    ["queueState", [0, "ring", 8], "layout"],
    ["queueState", [0, "packed"], "descriptors"],
    ["queueState", [0, "split", 0], "descriptors"],
    ["setQueueAsid", [undefined, 0], "queue_index"],
    ["resetQueue", [], "queue_index"],
    ["queueSize", ["0"], "fake 0/7, VQ_SIZE_GET: queue_index"],
  ];
  for (const [method, values, names] of calls) {
    const rejected: Promise<unknown> = later[method](...values);
    await assertRejects(() => rejected, UsageError, names);
    assertThrows(() => now[method](...values), UsageError, names);
  }
  assertThrows(() => later.queueMsi("config"), UsageError, "queueMsi: queue");
  assertEquals(device.seen.length, 0);
});
