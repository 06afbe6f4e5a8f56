import { assert, assertEquals, assertRejects } from "@std/assert";
import { ManagementCommandError, VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { usedBurst, VirtioDevice } from "../../../lib/virtio/mod.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import { STATUS } from "../../../lib/virtio/spec/status.ts";
import type { ManagedTransport } from "../../../lib/virtio/transport/managed.ts";
import { Traffic } from "../migration/traffic.ts";
import { ManagementHost, NET } from "./management_host.ts";

const OTHER = "0000:06:00.0";
const LAYOUTS = ["split", "packed"] as const;
const POLL = { interrupts: "none", queueSize: 32 } as const;

/** Two management functions on one switch. */
async function two() {
  const host = await ManagementHost.start({}, {}, [{
    address: OTHER,
    kind: "virtio-management",
    switch: "s0",
  }]);
  const there = host.use(host.served.reach(OTHER, { profile: "transport-vq" }));
  const other = host.use(await VirtioManagement.open(there.transport, { function: there.device }));
  return { host, other };
}

for (const layout of LAYOUTS) {
  Deno.test(`4.1 class 12, ${layout}: a managed device saved on one management device goes on in another, with what was on its way`, async () => {
    const { host, other } = await two();
    await using _ = host;
    const packed = layout === "packed";
    const sender = host.use(await VirtioNet.open(host.transport(await host.net()), { ...POLL, packed }));
    const from = await host.net();
    let receiver = await VirtioNet.open(host.transport(from), { ...POLL, packed });
    const traffic = new Traffic(receiver.mac, sender.mac, 7);
    // Uneven rounds, so that rings stand somewhere in the middle.
    for (let round = 0; round < 5; round++) {
      traffic.send(sender, 7 + round);
      await traffic.drain(receiver);
    }
    traffic.send(sender, 9);
    const mac = receiver.mac.slice();
    const saved = JSON.parse(JSON.stringify(await receiver.suspend()));
    assertEquals(saved.pairs[0].receive.device.layout, layout);
    assert(JSON.stringify(saved.pairs[0].receive.device) !== JSON.stringify(saved.pairs[0].transmit.device));

    const config = new Uint8Array(12);
    config.set(mac);
    const to = await other.create({ type: 1, features: NET, config });
    const transport = host.use(other.openTransport(to.id));
    receiver = await VirtioNet.resume(transport, saved, { interrupts: "none", packed, rings: "continue" });
    assertEquals([receiver.rings, receiver.macText], ["continued", saved.mac]);
    // What the switch held for the address came along; now the one that it came from can go.
    await traffic.drain(receiver);
    await host.management.destroy(from.id);
    for (let round = 0; round < 5; round++) {
      traffic.send(sender, 11 + round);
      await traffic.drain(receiver);
    }
    assertEquals(traffic.received, traffic.sent);
    receiver.close();
    sender.close();
    assertEquals(await host.stop(), []);
  });

  Deno.test(`N-4.14, A-4.17, A-4.22, ${layout}: a disabled queue stops and keeps where it stands; what is set before enable is where it goes on`, async () => {
    await using host = await ManagementHost.start();
    const device = await host.rng();
    const transport = host.transport(device);
    using driven = driver(transport, layout);
    const { virtio, queue } = driven;
    await driven.fetch(20);
    await device.enableQueue(0, false);
    assertEquals(await device.queueEnabled(0), false);
    const state = await device.queueState(0, layout, 8);
    assertEquals(
      state,
      layout === "split"
        ? { layout, availableIndex: 20 }
        // 20 of 8: twice round, and 4 on.
        : { layout, availableSlot: 4, availableWrap: 1, usedSlot: 4, usedWrap: 1 },
    );
    // Nothing is done while it is disabled.
    driven.offer();
    await new Promise((resolve) => setTimeout(resolve, 30));
    assertEquals(queue.hasUsed(), false);
    await device.enableQueue(0, true);
    queue.notify();
    await driven.take();

    // Of a live device the state is set while the queue is disabled, and only then.
    await assertRejects(() => device.setQueueState(0, state, 8), ManagementCommandError, "STATE");
    const states = virtio.suspend();
    assertEquals(states.get(0), {
      ...state,
      ...(layout === "split" ? { availableIndex: 21 } : { availableSlot: 5, usedSlot: 5 }),
    });
    virtio.resume();
    await driven.fetch(5);
    assertEquals((await host.stop()).map(({ rule }) => rule), ["A-4.30"]);
  });

  Deno.test(`N-4.19, N-4.20, A-4.23, A-4.24, ${layout}: one queue is reset alone, is as in the beginning, and is set up again`, async () => {
    await using host = await ManagementHost.start();
    const device = await host.net();
    const transport = host.transport(device);
    using virtio = new VirtioDevice(transport);
    virtio.negotiate(layout === "packed" ? {} : { refused: FEATURE.RING_PACKED });
    virtio.createQueue(0, { size: 16 });
    virtio.createQueue(1, { size: 16 });
    virtio.driverOk();
    await device.setQueueMsi(1, { address: 0xfee0_0000n, data: 9 });
    await device.enableQueueMsi(1, true);
    using buffer = transport.dma.allocate(4096);
    virtio.resetQueue(1);
    assertEquals([await device.queueEnabled(1), await device.queueEnabled(0)], [false, true]);
    assertEquals(device.queueMsi(1).enabled, false);
    const beginning = layout === "split"
      ? { layout, availableIndex: 0 }
      : { layout, availableSlot: 0, availableWrap: 1, usedSlot: 0, usedWrap: 1 };
    assertEquals(await device.queueState(1, layout, 16), beginning);
    assert(await device.queueSize(1) > 16);
    const queue = virtio.createQueue(1, { size: 8 });
    queue.addSingle(buffer.iovaLo, buffer.iovaHi, 80, false);
    queue.flush();
    const burst = usedBurst(8);
    for (let tries = 0; queue.takeUsed(burst) === 0; tries++) {
      assert(tries < 1000, "the queue is not served");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    virtio.close();
    assertEquals(await host.stop(), []);
  });
}

Deno.test("A-4.24: VQ_RESET is refused where the managed device did not negotiate RING_RESET", async () => {
  await using host = await ManagementHost.start();
  const device = await host.rng();
  const transport = host.transport(device);
  using virtio = new VirtioDevice(transport);
  virtio.negotiate({ refused: FEATURE.RING_RESET });
  virtio.createQueue(0, { size: 8 });
  virtio.driverOk();
  const error = await assertRejects(() => device.resetQueue(0), ManagementCommandError);
  assertEquals([error.ackName, error.queue], ["NOT_NEGOTIATED", 0]);
  assertEquals(await device.queueEnabled(0), true);
  virtio.close();
  await host.stop();
});

Deno.test("A-4.36: after FEATURES_OK features are fixed; a refused FEATURES_OK is no failed command", async () => {
  await using host = await ManagementHost.start();
  const device = await host.rng();
  const offered = await device.features();
  await device.setStatus(STATUS.acknowledge | STATUS.driver);
  // Without VERSION_1 no modern device takes it.
  await device.setDriverFeatures(offered & ~FEATURE.VERSION_1);
  await device.setStatus(STATUS.acknowledge | STATUS.driver | STATUS.featuresOk);
  assertEquals(await device.status(), STATUS.acknowledge | STATUS.driver);
  await device.setDriverFeatures(offered);
  await device.setStatus(STATUS.acknowledge | STATUS.driver | STATUS.featuresOk);
  assertEquals(await device.status(), STATUS.acknowledge | STATUS.driver | STATUS.featuresOk);
  const late = await assertRejects(() => device.setDriverFeatures(offered), ManagementCommandError);
  assertEquals(late.ackName, "STATE");
  assertEquals(await device.driverFeatures(), offered);
  await host.stop();
});

/** An entropy device by hand: one queue of 8, one buffer. */
function driver(transport: ManagedTransport, layout: "split" | "packed") {
  const virtio = new VirtioDevice(transport);
  virtio.negotiate(layout === "packed" ? {} : { refused: FEATURE.RING_PACKED });
  const queue = virtio.createQueue(0, { size: 8 });
  virtio.driverOk();
  const buffer = transport.dma.allocate(4096);
  const burst = usedBurst(8);
  const offer = () => {
    queue.addSingle(buffer.iovaLo, buffer.iovaHi, 64, true);
    queue.flush();
  };
  const take = async () => {
    for (let tries = 0; queue.takeUsed(burst) === 0; tries++) {
      if (tries === 1000) throw new Error("the queue is not served");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  return {
    virtio,
    queue,
    offer,
    take,
    fetch: async (times: number) => {
      for (let i = 0; i < times; i++) {
        offer();
        await take();
      }
    },
    [Symbol.dispose]: () => {
      virtio.close();
      buffer.close();
    },
  };
}
