import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import {
  type RegisterAccess,
  Registers,
  type RegisterTable,
  TracedSpace,
} from "../../../lib/registers/mod.ts";
import { memory } from "./memory_space.ts";

const TABLE = {
  id: { offset: 0, width: 4, access: "R", fields: { major: { bits: [31, 24], access: "RO" } } },
  control: {
    offset: 4,
    width: 2,
    access: "RW",
    fields: {
      enable: { bits: 0, access: "RW" },
      mode: { bits: [6, 4], access: "RW" },
      kept: { bits: 15, access: "RW" },
    },
  },
  byte: { offset: 7, width: 1, access: "RW" },
  ring: { offset: 8, width: 8, access: "RW" },
  vector: { offset: 16, width: 2, access: "RW", strideBytes: 8 },
} as const satisfies RegisterTable;

Deno.test("each access is one of the register's width, at the table's place; 64 bits are two of 32, low half first", () => {
  const { space, view, seen } = memory();
  const registers = new Registers(TABLE, space, { offset: 32, lengthBytes: 24 });
  view.setUint32(32, 0x0123_4567, true);
  assertEquals(registers.read("id"), 0x0123_4567);
  registers.write("byte", 0xff);
  registers.write64("ring", 0x1_0000_0002n);
  assertEquals(registers.read64("ring"), 0x1_0000_0002n);
  registers.write("vector", 7, 1);
  assertEquals(view.getUint16(32 + 24, true), 7);
  assertEquals(seen, ["r4@32", "w1@39", "w4@40", "w4@44", "r4@40", "r4@44", "w2@56"]);
  assertEquals(
    Object.keys(TABLE).filter((name) => registers.has(name as keyof typeof TABLE)),
    Object.keys(TABLE),
  );
  assertEquals(new Registers(TABLE, space, { lengthBytes: 17 }).has("vector"), false);
});

Deno.test("fields: read apart, changed alone", () => {
  const { space, view, seen } = memory();
  const registers = new Registers(TABLE, space);
  view.setUint32(0, 0x8200_0001, true);
  assertEquals(registers.fields("id"), { raw: 0x8200_0001, major: 0x82 });
  view.setUint16(4, 0x8001, true);
  registers.update("control", { enable: false, mode: 5 });
  assertEquals(view.getUint16(4, true), 0x8050);
  assertEquals(seen, ["r4@0", "r2@4", "w2@4"]);
});

Deno.test("what cannot be written or named is a UsageError, and nothing is accessed", () => {
  const { space, seen } = memory();
  const registers = new Registers(TABLE, space);
  assertThrows(() => registers.write("id", 1), UsageError, "id is read-only");
  for (const value of [-1, 256, 1.5, NaN, "1"]) {
    assertThrows(
      () => registers.write("byte", value as number),
      UsageError,
      "does not fit a register of 8 bits",
    );
  }
  assertThrows(() => registers.read("ring"), UsageError, "ring has 64 bits");
  assertEquals(seen, []);
  assertThrows(() => registers.read("absent" as "id"), UsageError, 'there is no register "absent"');
  assertThrows(() => registers.update("control", { absent: 1 } as object), UsageError, 'no field "absent"');
  assertEquals(seen, [], "it is not read for a change that cannot be");
});

Deno.test("TracedSpace: each access is told by the register's name after it was made; what is no register goes through", () => {
  const { space, view, seen } = memory();
  const told: RegisterAccess[] = [];
  const through = new TracedSpace(space, TABLE, (access) => told.push(access), { offset: 32 });
  const registers = new Registers(TABLE, through, { offset: 32 });
  view.setUint8(39, 9);
  registers.read("byte");
  registers.write64("ring", 5n);
  registers.write("vector", 3, 2);
  through.write(0, 4, 1);
  assertEquals(told, [
    { kind: "read", register: "byte", offset: 7, width: 1, value: 9 },
    { kind: "write", register: "ring", offset: 8, width: 4, value: 5 },
    { kind: "write", register: "ring+4", offset: 12, width: 4, value: 0 },
    { kind: "write", register: "vector[2]", offset: 32, width: 2, value: 3 },
  ]);
  assertEquals(seen.length, 5);
});
