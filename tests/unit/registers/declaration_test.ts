import { assert, assertEquals } from "@std/assert";
import * as pci from "../../../lib/pci/mod.ts";
import { accessMasks, decodeRegister, encodeRegister, formatFlags } from "../../../lib/pci/mod.ts";

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
  assertEquals(accessMasks(SAMPLE), { write: 0x80000401, writeOneToClear: 0x900, trigger: 0x200 });
});

Deno.test("flags print as label and sign", () => {
  assertEquals(formatFlags(SAMPLE, decodeRegister(SAMPLE, 1), ["low", "cleared"]), "Lo+ Clr-");
  assertEquals(
    formatFlags(SAMPLE, decodeRegister(SAMPLE, 0)),
    "Lo- Clr- started- sticky- stickyCleared- top-",
  );
});

Deno.test("every declared register table is sound: fields fit its width and do not overlap", () => {
  let tables = 0;
  for (const [name, table] of Object.entries(pci)) {
    if (typeof table !== "object" || table === null || !("fields" in table) || !("width" in table)) continue;
    tables++;
    const register = table as pci.RegisterDeclaration;
    let seen = 0;
    for (const [field, declaration] of Object.entries(register.fields ?? {})) {
      const mask = pci.fieldMask(declaration);
      assert(mask <= 2 ** (8 * register.width) - 1, `${name}.${field} is outside the register`);
      assertEquals(seen & mask, 0, `${name}.${field} overlaps another field`);
      seen |= mask;
    }
  }
  assert(tables > 50, `only ${tables} tables seen`);
});
