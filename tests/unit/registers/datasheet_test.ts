import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TimeoutError, UsageError } from "../../../lib/errors/mod.ts";
import { Registers, type RegisterSpace, type RegisterTable } from "../../../lib/registers/mod.ts";
import { NIC } from "./datasheet.ts";
import { memory } from "./memory_space.ts";

function nic() {
  const bytes = memory(0x200);
  return { ...bytes, registers: new Registers(NIC, bytes.space) };
}

Deno.test("get and set: a number, and a bigint of 64 bits; of an array by its number", () => {
  const { registers, view, seen } = nic();
  view.setBigUint64(0x88, 0xf_0000_0001n, true);
  const octets: bigint = registers.get("GORC");
  assertEquals(octets, 0xf_0000_0001n);
  registers.set("TDBAL", 0x1000, 3);
  assertEquals(view.getUint32(0x1c0, true), 0x1000);
  assertEquals(registers.get("TDBAL", 3), 0x1000);
  assertEquals(seen, ["r4@136", "r4@140", "w4@448", "r4@448"]);
  for (const index of [4, -1, 0.5, NaN]) {
    assertThrows(() => registers.get("TDBAL", index), UsageError, `there is no TDBAL[${index}]`);
  }
  assertThrows(() => registers.get("GPRC", 1), UsageError, "there is no GPRC[1]");
  assertThrows(() => registers.set("GPRC", 1), UsageError, "GPRC is read-only");
  assertEquals(seen.length, 4);
});

Deno.test("set by fields: the others are 0; a value by its name", () => {
  const { registers, view } = nic();
  registers.set("CTRL", { FD: true, SPEED: "1000" });
  assertEquals(view.getUint32(0, true), 0x201);
  assertThrows(() => registers.set("CTRL", { SPEED: 4 }), UsageError, "4 does not fit field SPEED of CTRL");
  assertThrows(
    () => registers.set("CTRL", { SPEED: "2500" as "10" }),
    UsageError,
    '"2500" does not fit field SPEED of CTRL',
  );
  assertEquals(view.getUint32(0, true), 0x201);
});

Deno.test("update: what a written 1 clears or starts is written as 0, unless it is named", () => {
  const { registers, view } = nic();
  view.setUint32(0, 0xc400_0001, true);
  registers.update("CTRL", { SPEED: "100" });
  assertEquals(view.getUint32(0, true), 0x8000_0101);
  registers.update("CTRL", { RST: true });
  assertEquals(view.getUint32(0, true), 0x8400_0101);
});

Deno.test("update: refused for a register that cannot be read, or is cleared by it, before anything is accessed", () => {
  const { registers, seen } = nic();
  assertThrows(() => registers.update("ICR", { LSC: true }), UsageError, "ICR is cleared by reading it");
  assertThrows(() => registers.update("ICS", {}), UsageError, "ICS cannot be read");
  assertEquals([seen, registers.clearingReads], [[], 0]);
});

Deno.test("one access of 64 bits, where the register says so and the space has it", () => {
  const { registers, space, view, seen } = nic();
  assertThrows(() => registers.get("STAMP"), UsageError, "STAMP is one access of 64 bits");
  assertEquals(seen, []);
  const wide: RegisterSpace = {
    ...space,
    read64: (offset) => view.getBigUint64(offset, true),
    write64: () => {},
  };
  view.setBigUint64(0x98, (1n << 63n) | 5n, true);
  assertEquals(new Registers(NIC, wide).fields("STAMP"), { raw: (1n << 63n) | 5n, valid: true });
  assertEquals(seen, []);
});

Deno.test("reads that clear are counted, and none other", () => {
  const { registers } = nic();
  registers.get("CTRL");
  registers.get("GORC");
  registers.fields("ICR");
  registers.set("ICR", { LSC: true });
  assertEquals(registers.clearingReads, 2);
});

Deno.test("waitFor: fields or the whole register, and the last value decoded when it takes too long", async () => {
  const { space, view } = memory(0x200);
  let reads = 0;
  const slow: RegisterSpace = {
    ...space,
    read: (offset, width) => {
      if (++reads === 40) view.setUint32(0, 0x201, true);
      return space.read(offset, width);
    },
  };
  const registers = new Registers(NIC, slow);
  assertEquals((await registers.waitFor("CTRL", { FD: true, SPEED: "1000" }, 60_000)).raw, 0x201);
  assertEquals(reads, 40);
  assertEquals((await registers.waitFor("CTRL", 0x201, 0)).FD, true);
  await assertRejects(
    () => registers.waitFor("CTRL", { RST: true }, 1),
    TimeoutError,
    "CTRL was not RST 1 within 1 ms: it is 0x00000201 PHY 0, DONE 0, RST 0, SPEED 1000, FD 1",
  );
  await assertRejects(
    () => registers.waitFor("TDBAL", 7, 0, 2),
    TimeoutError,
    "TDBAL[2] was not 0x7 within 0 ms",
  );
  await assertRejects(() => registers.waitFor("CTRL", { none: 1 } as object, 0), UsageError, "no field");
});

Deno.test("names and values that are not there do not compile", () => {
  const { registers, seen } = nic();
  const never = (_: () => unknown) => {};
  // @ts-expect-error no such register
  never(() => registers.get("CTR"));
  // @ts-expect-error no such field
  never(() => registers.update("CTRL", { FDX: true }));
  // @ts-expect-error no such field
  never(() => registers.fields("CTRL").FDX);
  // @ts-expect-error no value of that name
  never(() => registers.set("CTRL", { SPEED: "2500" }));
  // @ts-expect-error 64 bits are a bigint
  never(() => registers.set("GORC", 1));
  assertEquals(seen, []);
  // A table whose shape is not known is read as well.
  const any: RegisterTable = NIC;
  assertEquals(new Registers(any, memory(0x200).space).get("CTRL"), 0);
});
