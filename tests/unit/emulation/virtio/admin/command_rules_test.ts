import { assert, assertEquals } from "@std/assert";
import {
  AdminRig,
  encodeFrame,
  INVALID_FIELD,
  INVALID_GROUP,
  INVALID_MEMBER,
  INVALID_OPCODE,
  OK,
  outcome,
} from "./rig.ts";

const SELF = 0, SRIOV = 1;
const bits = (...opcodes: number[]): number[] => {
  const bytes = new Array(8).fill(0);
  for (const one of opcodes) bytes[one >> 3] |= 1 << (one & 7);
  return bytes;
};

Deno.test("ADMIN_VQ is offered with administration queues behind the others, and not without", () => {
  using rig = new AdminRig({ queues: 3 });
  assertEquals(rig.fn.offered >> 41n & 1n, 1n);
  // num_queues does not count them; admin_queue_index and admin_queue_num say where they are.
  assertEquals([rig.fn.read(18, 2), rig.fn.read(60, 2), rig.fn.read(62, 2)], [1, 1, 3]);
  assertEquals(rig.fn.behaviour.msix!.vectors, 5);
});

Deno.test("N-3.8 the group is checked before the opcode, the opcode before the member", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(4).useAll();
  const of = (opcode: number, group: number, member: bigint) =>
    outcome(rig.command({ opcode, group, member, room: 8 }));
  assertEquals(of(0x12, 2, 99n), INVALID_GROUP);
  assertEquals(of(0x9999, 0xffff, 99n), INVALID_GROUP);
  assertEquals(of(0x12, SRIOV, 99n), INVALID_OPCODE);
  assertEquals(of(0x8000, SRIOV, 1n), INVALID_OPCODE);
  assertEquals(of(0x7, SRIOV, 1n), INVALID_OPCODE, "capabilities belong to the self group");
  assertEquals(of(0x3, SELF, 0n), INVALID_OPCODE, "legacy registers belong to the SR-IOV group");
  assertEquals(of(0x6, SRIOV, 99n), INVALID_MEMBER);
  rig.useAll(SELF);
  assertEquals(of(0x7, SELF, 1n), INVALID_MEMBER, "the self group has member 0");
  assertEquals(of(0x7, SELF, 0n), OK);
});

Deno.test("N-3.11 members are 1 to NumVFs; with VF Enable clear the group does not exist, not even for LIST_QUERY", () => {
  using rig = new AdminRig();
  rig.start();
  const query = () => outcome(rig.command({ opcode: 0, member: 0n, room: 8 }));
  assertEquals(query(), INVALID_GROUP);
  assertEquals(outcome(rig.command({ opcode: 1, member: 0n, data: bits(0, 1) })), INVALID_GROUP);
  rig.enableVfs(4).useAll();
  const info = (member: bigint) => outcome(rig.command({ opcode: 6, member, room: 64 }));
  assertEquals([0n, 1n, 4n, 5n, 8n, 1n << 32n | 1n, (1n << 64n) - 1n].map(info), [
    INVALID_MEMBER,
    OK,
    OK,
    INVALID_MEMBER,
    INVALID_MEMBER,
    INVALID_MEMBER,
    INVALID_MEMBER,
  ]);
  rig.disableVfs();
  assertEquals(info(1n), INVALID_GROUP);
  rig.enableVfs(1);
  // Only a device reset forgets the list.
  assertEquals([info(1n), info(2n)], [OK, INVALID_MEMBER]);
  assertEquals(query(), OK);
});

Deno.test("N-3.11 an owner without an SR-IOV capability has the self group only", () => {
  using rig = new AdminRig({ totalVfs: 0, legacyVfs: false });
  rig.start();
  assertEquals(rig.fn.offered >> 37n & 1n, 0n);
  assertEquals(outcome(rig.command({ opcode: 0, member: 0n, room: 8 })), INVALID_GROUP);
  const list = rig.command({ opcode: 0, group: SELF, member: 0n, room: 8 });
  assertEquals([...list.result], bits(0, 1), "and no capabilities without device parts");
});

