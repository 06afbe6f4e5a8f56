import { assert, assertEquals, assertRejects } from "@std/assert";
import { ManagementCommandError } from "../../../drivers/management/virtio_management.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import type { EventFd } from "../../../ffi/mod.ts";
import type { DmaMemory } from "../../../lib/memory/mod.ts";
import { usedBurst, VirtioDevice } from "../../../lib/virtio/mod.ts";
import { FunctionNotifyAreas } from "../../../drivers/management/virtio_management.ts";
import { ManagementHost } from "./management_host.ts";

/** An entropy device by hand, whose queue interrupts by vector 0. */
async function interrupting(host: ManagementHost) {
  const device = await host.rng();
  const transport = host.transport(device);
  const virtio = host.use(new VirtioDevice(transport));
  virtio.negotiate();
  const [vector] = transport.enableInterrupts("msix", 1);
  const queue = virtio.createQueue(0, { size: 8, vector: 0 });
  virtio.driverOk();
  const buffer: DmaMemory = host.use(transport.dma.allocate(4096));
  const burst = usedBurst(8);
  return {
    device,
    transport,
    buffer,
    eventFd: vector!.eventFd,
    /** One buffer, returned, with an interrupt asked for. */
    use: async () => {
      queue.enableInterrupts();
      queue.addSingle(buffer.iovaLo, buffer.iovaHi, 64, true);
      queue.flush();
      for (let tries = 0; queue.takeUsed(burst) === 0; tries++) {
        if (tries === 1000) throw new Error("the queue is not served");
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      // An interrupt comes after what it tells of.
      await device.status();
    },
  };
}

/** Whether it was signalled, or will be soon. */
async function signalled(eventFd: EventFd, withinMs = 2000): Promise<boolean> {
  for (const end = performance.now() + withinMs; performance.now() < end;) {
    if (eventFd.take() > 0) return true;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return false;
}

Deno.test("N-4.11, A-4.4: an interrupt of a masked queue is kept, once, and comes when it is unmasked and enabled", async () => {
  await using host = await ManagementHost.start();
  const { device, eventFd, use } = await interrupting(host);
  await use();
  assert(await signalled(eventFd));
  await device.maskQueueMsi(0, true);
  for (let i = 0; i < 3; i++) await use();
  assertEquals(await signalled(eventFd, 30), false);
  await device.maskQueueMsi(0, false);
  assert(await signalled(eventFd));
  assertEquals(await signalled(eventFd, 30), false, "three became one");
  // Disabled after it was kept: it does not come, and is lost.
  await device.maskQueueMsi(0, true);
  await use();
  await device.enableQueueMsi(0, false);
  await device.maskQueueMsi(0, false);
  await device.enableQueueMsi(0, true);
  assertEquals(await signalled(eventFd, 30), false);
  assertEquals(await host.stop(), []);
});

Deno.test("N-4.12: a message to the driver's memory is a write of four bytes there, which a driver may poll; elsewhere it is a violation", async () => {
  await using host = await ManagementHost.start();
  const { device, buffer, eventFd, use } = await interrupting(host);
  const word = new Uint32Array(buffer.memory.buffer, 2048, 3);
  await device.setQueueMsi(0, { address: buffer.iova + 2052n, data: 0xcafe_f00d });
  await use();
  for (let tries = 0; Atomics.load(word, 1) === 0; tries++) {
    assert(tries < 1000, "nothing was written");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assertEquals([...word], [0, 0xcafe_f00d, 0]);
  assertEquals(await signalled(eventFd, 20), false);
  await device.setQueueMsi(0, { address: 0xdead_0000_0000n, data: 1 });
  await use();
  const [violation, ...more] = await host.stop();
  assertEquals([violation?.rule, more], ["DMA", []]);
  assert(violation!.message.includes("0xdead00000000"));
});

Deno.test("vectors are allotted and given back: devices that are opened one after the other have them all", async () => {
  await using host = await ManagementHost.start({ virtqueues: 2, vectors: 2 });
  const devices = [await host.rng(), await host.rng()];
  for (let round = 0; round < 3; round++) {
    for (const device of devices) {
      using transport = host.management.openTransport(device.id);
      assertEquals(transport.interruptCount("msix"), 2);
      await using rng = await VirtioRng.open(transport, { interrupts: "msix", wait: "eventfd" });
      assertEquals(transport.interruptCount("msix"), 2);
      assertEquals((await rng.read(1000)).length, 1000);
    }
  }
  // Both at once: the second finds none left and polls.
  await using one = await VirtioRng.open(host.transport(devices[0]!));
  await using two = await VirtioRng.open(host.transport(devices[1]!));
  assertEquals([one.interruptKind, two.interruptKind], ["msix", "none"]);
  assertEquals((await two.read(1000)).length, 1000);
  one.close();
  two.close();
  assertEquals(await host.stop(), []);
});

Deno.test("N-4.13, N-4.17: each queue has an address of its own in a BAR of the management function, rung by an eventfd", async () => {
  await using host = await ManagementHost.start();
  const device = await host.net();
  using areas = new FunctionNotifyAreas(host.function.device);
  const places = new Set<bigint>();
  for (let queue = 0; queue < 3; queue++) {
    const area = await device.notifyArea(queue);
    places.add(area.address);
    assertEquals(areas.doorbell(area, queue, device.name).kind, "eventfd");
  }
  assertEquals(places.size, 3);
  // N-4.13. Queues are counted by VQ_SIZE_GET, since nothing says how many there are: that breaks no rule.
  assertEquals(host.transport(device).queueCount, 3);
  const error = await assertRejects(() => device.notifyArea(3), ManagementCommandError);
  assertEquals([error.ackName, error.queue], ["QUEUE_INDEX", 3]);
  assertEquals((await host.stop()).map(({ rule }) => rule), ["N-4.13"]);
});
