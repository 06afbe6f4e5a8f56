import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { ManagementCommandError, VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { ClosedError, PeerGoneError } from "../../../lib/errors/mod.ts";
import { STATUS } from "../../../lib/virtio/spec/status.ts";
import type { WaitMode } from "../../../lib/wait/waiter.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { MANAGEMENT, ManagementHost, RINGS } from "./management_host.ts";

const RNG = { type: 4, features: RINGS } as const;

Deno.test("N-4.7, N-4.8, N-4.14, N-4.16: a reset of a managed device leaves status 0, queues disabled and of their largest size, and it starts again", async () => {
  await using host = await ManagementHost.start();
  const device = await host.net();
  const transport = host.transport(device);
  await using net = await VirtioNet.open(transport, { queueSize: 16 });
  assertEquals([await device.queueSize(0), await device.queueEnabled(0)], [16, true]);
  assertEquals(
    await device.status(),
    STATUS.acknowledge | STATUS.driver | STATUS.featuresOk | STATUS.driverOk,
  );
  await device.setStatus(0);
  assertEquals([await device.status(), await device.queueEnabled(0)], [0, false]);
  const most = await device.queueSize(0);
  assert(most > 16);
  // The driver finds out, and brings it up again.
  await net.reset();
  assertEquals([net.resets, await device.queueEnabled(0)], [1, true]);
  net.close();
  assertEquals(await device.status(), 0);
  assertEquals(await host.stop(), []);
});

Deno.test("N-4.9: GENERATION_GET changes when what was read of the config space is another since, and at no other time", async () => {
  await using host = await ManagementHost.start();
  const device = await host.net(), other = await host.net();
  const transport = host.transport(device);
  await using net = await VirtioNet.open(transport, { interrupts: "none" });
  const look = async () => [await device.generation(), transport.configGeneration()];
  let [last] = await look();
  for (let round = 1; round <= 3; round++) {
    const before = await device.readConfig(0, 6);
    assertEquals(before, net.mac);
    assertEquals(await look(), [last, last], "reading changes nothing");
    // The device's own address is in its config space; the driver sets it by the control queue.
    await net.setMac(Uint8Array.of(2, 0, 0, 0, 0, round));
    const [now, byTransport] = await look();
    assertEquals(byTransport, now);
    assertNotEquals(now, last);
    last = now;
    assertEquals(await device.readConfig(0, 6), Uint8Array.of(2, 0, 0, 0, 0, round));
  }
  assertEquals(await other.generation(), 0, "that of one device is not another's");
  net.close();
  assertEquals(await host.stop(), []);
});

Deno.test("a transport that is closed resets its device, which another one drives then", async () => {
  await using host = await ManagementHost.start();
  const device = await host.rng();
  for (let round = 0; round < 3; round++) {
    using transport = host.management.openTransport(device.id);
    const rng = await VirtioRng.open(transport, { interrupts: round === 1 ? "msix" : "none" });
    assertEquals((await rng.read(100)).length, 100);
    transport.close();
    assertEquals(await device.status(), 0);
    rng.close();
    await rng.settled;
  }
  assertEquals(await host.stop(), []);
});

for (
  const [wait, interrupts] of [["eventfd", "msix"], ["adaptive", "msix"], [
    "poll",
    "none",
  ]] as const satisfies readonly [WaitMode, string][]
) {
  Deno.test(`A-4.26, A-4.33: destroyed while its driver waits (${wait}): the wait ends, the others go on, the id is never used again`, async () => {
    await using host = await ManagementHost.start();
    const { management } = host;
    const atStart = await management.resources();
    const [gone, stays] = [await host.net(), await host.net()];
    await using a = await VirtioNet.open(host.transport(gone), { wait, interrupts });
    await using b = await VirtioNet.open(host.transport(stays), { wait, interrupts });
    const [waiting, other] = [a.receive(Infinity), b.waitReceive(20)];
    await new Promise((resolve) => setTimeout(resolve, 20));
    assertEquals(await gone.status(), 15);
    await management.destroy(gone.id);
    await assertRejects(() => waiting, ClosedError, gone.name);
    assertEquals(await other, false);
    assertEquals([gone.destroyed, a.transport.closed], [true, true]);
    assertThrows(() => a.send(new Uint8Array(60)), ClosedError);
    const unknown = await assertRejects(
      () => management.execute({ deviceId: gone.id, class: 4, command: 1, inBytes: 1 }),
      ManagementCommandError,
    );
    assertEquals(unknown.ackName, "NO_DEVICE");
    assert((await management.create(RNG)).id > stays.id);
    // The other one still carries frames, to the VF that is not there: they leave all the same.
    b.send(new Uint8Array(60).fill(0xff, 0, 6));
    assertEquals(await b.waitTransmit(5000), true);
    assertEquals((await management.resources()).queues, atStart.queues - 3 - 1);
    a.close();
    b.close();
    const violations = (await host.stop()).filter(({ rule }) => rule !== "A-4.33");
    assertEquals(violations, []);
  });
}

Deno.test("A-4.34: a reset of the management device with drivers at work ends its devices, and all of it starts again", async () => {
  await using host = await ManagementHost.start();
  const { management } = host;
  const atStart = await management.resources();
  const devices = [await host.net(), await host.net()];
  const nets: VirtioNet[] = [];
  for (const device of devices) nets.push(await VirtioNet.open(management.openTransport(device.id)));
  const waiting = nets.map((net) => net.waitReceive(Infinity));
  const commands = devices.map((device) => device.setStatus(15));
  await management.reset();
  for (const one of waiting) await assertRejects(() => one, ClosedError);
  for (const one of commands) await one.catch((error) => assert(error instanceof ClosedError));
  for (const net of nets) {
    assertThrows(() => net.send(new Uint8Array(60)), ClosedError);
    net.close();
    await net.settled;
    net.transport.close();
  }
  assertEquals(management.devices, []);
  assertEquals(await management.resources(), atStart);
  // ids are unique over the life of the management device.
  const again = await host.net();
  assertEquals(devices.some(({ id }) => id >= again.id), false);
  await using net = await VirtioNet.open(host.transport(again));
  assertEquals(await net.waitReceive(5), false);
  net.close();
  assertEquals(await host.stop(), []);
});

Deno.test("A-4.34: a management device that is closed and opened again has nothing of before", async () => {
  await using host = await ManagementHost.start();
  const { management, function: { transport, device } } = host;
  const atStart = await management.resources();
  for (let i = 0; i < 5; i++) await host.rng();
  management.close();
  await management.settled;
  await using again = await VirtioManagement.open(transport, { function: device });
  assertEquals([await again.resources(), again.devices], [atStart, []]);
  const { id } = await again.create(RNG);
  using managed = again.openTransport(id);
  await using rng = await VirtioRng.open(managed);
  assertEquals((await rng.read(10)).length, 10);
  rng.close();
  again.close();
  await again.settled;
  assertEquals(await host.stop(), []);
});

Deno.test("A-4.27: hundreds of commands of many devices at once, each device's in its order", async () => {
  await using host = await ManagementHost.start({ virtqueues: 64 }, { depth: 16 });
  const devices = await Promise.all(Array.from({ length: 20 }, () => host.rng()));
  await Promise.all(devices.map(async (device) => {
    const size = await device.queueSize(0);
    // The last of what is set counts; each GET sees the SET before it.
    const gets: Promise<number>[] = [];
    for (let at = 1; at <= 16; at++) {
      void device.setQueueSize(0, at % 2 === 0 ? size : size / 2);
      gets.push(device.queueSize(0));
    }
    assertEquals(await Promise.all(gets), gets.map((_, at) => at % 2 === 0 ? size / 2 : size));
  }));
  const { sent, failed } = host.management.statistics;
  assertEquals([failed, sent], [0, 20 + 20 * 33]);
  assertEquals(await host.stop(), []);
});

Deno.test("the management function's host is killed under managed devices: every wait and command says so", async () => {
  const served = await TopologyHost.start([{ address: MANAGEMENT, kind: "virtio-management" }], {
    alone: true,
  });
  try {
    using fn = served.reach(MANAGEMENT, { profile: "transport-vq" });
    await using management = await VirtioManagement.open(fn.transport, { function: fn.device });
    const { id } = await management.create({ type: 1, features: RINGS });
    using transport = management.openTransport(id);
    await using net = await VirtioNet.open(transport, { interrupts: "msix", wait: "eventfd" });
    const waiting = assertRejects(() => net.waitReceive(Infinity), PeerGoneError);
    assertEquals(await management.device(id).status(), 15);
    await served.kill();
    await waiting;
    await assertRejects(() => management.resources(), PeerGoneError);
    assertThrows(() => transport.readStatus(), PeerGoneError);
  } finally {
    await served.stop().catch(() => {});
  }
});