Deno.test("A-3.14 the member id of LIST_QUERY and LIST_USE is not used, and so not looked at", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1);
  for (const member of [0n, 1n, 77n]) {
    for (const group of [SELF, SRIOV]) {
      assertEquals(outcome(rig.command({ opcode: 0, group, member, room: 8 })), OK);
      assertEquals(outcome(rig.command({ opcode: 1, group, member, data: bits(0, 1) })), OK);
    }
  }
});

Deno.test("N-3.14 N-3.15 N-3.18 LIST_QUERY: all four legacy commands or none, NOTIFY_INFO only with them", () => {
  const parts = [0xa, 0xb, 0xc, 0xd, 0xe, 0xf, 0x10, 0x11];
  for (
    const [options, expected] of [
      [{}, bits(0, 1, 2, 3, 4, 5, 6, ...parts)],
      [{ legacyNotify: "both" }, bits(0, 1, 2, 3, 4, 5, 6, ...parts)],
      [{ legacyNotify: "none" }, bits(0, 1, 2, 3, 4, 5, ...parts)],
      [{ legacyVfs: false, legacyNotify: "none" }, bits(0, 1, ...parts)],
    ] as const
  ) {
    using rig = new AdminRig(options);
    rig.start().enableVfs(1);
    assertEquals([...rig.command({ opcode: 0, member: 0n, room: 8 }).result], expected);
    assertEquals(
      [...rig.command({ opcode: 0, group: SELF, member: 0n, room: 8 }).result],
      bits(0, 1, 7, 8, 9),
    );
  }
});

Deno.test("N-3.9 before LIST_USE only LIST_QUERY and LIST_USE are legal, afterwards only what is listed, per group", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(2);
  const of = (opcode: number, group = SRIOV) =>
    outcome(rig.command({ opcode, group, member: group === SRIOV ? 1n : 0n, room: 64 }));
  for (let opcode = 2; opcode < 0x20; opcode++) {
    assertEquals(of(opcode), INVALID_OPCODE);
    assertEquals(of(opcode, SELF), INVALID_OPCODE);
  }
  assert(rig.rules().includes("N-3.1"));
  assertEquals(outcome(rig.command({ opcode: 1, member: 0n, data: bits(0, 1, 6) })), OK);
  assertEquals([of(6), of(0xa), of(7, SELF)], [OK, INVALID_OPCODE, INVALID_OPCODE]);
  // The driver may give up LIST_QUERY and LIST_USE themselves.
  assertEquals(outcome(rig.command({ opcode: 1, member: 0n, data: bits(6) })), OK);
  assertEquals([of(0), of(1), of(6)], [INVALID_OPCODE, INVALID_OPCODE, OK]);
  assertEquals(of(0, SELF), OK, "the self group is another list");
});

Deno.test("N-3.2 LIST_USE with what LIST_QUERY did not name: EINVAL with INVALID_FIELD (A-3.8), and the old list stays", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1);
  for (
    const alien of [bits(0, 1, 7), bits(0, 1, 0x12), bits(0, 1, 63), [...bits(0, 1), 1], [
      ...bits(0, 1),
      ...bits(63),
    ]]
  ) {
    const { status, qualifier, used } = rig.command({ opcode: 1, member: 0n, data: alien });
    assertEquals([status, qualifier, used], [22, 3, 8]);
  }
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), INVALID_OPCODE);
  rig.useAll();
  assertEquals(outcome(rig.command({ opcode: 1, member: 0n, data: bits(0x12) })), INVALID_FIELD);
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), OK);
});

