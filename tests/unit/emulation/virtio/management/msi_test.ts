import { assertEquals } from "@std/assert";
import { MsiEntry, type MsiMessage } from "../../../../../lib/emulation/virtio/msi/entry.ts";
import { NET_KIND } from "../../../../../lib/emulation/virtio/net/kind.ts";
import { ACK, aligned, ManagementRig, NET, RULES, u16, u8 } from "./rig.ts";

const MSI = 0xfee0_0000n;
const STATUS = 1n << 16n, RING_RESET = 1n << 40n;
const MASK = 0, UNMASK = 1;

function entry(): { entry: MsiEntry; sent: MsiMessage[] } {
  const sent: MsiMessage[] = [];
  return { entry: new MsiEntry((message) => sent.push(message)), sent };
}

Deno.test("A-4.4: at first and after a reset an entry is disabled, not masked, with nothing pending", () => {
  const { entry: msi, sent } = entry();
  const state = () => [msi.enabled, msi.masked, msi.pending];
  assertEquals(state(), [false, false, false]);
  msi.message = { address: MSI, data: 1 };
  msi.enabled = msi.masked = true;
  msi.raise();
  assertEquals(state(), [true, true, true]);
  msi.reset();
  assertEquals([state(), sent, msi.message], [[false, false, false], [], { address: 0n, data: 0 }]);
});

Deno.test("N-4.11, A-4.4: masked, one event is kept and sent on unmask; disabled, events are dropped, and what was pending with them", () => {
  const { entry: msi, sent } = entry();
  msi.message = { address: MSI, data: 7 };
  msi.raise();
  msi.enabled = true;
  assertEquals(sent.length, 0, "what came while disabled is lost");
  msi.raise();
  assertEquals(sent.length, 1);
  msi.masked = true;
  for (let i = 0; i < 5; i++) msi.raise();
  assertEquals(sent.length, 1);
  msi.masked = false;
  msi.masked = false;
  assertEquals(sent.length, 2, "five events while masked are one");
  msi.masked = true;
  msi.raise();
  msi.enabled = false;
  msi.enabled = true;
  msi.masked = false;
  assertEquals(sent.length, 2, "disabled in between: cleared");
  msi.masked = true;
  msi.enabled = false;
  msi.raise();
  msi.masked = false;
  msi.enabled = true;
  assertEquals(sent.length, 2);
});

Deno.test("a message that is changed while an event is pending is sent as it is then", () => {
  const { entry: msi, sent } = entry();
  msi.message = { address: MSI, data: 1 };
  msi.enabled = msi.masked = true;
  msi.raise();
  msi.message = { address: MSI, data: 2 };
  msi.masked = false;
  assertEquals(sent, [{ address: MSI, data: 2 }]);
});

Deno.test("N-4.11, A-4.3, A-4.4: a queue's message is a vector of the management function; mask 0 keeps it, mask 1 sends what was kept", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  const { vectors } = rig.fn.port;
  rig.ok("msiSet", id, aligned.msi(0, MSI, 9));
  const draw = () => {
    vectors.length = 0;
    rig.draw(ring);
    return vectors.filter((vector) => vector === 9).length;
  };
  assertEquals(draw(), 0, "disabled");
  rig.ok("msiEnable", id, aligned.byte(0, 1));
  assertEquals(draw(), 1);
  rig.ok("msiMask", id, aligned.byte(0, MASK));
  assertEquals([draw(), draw()], [0, 0]);
  vectors.length = 0;
  rig.ok("msiMask", id, aligned.byte(0, UNMASK));
  assertEquals(vectors.filter((vector) => vector === 9), [9]);
  assertEquals(draw(), 1);
  rig.ok("msiEnable", id, aligned.byte(0, 0));
  assertEquals(draw(), 0);
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.11, A-4.3: the configuration has an entry of its own, and so has each queue", () => {
  using rig = new ManagementRig();
  const id = rig.create(NET, RULES | STATUS);
  rig.negotiate(id, RULES | STATUS);
  rig.ok("setStatus", id, u8(15));
  rig.ok("configMsiSet", id, aligned.configMsi(MSI, 4));
  const { vectors } = rig.fn.port;
  const changes = (times: number) => {
    vectors.length = 0;
    for (let i = 0; i < times; i++) {
      for (const up of [false, true]) rig.models.of(NET_KIND).setLink(`0000:01:00.0/${id}`, up);
    }
    return vectors.filter((vector) => vector === 4).length;
  };
  assertEquals(changes(1), 0);
  rig.ok("configMsiEnable", id, u8(1));
  assertEquals(changes(1), 2);
  rig.ok("configMsiMask", id, u8(MASK));
  assertEquals(changes(3), 0);
  vectors.length = 0;
  rig.ok("configMsiMask", id, u8(UNMASK));
  assertEquals(vectors.filter((vector) => vector === 4), [4]);
  // Each of the queues raises its own message, and that alone.
  const device = rig.model.devices.get(id)!;
  for (const queue of [0, 1]) {
    rig.ok("msiSet", id, aligned.msi(queue, MSI, 5 + queue));
    rig.ok("msiEnable", id, aligned.byte(queue, 1));
  }
  vectors.length = 0;
  for (const queue of [1, 0, 1]) device.interruptQueue(queue);
  assertEquals(vectors, [6, 5, 6]);
  rig.ok("msiMask", id, aligned.byte(1, MASK));
  for (const queue of [1, 0]) device.interruptQueue(queue);
  assertEquals(vectors, [6, 5, 6, 5], "the mask of one is not the other's");
});

