import { assert, assertEquals } from "@std/assert";
import * as pci from "../../../lib/pci/mod.ts";
import {
  accessMasks,
  decodeRegister,
  encodeRegister,
  fieldMask,
  type RegisterDeclaration,
  type RegisterTable,
} from "../../../lib/registers/declaration.ts";
import { requireSound } from "../../../lib/registers/table.ts";

const SAMPLE = {
  name: "Sample",
  offset: 0,
  width: 4,
  fields: {
    low: { bits: 0, access: "RW", label: "Lo" },
    range: { bits: [7, 4], access: "RO" },
    cleared: { bits: 8, access: "RW1C", label: "Clr" },
    started: { bits: 9, access: "RWZ" },
    sticky: { bits: 10, access: "RWS" },
    stickyCleared: { bits: 11, access: "RW1CS" },
    top: { bits: 31, access: "RW" },
  },
} as const;

Deno.test("a register splits into booleans and numbers", () => {
  const value = decodeRegister(SAMPLE, 0x800001a1);
  assertEquals(value, {
    raw: 0x800001a1,
    low: true,
    range: 0xa,
    cleared: true,
    started: false,
    sticky: false,
    stickyCleared: false,
    top: true,
  });
});

Deno.test("encoding is the inverse of decoding on the declared bits", () => {
  assertEquals(encodeRegister(SAMPLE, { low: true, range: 0xa, cleared: true, top: true }), 0x800001a1);
  assertEquals(encodeRegister(SAMPLE, { range: 0x1f }), 0xf0, "a value is cut to its field");
});

Deno.test("a field of 32 bits keeps all of them", () => {
  const wide = {
    name: "Wide",
    offset: 0,
    width: 4,
    fields: { all: { bits: [31, 0], access: "RW" } },
  } as const;
  assertEquals(decodeRegister(wide, 0xfffffffe).all, 0xfffffffe);
  assertEquals(accessMasks(wide).write, 0xffffffff);
});

Deno.test("masks follow from the declared access", () => {
  assertEquals(accessMasks(SAMPLE), {
    write: 0x80000401,
    writeOneToClear: 0x900,
    trigger: 0x200,
  });
});

Deno.test("every declared register table is sound: fields fit its width and do not overlap, its text has their labels", () => {
  let registers = 0;
  for (const [table, value] of Object.entries(pci)) {
    const holder = typeof value === "object" && "registers" in value ? value.registers : value;
    const declared = Object.values(holder);
    if (
      declared.length > 0 &&
      declared.every((one) => typeof one === "object" && one !== null && "width" in one)
    ) {
      requireSound(holder as RegisterTable);
    }
    for (const [name, register] of Object.entries(holder)) {
      if (typeof register !== "object" || register === null || !("fields" in register)) continue;
      registers++;
      const { width, fields, text } = register as RegisterDeclaration;
      const labels = Object.values(fields ?? {}).map(({ label }) => label);
      for (const [, label] of text?.matchAll(/([^\s,;:()=]+)±/g) ?? []) {
        assert(labels.includes(label), `the text of ${table}.${name} has ${label}, which no field is called`);
      }
      let seen = 0;
      for (const [field, declaration] of Object.entries(fields ?? {})) {
        const mask = fieldMask(declaration);
        assert(mask <= 2 ** (8 * width) - 1, `${table}.${name}.${field} is outside the register`);
        assertEquals(seen & mask, 0, `${table}.${name}.${field} overlaps another field`);
        seen |= mask;
      }
    }
  }
  assert(registers > 70, `only ${registers} registers seen`);
});
