/** What contradictory passages of the standard are taken to say (reference 3.8), on the device's side. */
import { assert, assertEquals } from "@std/assert";
import { NetModel } from "../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { mac } from "../fake_nic.ts";
import { AdminRig, encodeFrame, INVALID_OPCODE, OK, outcome } from "./rig.ts";

const SELF = 0;

Deno.test("A-3.3 LEGACY_NOTIFY_INFO answers with typed entries of 16 bytes; its padding is zero", () => {
  using rig = new AdminRig({ legacyNotify: "both" }).start().enableVfs(2).useAll();
  const { result, used } = rig.command({ opcode: 6, member: 2n, room: 80 });
  assertEquals([used, result.length], [8 + 4 * 16, 64], "four entries, however much room there is");
  for (const at of [0, 16]) assertEquals([...result.slice(at + 2, at + 8)], [0, 0, 0, 0, 0, 0]);
  assertEquals([result[0], result[16], result[32], result[48]], [2, 1, 0, 0]);
});

Deno.test("A-3.6 opcode 0x0005 reads the device-specific part, though the text once called it a write", () => {
  using rig = new AdminRig().start().enableVfs(1).useAll();
  const member = rig.members[0]!;
  const before = member.device.slice();
  const { result } = rig.command({ opcode: 5, data: [6, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee], room: 2 });
  assertEquals([...result], [...before.slice(6, 8)]);
  assertEquals(member.device, before);
});

Deno.test("A-3.10 parts of no length are the driver's mistake, and reported; the device answers what it can", () => {
  using rig = new AdminRig().start().enableVfs(1);
  rig.send(0, new Uint8Array(0), 16);
  const [empty] = rig.finish();
  assertEquals(
    [...outcome(empty!), empty!.result[0]],
    [0, 0, 0x83],
    "all zeros: LIST_QUERY of the self group",
  );
  rig.send(0, encodeFrame({ opcode: 1, member: 0n, data: [0x7f] }), 0);
  const [mute] = rig.finish();
  assertEquals(mute!.used, 0);
  assertEquals(rig.rules(), ["N-3.3", "N-3.3"]);
  assertEquals(
    outcome(rig.command({ opcode: 6, room: 64 })),
    OK,
    "what could not be answered was carried out",
  );
});

Deno.test("A-3.11 EEXIST is 17 on the wire; bit 0 stops; there is no command for the driver's own capabilities", () => {
  using rig = new AdminRig().start().enableVfs(1).useParts();
  const create = () => rig.command({ opcode: 0xa, data: new Array(24).fill(0) });
  assertEquals([create().status, create().status], [0, 17]);
  assertEquals(outcome(rig.command({ opcode: 0x11, data: [1] })), OK);
  assertEquals(rig.members[0]!.stopped, true);
  const { result } = rig.command({ opcode: 0, group: SELF, member: 0n, room: 8 });
  assertEquals([...result], [0x83, 3, 0, 0, 0, 0, 0, 0], "LIST_QUERY, LIST_USE, and 7 to 9");
});

Deno.test("A-3.12 bit 41 is offered with administration queues and at no other time, by network devices too", () => {
  using rig = new AdminRig();
  assertEquals([rig.fn.offered >> 41n & 1n, rig.fn.read(62, 2)], [1n, 2]);
  const model = new NetModel(new NetSwitch("s0"), { mac: mac(1) });
  assertEquals(model.features & (1n << 41n | 1n << 42n), 0n, "neither GUEST_RSC4 nor GUEST_RSC6");
});

Deno.test("N-3.13 the list of supported commands never shrinks: not with VFs, members, lists or resets", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(4);
  const lists = () =>
    [SELF, 1].map((group) => [...rig.command({ opcode: 0, group, member: 0n, room: 8 }).result].join());
  const before = lists();
  const same = (what: string) => assertEquals(lists(), before, what);
  assertEquals(outcome(rig.command({ opcode: 1, member: 0n, data: [3] })), OK);
  same("a shorter list is used");
  rig.disableVfs();
  rig.enableVfs(1);
  same("VFs went and came");
  rig.controller.place(0).join({ name: "bare" });
  same("a member has neither legacy registers nor parts");
  rig.restart();
  same("device reset");
  rig.fn.behaviour.reset("flr");
  rig.start();
  same("FLR");
  rig.fn.behaviour.reset("detached");
  rig.fn.behaviour.detached();
  rig.fn.behaviour.attached();
  rig.start();
  same("another client");
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), INVALID_OPCODE);
  assert(before[1]!.startsWith("127,"));
});
