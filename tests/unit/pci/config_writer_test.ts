import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { ConfigSpaceImage } from "../../../lib/pci/config_writer.ts";
import { writeValue } from "./fixtures.ts";

Deno.test("a fresh image reads 0 and takes nothing", () => {
  const image = new ConfigSpaceImage(256);
  assertEquals(image.write(0, new Uint8Array(256).fill(0xff)), []);
  assertEquals(image.read(0, 256), new Uint8Array(256));
});

Deno.test("a write changes writable bits and no others", () => {
  const image = new ConfigSpaceImage(64);
  image.set(0x10, 1, 0b1010_0000);
  image.addMask(image.writeMask, 0x10, 1, 0b0000_1111);
  writeValue(image, 0x10, 1, 0b0101_0110);
  assertEquals(image.bytes[0x10], 0b1010_0110);
});

Deno.test("RW1C: a written 1 clears, a written 0 does nothing, software cannot set", () => {
  const image = new ConfigSpaceImage(64);
  image.addMask(image.w1cMask, 0x06, 2, 0xf900);
  writeValue(image, 0x06, 2, 0xffff);
  assertEquals(image.config.status.raw, 0);
  image.set(0x06, 2, 0x3010);
  writeValue(image, 0x06, 2, 0x0000);
  assertEquals(image.config.status.raw, 0x3010);
  writeValue(image, 0x06, 2, 0x2000);
  assertEquals(image.config.status.raw, 0x1010);
  writeValue(image, 0x06, 2, 0xffff);
  assertEquals(image.config.status.raw, 0x0010);
});

Deno.test("triggers read 0 and are reported once per write", () => {
  const image = new ConfigSpaceImage(64);
  image.addMask(image.triggerMask, 0x28, 2, 0x8000);
  assertEquals(writeValue(image, 0x28, 2, 0x8001), [{ offset: 0x29, mask: 0x80 }]);
  assertEquals(writeValue(image, 0x28, 2, 0x0001), []);
  assertEquals(image.config.read16(0x28), 0);
});

Deno.test("1, 2 and 4-byte writes and odd lengths are little-endian and byte by byte", () => {
  const image = new ConfigSpaceImage(64);
  image.addMask(image.writeMask, 0x10, 4, 0xffffffff);
  image.addMask(image.writeMask, 0x14, 4, 0xffffffff);
  writeValue(image, 0x10, 4, 0x44332211);
  assertEquals([...image.read(0x10, 4)], [0x11, 0x22, 0x33, 0x44]);
  writeValue(image, 0x12, 2, 0xbbaa);
  writeValue(image, 0x11, 1, 0xcc);
  assertEquals(image.config.read32(0x10), 0xbbaacc11);
  image.write(0x13, Uint8Array.of(1, 2, 3));
  assertEquals(image.read(0x10, 8), Uint8Array.of(0x11, 0xcc, 0xaa, 1, 2, 3, 0, 0));
});

Deno.test("reads are copies; offsets outside the space are refused before anything is written", () => {
  const image = new ConfigSpaceImage(64);
  image.addMask(image.writeMask, 0x3c, 4, 0xffffffff);
  image.read(0, 4)[0] = 1;
  assertEquals(image.bytes[0], 0);
  for (const [offset, length] of [[0x3d, 4], [64, 1], [-1, 1], [0.5, 1]] as const) {
    assertThrows(() => image.write(offset, new Uint8Array(length).fill(0xff)), UsageError);
    assertThrows(() => image.read(offset, length), UsageError);
  }
  assertEquals(image.read(0x3c, 4), new Uint8Array(4));
  assertThrows(() => image.set(0x3d, 4, 0), UsageError);
});

Deno.test("value rules discard a value that is not allowed and keep the rest of the byte", () => {
  const image = new ConfigSpaceImage(64);
  image.addMask(image.writeMask, 0x20, 1, 0x13);
  image.valueRules.push({ offset: 0x20, mask: 3, allowed: [0, 3] });
  writeValue(image, 0x20, 1, 0x13);
  assertEquals(image.bytes[0x20], 0x13);
  writeValue(image, 0x20, 1, 0x01);
  assertEquals(image.bytes[0x20], 0x03, "bit 4 was cleared, state 1 was discarded");
});

Deno.test("lock rules look at the state before the write", () => {
  const image = new ConfigSpaceImage(64);
  image.addMask(image.writeMask, 0x20, 2, 0xffff);
  image.lockRules.push({ offset: 0x21, mask: 0x0f, whileSet: { offset: 0x20, mask: 1 } });
  writeValue(image, 0x20, 2, 0x1201);
  assertEquals(image.config.read16(0x20), 0x1201, "the lock was not set yet");
  writeValue(image, 0x20, 2, 0x3400);
  assertEquals(image.config.read16(0x20), 0x3200, "it was still set");
  writeValue(image, 0x20, 2, 0x5600);
  assertEquals(image.config.read16(0x20), 0x5600);
});

Deno.test("a reset brings the captured state back", () => {
  const image = new ConfigSpaceImage(64);
  image.set(0x10, 4, 0x11111111);
  image.captureResetState();
  image.set(0x10, 4, 0x22222222);
  image.reset();
  assertEquals(image.config.read32(0x10), 0x11111111);
});
