import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type ManagedDevice,
  ManagementCommandError,
  type TvqAckName,
  type VirtioManagement,
} from "../../../drivers/management/virtio_management.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { EventFd } from "../../../ffi/mod.ts";
import { DEVICE_ID } from "../../../lib/virtio/spec/device_id.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import { STATUS } from "../../../lib/virtio/spec/status.ts";
import { TVQ_COMMAND, type TvqCommand } from "../../../lib/virtio/spec/transport_vq.ts";
import { Random } from "../../random.ts";
import { MANAGEMENT, ManagementHost, RINGS } from "./management_host.ts";

const { acknowledge, driver, featuresOk, driverOk, deviceNeedsReset } = STATUS;
const READY = acknowledge | driver | featuresOk;

/** A command by hand. */
function send(
  management: VirtioManagement,
  command: TvqCommand,
  deviceId: bigint,
  out: Uint8Array = new Uint8Array(),
  inBytes = 16,
): Promise<Uint8Array<ArrayBuffer>> {
  return management.execute({ class: command.class, command: command.command, deviceId, out, inBytes });
}

/** It must be refused with this acknowledgement, which `ManagementCommandError` names with the command and the device. */
async function refused(
  ack: TvqAckName,
  command: TvqCommand,
  deviceId: bigint,
  sent: Promise<unknown>,
): Promise<void> {
  const error = await assertRejects(() => sent, ManagementCommandError);
  assertEquals([error.commandName, error.deviceId, error.ackName], [command.name, deviceId, ack]);
  assertEquals(error.location.function, MANAGEMENT);
}

/** Ring features, and nothing that would make rings larger than these tests need. */
const PLAIN = FEATURE.VERSION_1;

/** Where a ring of four entries that is made by hand has its parts. */
const AVAILABLE = 64, USED = 128;

/** Everything up to DRIVER_OK by commands, with one ring in memory of the function. @returns the ring's memory */
async function driveByHand(
  host: ManagementHost,
  device: ManagedDevice,
  prepare: () => Promise<void> = async () => {},
) {
  const memory = host.use(host.function.transport.dma.allocate(4096, { label: "a ring by hand" }));
  for (const status of [0, acknowledge, acknowledge | driver]) await device.setStatus(status);
  await device.setDriverFeatures(PLAIN);
  await device.setStatus(READY);
  assertEquals(await device.status(), READY);
  await device.setQueueSize(0, 4);
  const { iova } = memory;
  await device.setQueueAreas(0, {
    descriptorArea: iova,
    driverArea: iova + BigInt(AVAILABLE),
    deviceArea: iova + BigInt(USED),
  });
  await prepare();
  await device.enableQueue(0, true);
  await device.setStatus(READY | driverOk);
  return memory;
}

