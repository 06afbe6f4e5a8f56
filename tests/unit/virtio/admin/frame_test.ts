import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceError, UsageError } from "../../../../lib/errors/mod.ts";
import {
  adminFrameSize,
  decodeAdminReply,
  encodeAdminCommand,
  prepareAdminReply,
} from "../../../../lib/virtio/admin/frame.ts";
import {
  capGetCall,
  capSetCall,
  legacyReadCall,
  legacyWriteCall,
  listUseCall,
  modeSetCall,
  notifyInfoCall,
  partsGetCall,
  partsListCall,
  partsMetadataCall,
  partsObjectCreateCall,
  partsObjectDestroyCall,
  partsSetCall,
} from "../../../../lib/virtio/admin/calls.ts";
import { decodeIdBitmap, encodeIdBitmap } from "../../../../lib/virtio/admin/id_bitmap.ts";
import { parseNotifyInfo } from "../../../../lib/virtio/admin/notify_info.ts";
import type { AdminCommand } from "../../../../lib/virtio/admin/frame.ts";

const PLACE = { function: "pf", queue: 9, opcode: 8, groupType: 0, memberId: 0n };

function bytesOf(command: AdminCommand, padReads = false): number[] {
  const bytes = new Uint8Array(adminFrameSize(command, padReads).readable).fill(0xaa);
  encodeAdminCommand(command, bytes);
  return [...bytes];
}

