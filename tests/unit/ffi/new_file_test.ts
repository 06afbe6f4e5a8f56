import { assertEquals, assertThrows } from "@std/assert";
import {
  accessible,
  makeDirectory,
  NewFile,
  openFdCount,
  readDirectory,
  readFile,
  readText,
  removeFile,
  replaceFile,
  SyscallError,
  writeAll,
} from "../../../ffi/mod.ts";

const encode = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;

function directory(): string {
  const path = `/tmp/ringside-new-file-${crypto.randomUUID()}`;
  makeDirectory(path);
  return path;
}
const names = (path: string) => readDirectory(path).map(({ name }) => name);

Deno.test("a new file is there when it is kept, and before that what was there before", () => {
  const place = directory(), path = `${place}/out`;
  replaceFile(path, encode("before"));
  const fds = openFdCount();
  {
    using file = new NewFile(path);
    writeAll(file.fd, encode("after"));
    assertEquals(readText(path), "before");
    file.keep();
    file.keep();
    assertEquals(readText(path), "after");
  }
  assertEquals([names(place), openFdCount()], [["out"], fds]);
});

Deno.test("a new file that is not kept leaves nothing, and what was there stays", () => {
  const place = directory(), path = `${place}/out`;
  const give = () => {
    using file = new NewFile(path);
    writeAll(file.fd, encode("half"));
    throw new Error("failed");
  };
  assertThrows(give, Error, "failed");
  assertEquals(names(place), []);
  replaceFile(path, encode("before"));
  assertThrows(give, Error, "failed");
  assertEquals([names(place), readText(path)], [["out"], "before"]);
});

Deno.test("a directory, or a place in none, is refused, and nothing is left", () => {
  const place = directory();
  makeDirectory(`${place}/there`);
  const fds = openFdCount();
  assertEquals(assertThrows(() => replaceFile(`${place}/there`, encode("x")), SyscallError).code, "EISDIR");
  const nowhere = assertThrows(() => new NewFile(`${place}/no/such`), SyscallError);
  // Its own name, and not that of the file beside it.
  assertEquals([nowhere.code, nowhere.target], ["ENOENT", `${place}/no/such`]);
  assertEquals(nowhere.hint, "its directory is not there: make that first");
  assertEquals([names(place), openFdCount()], [["there"], fds]);
});

Deno.test("a link is followed, and what is no regular file is written in place", () => {
  const place = directory();
  replaceFile(`${place}/real`, encode("before"));
  symlink("real", `${place}/link`);
  replaceFile(`${place}/link`, encode("after"));
  assertEquals([readText(`${place}/real`), readDirectory(place).map(({ type }) => type)], ["after", [10, 8]]);
  using file = new NewFile("/dev/null");
  writeAll(file.fd, encode("gone"));
  file.keep(true);
  assertEquals(accessible("/dev/null.part"), false);
  removeFile(`${place}/link`);
  assertEquals(readFile(`${place}/real`), encode("after"));
});

function symlink(target: string, path: string): void {
  const text = (value: string) => encode(`${value}\0`);
  const library = Deno.dlopen("libc.so.6", { symlink: { parameters: ["buffer", "buffer"], result: "i32" } });
  assertEquals(library.symbols.symlink(text(target), text(path)), 0);
  library.close();
}
