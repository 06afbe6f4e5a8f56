import { assertEquals } from "@std/assert";
import { Registers } from "../../../lib/registers/mod.ts";
import { commonNames, knownRegisters } from "../../../lib/virtio/function_registers.ts";

/** The first 64 bytes of a function. */
function header(layout: number): Uint8Array {
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => i);
  bytes[0x0e] = layout;
  bytes[0x06] = 0; // no list of capabilities
  return bytes;
}

Deno.test("the header of each type by its registers: each has BARs of its own number, and none overlap", () => {
  const reads = { read: (offset: number) => offset, write: () => {} };
  for (
    const [layout, bars, own] of [[0, 6, "subsystemId"], [1, 2, "secondaryBus"], [2, 1, "cardBus"]] as const
  ) {
    const sets = knownRegisters("0000:01:00.0", header(layout), []);
    assertEquals(sets.map(({ name }) => name), ["config"]);
    const { table, lengthBytes } = sets[0]!;
    assertEquals([table.bars?.count, own in table, lengthBytes], [bars, true, 64]);
    const dump = new Registers(table, reads).dump({ only: "bars*" });
    assertEquals(
      dump.registers.map(({ offset }) => offset),
      Array.from({ length: bars }, (_, i) => 16 + 4 * i),
    );
  }
});

Deno.test("a function that is gone has none", () => {
  assertEquals(knownRegisters("0000:01:00.0", new Uint8Array(64).fill(0xff), []), []);
});

Deno.test("names that are completed are those of the header and of virtio's structures", () => {
  const names = commonNames();
  for (const name of ["config:command", "common:queue_size", "isr:isr_status"]) {
    assertEquals(names.filter((one) => one === name), [name]);
  }
});
