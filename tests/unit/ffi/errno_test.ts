import { assertEquals, assertMatch } from "@std/assert";
import { errnoName, errnoNumber, errnoText } from "../../../ffi/mod.ts";
import { callLength, libc } from "../../../ffi/libc.ts";
import { fromFileUrl, walk } from "../architecture/source_files.ts";

const sources = walk(fromFileUrl(new URL("../../../ffi/", import.meta.url)));

Deno.test("a call that fails returns its error number, negative", () => {
  const { EBADF, EINVAL, ENOENT } = errnoNumber as Record<string, number>;
  const bytes = new Uint8Array(8);
  assertEquals(libc.read(-1, bytes, 8n), -EBADF!);
  assertEquals(libc.close(-1), -EBADF!);
  assertEquals(libc.access(new Uint8Array([0x78, 0]), 0), -ENOENT!);
  assertEquals(libc.mmap(4096n, 1, 1, -1, 0n), -EBADF!);
  assertEquals(libc.mmap(0n, 1, 0x22, -1, 0n), -EINVAL!);
  assertEquals(libc.lseek64(-1, 0n, 0), -EBADF!);
});

Deno.test("every call of the C library is made through what returns -errno, and errno is read there only", () => {
  const unable = ["geteuid", "epoll_wait_async", "strerror"];
  for (const [name, call] of Object.entries(libc)) {
    if (!unable.includes(name)) {
      assertMatch(String(call), /-(errno\[0\]|number) \|\| -|failingWithErrno\(name\)/, name);
    }
  }
  // The other one opens libraries whose functions give no errno.
  const elsewhere = sources.filter(({ path }) => path !== "libc.ts" && path !== "number_library.ts")
    .filter(({ text }) => /Deno\.(dlopen|UnsafeFnPointer)|__errno_location|\bsymbols\b/.test(text));
  assertEquals(elsewhere.map(({ path }) => path), []);
  const { text } = sources.find(({ path }) => path === "libc.ts")!;
  assertEquals(text.match(/export (const|function) (\w+)/g), [
    "export const libc",
    "export function callLength",
    "export function cString",
    "export function fromCString",
  ]);
});

Deno.test("no result is 64 bits wide, but for a file's size: making a BigInt of it is enough to lose errno", () => {
  const { text } = sources.find(({ path }) => path === "libc.ts")!;
  const wide = [...text.matchAll(/(\w+): \{[^{}]*result: "([iu]64|[iu]size)"/g)].map(([, name]) => name);
  assertEquals(wide, ["lseek64"]);
});

Deno.test("a buffer of 2 GiB or more is offered to a call in parts", () => {
  assertEquals(callLength({ byteLength: 2 ** 31 } as Uint8Array), 0x7fff_f000n);
  assertEquals(callLength(new Uint8Array(12)), 12n);
});

Deno.test("error numbers have the names and texts of Linux; one that has none is told by its number", () => {
  assertEquals([errnoName(2), errnoText(2)], ["ENOENT", "No such file or directory"]);
  assertEquals([errnoName(132), errnoText(132)], ["ERFKILL", "Operation not possible due to RF-kill"]);
  assertEquals([41, 58, 4095].map(errnoName), ["errno 41", "errno 58", "errno 4095"]);
  assertEquals(errnoText(4095), "Unknown error 4095");
  const last = { EAGAIN: 11, ENOTSUP: 95, ECANCELED: 125 };
  for (const [name, number] of Object.entries(last)) assertEquals(errnoNumber[name], number);
  assertEquals(Object.keys(errnoNumber).length, 130);
});
