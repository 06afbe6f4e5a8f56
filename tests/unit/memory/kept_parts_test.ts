import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { KeptParts } from "../../../lib/memory/kept_parts.ts";

function check(view: Uint8Array, bytes: Uint8Array, offset: number, length: number): void {
  assertEquals([view.byteOffset, view.length], [bytes.byteOffset + offset, length]);
  assertStrictEquals(view.buffer, bytes.buffer);
}

Deno.test("kept parts: made at the first look, kept from the second on", () => {
  const bytes = new Uint8Array(new ArrayBuffer(8192), 64, 8000);
  const parts = new KeptParts(bytes);
  const first = parts.get(100, 200);
  assertEquals(parts.count, 0);
  const second = parts.get(100, 200);
  assertNotStrictEquals(second, first);
  assertEquals(parts.count, 1);
  for (const view of [first, second]) check(view, bytes, 100, 200);
  for (let i = 0; i < 10; i++) assertStrictEquals(parts.get(100, 200), second);
  assertNotStrictEquals(parts.get(100, 201), second);
  assertNotStrictEquals(parts.get(101, 200), second);
});

Deno.test("kept parts: a queue's buffers with frames of several lengths are all kept", () => {
  const bytes = new Uint8Array(256 * 2048);
  const parts = new KeptParts(bytes);
  const look = () => {
    const found: Uint8Array[] = [];
    for (let slot = 0; slot < 256; slot++) {
      for (let length = 128; length <= 1408; length += 64) found.push(parts.get(2048 * slot + 12, length));
    }
    return found;
  };
  look();
  const [second, third] = [look(), look()];
  assertEquals(parts.count, 256 * 21);
  second.forEach((view, at) => assertStrictEquals(third[at], view));
});

Deno.test("kept parts: however many are asked for, they are right, and no more than some thousands are kept", () => {
  const bytes = new Uint8Array(1 << 20);
  const parts = new KeptParts(bytes);
  for (let round = 0; round < 3; round++) {
    for (let at = 0; at < 20_000; at++) check(parts.get(at, 100 + round), bytes, at, 100 + round);
    for (let at = 0; at < 20_000; at++) check(parts.get(at, 100 + round), bytes, at, 100 + round);
    assert(parts.count <= 8192);
  }
});

Deno.test("kept parts: they are detached with the memory", () => {
  const bytes = new Uint8Array(4096);
  const parts = new KeptParts(bytes);
  const view = [parts.get(0, 100), parts.get(0, 100)][1]!;
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  assertEquals(view.length, 0);
  assertEquals(parts.get(0, 100).length, 0);
});
