import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventFd } from "../../../../ffi/mod.ts";
import { VirtioRng } from "../../../../drivers/rng/virtio_rng.ts";
import { ManagementCommandError } from "../../../../drivers/management/virtio_management.ts";
import { ClosedError, DeviceError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { bindInterrupts } from "../../../../lib/virtio/interrupts.ts";
import type { ManagedTransport } from "../../../../lib/virtio/transport/managed.ts";
import { FakeDevice } from "../../vfio/fake_device.ts";
import { opened } from "../management/fake_management.ts";
import { FakeTransport } from "./fake_transport.ts";
import { ManagedModel } from "../management/managed_model.ts";
import { TestAreas, TestMsi } from "../management/test_areas.ts";

const RING_RESET = 1n << 40n;

async function driven(type = 1, options: { features?: bigint; lack?: string } = {}) {
  const model = new ManagedModel(), msi = new TestMsi(), notifyAreas = new TestAreas();
  if (options.lack !== undefined) Object.assign(msi, { lack: options.lack, available: 0 });
  const pumped = { pump: () => {} };
  const fixture = await opened(model.answer, { type, msi, notifyAreas, pump: () => pumped.pump() });
  const { features } = options;
  const transport = fixture.management.openTransport(
    7n,
    features === undefined ? {} : { features },
  ) as ManagedTransport;
  return { ...fixture, pumped, model, msi, notifyAreas, transport };
}

/** Names of commands since the last call. */
function commands({ device }: { device: { seen: unknown[]; commands: string[] } }): string[] {
  const { commands } = device;
  device.seen.length = 0;
  return commands;
}

Deno.test("identity: name, kind, profile, type; nothing is sent to open it, and one transport a device", async () => {
  await using fixture = await driven();
  const { transport, management, device } = fixture;
  assertEquals([transport.name, transport.kind, transport.profile, transport.deviceId, transport.legacy], [
    "fake 0/7",
    "transport-vq",
    "transport-vq",
    1,
    false,
  ]);
  assertEquals(device.seen.length, 0);
  assertThrows(() => management.openTransport(7n), UsageError, "driven by another transport");
  assertThrows(() => management.openTransport(8n), Error, "no managed device 8");
  transport.close();
  // N-4.7: closing it resets the device, which can be driven again.
  assertEquals(commands(fixture), ["4.0"]);
  management.openTransport(7n).close();
});

Deno.test("N-4.7, N-4.8, N-4.15: bring-up in commands; size and addresses precede enable, reset is waited for", async () => {
  await using fixture = await driven();
  const { transport, model } = fixture;
  using device = new VirtioDevice(transport);
  device.negotiate();
  // STATUS_SET 0 and a look; ACKNOWLEDGE, DRIVER; features; FEATURES_OK and a look.
  assertEquals(commands(fixture), [
    ...["4.0", "4.1"],
    ...["4.1", "4.0", "4.1", "4.1", "4.0", "4.1"],
    ...["3.0", "3.1"],
    ...["4.1", "4.0", "4.1"],
  ]);
  assertEquals(model.accepted, model.features);
  const queue = device.createQueue(1, { size: 32 });
  assertEquals(commands(fixture), ["10.1", "10.0", "8.0", "9.0", "11.1"]);
  const { descriptorArea, driverArea, deviceArea } = queue.addresses;
  assertEquals(model.queues[1]!.areas, [descriptorArea, deviceArea, driverArea]);
  assertEquals([model.queues[1]!.size, model.queues[1]!.enabled], [32, true]);
  device.driverOk();
  assertEquals(model.status, 15);
  assertEquals(transport.queueView(1), {
    queue: 1,
    size: 32,
    enabled: true,
    vector: null,
    descriptorArea: `0x${descriptorArea.toString(16)}`,
    driverArea: `0x${driverArea.toString(16)}`,
    deviceArea: `0x${deviceArea.toString(16)}`,
  });
  device.reset();
  assertEquals([model.status, model.queues[1]!.enabled], [0, false]);
  assertEquals(transport.queueView(1).descriptorArea, "0x0");
});

Deno.test("N-4.8: nothing is sent after STATUS_SET 0 before its success; without it the driver does not go on", async () => {
  await using fixture = await driven();
  const { transport, model, device } = fixture;
  using virtio = new VirtioDevice(transport);
  virtio.negotiate();
  commands(fixture);
  device.answer = (command) =>
    command.is === "4.0" && command.data[0] === 0 ? { ack: 255 } : model.answer(command);
  const refused = assertThrows(() => virtio.negotiate(), ManagementCommandError, "STATUS_SET");
  assertEquals([refused.ackName, commands(fixture)], ["ERR", ["4.0"]]);
  // Not answered, and answered when somebody looks for it.
  device.answer = (command) => command.is === "4.0" ? undefined : model.answer(command);
  const seen: string[][] = [];
  fixture.pumped.pump = () => {
    if (device.held.length === 0) return;
    seen.push(device.commands);
    if (seen.length < 3) return;
    device.answer = model.answer;
    device.release(model.answer(device.held[0]!.command));
  };
  transport.reset();
  assertEquals(seen, [["4.0"], ["4.0"], ["4.0"]]);
  assertEquals(commands(fixture), ["4.0", "4.1"]);
});

Deno.test("N-4.15: vectors, state, size, addresses, and only then VQ_ENABLE_SET", async () => {
  await using fixture = await driven();
  const { transport } = fixture;
  using device = new VirtioDevice(transport);
  device.negotiate();
  bindInterrupts(transport, "auto", [0, 1]);
  commands(fixture);
  device.createQueue(1, { size: 32, vector: 1, start: { layout: "split", availableIndex: 5 } });
  const sent = commands(fixture);
  assertEquals(sent.filter((one) => one === "9.0").length, 1);
  const before = sent.slice(0, sent.indexOf("9.0")), after = sent.slice(sent.indexOf("9.0") + 1);
  assertEquals(new Set(before), new Set(["10.1", "7.0", "7.1", "12.0", "10.0", "8.0"]));
  assertEquals(after, ["11.1"], "nothing of the queue is set while it is enabled");
});

Deno.test("N-4.17, A-4.28: a notification is the queue's index, 16 bits, at the address that the device gave", async () => {
  await using fixture = await driven();
  const { transport, notifyAreas } = fixture;
  const doorbell = transport.doorbell(2);
  doorbell.ring(5, 1);
  assertEquals(notifyAreas.writes, [[0xe000_1004n, 2]]);
  transport.close();
  assertThrows(() => doorbell.ring(0, 0), ClosedError);
});

Deno.test("queues are counted by VQ_SIZE_GET, once; a destroyed device has not 0 queues, it is gone", async () => {
  await using fixture = await driven();
  const { transport, model, device } = fixture;
  assertEquals([transport.queueCount, transport.queueCount], [3, 3]);
  assertEquals(commands(fixture), ["10.1", "10.1", "10.1", "10.1"]);
  assertEquals([transport.queueMaxSize(1), transport.queueMaxSize(9)], [128, 0]);
  // A device that gives no reasons.
  device.answer = (command) => model.answer(command).ack === undefined ? model.answer(command) : { ack: 255 };
  assertEquals(transport.queueMaxSize(9), 0);
  device.answer = () => ({ ack: 3 });
  assertThrows(() => transport.queueMaxSize(1), ManagementCommandError, "NO_DEVICE");
});

Deno.test("N-4.10, A-4.25: the config space is as long as that of the device type; accesses in one piece, each a command", async () => {
  await using fixture = await driven();
  const { transport, model } = fixture;
  // virtio_net_config has 28 bytes, this device 20.
  assertEquals(transport.configSizeBytes, 28);
  assertEquals([transport.readConfig(4, 4), transport.readConfig(6, 2), transport.readConfig(19, 1)], [
    0x08070605,
    0x0807,
    20,
  ]);
  transport.writeConfig(8, 4, 0xdeadbeef);
  assertEquals([...model.config.slice(8, 12)], [0xef, 0xbe, 0xad, 0xde]);
  assertEquals(commands(fixture), ["6.0", "6.0", "6.0", "6.1"]);
  assertThrows(() => transport.readConfig(28, 1), UsageError);
  assertThrows(() => transport.writeConfig(0, 1, 256), UsageError);
  assertEquals(commands(fixture), []);
  const error = assertThrows(() => transport.readConfig(20, 1), ManagementCommandError);
  assertEquals([error.ackName, error.message.includes("offset 20, 1 byte")], ["CONFIG", true]);
  model.generation = 9;
  assertEquals(transport.configGeneration(), 9);
});

Deno.test("a device type without config space has none; of one that is not known, the device says where it ends", async () => {
  {
    await using fixture = await driven(4);
    assertEquals(fixture.transport.configSizeBytes, 0);
  }
  await using fixture = await driven(42);
  assertEquals(fixture.transport.readConfig(16, 4), 0x14131211);
  assertThrows(() => fixture.transport.readConfig(20, 4), ManagementCommandError, "CONFIG");
});

Deno.test("N-4.6, A-4.15: the driver is shown what the caller lets it see, and can accept no more; what no command carries is never shown", async () => {
  await using fixture = await driven(1, { features: ~(1n << 29n) });
  const { transport, model } = fixture;
  model.features |= 1n << 37n | 1n << 38n | 1n << 39n | 1n << 41n;
  assertEquals(transport.readDeviceFeatures(), 1n << 32n | RING_RESET);
  assertThrows(() => transport.writeDriverFeatures(1n << 32n | 1n << 29n), UsageError, "VIRTIO_F_EVENT_IDX");
  assertThrows(() => transport.writeDriverFeatures(1n << 38n), UsageError, "VIRTIO_F_NOTIFICATION_DATA");
  assertThrows(() => transport.writeDriverFeatures(1n << 64n), UsageError, "above 63");
  transport.writeDriverFeatures(1n << 32n);
  assertEquals([model.accepted, transport.driverFeatures], [1n << 32n, 1n << 32n]);
});

Deno.test("N-4.12: vectors are messages of the platform; set and enabled for each source, read back from what was set", async () => {
  await using fixture = await driven();
  const { transport, msi } = fixture;
  assertEquals(["msix", "intx", "msi"].map((kind) => transport.interruptCount(kind as "msix")), [3, 0, 0]);
  assertThrows(() => transport.setConfigVector(0), DeviceError, "refuses");
  const bound = bindInterrupts(transport, "auto", [0, 1]);
  assertEquals([bound.kind, bound.vectors.length, msi.available], ["msix", 3, 0]);
  transport.setQueueVector(1, 2);
  assertEquals(commands(fixture), ["7.3", "7.4", "7.0", "7.1"]);
  assertEquals(transport.device.queueMsi(1), {
    address: 0xfee0_0000n,
    data: 13,
    enabled: true,
    masked: false,
  });
  assertEquals(transport.queueView(1).vector, 2);
  fixture.device.seen.length = 0;
  transport.setQueueVector(1, null);
  transport.setQueueVector(1, null);
  assertEquals(commands(fixture), ["7.1"]);
  assertEquals(transport.queueView(1).vector, null);
  assertThrows(() => transport.setQueueVector(1, 3), DeviceError, "refuses");
  assertThrows(() => transport.enableInterrupts("msix", 1), UsageError, "on already");
  assertThrows(() => transport.enableInterrupts("intx", 1), UnsupportedError, "no intx");
  assertEquals(bound.vectors.map((one) => one.acknowledge()), [3, 3, 3]);
  transport.disableInterrupts();
  assertEquals([msi.available, msi.allotted.every((one) => one.closed)], [3, true]);
});

Deno.test("N-4.12: where there are no messages to be had, drivers poll, and are told why when they insist", async () => {
  await using fixture = await driven(1, { lack: "kernel VFIO gives no address" });
  const { transport } = fixture;
  assertEquals(bindInterrupts(transport, "auto", [0]).kind, "none");
  const error = assertThrows(() => bindInterrupts(transport, "msix", [0]), UnsupportedError);
  assertEquals(error.hint, "kernel VFIO gives no address");
});

Deno.test("eventfds that are given are the transport's, also when vectors cannot be had", async () => {
  await using fixture = await driven();
  const { transport, msi } = fixture;
  const given = [new EventFd(), new EventFd()];
  assertThrows(() => transport.enableInterrupts("msix", 3, given), UsageError, "2 eventfds for 3");
  assertEquals(given.every((one) => one.closed), true);
  const more = [new EventFd(), new EventFd(), new EventFd()];
  msi.allot = () => {
    throw new UnsupportedError("no more");
  };
  assertThrows(() => transport.enableInterrupts("msix", 3, more), UnsupportedError);
  assertEquals(more.slice(1).every((one) => one.closed), true);
  more[0]!.close();
});

Deno.test("N-4.19, N-4.20, A-4.23, A-4.24: VQ_RESET needs RING_RESET of the managed device, and is looked after", async () => {
  await using fixture = await driven();
  const { transport, model, device } = fixture;
  transport.writeDriverFeatures(1n << 32n);
  assertThrows(() => transport.resetQueue(1), UnsupportedError, "VIRTIO_F_RING_RESET");
  transport.writeDriverFeatures(1n << 32n | RING_RESET);
  device.seen.length = 0;
  model.queues[1]!.enabled = true;
  transport.resetQueue(1);
  assertEquals(commands(fixture), ["14.1", "9.1"]);
  device.answer = (command) => command.is === "9.1" ? { data: Uint8Array.of(1) } : model.answer(command);
  const error = assertThrows(() => transport.resetQueue(1), DeviceError, "still set after VQ_RESET_DO");
  assertEquals(error.location, { function: "fake 0/7", queue: 1, field: "queue_enable" });
});

Deno.test("N-4.14, A-4.17: suspend disables the queues, reads where they stand, then resets; resume sets that before enable", async () => {
  await using fixture = await driven();
  const { transport, model } = fixture;
  using device = new VirtioDevice(transport);
  device.negotiate();
  device.createQueue(0, { size: 16 });
  device.createQueue(1, { size: 16 });
  device.driverOk();
  model.queues[1]!.state = 5;
  commands(fixture);
  const states = device.suspend();
  assertEquals(commands(fixture), ["9.0", "9.0", "12.1", "12.1", "4.0", "4.1"]);
  assertEquals([...states.values()], [
    { layout: "split", availableIndex: 0 },
    { layout: "split", availableIndex: 5 },
  ]);
  device.reset();
  device.negotiate();
  commands(fixture);
  const start = { layout: "split", availableIndex: 5 } as const;
  device.createQueue(1, { size: 16, start });
  // VQ_SIZE_GET, VQ_STATE_SET, then as ever. A queue that begins at the beginning needs no state.
  assertEquals(commands(fixture), ["10.1", "12.0", "10.0", "8.0", "9.0", "11.1"]);
  assertEquals(model.queues[1]!.state, 5);
  device.createQueue(0, { size: 16 });
  assertEquals(commands(fixture).includes("12.0"), false);
});

Deno.test("destroyed while in use: the transport is closed, a driver's calls are ClosedErrors, and its end sends nothing", async () => {
  await using fixture = await driven(4);
  const { transport, management, device } = fixture;
  const rng = await VirtioRng.open(transport, { interrupts: "none" });
  await management.destroy(7n);
  assertEquals(transport.closed, true);
  device.seen.length = 0;
  await assertRejects(() => rng.read(4), ClosedError);
  assertThrows(() => transport.readStatus(), ClosedError);
  assertThrows(() => transport.queueCount, ClosedError);
  rng.close();
  await rng.settled;
  transport.close();
  assertEquals(device.seen.length, 0);
});

Deno.test("A-4.36: a refused FEATURES_OK, and a device that is gone in mid-flight, come as what they are", async () => {
  await using fixture = await driven();
  const { transport, model, device } = fixture;
  device.answer = (command) => {
    const answer = model.answer(command);
    model.status &= ~8;
    return answer;
  };
  using driver = new VirtioDevice(transport);
  assertThrows(() => driver.negotiate(), DeviceError, "refuses FEATURES_OK");
  device.answer = () => ({ ack: 3 });
  const error = assertThrows(() => driver.negotiate(), ManagementCommandError);
  assertEquals([error.field, error.commandName], ["device_id", "STATUS_SET"]);
});

Deno.test("a trace tells each register by its name", async () => {
  await using fixture = await opened(new ManagedModel().answer);
  const seen: string[] = [];
  using transport = fixture.management.openTransport(7n, {
    trace: ({ kind, register, value }) => void seen.push(`${kind} ${register} ${value}`),
  });
  transport.queueEnabled(2);
  transport.writeStatus(3);
  assertEquals(seen, ["write queue_select 2", "read queue_enable 0", "write device_status 3"]);
});

Deno.test("N-4.18: with an address space memory comes from there, and VQ_ASID_SET precedes every enable", async () => {
  const spaces = new Map([[5, new FakeTransport({ deviceId: 1, features: 0n, queueSizes: [] }).dma]]);
  const fn = Object.assign(new FakeDevice({}), { addressSpace: (id: number) => spaces.get(id)! });
  const model = new ManagedModel();
  await using fixture = await opened((one) => one.is === "13.1" ? {} : model.answer(one), {
    function: fn,
    msi: new TestMsi(),
    notifyAreas: new TestAreas(),
  });
  const { management, device } = fixture;
  assertEquals(management.addressSpace(5), spaces.get(5)!);
  using transport = management.openTransport(7n, { addressSpace: 5 }) as ManagedTransport;
  assertEquals(transport.dma, spaces.get(5)!);
  assertEquals(device.seen.length, 0);
  const addresses = { size: 8, descriptorArea: 0x1000n, driverArea: 0x2000n, deviceArea: 0x3000n };
  transport.reset();
  device.seen.length = 0;
  for (const queue of [0, 1]) transport.enableQueue(queue, addresses);
  assertEquals(device.commands, ["10.0", "8.0", "13.1", "9.0", "10.0", "8.0", "13.1", "9.0"]);
  const sets = device.seen.filter(({ is }) => is === "13.1").map(({ data }) => data.toHex());
  assertEquals(sets, ["0000000005000000", "0100000005000000"]);
});
