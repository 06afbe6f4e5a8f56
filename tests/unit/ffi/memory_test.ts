import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  fileSeals,
  fileSizeBytes,
  isErrno,
  MappedMemory,
  mappingCount,
  O,
  openFdCount,
  OwnedFd,
  pageSizeBytes,
  SyscallError,
} from "../../../ffi/mod.ts";
import { ClosedError, ExhaustedError, UsageError } from "../../../lib/errors/mod.ts";
import { campaign, rounds } from "../../random.ts";

Deno.test("after close every kind of view is detached: reads give undefined or throw, nothing faults", () => {
  const memory = MappedMemory.anonymous(pageSizeBytes);
  const bytes = memory.bytes();
  const words = new Uint32Array(memory.buffer);
  const view = new DataView(memory.buffer);
  const part = bytes.subarray(16, 32);
  words[0] = 0x11223344;
  assertEquals(bytes[0], 0x44);
  memory.close();
  memory.close();
  assertEquals(bytes.length, 0);
  assertEquals(bytes[0], undefined);
  assertEquals(part.length, 0);
  assertEquals(words[0], undefined);
  words[0] = 1;
  assertThrows(() => Atomics.load(words, 0), TypeError);
  assertThrows(() => view.getUint8(0), TypeError);
  assertThrows(() => bytes.set([1]), Error);
  assertThrows(() => memory.bytes(), ClosedError);
  assertThrows(() => memory.buffer, ClosedError);
  assertThrows(() => memory.copy(), ClosedError);
  assertThrows(() => memory.address, ClosedError);
});

Deno.test("two mappings of one memfd are the same memory", () => {
  using file = createMemfd("test", 2 * pageSizeBytes);
  using one = MappedMemory.map(file, 2 * pageSizeBytes);
  using other = MappedMemory.map(file, pageSizeBytes, { offset: BigInt(pageSizeBytes) });
  one.bytes()[pageSizeBytes + 3] = 77;
  assertEquals(other.bytes()[3], 77);
});

Deno.test("a read-only mapping hands out copies only, since a store through a view would end the process", () => {
  using file = createMemfd("test", pageSizeBytes);
  using writable = MappedMemory.map(file, pageSizeBytes);
  using readOnly = MappedMemory.map(file, pageSizeBytes, { writable: false });
  writable.bytes()[5] = 9;
  assertThrows(() => readOnly.bytes(), UsageError, "read-only");
  assertThrows(() => readOnly.buffer, UsageError, "read-only");
  assertEquals(readOnly.copy(5, 1)[0], 9);
});

Deno.test("bad sizes, offsets and ranges never reach the kernel", () => {
  using file = createMemfd("test", pageSizeBytes);
  for (const size of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) {
    assertThrows(() => MappedMemory.map(file, size), UsageError);
  }
  assertThrows(
    () => MappedMemory.map(file, pageSizeBytes, { offset: 1n }),
    UsageError,
    "multiple of the page size",
  );
  using memory = MappedMemory.map(file, pageSizeBytes);
  for (const [offset, length] of [[-1, 1], [0, pageSizeBytes + 1], [pageSizeBytes, 1], [0.5, 1], [NaN, 1]]) {
    assertThrows(() => memory.bytes(offset, length), UsageError);
    assertThrows(() => memory.copy(offset, length), UsageError);
  }
});

Deno.test("a file is mapped as far as its last page goes, a device however far", () => {
  using file = createMemfd("test", pageSizeBytes + 1);
  MappedMemory.map(file, 2 * pageSizeBytes).close();
  MappedMemory.map(file, 1, { offset: BigInt(pageSizeBytes) }).close();
  for (
    const [sizeBytes, offset] of [[2 * pageSizeBytes + 1, 0], [1, 2 * pageSizeBytes], [
      pageSizeBytes,
      2 ** 62,
    ]]
  ) {
    assertThrows(
      () => MappedMemory.map(file, sizeBytes!, { offset: BigInt(offset!) }),
      UsageError,
      "passes its end",
    );
  }
  using zeros = OwnedFd.open("/dev/zero", O.RDWR);
  MappedMemory.map(zeros, 4 * pageSizeBytes).close();
});

Deno.test("memory that the machine does not have is refused before its pages are faulted in", () => {
  // More than addresses reach: no page is faulted in even when nobody refuses.
  using file = createMemfd("test", 2 ** 46);
  assertThrows(() => MappedMemory.map(file, 2 ** 46, { populate: true }), ExhaustedError, "are free");
  assertThrows(() => MappedMemory.anonymous(2 ** 46), ExhaustedError);
});

Deno.test("a memfd has its size and cannot be shrunk under a mapping", () => {
  using file = createMemfd("test", 3 * pageSizeBytes);
  assertEquals(fileSizeBytes(file), 3 * pageSizeBytes);
  const F_SEAL_SHRINK = 2;
  assertEquals(fileSeals(file) & F_SEAL_SHRINK, F_SEAL_SHRINK);
});

Deno.test(campaign("10,000 map and unmap rounds leave no mapping and no descriptor", () => {
  const [fds, maps] = [openFdCount(), mappingCount()];
  for (let i = 0; i < rounds(10_000); i++) {
    using file = createMemfd("test", pageSizeBytes);
    using memory = MappedMemory.map(file, pageSizeBytes);
    memory.bytes()[0] = 1;
  }
  assertEquals(openFdCount(), fds);
  assertEquals(mappingCount(), maps);
}));

Deno.test("a closed descriptor is an error, and close twice is fine", () => {
  const fd = OwnedFd.open("/dev/null", 0);
  fd.close();
  fd.close();
  assert(fd.closed);
  assertThrows(() => fd.number, ClosedError, "/dev/null is closed");
});

Deno.test("a failing call names the call, the target, the errno and the text", () => {
  const error = assertThrows(() => OwnedFd.open("/nonexistent/file", 0), SyscallError) as SyscallError;
  assert(isErrno(error, "ENOENT"));
  assertEquals(error.message, "open /nonexistent/file: ENOENT (No such file or directory)");
  assertEquals([error.call, error.target, error.errno], ["open", "/nonexistent/file", 2]);
});
