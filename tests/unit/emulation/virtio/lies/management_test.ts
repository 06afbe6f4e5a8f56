import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { parseLie } from "../../../../../lib/emulation/virtio/lies/lie.ts";
import { MANAGEMENT_FAMILY } from "../../../../../lib/emulation/virtio/lies/management.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { ACK, aligned, CMD, ENTROPY, header, ManagementRig, number, RULES, u16 } from "../management/rig.ts";

Deno.test("lies of a management device by name, number and command", () => {
  assertEquals(parseLie("tvq-ack:77@MDEV_CREATE", MANAGEMENT_FAMILY), {
    lie: "tvq-ack",
    numbers: [77, 0],
    opcode: 0x2_0000,
  });
  assertEquals(parseLie("tvq-data@VQ_RESET_DO", MANAGEMENT_FAMILY).opcode, 0xe_0001);
  for (const text of ["tvq-", "tvq-ack:x", "tvq-ack@NOTHING", "tvq-ack@STATUS_GET@STATUS_GET"]) {
    assertThrows(() => parseLie(text, MANAGEMENT_FAMILY), UsageError, text);
  }
  for (const name of MANAGEMENT_FAMILY.names) assertEquals(parseLie(name, MANAGEMENT_FAMILY).lie, name);
  const create = (lie: string) =>
    createVirtioModels().createBehaviour("virtio-management", { address: "0000:01:00.0", lie });
  assertThrows(() => create("tvq-nothing"), UsageError, "tvq-nothing");
  assertThrows(() => create("blk-silence"), UsageError, "blk-silence");
});

Deno.test("tvq-ack: any acknowledgement, and nothing is carried out", () => {
  using rig = new ManagementRig({ lie: "tvq-ack:77@MDEV_CREATE" });
  assertEquals(rig.command("create", 0, aligned.attribute(ENTROPY, RULES)).ack, 77);
  assertEquals([rig.model.devices.size, rig.resources], [0, [64, 1, 16, 64]], "other commands are honest");
});

Deno.test("tvq-data: carried out, with in-data of one byte's value", () => {
  using rig = new ManagementRig({ lie: "tvq-data:0@MDEV_CREATE" });
  const { ack, data } = rig.command("create", 0, aligned.attribute(ENTROPY, RULES));
  assertEquals([ack, number(data), rig.model.devices.size], [0, 0n, 1]);
  using other = new ManagementRig({ lie: "tvq-data@VQ_NOTIFY_GET" });
  const id = other.create(ENTROPY);
  assertEquals(new Set(other.ok("getNotify", id, u16(0))), new Set([255]));
});

Deno.test("tvq-drift: the first byte of in-data counts, the rest is right; what has no in-data is left alone", () => {
  using rig = new ManagementRig({ lie: "tvq-drift:254@AVAIL_RES_GET" });
  const answers = [254, 255, 0, 1].map((first) => [first, 0, 1, 0, 16, 0, 64, 0]);
  for (const answer of answers) assertEquals([...rig.ok("availRes")], answer);
  using other = new ManagementRig({ lie: "tvq-drift" });
  assertEquals([number(other.ok("create", 0, aligned.attribute(ENTROPY, RULES))), other.ack("destroy", 1)], [
    0n,
    ACK.ok,
  ]);
});

Deno.test("tvq-short: the answer ends early", () => {
  for (const bytes of [0, 1, 8, 12]) {
    using rig = new ManagementRig({ lie: `tvq-short:${bytes}@AVAIL_RES_GET` });
    assertEquals(rig.command("availRes").used, bytes);
  }
});

Deno.test("tvq-silence: so many commands are answered, then no other", () => {
  using rig = new ManagementRig({ lie: "tvq-silence:2" });
  assertEquals([rig.ack("availRes"), rig.ack("availRes")], [ACK.ok, ACK.ok]);
  const ring = rig.fn.rings.get(0)!;
  const { client } = rig.fn;
  const at = client.allocate(32);
  client.bytes.set(header(...CMD.availRes, 0), at);
  ring.add([{ iova: client.at(at), length: 16 }, { iova: client.at(at + 16), length: 16, write: true }]);
  ring.publish();
  rig.fn.notify(0);
  rig.fn.run();
  assertEquals(ring.takeUsed(), []);
});

Deno.test("tvq-garbage: answers of any length and content, the same for the same seed", () => {
  const run = (seed: number) => {
    using rig = new ManagementRig({ lie: `tvq-garbage:${seed}` });
    const ring = rig.fn.rings.get(0)!;
    const { client } = rig.fn;
    const at = client.allocate(80);
    return Array.from({ length: 50 }, () => {
      client.bytes.set(header(...CMD.availRes, 0), at);
      ring.add([{ iova: client.at(at), length: 16 }, { iova: client.at(at + 16), length: 64, write: true }]);
      ring.publish();
      rig.fn.notify(0);
      rig.fn.run();
      return `${ring.takeUsed()[0]!.length} ${client.bytes.slice(at + 16, at + 80)}`;
    });
  };
  assertEquals(run(5), run(5));
  assert(run(5).join() !== run(6).join());
});