Deno.test("3.1 the header by offset: opcode 0, group type 2, 12 reserved bytes, member id 16, data 24", () => {
  const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const bytes = bytesOf({ opcode: 0x1234, groupType: 0x5678, memberId: 0x0102030405060708n, data });
  assertEquals(bytes, [
    ...[0x34, 0x12, 0x78, 0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ...[8, 7, 6, 5, 4, 3, 2, 1],
    ...data,
  ]);
});

Deno.test("N-3.3 both parts are larger than zero and multiples of 8, whatever the data", () => {
  for (let length = 0; length <= 40; length++) {
    for (const opcode of [0, 1, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf, 0x10, 0x11, 0x12, 0x7fff]) {
      const size = adminFrameSize({
        opcode,
        groupType: 1,
        data: new Uint8Array(length),
        resultBytes: length,
      });
      assertEquals([size.readable % 8, size.writable % 8], [0, 0]);
      assertEquals(size.readable, 24 + 8 * Math.ceil(length / 8));
      assertEquals(size.writable, 8 + 8 * Math.ceil(length / 8));
    }
  }
});

Deno.test("A-3.1 register accesses have exact lengths: the width of the access is the length of the data", () => {
  for (const width of [1, 2, 4] as const) {
    for (const space of ["common", "device"] as const) {
      const write = legacyWriteCall(7n, space, 3, width, 0x41).command;
      assertEquals(adminFrameSize(write), { readable: 24 + 8 + width, writable: 8 });
      const read = legacyReadCall(7n, space, 3, width).command;
      assertEquals(adminFrameSize(read), { readable: 24 + 1, writable: 8 + width });
      // The width of a read is that of the result: its readable part may be padded, the rest never.
      assertEquals(adminFrameSize(read, true), { readable: 32, writable: 8 + width });
      assertEquals(adminFrameSize(write, true), { readable: 24 + 8 + width, writable: 8 });
    }
  }
});

Deno.test("A-3.5 data of a legacy write is behind seven reserved bytes, little-endian (N-3.16)", () => {
  const tail = (command: AdminCommand) => bytesOf(command).slice(24);
  assertEquals(tail(legacyWriteCall(1n, "common", 18, 1, 7).command), [18, 0, 0, 0, 0, 0, 0, 0, 7]);
  assertEquals(tail(legacyWriteCall(1n, "device", 6, 2, 0x1234).command), [
    6,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0x34,
    0x12,
  ]);
  assertEquals(tail(legacyWriteCall(1n, "common", 4, 4, 0xfedcba98).command), [
    ...[4, 0, 0, 0, 0, 0, 0, 0],
    ...[0x98, 0xba, 0xdc, 0xfe],
  ]);
  assertEquals(tail(legacyReadCall(1n, "common", 0x12, 1).command), [0x12]);
  const { read } = legacyReadCall(1n, "common", 0, 4);
  const result = Uint8Array.of(0x98, 0xba, 0xdc, 0xfe);
  assertEquals(read({ status: 0, qualifier: 0, result, writtenBytes: 4 }, "pf"), 0xfedcba98);
});

Deno.test("3.2 opcodes, groups, members of every call", () => {
  const part = { type: 0x103, flags: 0, selector: 0n, value: Uint8Array.of(4) };
  const calls: [AdminCommand, number, number, bigint | undefined][] = [
    [listUseCall(1, [0, 1]).command, 1, 1, undefined],
    [legacyWriteCall(5n, "common", 0, 1, 0).command, 2, 1, 5n],
    [legacyReadCall(5n, "common", 0, 1).command, 3, 1, 5n],
    [legacyWriteCall(5n, "device", 0, 1, 0).command, 4, 1, 5n],
    [legacyReadCall(5n, "device", 0, 1).command, 5, 1, 5n],
    [notifyInfoCall(5n).command, 6, 1, 5n],
    [capGetCall(0, 8).command, 8, 0, undefined],
    [capSetCall(0, Uint8Array.of(1, 1)).command, 9, 0, undefined],
    [partsObjectCreateCall(5n, 3, "get").command, 0xa, 1, 5n],
    [partsObjectDestroyCall(5n, 3).command, 0xd, 1, 5n],
    [partsMetadataCall(5n, 3, "size").command, 0xe, 1, 5n],
    [partsGetCall(5n, 3, "all", 64).command, 0xf, 1, 5n],
    [partsSetCall(5n, 3, [part]).command, 0x10, 1, 5n],
    [modeSetCall(5n, true).command, 0x11, 1, 5n],
  ];
  for (const [command, opcode, groupType, memberId] of calls) {
    assertEquals([command.opcode, command.groupType, command.memberId], [opcode, groupType, memberId]);
  }
});

Deno.test("3.6 payloads by offset: capabilities, objects, parts, mode", () => {
  const tail = (command: AdminCommand) => bytesOf(command).slice(24);
  assertEquals(tail(capGetCall(0x0801, 8).command), [1, 8, 0, 0, 0, 0, 0, 0]);
  assertEquals(tail(capSetCall(0x0801, Uint8Array.of(3, 5)).command), [
    ...[1, 8, 0, 0, 0, 0, 0, 0],
    ...[3, 5, 0, 0, 0, 0, 0, 0],
  ]);
  assertEquals(tail(partsObjectCreateCall(1n, 0x01020304, "set").command), [
    ...[0, 0, 0, 0, 4, 3, 2, 1],
    ...[0, 0, 0, 0, 0, 0, 0, 0],
    ...[1, 0, 0, 0, 0, 0, 0, 0],
  ]);
  assertEquals(tail(partsObjectDestroyCall(1n, 7).command), [0, 0, 0, 0, 7, 0, 0, 0]);
  for (const [wanted, number] of [["size", 0], ["count", 1]] as const) {
    assertEquals(tail(partsMetadataCall(1n, 7, wanted).command), [
      ...[0, 0, 0, 0, 7, 0, 0, 0],
      ...[number, 0, 0, 0, 0, 0, 0, 0],
    ]);
  }
  const list = partsListCall(1n, 7, 3).command;
  assertEquals(tail(list), [0, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(adminFrameSize(list).writable, 8 + 8 + 3 * 16);
  assertEquals(tail(partsGetCall(1n, 7, "all", 64).command), [
    ...[0, 0, 0, 0, 7, 0, 0, 0],
    ...[1, 0, 0, 0, 0, 0, 0, 0],
  ]);
  const header = { type: 0x104, flags: 1, selector: 2n, length: 32 };
  assertEquals(tail(partsGetCall(1n, 7, [header], 64).command), [
    ...[0, 0, 0, 0, 7, 0, 0, 0],
    ...[0, 0, 0, 0, 0, 0, 0, 0],
    ...[4, 1, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0],
  ]);
  const part = { type: 0x103, flags: 0, selector: 0n, value: Uint8Array.of(0x0f) };
  assertEquals(tail(partsSetCall(1n, 7, [part]).command), [
    ...[0, 0, 0, 0, 7, 0, 0, 0],
    ...[3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ...[0x0f, 0, 0, 0, 0, 0, 0, 0],
  ]);
  assertEquals(tail(modeSetCall(1n, true).command), [1, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(tail(modeSetCall(1n, false).command), [0, 0, 0, 0, 0, 0, 0, 0]);
});

Deno.test("A-3.11 the stopped flag is bit 0, EEXIST is a status of its own", () => {
  assertEquals(modeSetCall(1n, true).command.data, Uint8Array.of(1));
});

Deno.test("N-3.4 bytes past the used length are zero, whatever the buffer holds", () => {
  const bytes = new Uint8Array(8 + 16).fill(0xee);
  bytes.fill(0, 0, 8);
  for (let used = 8; used <= 24; used++) {
    const { result, writtenBytes } = decodeAdminReply(bytes, used, 16, PLACE);
    assertEquals(writtenBytes, used - 8);
    assertEquals([...result], Array.from({ length: 16 }, (_, at) => (at < used - 8 ? 0xee : 0)));
  }
  // What is asked for is less than the padded buffer.
  const { result, writtenBytes } = decodeAdminReply(bytes, 24, 11, PLACE);
  assertEquals([result.length, writtenBytes], [11, 11]);
});

Deno.test("N-3.4 no whole status, or more than there is, is an error that names command, queue and used.len", () => {
  const bytes = new Uint8Array(16);
  for (const used of [0, 1, 4, 7, 17, 0xffff_ffff, -1, NaN]) {
    const error = assertThrows(() => decodeAdminReply(bytes, used, 8, PLACE), DeviceError, "DEVICE_CAP_GET");
    assertEquals(error.location, { function: "pf", queue: 9, field: "used.len" });
  }
});

Deno.test("a status that was not written is no success", () => {
  const bytes = new Uint8Array(24).fill(0x55);
  prepareAdminReply(bytes);
  assert(decodeAdminReply(bytes, 8, 16, PLACE).status !== 0);
  assertEquals([...bytes.subarray(8)], new Array(16).fill(0));
});

Deno.test("what is no command is a UsageError", () => {
  const wrong: Partial<AdminCommand>[] = [
    { opcode: -1 },
    { opcode: 0x8000 },
    { opcode: 1.5 },
    { groupType: 0x10000 },
    { groupType: -1 },
    { memberId: -1n },
    { memberId: 1n << 64n },
    { memberId: 3 as unknown as bigint },
    { resultBytes: -1 },
    { resultBytes: 1 << 30 },
  ];
  for (const one of wrong) {
    assertThrows(() => adminFrameSize({ opcode: 6, groupType: 1, ...one }), UsageError);
  }
  const register: [number, number, number][] = [
    [-1, 1, 0],
    [256, 1, 0],
    [255, 2, 0],
    [0, 3, 0],
    [0.5, 1, 0],
    [0, 1, 256],
    [
      0,
      2,
      -1,
    ],
    [0, 4, 2 ** 32],
    [0, 1, NaN],
  ];
  for (const [offset, width, value] of register) {
    assertThrows(() => legacyWriteCall(1n, "common", offset, width as 1, value), UsageError);
  }
  assertEquals(legacyReadCall(1n, "device", 252, 4).command.data, Uint8Array.of(252));
});

Deno.test("A-3.7 a bitmap has (largest + 1) / 64 words rounded up; any length is read, zero tail included", () => {
  const lengths: [number, number][] = [[0, 8], [1, 8], [62, 8], [63, 8], [64, 16], [65, 16], [127, 16], [
    128,
    24,
  ], [
    0x7fff,
    4096,
  ]];
  for (const [largest, bytes] of lengths) {
    const encoded = encodeIdBitmap([largest]);
    assertEquals(encoded.length, bytes);
    assertEquals(decodeIdBitmap(encoded), [largest]);
    for (const tail of [1, 8, 64]) {
      assertEquals(decodeIdBitmap(Uint8Array.from([...encoded, ...new Uint8Array(tail)])), [largest]);
    }
  }
  assertEquals(encodeIdBitmap([]), new Uint8Array(8));
  // The standard's own example: 0x3 and 0x1 are opcodes 0, 1 and 64.
  const example = Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
  assertEquals(decodeIdBitmap(example), [0, 1, 64]);
  assertEquals(encodeIdBitmap([64, 1, 0]), example);
  assertEquals(decodeIdBitmap(Uint8Array.of(3, 0x10)), [0, 1, 12]);
  assertThrows(() => encodeIdBitmap([0x10000]), UsageError);
});

/** One entry. */
function entry(flags: number, bar: number, offset: bigint): number[] {
  const bytes = new Uint8Array(16);
  bytes[0] = flags;
  bytes[1] = bar;
  new DataView(bytes.buffer).setBigUint64(8, offset, true);
  return [...bytes];
}

Deno.test("N-3.17 entries of LEGACY_NOTIFY_INFO: stop at flags 0, ignore reserved flags, bad BARs and odd offsets", () => {
  const parse = (...entries: number[][]) => parseNotifyInfo(Uint8Array.from(entries.flat()));
  const good = { whose: "member", bar: 2, offset: 0x1000 } as const;
  assertEquals(parse(entry(2, 2, 0x1000n)), [good]);
  assertEquals(parse(entry(0, 1, 2n), entry(2, 2, 0x1000n)), []);
  for (const flags of [3, 4, 0x80, 0xff]) {
    assertEquals(parse(entry(flags, 1, 2n), entry(2, 2, 0x1000n)), [good]);
  }
  for (const bar of [0, 6, 7, 255]) assertEquals(parse(entry(1, bar, 2n), entry(2, 2, 0x1000n)), [good]);
  for (const offset of [1n, 3n, (1n << 63n) + 2n, (1n << 64n) - 1n]) {
    assertEquals(parse(entry(1, 1, offset), entry(2, 2, 0x1000n)), [good]);
  }
  assertEquals(parse(entry(1, 5, 0n)), [{ whose: "owner", bar: 5, offset: 0 }]);
});

Deno.test("A-3.2 four entries may be used, no terminator is needed, a fifth is not read", () => {
  const entries = [1, 2, 3, 4, 5].map((bar) => entry(2, bar, BigInt(2 * bar)));
  assertEquals(parseNotifyInfo(Uint8Array.from(entries.flat())).map(({ bar }) => bar), [1, 2, 3, 4]);
  assertEquals(parseNotifyInfo(Uint8Array.from(entries[0]!.slice(0, 15))), []);
  assertEquals(parseNotifyInfo(new Uint8Array(0)), []);
});
