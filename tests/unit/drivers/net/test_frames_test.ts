/** Frames that can be checked. */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { FrameMemory, MarkedFrames, TestFrames } from "../../../../drivers/net/virtio/test_frames.ts";
import { UsageError } from "../../../../lib/errors/mod.ts";

const TO = Uint8Array.of(0x52, 0x54, 0, 0, 0, 2), FROM = Uint8Array.of(0x52, 0x54, 0, 0, 0, 1);
const NUMBERS = [0, 1, 2, 0x1_0203, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
/** Where frames begin in these tests: at a word, and behind a legacy header. */
const PLACES = [12, 10];

Deno.test("marked frames: written whole, told by kind, length and number, wherever they lie", () => {
  for (const length of [60, 64, 65, 96, 97, 1514]) {
    const frames = new MarkedFrames(TO, FROM, length);
    for (const at of PLACES) {
      const bytes = new Uint8Array(length + 40).fill(0xee);
      const into = bytes.subarray(at);
      const whole = new Uint8Array(length);
      frames.fill(0, whole);
      for (const number of NUMBERS) {
        for (const memory of [undefined, new FrameMemory(into)]) {
          into.fill(0xee);
          assertEquals(frames.fill(number, into, memory), length);
          assertEquals([...into.subarray(0, 14), ...into.subarray(18, length)], [
            ...whole.subarray(0, 14),
            ...whole.subarray(18),
          ]);
          assertEquals(new DataView(bytes.buffer).getUint32(at + 14, true), number);
          assert(frames.isOurs(bytes, at, length));
          assertEquals(frames.mismatch(number, bytes, at, length), -1);
          assertEquals(frames.mismatch(number, bytes, at, length - 1), length - 1);
          assertNotEquals(frames.mismatch(number + 1, bytes, at, length), -1);
          assertEquals(bytes[at + length], 0xee);
        }
      }
    }
    assertEquals(frames.lengthOf(), length);
    assert(!frames.isOurs(new Uint8Array(length), 0, length));
  }
});

Deno.test("test frames: header, number in the order of the least byte first, and nothing behind the end", () => {
  for (const length of [18, 19, 20, 21, 22, 23, 24, 60, 64, 65, 1514, 65535]) {
    const frames = new TestFrames(TO, FROM, length, length);
    const bytes = new Uint8Array(length + 40).fill(0xee);
    for (const number of NUMBERS) {
      assertEquals(frames.lengthOf(number), length);
      assertEquals(frames.fill(number, bytes.subarray(12)), length);
      assertEquals([...bytes.subarray(12, 26)], [...TO, ...FROM, 0x88, 0xb5]);
      assertEquals(new DataView(bytes.buffer).getUint32(26, true), number);
      assert(frames.isOurs(bytes, 12, length));
      assert(!frames.isOurs(bytes, 13, length));
      assertEquals(frames.mismatch(number, bytes, 12, length), -1);
      assertEquals(frames.mismatch(number, bytes, 12, length - 1), length - 1);
      assertNotEquals(frames.mismatch(number + 1, bytes, 12, length), -1);
      assertEquals(bytes[12 + length], 0xee);
    }
  }
});

Deno.test("test frames: by words and byte by byte they are the same, of every length", () => {
  for (const length of [...Array.from({ length: 180 }, (_, i) => 18 + i), 1513, 1514, 9001, 65535]) {
    const frames = new TestFrames(TO, FROM, length, length);
    for (const number of NUMBERS) {
      const plain = new Uint8Array(length + 40), fast = new Uint8Array(length + 40);
      const into = fast.subarray(12);
      frames.fill(number, plain.subarray(12));
      frames.fill(number, into, new FrameMemory(into));
      assertEquals(fast, plain);
      assertEquals(frames.mismatch(number, fast, 12, length, new FrameMemory(fast)), -1);
    }
  }
});

Deno.test("test frames: one byte changed anywhere is found there", () => {
  const frames = new TestFrames(TO, FROM, 18, 90);
  for (const at of PLACES) {
    const bytes = new Uint8Array(104);
    const memory = new FrameMemory(bytes);
    const into = bytes.subarray(at);
    for (let number = 0; number < 40; number++) {
      const length = frames.fill(number, into, new FrameMemory(into));
      assertEquals(length, frames.lengthOf(number));
      for (const given of [memory, undefined]) {
        assertEquals(frames.mismatch(number, bytes, at, length, given), -1);
        for (let changed = 0; changed < length; changed++) {
          bytes[at + changed]! ^= 1 << changed % 8;
          assertEquals(frames.mismatch(number, bytes, at, length, given), changed);
          bytes[at + changed]! ^= 1 << changed % 8;
        }
      }
    }
  }
  assertThrows(() => new TestFrames(TO.subarray(1), FROM, 60, 60), UsageError);
});

Deno.test("test frames: no word of the payload is where the frame before had it", () => {
  const frames = new TestFrames(TO, FROM, 1514, 1514);
  const [one, other] = [new Uint8Array(1516), new Uint8Array(1516)];
  for (let number = 0; number < 500; number++) {
    frames.fill(number, one);
    frames.fill(number + 1, other);
    const [before, after] = [one, other].map(({ buffer }) => new Int32Array(buffer, 20, 373));
    for (let k = 0; k < 373; k++) assertNotEquals(after![k], before![k]);
  }
});
