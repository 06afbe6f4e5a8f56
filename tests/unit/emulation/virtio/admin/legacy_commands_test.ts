import { assert, assertEquals } from "@std/assert";
import {
  AdminRig,
  COMMON_FIELDS,
  DEVICE_FIELDS,
  encodeFrame,
  INVALID_FIELD,
  INVALID_MEMBER,
  OK,
  outcome,
} from "./rig.ts";

const COMMON_WRITE = 2, COMMON_READ = 3, DEVICE_WRITE = 4, DEVICE_READ = 5, NOTIFY_INFO = 6;
const write = (offset: number, ...data: number[]) => [offset, 0, 0, 0, 0, 0, 0, 0, ...data];

function rigWithVfs(options: ConstructorParameters<typeof AdminRig>[0] = {}): AdminRig {
  return new AdminRig(options).start().enableVfs(4).useAll();
}

Deno.test("opcodes, by number", () => {
  using rig = rigWithVfs();
  const { common, device } = rig.members[2]!;
  const member = 3n;
  assertEquals([...rig.command({ opcode: 0x0003, member, data: [4], room: 4 }).result], [
    ...common.slice(4, 8),
  ]);
  assertEquals([...rig.command({ opcode: 0x0005, member, data: [6], room: 2 }).result], [
    ...device.slice(6, 8),
  ]);
  assertEquals(outcome(rig.command({ opcode: 0x0002, member, data: write(4, 1, 2, 3, 4) })), OK);
  assertEquals(outcome(rig.command({ opcode: 0x0004, member, data: write(6, 5, 6) })), OK);
  assertEquals([...common.slice(4, 8), ...device.slice(6, 8)], [1, 2, 3, 4, 5, 6]);
  assert(rig.members.every((one, i) => i === 2 || one.common[4] === 16 * i + 4), "of that member only");
});

Deno.test("N-3.14 A-3.1 the lengths are the width: every access inside one field, and no other, of both structures", () => {
  using rig = rigWithVfs();
  for (const msix of [false, true]) {
    rig.members[0]!.msix = msix;
    for (
      const [fields, reads, writes] of [
        [msix ? COMMON_FIELDS : COMMON_FIELDS.slice(0, 8), COMMON_READ, COMMON_WRITE],
        [DEVICE_FIELDS, DEVICE_READ, DEVICE_WRITE],
      ] as const
    ) {
      for (let offset = 0; offset < 26; offset++) {
        for (const length of [0, 1, 2, 3, 4, 5, 6, 8, 9, 500]) {
          const single = length > 0 && fields.some(([from, to]) => offset >= from && offset + length <= to);
          const expected = single ? OK : INVALID_FIELD;
          const read = rig.command({ opcode: reads, data: [offset], room: length });
          assertEquals(
            [...outcome(read), read.used],
            [...expected, single ? 8 + length : 8],
            `read ${offset}+${length}`,
          );
          const before = [...rig.members[0]!.common, ...rig.members[0]!.device];
          const written = rig.command({
            opcode: writes,
            data: write(offset, ...new Array(length).fill(0x5a)),
          });
          assertEquals([...outcome(written), written.used], [...expected, 8], `write ${offset}+${length}`);
          const after = [...rig.members[0]!.common, ...rig.members[0]!.device];
          assertEquals(
            after.every((byte, i) => byte === before[i]),
            !single || after.join() === before.join(),
            "N-3.10",
          );
        }
      }
    }
  }
});

Deno.test("A-3.5 the layout of v7, with the bytes behind the offset, is not understood: data begins at 8", () => {
  using rig = rigWithVfs();
  const before = rig.members[0]!.common.slice();
  for (const data of [[14, 1, 0], [14, 1, 0, 0, 0], [4, 1, 2, 3, 4], [18, 1], [18, 1, 0, 0, 0, 0, 0, 0]]) {
    assertEquals(outcome(rig.command({ opcode: COMMON_WRITE, data })), INVALID_FIELD);
    assertEquals(outcome(rig.command({ opcode: DEVICE_WRITE, data })), INVALID_FIELD);
  }
  assertEquals(rig.members[0]!.common, before);
  // Padded to 16 bytes it is an access of 8 bytes to the final layout, and no field is that wide.
  assertEquals(
    outcome(rig.command({ opcode: COMMON_WRITE, data: [4, 1, 2, 3, 4, ...new Array(11).fill(0)] })),
    INVALID_FIELD,
  );
});

Deno.test("a read with its one byte of data padded to 8 is the same read (A-3.1)", () => {
  using rig = rigWithVfs();
  const plain = rig.command({ opcode: COMMON_READ, data: [18], room: 1 });
  assertEquals(rig.command({ opcode: COMMON_READ, data: [18, 0, 0, 0, 0, 0, 0, 0], room: 1 }), plain);
  assertEquals(plain.result.length, 1);
  // Without its data byte it is one of offset 0.
  assertEquals([...rig.command({ opcode: COMMON_READ, data: [], room: 4 }).result], [0, 1, 2, 3]);
});

