import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { ADMIN_FAMILY } from "../../../../../lib/emulation/virtio/lies/admin.ts";
import { parseLie } from "../../../../../lib/emulation/virtio/lies/lie.ts";
import { AdminRig, encodeFrame, OK, outcome } from "../admin/rig.ts";

const query = { opcode: 0, group: 0, member: 0n, room: 8 };

Deno.test("lies of administration queues by name, number and opcode", () => {
  assertEquals(parseLie("admin-eagain", ADMIN_FAMILY), { lie: "admin-eagain", numbers: [1, 0] });
  assertEquals(parseLie("admin-status:12:6@DEV_PARTS_GET", ADMIN_FAMILY), {
    lie: "admin-status",
    numbers: [12, 6],
    opcode: 15,
  });
  for (
    const text of [
      "admin-",
      "admin-eagain:x",
      "admin-eagain:1:2:3",
      "admin-eagain@NOTHING",
      "admin-eagain@LIST_USE@LIST_USE",
    ]
  ) {
    assertThrows(() => parseLie(text, ADMIN_FAMILY), UsageError, text);
  }
  for (const name of ADMIN_FAMILY.names) assertEquals(parseLie(name, ADMIN_FAMILY).lie, name);
});

Deno.test("admin-eagain: so many commands are not carried out, then the device is honest", () => {
  using rig = new AdminRig({ lie: "admin-eagain:2@LEGACY_DEV_CFG_WRITE" }).start().enableVfs(1).useAll();
  const write = () => outcome(rig.command({ opcode: 4, data: [6, 0, 0, 0, 0, 0, 0, 0, 9, 9] }));
  const before = rig.members[0]!.device.slice();
  assertEquals([write(), write()], [[11, 7], [11, 7]]);
  assertEquals(rig.members[0]!.device, before);
  assertEquals(write(), OK);
  assertEquals(rig.members[0]!.device[6], 9);
});

Deno.test("admin-status: any status and qualifier, and nothing is carried out", () => {
  using rig = new AdminRig({ lie: "admin-status:95:200" }).start();
  const { status, qualifier, used } = rig.command(query);
  assertEquals([status, qualifier, used], [95, 200, 8]);
});

Deno.test("admin-short: the answer ends early", () => {
  for (const bytes of [0, 1, 4, 12]) {
    using rig = new AdminRig({ lie: `admin-short:${bytes}` }).start();
    assertEquals(rig.command(query).used, bytes);
  }
});

Deno.test("admin-garbage: answers of any length and content, the same for the same seed", () => {
  const run = (seed: number) => {
    using rig = new AdminRig({ lie: `admin-garbage:${seed}` }).start();
    const answers: string[] = [];
    for (let i = 0; i < 50; i++) {
      // Honest canaries would find bytes behind the used length: this device writes them all.
      rig.send(0, encodeFrame(query), 40);
      rig.fn.run();
      const [used] = rig.fn.rings.get(1)!.takeUsed();
      rig.forget();
      assert(used!.length <= 40);
      answers.push(`${used!.length}`);
    }
    return answers;
  };
  assertEquals(run(3), run(3));
  assert(run(3).join() !== run(4).join());
  assert(new Set(run(3)).size > 20);
});

Deno.test("admin-silence: after so many commands there is no answer any more", () => {
  using rig = new AdminRig({ lie: "admin-silence:1" }).start();
  assertEquals(outcome(rig.command(query)), OK);
  rig.send(0, encodeFrame(query), 16);
  rig.fn.run();
  assertEquals(rig.fn.rings.get(1)!.takeUsed(), []);
});

Deno.test("admin-late: commands of a later queue overtake, none is lost, and the device does not fall asleep", () => {
  using rig = new AdminRig({ lie: "admin-late:3" }).start();
  for (const queue of [0, 1]) for (let i = 0; i < 2; i++) rig.send(queue, encodeFrame(query), 16);
  const order: number[] = [];
  let rounds = 0;
  for (; order.length < 4 && rounds < 100; rounds++) {
    assert(rig.fn.behaviour.poll(8) > 0);
    for (const queue of [1, 2]) order.push(...rig.fn.rings.get(queue)!.takeUsed().map(() => queue));
  }
  assertEquals(order, [2, 1, 2, 1]);
  assert(rounds > 8);
  assertEquals(rig.fn.behaviour.poll(8), 0);
});

Deno.test("admin-list-long: A-3.7 words of unknown opcodes follow the honest one", () => {
  using rig = new AdminRig({ lie: "admin-list-long:4" }).start();
  const { result } = rig.command({ ...query, room: 64 });
  assertEquals([...result], [0x83, 3, 0, 0, 0, 0, 0, 0, ...new Array(24).fill(0xff)]);
});

Deno.test("admin-notify-wild: N-3.17 four entries, none of which may be used, and no end", () => {
  using rig = new AdminRig({ lie: "admin-notify-wild" }).start().enableVfs(1).useAll();
  const { result } = rig.command({ opcode: 6, room: 64 });
  const view = new DataView(result.buffer, result.byteOffset, 64);
  const entries = [0, 1, 2, 3].map((
    i,
  ) => [result[16 * i], result[16 * i + 1], view.getBigUint64(16 * i + 8, true)]);
  assertEquals(entries, [[7, 4, 0n], [2, 0, 0n], [1, 4, 0x3001n], [2, 4, 1n << 40n]]);
});
