import { assertEquals, assertThrows } from "@std/assert";
import { s32, Struct, u16, u32, u64, u8 } from "../../../lib/wire/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";

const sample = new Struct("sample", 24, {
  kind: u8(0),
  flags: u16(2),
  fd: s32(4),
  address: u64(8),
  length: u32(16),
});

Deno.test("fields land at their offsets, little-endian, the rest is zero", () => {
  const bytes = sample.encode({
    kind: 1,
    flags: 0x0203,
    fd: -1,
    address: 0x1122334455667788n,
    length: 0xffffffff,
  }, 2);
  assertEquals(
    [...bytes],
    [
      1,
      0,
      3,
      2,
      255,
      255,
      255,
      255,
      0x88,
      0x77,
      0x66,
      0x55,
      0x44,
      0x33,
      0x22,
      0x11,
      255,
      255,
      255,
      255,
      0,
      0,
      0,
      0,
      0,
      0,
    ],
  );
  assertEquals(sample.decode(bytes), {
    kind: 1,
    flags: 0x0203,
    fd: -1,
    address: 0x1122334455667788n,
    length: 0xffffffff,
  });
});

Deno.test("values that do not fit, unknown fields and short buffers are refused", () => {
  assertThrows(() => sample.encode({ kind: 256 }), UsageError, "sample.kind: 256 does not fit u8");
  assertThrows(() => sample.encode({ flags: -1 }), UsageError);
  assertThrows(() => sample.encode({ length: 1.5 }), UsageError);
  assertThrows(() => sample.encode({ address: 1n << 64n }), UsageError);
  assertThrows(() => sample.decode(new Uint8Array(23)), UsageError, "needs 24 bytes");
  assertThrows(() => sample.decode(new Uint8Array(30), 7), UsageError);
  assertThrows(() => new Struct("bad", 4, { x: u32(1) }), UsageError, "bad.x ends past");
});
