/** Copies by the kernel: a file that shrinks under its mapping is an answer, not the end of the process. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  isSealedAgainstShrinking,
  MappedMemory,
  O,
  OwnedFd,
  pageSizeBytes,
  readGuarded,
  removeFile,
  resizeFile,
  SyscallError,
  writeGuarded,
} from "../../../ffi/mod.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";

const PAGE = pageSizeBytes;

function buffer(length: number, value = 0): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length)).fill(value);
}

Deno.test("guarded copies: the bytes of the mapping, at any offset and length", () => {
  using file = createMemfd("guarded", 3 * PAGE);
  using memory = MappedMemory.map(file, 3 * PAGE);
  memory.bytes().forEach((_, i, all) => all[i] = i * 31 + (i >> 8));
  for (
    const [offset, length] of [[0, 1], [3, 2], [PAGE - 1, 2], [5, 2 * PAGE], [3 * PAGE - 8, 8], [
      7,
      0,
    ]] as const
  ) {
    const into = buffer(length, 0xee);
    assert(readGuarded(memory, offset, into));
    assertEquals(into, memory.copy(offset, length));
    assert(writeGuarded(memory, offset, buffer(length, 0x5a)));
    assertEquals(memory.copy(offset, length), buffer(length, 0x5a));
  }
  const whole = buffer(16);
  assert(readGuarded(memory, 100, whole.subarray(4, 8)));
  assertEquals([...whole.subarray(0, 4), ...whole.subarray(8)], new Array(12).fill(0));
});

Deno.test("guarded copies: false for what the file has no more, and the process lives", () => {
  const path = `/tmp/ringside-guarded-${crypto.randomUUID()}`;
  using file = OwnedFd.open(path, O.RDWR | O.CREAT | O.EXCL);
  removeFile(path);
  resizeFile(file, 4 * PAGE);
  using memory = MappedMemory.map(file, 4 * PAGE);
  assert(writeGuarded(memory, 0, buffer(4 * PAGE, 1)));
  resizeFile(file, 2 * PAGE);
  assert(!readGuarded(memory, 2 * PAGE, buffer(1)));
  assert(!writeGuarded(memory, 3 * PAGE, buffer(8)));
  assert(!readGuarded(memory, PAGE, buffer(2 * PAGE)), "in part");
  assert(readGuarded(memory, 0, buffer(2 * PAGE)));
  resizeFile(file, 4 * PAGE);
  const back = buffer(1, 9);
  assert(readGuarded(memory, 3 * PAGE, back));
  assertEquals(back[0], 0);
});

Deno.test("guarded copies: a range outside, and a closed mapping", () => {
  const memory = MappedMemory.anonymous(PAGE);
  assertThrows(() => readGuarded(memory, PAGE - 3, buffer(4)), UsageError);
  assertThrows(() => writeGuarded(memory, -1, buffer(4)), UsageError);
  assertThrows(() => readGuarded(memory, 0.5, buffer(4)), UsageError);
  memory.close();
  assertThrows(() => readGuarded(memory, 0, buffer(4)), ClosedError);
});

Deno.test("a memfd is sealed against shrinking, on huge pages, too", () => {
  for (const huge of [false, true]) {
    using file = createMemfd("sealed", 2 << 20, { huge });
    assert(isSealedAgainstShrinking(file), `huge ${huge}`);
    assertThrows(() => resizeFile(file, 0), SyscallError, "EPERM");
  }
});
