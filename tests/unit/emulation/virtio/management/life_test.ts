import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { MANAGEMENT_KIND } from "../../../../../lib/emulation/virtio/management/kind.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { netKind } from "../../../../../lib/emulation/virtio/net/kind.ts";
import { FakeRing } from "../fake_client.ts";
import { BAR_ADDRESS } from "../fake_machine.ts";
import { frame, macBytes } from "../fake_nic.ts";
import { ACK, aligned, ENTROPY, ManagementRig, NET, number, RULES, u16, u8 } from "./rig.ts";

const NOTIFICATION_DATA = 1n << 38n, MAC = 1n << 5n;

Deno.test("managed devices touch memory and send messages while the management device may: not without Bus Master Enable", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  rig.ok("msiSet", id, aligned.msi(0, 0xfee0_0000n, 7));
  rig.ok("msiEnable", id, aligned.byte(0, 1));
  rig.fn.port.busMaster = false;
  assertEquals(rig.draw(ring), 0);
  assertEquals(rig.fn.port.vectors.includes(7), false);
  rig.fn.port.busMaster = true;
  for (let i = 0; i < 10_000 && rig.fn.behaviour.arm(); i++) rig.fn.behaviour.poll(64);
  assertEquals(ring.takeUsed().length, 1, "it was awake still");

  rig.fn.port.busMaster = false;
  assertEquals(rig.draw(ring), 0);
  for (let i = 0; i < 10_000; i++) rig.fn.behaviour.poll(64);
  rig.fn.port.busMaster = true;
  rig.fn.behaviour.busMasterChanged!(true);
  rig.fn.run();
  assertEquals(ring.takeUsed().length, 1, "nobody rang since");
  assert(rig.fn.port.vectors.includes(7));
});

Deno.test("a transport virtqueue that breaks stops the management device, and its managed devices with it; a reset ends them (A-4.34)", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  rig.fn.rings.get(0)!.setIdx(5000);
  rig.fn.notify(0);
  rig.fn.run();
  assertEquals(rig.fn.status & 64, 64);
  assertEquals(rig.draw(ring), 0);
  assertEquals(rig.model.devices.size, 1, "they end with the reset that must come");
  rig.start();
  assertEquals([rig.model.devices.size, rig.ack("getStatus", id)], [0, ACK.noDevice]);
  const next = rig.entropy();
  assertEquals(rig.draw(next.ring), 32);
});

Deno.test("A-4.34: it ends with a function reset, too, and when the driver's process is gone", () => {
  using rig = new ManagementRig();
  for (const end of [() => rig.fn.behaviour.reset("flr"), () => rig.fn.behaviour.reset("detached")]) {
    rig.entropy();
    rig.create(NET);
    assertEquals(rig.model.devices.size, 2);
    end();
    assertEquals([rig.model.devices.size, rig.model.resources.available.num_avail_vqs], [0, 64]);
    rig.start();
  }
});

Deno.test("1.6: a managed device with NOTIFICATION_DATA is notified with 4 bytes, whose position is checked", () => {
  using rig = new ManagementRig({ featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] });
  const { id, ring } = rig.entropy(RULES | NOTIFICATION_DATA);
  const at = Number(number(rig.ok("getNotify", id, u16(0)), 0, 8) - BAR_ADDRESS);
  const { client } = rig.fn;
  ring.add([{ iova: client.at(client.allocate(16)), length: 16, write: true }]);
  ring.publish();
  rig.fn.write(at, 2, 0);
  assertEquals(rig.rules(), ["2.2"], "2 bytes");
  rig.fn.write(at, 4, 9 << 16);
  assertEquals(rig.rules(), ["1.6"], "9 is beyond what is there");
  rig.fn.write(at, 4, 1 << 16);
  rig.fn.run();
  assertEquals([ring.takeUsed().length, rig.rules()], [1, []]);
  using without = new ManagementRig();
  assertEquals(without.ack("create", 0, aligned.attribute(ENTROPY, RULES | NOTIFICATION_DATA)), ACK.features);
});

Deno.test("A-4.26: a managed device that waits has the function woken in time; nothing else does, nor one that was destroyed", () => {
  let now = 0;
  const models = createVirtioModels([MANAGEMENT_KIND, netKind({ holdMs: 50, now: () => now })]);
  using rig = new ManagementRig({ models });
  const [from, to] = [1, 2].map((last) => {
    const id = rig.create(NET, RULES | MAC, macBytes(`52:54:00:00:00:0${last}`));
    rig.negotiate(id, RULES | MAC);
    const rings = [0, 1].map((queue) => rig.enable(id, queue, new FakeRing(rig.fn.client, 16)));
    rig.ok("setStatus", id, u8(15));
    return { id, rings };
  }) as [{ id: bigint; rings: FakeRing[] }, { id: bigint; rings: FakeRing[] }];
  const idle = () => {
    for (let i = 0; i < 10_000 && rig.fn.behaviour.arm(); i++) rig.fn.behaviour.poll(64);
  };
  idle();
  assertEquals(rig.fn.behaviour.wakeAfterMs, undefined, "until something rings");
  const { client } = rig.fn;
  const send = (sender: typeof from, last: number, to: number) => {
    const at = client.allocate(72);
    client.bytes.set(frame(`52:54:00:00:00:0${to}`, `52:54:00:00:00:0${last}`, 60), at + 12);
    sender.rings[1]!.add([{ iova: client.at(at), length: 72 }]);
    sender.rings[1]!.publish();
    rig.model.devices.get(sender.id)!.wake();
    rig.fn.run();
    idle();
  };
  send(from, 1, 2);
  const left = rig.fn.behaviour.wakeAfterMs;
  assert(
    left !== undefined && left <= 50,
    `the receiver has no buffers, and counts as stalled in ${left} ms`,
  );
  assertEquals(to.rings[0]!.takeUsed().length, 0);
  now = 51;
  // What a machine does when the time has come: it polls the function. The device's own deadline is by the real clock.
  const end = performance.now() + 51;
  while (performance.now() < end) rig.fn.behaviour.poll(64);
  rig.fn.run();
  assertEquals(from.rings[1]!.takeUsed().length, 1, "dropped, and given back");
  idle();
  assertEquals(rig.fn.behaviour.wakeAfterMs, undefined);
  // one that is destroyed waits for nothing.
  send(to, 2, 1);
  assertNotEquals(rig.fn.behaviour.wakeAfterMs, undefined);
  rig.ok("destroy", to.id);
  assertEquals(rig.fn.behaviour.wakeAfterMs, undefined);
});