Deno.test("N-4.11: a reset of the device disables all its MSI, one of a queue that queue's, and neither leaves a mask", () => {
  using rig = new ManagementRig();
  const { id } = rig.entropy(RULES | RING_RESET);
  const device = rig.model.devices.get(id)!;
  const arm = () => {
    rig.ok("msiSet", id, aligned.msi(0, MSI, 5));
    rig.ok("configMsiSet", id, aligned.configMsi(MSI, 6));
    for (const name of ["msiEnable", "msiMask"] as const) {
      rig.ok(name, id, aligned.byte(0, name === "msiMask" ? MASK : 1));
    }
    rig.ok("configMsiEnable", id, u8(1));
    rig.ok("configMsiMask", id, u8(MASK));
  };
  const state = () => [device.queueMsi[0]!, device.configMsi].map(({ enabled, masked }) => [enabled, masked]);
  arm();
  assertEquals(state(), [[true, true], [true, true]]);
  rig.ok("reset", id, u16(0));
  assertEquals(state(), [[false, false], [true, true]]);
  arm();
  rig.ok("setStatus", id, u8(0));
  assertEquals(state(), [[false, false], [false, false]]);
});

Deno.test("A-4.6: class MSI knows no queue that there is not, and no value but 0 and 1", () => {
  using rig = new ManagementRig();
  const { id } = rig.entropy();
  assertEquals(rig.ack("msiSet", id, aligned.msi(1, MSI, 0)), ACK.queue);
  assertEquals(rig.ack("msiEnable", id, aligned.byte(1, 1)), ACK.queue);
  assertEquals(rig.ack("msiMask", id, aligned.byte(0xffff, 0)), ACK.queue);
  assertEquals(rig.rules(), ["N-4.13", "N-4.13", "N-4.13"]);
  for (const value of [2, 255]) {
    assertEquals(rig.ack("msiEnable", id, aligned.byte(0, value)), ACK.value);
    assertEquals(rig.ack("msiMask", id, aligned.byte(0, value)), ACK.value);
    assertEquals(rig.ack("configMsiEnable", id, u8(value)), ACK.value);
    assertEquals(rig.ack("configMsiMask", id, u8(value)), ACK.value);
  }
  assertEquals(rig.ack("msiSet", id, aligned.msi(0, MSI + 2n, 0)), ACK.value);
  assertEquals(rig.ack("configMsiSet", id, aligned.configMsi(MSI + 1n, 0)), ACK.value);
});

Deno.test("a message to another address is a write of its data into the driver's memory, where it may poll", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  const { client } = rig.fn;
  const at = client.allocate(8, 4);
  client.bytes.fill(0xee, at, at + 8);
  rig.ok("msiSet", id, aligned.msi(0, client.at(at), 0x12345678));
  rig.ok("msiEnable", id, aligned.byte(0, 1));
  rig.draw(ring);
  assertEquals([...client.bytes.slice(at, at + 8)], [0x78, 0x56, 0x34, 0x12, 0xee, 0xee, 0xee, 0xee]);
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.12: a message that leads nowhere is reported with the device that sent it, which goes on", () => {
  using rig = new ManagementRig({ vectors: 4 });
  const { id, ring } = rig.entropy();
  rig.ok("msiEnable", id, aligned.byte(0, 1));
  rig.ok("msiSet", id, aligned.msi(0, 0x10n, 0));
  assertEquals(rig.draw(ring), 32);
  // One for the transport virtqueue, one for the configuration, four for devices.
  rig.ok("msiSet", id, aligned.msi(0, MSI, 6));
  assertEquals(rig.draw(ring), 32);
  rig.ok("msiSet", id, aligned.msi(0, MSI, 5));
  assertEquals(rig.draw(ring), 32);
  assertEquals(rig.fn.port.reports.map((one) => [one.function, one.rule]), [
    [`0000:01:00.0/${id}`, "DMA"],
    [`0000:01:00.0/${id}`, "N-4.12"],
  ]);
  assertEquals(rig.status(id), 15);
});