Deno.test("N-3.15 A-3.2 NOTIFY_INFO of the member's addresses: 2-aligned, at most three, then zeros", () => {
  using rig = rigWithVfs();
  const of = () => rig.command({ opcode: NOTIFY_INFO, member: 2n, room: 64 });
  const entry = (
    flags: number,
    bar: number,
    low: number[],
  ) => [flags, bar, 0, 0, 0, 0, 0, 0, ...low, ...new Array(8 - low.length).fill(0)];
  assertEquals([...of().result], [...entry(2, 4, [0, 0x40]), ...new Array(48).fill(0)]);
  const { notifyAreas } = rig.members[1]!;
  notifyAreas.push({ bar: 1, offset: 2 }, { bar: 2, offset: 4 }, { bar: 3, offset: 6 }, {
    bar: 5,
    offset: 8,
  });
  assertEquals([...of().result], [
    ...entry(2, 4, [0, 0x40]),
    ...entry(2, 1, [2]),
    ...entry(2, 2, [4]),
    ...new Array(16).fill(0),
  ]);
  notifyAreas.length = 0;
  assertEquals([...of().result], new Array(64).fill(0));
});

Deno.test("N-3.15 NOTIFY_INFO of the owner's addresses: in its BAR, another for each member, and a write there notifies that member", () => {
  for (const legacyNotify of ["owner", "both"] as const) {
    using rig = rigWithVfs({ legacyNotify });
    const bar = rig.fn.behaviour.bars.find(({ index }) => index === 4)!;
    for (let index = 0; index < 4; index++) {
      const { result } = rig.command({ opcode: NOTIFY_INFO, member: BigInt(index + 1), room: 64 });
      const at = legacyNotify === "both" ? 16 : 0;
      if (at > 0) {
        assertEquals(
          [...result.slice(0, 10)],
          [2, 4, 0, 0, 0, 0, 0, 0, 0, 0x40],
          "the member's is preferred",
        );
      }
      const view = new DataView(result.buffer, result.byteOffset + at);
      assertEquals([view.getUint8(0), view.getUint8(1)], [1, 4]);
      assertEquals(result.slice(at + 16).every((byte) => byte === 0), true);
      const offset = Number(view.getBigUint64(8, true));
      assertEquals(offset % 2, 0);
      assert(offset + 2 <= bar.sizeBytes);
      rig.fn.write(offset, 2, 0x102);
      assertEquals(
        rig.members.map(({ notifications }) => notifications.splice(0)),
        rig.members.map((_, i) => i === index ? [0x102] : []),
      );
      rig.fn.write(offset, 1, 1);
      rig.fn.write(offset, 4, 1);
      assertEquals(rig.rules(), ["N-3.16", "N-3.16"]);
      assertEquals(rig.fn.read(offset, 2), 0);
    }
    // VF 5 could be, and is not enabled.
    const { result } = rig.command({ opcode: NOTIFY_INFO, room: 64 });
    const first = Number(
      new DataView(result.buffer, result.byteOffset + (legacyNotify === "both" ? 16 : 0)).getBigUint64(
        8,
        true,
      ),
    );
    rig.fn.write(first + 8, 2, 0);
    assertEquals(rig.rules(), ["N-3.16"]);
    rig.fn.write(first + 16, 2, 0);
    assertEquals(rig.rules(), ["2.1"], "there are no more than TotalVFs");
  }
});

Deno.test("A-3.2 with both, a member of many addresses leaves a place for the owner's, and the last entry ends the list", () => {
  using rig = rigWithVfs({ legacyNotify: "both" });
  for (let i = 1; i < 5; i++) rig.members[0]!.notifyAreas.push({ bar: i, offset: 2 * i });
  const { result } = rig.command({ opcode: NOTIFY_INFO, room: 64 });
  assertEquals([0, 16, 32, 48].map((at) => [result[at], result[at + 1]]), [[2, 4], [2, 1], [1, 4], [0, 0]]);
});

Deno.test("N-3.15 the command at queue_notify and a write to the owner's address do the same", () => {
  using rig = rigWithVfs({ legacyNotify: "owner" });
  assertEquals(outcome(rig.command({ opcode: COMMON_WRITE, data: write(16, 5, 0) })), OK);
  rig.fn.write(0x4000, 2, 5);
  assertEquals(rig.members[0]!.notifications, [5, 5]);
});

Deno.test("a member without legacy registers is none to these commands", () => {
  using rig = rigWithVfs();
  const place = rig.controller.place(0);
  place.join({ name: "bare" });
  for (const opcode of [COMMON_WRITE, COMMON_READ, DEVICE_WRITE, DEVICE_READ, NOTIFY_INFO, 0x11]) {
    assertEquals(outcome(rig.command({ opcode, data: write(18, 0), room: 1 })), INVALID_MEMBER);
  }
});

Deno.test("thousands of bytes of data and of room are no access, and cost nothing", () => {
  using rig = rigWithVfs();
  const frame = encodeFrame({ opcode: COMMON_WRITE, data: new Array(70_000).fill(0) });
  rig.send(0, frame, 100_000);
  const [answer] = rig.finish();
  assertEquals([...outcome(answer!), answer!.used], [...INVALID_FIELD, 8]);
});