Deno.test("A-3.7 lists of any length: zero words behind are fine, missing ones are zero; opcode 64 would begin the second word", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1);
  const use = (data: number[]) => outcome(rig.command({ opcode: 1, member: 0n, data }));
  assertEquals(use([...bits(0, 1, 6), ...new Array(56).fill(0)]), OK);
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), OK);
  assertEquals(use([0x43]), OK, "one byte of a word");
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), OK);
  assertEquals(use([...bits(0, 1), ...bits(0)]), INVALID_FIELD, "opcode 64");
  // 8192 bytes have a bit for each opcode that there can be; what follows cannot mean anything.
  assertEquals(use([...bits(0, 1), ...new Array(8183).fill(0), 0x80]), INVALID_FIELD, "opcode 65535");
  assertEquals(use([...bits(0, 1), ...new Array(8184).fill(0), 0xff]), OK);
  const answer = rig.command({ opcode: 0, member: 0n, room: 64 });
  assertEquals(answer.used, 16, "as many words as the largest opcode needs");
  assertEquals(use([]), OK, "an empty list");
  assertEquals(outcome(rig.command({ opcode: 0, member: 0n, room: 8 })), INVALID_OPCODE);
});

Deno.test("N-3.13 after a device reset the same LIST_USE succeeds again, and nothing is in use before", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(2).useAll();
  const before = rig.command({ opcode: 0, member: 0n, room: 8 }).result;
  rig.start();
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), INVALID_OPCODE);
  assertEquals(rig.command({ opcode: 0, member: 0n, room: 8 }).result, before);
  assertEquals(outcome(rig.command({ opcode: 1, member: 0n, data: before })), OK);
  assertEquals(outcome(rig.command({ opcode: 6, room: 64 })), OK);
});

Deno.test("N-3.2 LIST_USE beside other commands is reported, and carried out in its turn", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1).useAll();
  assertEquals(rig.rules(), []);
  rig.send(0, encodeFrame({ opcode: 6 }), 72);
  rig.send(0, encodeFrame({ opcode: 1, member: 0n, data: bits(0, 1) }), 8);
  rig.send(0, encodeFrame({ opcode: 6 }), 72);
  assertEquals(rig.finish().map(outcome), [OK, OK, INVALID_OPCODE], "N-3.6 in order");
  assertEquals(rig.rules(), ["N-3.2", "N-3.1"]);
  rig.useAll();
  assertEquals(rig.rules(), [], "alone it is in order");
  rig.send(0, encodeFrame({ opcode: 6 }), 72);
  rig.send(0, encodeFrame({ opcode: 1, member: 0n, data: bits(0, 1) }), 8);
  rig.finish();
  assertEquals(rig.rules(), ["N-3.2"], "of one that is behind another");
  for (const queue of [0, 1]) rig.send(queue, encodeFrame({ opcode: 1, member: 0n, data: bits(0, 1) }), 8);
  rig.finish();
  assertEquals(rig.rules(), ["N-3.2"], "of the first that is served, while the second waits");
});

Deno.test("N-3.6 sixty commands of a queue are answered in its order, whatever the other queue does", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(2).useAll();
  const member = rig.members[0]!;
  for (let i = 0; i < 60; i++) {
    rig.send(0, encodeFrame({ opcode: 4, data: [6, 0, 0, 0, 0, 0, 0, 0, i, 0] }), 8);
    if (i % 3 === 0) rig.send(1, encodeFrame({ opcode: 6, member: 2n }), 72);
  }
  const seen: number[] = [];
  member.writeDevice = (_, from) => {
    seen.push(from[0]!);
  };
  assert(rig.finish().every((one) => one.status === 0));
  assertEquals(seen, Array.from({ length: 60 }, (_, i) => i));
});

Deno.test("N-3.7 VFs that vanish while commands wait: every command is answered, and the queue goes on", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(4).useAll();
  for (let i = 0; i < 10; i++) rig.send(i % 2, encodeFrame({ opcode: 6, member: BigInt(1 + i % 4) }), 72);
  rig.disableVfs();
  assert(rig.finish().every((one) => one.status === 22 && one.qualifier === 4));
  for (let i = 0; i < 4; i++) rig.send(i % 2, encodeFrame({ opcode: 6, member: BigInt(1 + i) }), 72);
  rig.enableVfs(2);
  assertEquals(rig.finish().map(outcome), [OK, OK, INVALID_MEMBER, INVALID_MEMBER]);
});

