import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { Registers, registerTable } from "../../../lib/registers/mod.ts";
import { memory } from "./memory_space.ts";

const RW = "RW";
const refused = (declare: () => unknown, why: string) => void assertThrows(declare, UsageError, why);

Deno.test("a wrong table does not compile, and is refused when it is declared", () => {
  refused(
    // @ts-expect-error two registers at one offset
    () => registerTable({ a: { offset: 4, width: 4 }, b: { offset: 4, width: 2 } }),
    "registers a and b overlap: both are read at 0x4",
  );
  refused(
    // @ts-expect-error a field outside of its register
    () => registerTable({ a: { offset: 0, width: 2, fields: { f: { bits: [16, 8], access: RW } } } }),
    "register a: field f is outside of it: bit 16 of 16 bits",
  );
  refused(
    // @ts-expect-error two registers of one name
    // deno-lint-ignore no-dupe-keys
    () => registerTable({ a: { offset: 0, width: 4 }, a: { offset: 4, width: 2, strideBytes: 1 } }),
    "register a: a stride of 1 bytes is less than the 2 of the register",
  );
  // @ts-expect-error no such width
  refused(() => registerTable({ a: { offset: 0, width: 3 } }), "width 3 is none of 1, 2, 4 and 8 bytes");
});

Deno.test("what types cannot say is refused by its message", () => {
  refused(
    () => registerTable({ a: { offset: 0, width: 4 }, b: { offset: 2, width: 2 } }),
    "registers a and b overlap: both are read at 0x2",
  );
  refused(
    () =>
      registerTable({
        a: { offset: 0, width: 4, strideBytes: 0x10, count: 8 },
        b: { offset: 0x50, width: 4, access: "W" },
      }),
    "registers a[5] and b overlap: both are written at 0x50",
  );
  refused(
    () =>
      registerTable({
        a: {
          offset: 0,
          width: 4,
          fields: { f: { bits: [7, 4], access: RW }, g: { bits: [4, 0], access: RW } },
        },
      }),
    "register a: fields f and g both have bit 4",
  );
  refused(
    () => registerTable({ a: { offset: 0, width: 4, fields: { f: { bits: [4, 7], access: RW } } } }),
    "register a: field f has no bits [high, low]",
  );
  refused(
    () =>
      registerTable({
        a: { offset: 0, width: 4, fields: { f: { bits: [1, 0], access: RW, values: { on: 4 } } } },
      }),
    "register a: value on of field f does not fit it: 4",
  );
  refused(
    () =>
      registerTable({
        a: { offset: 0, width: 4, fields: { f: { bits: 0, access: RW, values: { on: 1, up: 1 } } } },
      }),
    "register a: values on and up of field f are both 1",
  );
  refused(
    () => registerTable({ a: { offset: 0, width: 1, reset: 256 } }),
    "register a: a reset value of 256 does not fit 8 bits",
  );
  refused(() => registerTable({ a: { offset: 0, width: 4, count: 2 } }), "there are 2 of it, and no stride");
  refused(() => registerTable({ a: { offset: -4, width: 4 } }), "offset -4 is no number of bytes");
  refused(
    () => registerTable({ a: { offset: 0, width: 4, oneAccess: true } }),
    "oneAccess is for a register of 8 bytes",
  );
});

Deno.test("one that is only read and one that is only written may be at one place", () => {
  const table = registerTable({
    rbr: { offset: 0, width: 1, access: "R" },
    thr: { offset: 0, width: 1, access: "W" },
  });
  const { space, seen } = memory(4);
  const uart = new Registers(table, space);
  uart.set("thr", 65);
  assertEquals([uart.get("rbr"), seen], [65, ["w1@0", "r1@0"]]);
});

Deno.test("a table that was not declared so is looked at when it is bound", () => {
  const table = { a: { offset: 0, width: 4 }, b: { offset: 1, width: 1 } } as const;
  refused(() => new Registers(table, memory(4).space), "registers a and b overlap");
});
