import { assertEquals, assertThrows } from "@std/assert";
import { openNumberLibrary } from "../../../ffi/number_library.ts";
import { NotFoundError } from "../../../lib/errors/mod.ts";

Deno.test("functions of a library take and give numbers", () => {
  using library = openNumberLibrary("libc.so.6", { toupper: 1, getpagesize: 0 });
  const { toupper, getpagesize } = library.functions;
  assertEquals(toupper(0x61), 0x41);
  assertEquals(getpagesize() % 4096, 0);
});

Deno.test("a library that is not there, and a function that it has not, are errors that name them", () => {
  assertThrows(() => openNumberLibrary("/nowhere/lib.so", {}), NotFoundError, "/nowhere/lib.so");
  assertThrows(() => openNumberLibrary("libc.so.6", { no_such_call: 0 }), NotFoundError, "no_such_call");
});