Deno.test("N-3.7 a member that is gone before its PF's registers say so is no member", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(2).useAll();
  const place = rig.controller.place(1);
  const second = rig.members[1]!;
  place.join(second);
  rig.controller.place(1).leave();
  assertEquals(
    outcome(rig.command({ opcode: 6, member: 2n, room: 64 })),
    OK,
    "a place that nobody took has nobody to take away",
  );
  place.leave();
  place.leave();
  assertEquals(outcome(rig.command({ opcode: 6, member: 2n, room: 64 })), INVALID_MEMBER);
});

Deno.test("N-3.11 a VF that is there before NumVFs says so, or beyond it, is no member yet", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(2).useAll();
  const info = () => outcome(rig.command({ opcode: 6, member: 3n, room: 64 }));
  const place = rig.controller.place(2);
  place.join(rig.members[0]!);
  assertEquals(info(), INVALID_MEMBER);
  rig.fn.behaviour.vfsEnabled!(3);
  assertEquals(info(), OK);
});

Deno.test("N-3.12 shorter device-readable parts count as zero, longer ones are ignored", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1);
  // What an earlier command had there is not what a shorter one has.
  rig.command({ opcode: 0xffff, group: 0xffff, member: (1n << 64n) - 1n });
  // LIST_QUERY of the self group is all zeros, however few of them there are.
  for (const length of [0, 1, 2, 3, 4, 16, 23]) {
    rig.send(0, new Uint8Array(length), 16);
    const [answer] = rig.finish();
    assertEquals([...outcome(answer!), ...answer!.result], [...OK, ...bits(0, 1, 7, 8, 9)]);
    assertEquals(rig.rules(), ["N-3.3"]);
  }
  const info = encodeFrame({ opcode: 6, data: new Array(4096).fill(0xff) });
  rig.useAll();
  rig.send(0, info, 72);
  assertEquals(outcome(rig.finish()[0]!), OK);
  assertEquals(rig.rules(), []);
});

Deno.test("N-3.12 what does not fit into the device-writable part is discarded, and no more is written than there is", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1).useAll();
  const whole = rig.command({ opcode: 6, room: 64 });
  assertEquals([whole.used, whole.result.length], [72, 64]);
  for (let writable = 1; writable <= 80; writable++) {
    rig.send(0, encodeFrame({ opcode: 6 }), writable);
    const [answer] = rig.finish();
    assertEquals(answer!.used, Math.min(writable, 72));
    assertEquals(answer!.memory.subarray(0, answer!.used), whole.memory.slice(0, answer!.used));
  }
  rig.send(0, encodeFrame({ opcode: 6 }), 0);
  assertEquals(rig.finish()[0]!.used, 0);
});

Deno.test("N-3.12 results are multiples of 8 bytes, padded with zeros, except those of legacy reads (A-3.1)", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1).useParts();
  const cap = rig.command({ opcode: 8, group: SELF, member: 0n, data: new Array(8).fill(0), room: 64 });
  assertEquals([cap.used, ...cap.result], [16, 16, 16, 0, 0, 0, 0, 0, 0]);
  rig.command({ opcode: 0xa, data: [...new Array(24).fill(0)] });
  const parts = rig.command({
    opcode: 0xf,
    data: [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    room: 512,
  });
  assertEquals(parts.used % 8, 0);
  for (const [width, offset] of [[1, 18], [2, 12], [4, 0]] as const) {
    assertEquals(rig.command({ opcode: 3, data: [offset], room: width }).used, 8 + width);
  }
});

