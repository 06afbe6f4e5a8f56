import { assert, assertEquals } from "@std/assert";
import { readText } from "../../../ffi/mod.ts";
import { testLists } from "./test_lists.ts";

for (const [path, text] of testLists()) {
  Deno.test(`${path} names each test file (\`deno task test:list\` writes it)`, () => {
    assert(text.length > 0);
    assertEquals(readText(path), text);
  });
}
