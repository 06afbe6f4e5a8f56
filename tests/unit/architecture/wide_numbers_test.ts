import { assertEquals } from "@std/assert";
import { fromFileUrl, walk } from "./source_files.ts";

Deno.test("sizes, offsets and addresses are not shifted or cut: those operators count in 32 bits", () => {
  // `>>> 0` stays: it takes the lower half of what is written as two. A shift by a bigint is one of a bigint.
  const narrow =
    /(sizeBytes|lengthBytes|byteLength|offset|iova|address)[)\]]* *((<<|>>>?)=? *[1-9]\d*(?!\d*n)|\| 0\b)/i;
  const wrong = walk(fromFileUrl(new URL("../../../", import.meta.url)))
    .filter(({ path }) => /^(lib|drivers|ffi|cli)\//.test(path))
    .flatMap(({ path, text }) =>
      text.split("\n").filter((line) => narrow.test(line)).map((line) => `${path}: ${line}`)
    );
  assertEquals(wrong, []);
  const cut = ["memory.sizeBytes >> 1", "(offset | 0)", "byteLength >>> 2", "iova << 3"];
  const whole = ["offset >>> 0", "address >> 32n", "sizeBytes / 2", "offset | flags"];
  assertEquals([...cut, ...whole].filter((line) => narrow.test(line)), cut);
});