Deno.test("N-3.3 sizes that a driver must not give are reported; legacy accesses are exact (A-3.1) and are not", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(1).useAll();
  rig.command({ opcode: 3, data: [18], room: 1 });
  rig.command({ opcode: 2, data: [14, 0, 0, 0, 0, 0, 0, 0, 1, 0] });
  rig.command({ opcode: 6, room: 64 });
  assertEquals(rig.rules(), []);
  rig.command({ opcode: 6, room: 60 });
  rig.command({ opcode: 6, data: [0], room: 64 });
  assertEquals(rig.rules(), ["N-3.3", "N-3.3"]);
  rig.send(0, new Uint8Array(0), 16);
  rig.finish();
  rig.send(0, encodeFrame({ opcode: 6 }), 0);
  rig.finish();
  assertEquals(rig.rules(), ["N-3.3", "N-3.3"]);
  assertEquals(rig.fn.status & 0x40, 0, "the device goes on");
});

Deno.test("N-3.12 commands cut at every boundary of both parts are the same commands", () => {
  using rig = new AdminRig();
  rig.start().enableVfs(2).useParts();
  const object = { opcode: 0xa, member: 2n, data: new Array(24).fill(0) };
  const commands: [Uint8Array, number][] = [
    [encodeFrame({ opcode: 0, member: 0n }), 16],
    [encodeFrame({ opcode: 2, data: [4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4] }), 8],
    [encodeFrame({ opcode: 3, data: [4] }), 12],
    [encodeFrame({ opcode: 6, member: 2n }), 72],
    [encodeFrame({ opcode: 0xf, member: 2n, data: [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0] }), 264],
  ];
  assertEquals(outcome(rig.command(object)), OK);
  for (const [readable, writable] of commands) {
    rig.send(0, readable, writable);
    const whole = rig.finish()[0]!;
    assertEquals(whole.status, 0);
    const same = (cuts: number[], writeCuts: number[]) => {
      rig.send(0, readable, writable, cuts, writeCuts);
      assertEquals(rig.finish()[0], whole);
    };
    for (let cut = 1; cut < readable.length; cut++) same([cut], []);
    for (let cut = 1; cut < writable; cut++) same([], [cut]);
    for (let cut = 1; cut < Math.min(readable.length, writable); cut++) same([cut, cut + 1], [cut, cut + 3]);
    // Every byte a descriptor of its own, as far as the ring has them.
    same(Array.from({ length: 60 }, (_, i) => i + 1), Array.from({ length: 60 }, (_, i) => i + 1));
  }
});

Deno.test("the queues work only after ADMIN_VQ was negotiated", () => {
  using rig = new AdminRig();
  rig.fn.negotiate(1n << 32n | 1n << 33n);
  rig.fn.enable(1);
  assertEquals(rig.rules(), ["2.2"]);
  rig.fn.status = 15;
  assertEquals(rig.fn.behaviour.poll(8), 0);
});

Deno.test("arm: work that arrived before is told, and an idle queue sleeps", () => {
  using rig = new AdminRig();
  rig.start();
  assertEquals(rig.fn.behaviour.arm(), false);
  rig.send(1, encodeFrame({ opcode: 0, group: SELF, member: 0n }), 16);
  assertEquals(rig.fn.behaviour.arm(), true);
  assertEquals([rig.fn.behaviour.poll(1), rig.fn.behaviour.poll(1)], [1, 0]);
  assertEquals(rig.fn.behaviour.arm(), false);
  assertEquals(rig.collect().map(outcome), [OK]);
  rig.send(0, encodeFrame({ opcode: 0, group: SELF, member: 0n }), 16);
  assertEquals(rig.fn.behaviour.arm(), true, "of any queue");
});

Deno.test("a budget is kept, and no queue starves", () => {
  using rig = new AdminRig();
  rig.start();
  for (let i = 0; i < 8; i++) {
    for (const queue of [0, 1]) rig.send(queue, encodeFrame({ opcode: 0, group: SELF, member: 0n }), 16);
  }
  const used = () => [1, 2].map((queue) => rig.fn.rings.get(queue)!.usedIdx);
  assertEquals(rig.fn.behaviour.poll(3), 3);
  assertEquals(rig.fn.behaviour.poll(3), 3);
  assertEquals(used(), [3, 3]);
  rig.fn.run();
  assertEquals(rig.collect().length, 16);
});
