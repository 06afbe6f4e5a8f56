/** Frames that can be checked. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { MarkedFrames, TestFrames } from "../../../../drivers/net/virtio/test_frames.ts";
import { UsageError } from "../../../../lib/errors/mod.ts";

const TO = Uint8Array.of(0x52, 0x54, 0, 0, 0, 2), FROM = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);

Deno.test("marked frames: written whole, told by kind, length and number, wherever they lie", () => {
  const frames = new MarkedFrames(TO, FROM, 64);
  const bytes = new Uint8Array(200).fill(0xee);
  for (const number of [0, 1, 0x1_0203, 0xffff_ffff]) {
    assertEquals(frames.fill(number, bytes.subarray(12)), 64);
    assertEquals([...bytes.subarray(12, 24)], [...TO, ...FROM]);
    assertEquals(new DataView(bytes.buffer).getUint32(26, true), number);
    assert(frames.isOurs(bytes, 12, 64));
    assertEquals(frames.mismatch(number, bytes, 12, 64), -1);
    assertEquals(frames.mismatch(number, bytes, 12, 63), 63);
    assertNotEquals(frames.mismatch(number + 1, bytes, 12, 64), -1);
    assertEquals(bytes[76], 0xee);
  }
  assertEquals(frames.lengthOf(), 64);
  assert(!frames.isOurs(bytes, 13, 64));
});

Deno.test("test frames: one byte changed anywhere is found there", () => {
  const frames = new TestFrames(TO, FROM, 60, 90);
  for (let number = 0; number < 20; number++) {
    const bytes = new Uint8Array(100);
    const length = frames.fill(number, bytes);
    assertEquals(length, frames.lengthOf(number));
    assertEquals(frames.mismatch(number, bytes, 0, length), -1);
    const at = (number * 7) % length;
    bytes[at]! ^= 1;
    assertEquals(frames.mismatch(number, bytes, 0, length), at);
  }
  assertThrows(() => new TestFrames(TO.subarray(1), FROM, 60, 60), UsageError);
});