/** Until a condition holds. */
async function until(is: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (await is()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error("it did not come to that");
}

Deno.test("N-4.2, N-4.4, N-4.5, A-4.33, A-4.35: a wrong command is refused and named, and nothing has changed by it", async () => {
  await using host = await ManagementHost.start();
  const { management } = host;
  const device = await host.rng();
  await device.setStatus(acknowledge);
  const before = await management.resources();
  const { AVAIL_RES_GET, MDEV_CREATE, MDEV_DESTROY, STATUS_SET, STATUS_GET, VQ_SIZE_SET, FEAT_DRIVER_SET } =
    TVQ_COMMAND;
  const create = MDEV_CREATE.out.aligned.encode({
    virtio_device_id: DEVICE_ID.entropy,
    device_features: RINGS,
  });
  const wrong: readonly (readonly [TvqAckName, TvqCommand, bigint, Uint8Array, number?])[] = [
    ["DEVICE_ID", AVAIL_RES_GET, device.id, new Uint8Array()],
    ["DEVICE_ID", MDEV_CREATE, device.id, create],
    ["OUT_DATA", MDEV_CREATE, 0n, create.subarray(0, 15)],
    ["IN_DATA", MDEV_CREATE, 0n, create, 7],
    ["DEVICE_ID", MDEV_DESTROY, 0n, new Uint8Array()],
    ["NO_DEVICE", MDEV_DESTROY, 77n, new Uint8Array()],
    ["DEVICE_ID", STATUS_SET, 0n, Uint8Array.of(0)],
    ["OUT_DATA", STATUS_SET, device.id, new Uint8Array()],
    ["VALUE", STATUS_SET, device.id, Uint8Array.of(driverOk | acknowledge)],
    ["IN_DATA", STATUS_GET, device.id, new Uint8Array(), 0],
    ["QUEUE_INDEX", VQ_SIZE_SET, device.id, VQ_SIZE_SET.out.aligned.encode({ queue_index: 1, size: 4 })],
    ["VALUE", VQ_SIZE_SET, device.id, VQ_SIZE_SET.out.aligned.encode({ queue_index: 0, size: 3 })],
    ["OUT_DATA", FEAT_DRIVER_SET, device.id, new Uint8Array(7)],
  ];
  for (const [ack, command, deviceId, out, inBytes] of wrong) {
    await refused(ack, command, deviceId, send(management, command, deviceId, out, inBytes));
  }
  assertEquals(await management.resources(), before);
  assertEquals([await device.status(), await device.queueSize(0), await device.driverFeatures()], [
    acknowledge,
    64,
    0n,
  ]);
  const reports = await host.stop();
  assertEquals(reports.length, wrong.length, "the device says of each what rule it broke");
  assertEquals(
    new Set(reports.map(({ rule }) => rule)),
    new Set(["N-4.2", "A-4.35", "N-4.4", "A-4.33", "N-4.5", "1.1", "N-4.13", "2.2"]),
  ); // deno-fmt-ignore
});

Deno.test("N-4.3, A-4.14, A-4.16: CREATE that cannot be: features, configuration, type", async () => {
  await using host = await ManagementHost.start();
  const { management } = host;
  const before = await management.resources();
  const { net, block, console: terminal } = DEVICE_ID;
  const config = new Uint8Array(60);
  for (
    const [ack, request] of [
      ["FEATURES", { type: net, features: RINGS | 1n << 0n }],
      ["FEATURES", { type: net, features: RINGS | 1n << 47n }],
      ["FEATURES", { type: net, features: 0n }],
      ["CONFIG", { type: block, features: RINGS, config }],
      ["DEVICE_TYPE", { type: terminal, features: RINGS }],
    ] as const
  ) await refused(ack, TVQ_COMMAND.MDEV_CREATE, 0n, management.create(request));
  assertEquals(await management.resources(), before);
  assertEquals(management.devices, []);
});

Deno.test("A-4.10, A-4.13: AVAIL_RES is right after every CREATE and DESTROY, and no id comes twice", async () => {
  await using host = await ManagementHost.start({ virtqueues: 12, minQueues: 2, devices: 5 });
  const { management } = host;
  const start = await management.resources();
  assertEquals(start, { queues: 12, minQueues: 2, maxQueues: 12, devices: 5 });
  const random = new Random(11);
  const seen = new Set<bigint>();
  const alive: { device: ManagedDevice; queues: number }[] = [];
  for (let step = 0; step < 150; step++) {
    const taken = alive.reduce((sum, { queues }) => sum + queues, 0);
    const left = { queues: 12 - taken, devices: Math.min(5 - alive.length, Math.floor((12 - taken) / 2)) };
    assertEquals(await management.resources(), { ...start, ...left });
    if (random.below(2) === 0 && alive.length > 0) {
      const [{ device }] = alive.splice(random.below(alive.length), 1) as [typeof alive[number]];
      await management.destroy(device.id);
      continue;
    }
    const kind = random.below(2) === 0 ? "rng" : "net";
    const queues = kind === "rng" ? 2 : 3;
    if (left.devices === 0 || left.queues < queues) {
      await refused("RESOURCES", TVQ_COMMAND.MDEV_CREATE, 0n, host[kind]());
    } else {
      const device = await host[kind]();
      assert(device.id !== 0n && !seen.has(device.id));
      seen.add(device.id);
      alive.push({ device, queues });
    }
  }
  for (const { device } of alive) await management.destroy(device.id);
  assertEquals(await management.resources(), start);
  assertEquals(await host.stop(), [], "to ask for more than there is breaks no rule");
});

Deno.test("A-4.26: DESTROY of devices that are driven: the others go on, and the host has nothing to report", async () => {
  await using host = await ManagementHost.start();
  const { management } = host;
  const start = await management.resources();
  const devices = [await host.rng(), await host.rng(), await host.rng()];
  const drivers = await Promise.all(devices.map((device) => VirtioRng.open(host.transport(device))));
  assertEquals((await Promise.all(drivers.map((rng) => rng.read(64)))).map(({ length }) => length), [
    64,
    64,
    64,
  ]);
  await management.destroy(devices[1]!.id);
  await refused(
    "NO_DEVICE",
    TVQ_COMMAND.STATUS_GET,
    devices[1]!.id,
    send(management, TVQ_COMMAND.STATUS_GET, devices[1]!.id),
  );
  for (const rng of [drivers[0]!, drivers[2]!]) assertEquals((await rng.read(5000)).length, 5000);
  for (const rng of drivers) rng.close();
  for (const { id } of [devices[0]!, devices[2]!]) await management.destroy(id);
  assertEquals(await management.resources(), start);
  assertEquals((await host.stop()).map(({ rule }) => rule), ["A-4.33"]);
});

Deno.test("A-4.34: a reset of the management device ends its devices and their ids, and AVAIL_RES is as at the start", async () => {
  await using host = await ManagementHost.start();
  const { management } = host;
  const start = await management.resources();
  const device = await host.rng();
  const other = await host.net();
  const rng = await VirtioRng.open(host.transport(device));
  assertEquals((await rng.read(64)).length, 64);
  assertEquals((await management.resources()).queues, start.queues - 4);
  await management.reset();
  assertEquals(await management.resources(), start);
  for (const { id } of [device, other]) {
    await refused("NO_DEVICE", TVQ_COMMAND.STATUS_GET, id, send(management, TVQ_COMMAND.STATUS_GET, id));
  }
  rng.close();
  const next = await host.rng();
  assert(next.id !== device.id && next.id !== other.id, "A-4.10");
  await using again = await VirtioRng.open(host.transport(next));
  assertEquals((await again.read(64)).length, 64);
});

Deno.test("N-4.11, A-4.4: what comes while a queue's MSI is masked is kept once, and delivered on unmask; while disabled it is lost", async () => {
  await using host = await ManagementHost.start();
  const device = await host.rng();
  const vector = 6;
  using heard = new EventFd();
  host.function.device.setIrqs({ index: 2, action: "trigger", start: vector, eventFds: [heard] });
  const memory = await driveByHand(host, device);
  const view = new DataView(memory.buffer);
  let offered = 0;
  /** The device fills `count` buffers, one after the other, each with an interrupt. */
  const fill = async (count: number) => {
    for (let i = 0; i < count; i++) {
      await device.enableQueue(0, false);
      view.setBigUint64(0, memory.iova + 1024n, true);
      view.setUint32(8, 16, true);
      view.setUint16(12, 2, true);
      view.setUint16(AVAILABLE + 2, ++offered, true);
      await device.enableQueue(0, true);
      await until(() => Promise.resolve(view.getUint16(USED + 2, true) === offered));
    }
  };
  await device.setQueueMsi(0, { address: 0xfee0_0000n, data: vector });
  await fill(1);
  assertEquals(heard.take(), 0, "disabled at first");
  await device.enableQueueMsi(0, true);
  await fill(2);
  assertEquals(heard.take(), 2);
  await device.maskQueueMsi(0, true);
  await fill(3);
  assertEquals(heard.take(), 0);
  await device.maskQueueMsi(0, false);
  assertEquals(heard.take(), 1, "three became one");
  await device.maskQueueMsi(0, true);
  await fill(1);
  await device.enableQueueMsi(0, false);
  await device.enableQueueMsi(0, true);
  await device.maskQueueMsi(0, false);
  assertEquals(heard.take(), 0, "disabled in between");
  assertEquals(await device.queueState(0, "split", 4), { layout: "split", availableIndex: offered });
  await device.setStatus(0);
  assertEquals(await host.stop(), []);
});

Deno.test("N-4.11: a reset disables MSI: no message comes from what was set before it", async () => {
  await using host = await ManagementHost.start();
  const device = await host.rng();
  const vector = 5;
  using heard = new EventFd();
  host.function.device.setIrqs({ index: 2, action: "trigger", start: vector, eventFds: [heard] });
  await driveByHand(host, device);
  const violate = async () => {
    // A notification before there is a buffer is in order; a ring whose memory is gone is not, and raises the configuration's message.
    await device.setQueueAreas(0, { descriptorArea: 0n, driverArea: 0n, deviceArea: 0n });
    await device.enableQueue(0, true);
    await until(async () => ((await device.status()) & deviceNeedsReset) !== 0);
  };
  const arm = async () => {
    await device.setConfigMsi({ address: 0xfee0_0000n, data: vector });
    await device.enableConfigMsi(true);
  };
  await arm();
  await device.enableQueue(0, false);
  await violate();
  assertEquals(heard.take(), 1);
  await driveByHand(host, device);
  await device.enableQueue(0, false);
  await violate();
  assertEquals(heard.take(), 0, "a reset came in between");
  const reports = await host.stop();
  assertEquals(reports.map((one) => [one.function, one.queue]), [[device.name, 0], [device.name, 0]]);
});

Deno.test("N-4.18: a queue in an address space that nobody filled: its first access is a violation, which names device and queue", async () => {
  await using host = await ManagementHost.start();
  const device = await host.rng();
  const other = await host.rng();
  await driveByHand(host, device, () => device.setQueueAsid(0, 7));
  await until(async () => ((await device.status()) & deviceNeedsReset) !== 0);
  await using rng = await VirtioRng.open(host.transport(other));
  assertEquals((await rng.read(64)).length, 64, "the device beside it goes on");
  // The same memory in address space 0, to which a reset leads back, is there.
  const memory = await driveByHand(host, device);
  assertEquals((await device.status()) & deviceNeedsReset, 0);
  assertEquals(memory.closed, false);
  rng.close();
  const reports = await host.stop();
  assertEquals(reports.map((one) => [one.function, one.queue]), [[device.name, 0]]);
});
