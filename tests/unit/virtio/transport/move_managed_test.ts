import { assertEquals, assertThrows } from "@std/assert";
import { ManagementCommandError } from "../../../../drivers/management/virtio_management.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { bindInterrupts } from "../../../../lib/virtio/interrupts.ts";
import type { ManagedTransport } from "../../../../lib/virtio/transport/managed.ts";
import { MovableTransport } from "../../../../lib/virtio/transport/movable.ts";
import { moveManaged } from "../../../../lib/virtio/transport/move_managed.ts";
import { bytes, opened, type SeenCommand } from "../management/fake_management.ts";
import { ManagedModel } from "../management/managed_model.ts";
import { TestAreas, TestMsi } from "../management/test_areas.ts";

const QUEUES = [0, 1] as const;

/** A driver that runs on device 7 with two queues and two vectors, and device 8, which nobody drives. */
async function running() {
  const models = new Map([7n, 8n].map((id) => [id, new ManagedModel()]));
  // Apart from each other: each device has notify addresses of its own.
  for (const queue of models.get(8n)!.queues) queue.address = 0xe000_8000n;
  const msi = Object.assign(new TestMsi(), { available: 6 }), notifyAreas = new TestAreas();
  const answer = (command: SeenCommand) => models.get(command.deviceId)!.answer(command);
  const fixture = await opened(() => ({ data: bytes([8, 8n]) }), { msi, notifyAreas });
  const { device, management } = fixture;
  await management.create({ type: 1, features: 0n });
  device.answer = answer;
  const [from, to] = [7n, 8n].map((id) => management.openTransport(id)) as [
    ManagedTransport,
    ManagedTransport,
  ];
  const transport = new MovableTransport(from);
  const driver = new VirtioDevice(transport);
  driver.negotiate();
  bindInterrupts(transport, "msix", [...QUEUES]);
  for (const queue of QUEUES) driver.createQueue(queue, { size: 16, vector: queue });
  driver.driverOk();
  models.get(7n)!.queues.forEach((one, queue) => one.state = 5 + queue);
  device.seen.length = notifyAreas.writes.length = 0;
  return {
    ...fixture,
    from,
    to,
    transport,
    models,
    notifyAreas,
    answer,
    /** Commands of a device since the last call of all, by name and queue. */
    of: (id: bigint) =>
      device.seen.filter(({ deviceId }) => deviceId === id).map(({ is, data }) =>
        parseInt(is) >= 8 ? `${is} q${data[0]}` : is
      ),
    [Symbol.asyncDispose]: async () => {
      driver.close();
      transport.close();
      from.close();
      to.close();
      await fixture[Symbol.asyncDispose]();
    },
  };
}

Deno.test("class 12: a move disables all queues before their states are read, sets those before enable, resets what was left at last, and notifies each queue", async () => {
  await using fixture = await running();
  const { device, from, to, transport, models, notifyAreas } = fixture;
  moveManaged(transport, to);
  assertEquals([transport.current, from.readStatus(), to.readStatus()], [to, 0, 15]);
  const left = fixture.of(7n), at = fixture.of(8n);
  const places = (all: readonly string[], command: string) =>
    all.flatMap((one, place) => one.startsWith(command) ? [place] : []);
  assertEquals([places(left, "9.0").length, places(left, "12.1").length], [2, 2]);
  assertEquals(Math.max(...places(left, "9.0")) < Math.min(...places(left, "12.1")), true, `${left}`);
  // Two devices must not serve the same queues, and neither may nobody stand for the driver's address.
  const order = device.seen.map(({ deviceId, is, data }) => `${deviceId} ${is} ${data[0]}`);
  assertEquals(order.indexOf("7 4.0 0") > order.lastIndexOf("8 4.0 15"), true, `${order}`);
  for (const queue of QUEUES) {
    const enable = at.indexOf(`9.0 q${queue}`);
    for (const before of ["7.0", `12.0 q${queue}`, `10.0 q${queue}`, `8.0 q${queue}`]) {
      const place = at.indexOf(before);
      assertEquals(place >= 0 && place < enable, true, `${before} in ${at}`);
    }
    const [there, here] = [8n, 7n].map((id) => models.get(id)!.queues[queue]!);
    assertEquals([there!.state, there!.size, there!.areas], [5 + queue, 16, here!.areas]);
    assertEquals([there!.enabled, here!.enabled], [true, false]);
    assertEquals(to.queueView(queue).vector, queue);
  }
  assertEquals(notifyAreas.writes, QUEUES.map((queue) => [0xe000_8000n + BigInt(2 * queue), queue]));
});

Deno.test("class 12: a move that a command refuses leaves the driver where it was: what was moved to is reset before the queues are enabled again", async () => {
  for (const refused of ["12.0", "8.0", "9.0", "3.1"]) {
    await using fixture = await running();
    const { device, from, to, transport, notifyAreas, answer, models } = fixture;
    device.answer = (command) =>
      command.deviceId === 8n && command.is === refused ? { ack: 255 } : answer(command);
    assertThrows(() => moveManaged(transport, to), ManagementCommandError, "ERR");
    const order = device.seen.map(({ deviceId, is, data }) =>
      `${deviceId} ${is} ${data[is === "9.0" ? 2 : 0]}`
    );
    assertEquals(order.lastIndexOf("8 4.0 0") < order.lastIndexOf("7 9.0 1"), true, `${refused}: ${order}`);
    assertEquals([transport.current, from.readStatus(), to.readStatus()], [from, 15, 0], refused);
    assertEquals(models.get(7n)!.queues.map(({ enabled }) => enabled), [true, true, false]);
    assertEquals(notifyAreas.writes, QUEUES.map((queue) => [0xe000_1000n + BigInt(2 * queue), queue]));
  }
});
