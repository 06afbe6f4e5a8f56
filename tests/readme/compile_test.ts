/** Making one binary of the command line needs Deno's runtime for it, which may not be there: then it says what to do. */
import { assertEquals, assertMatch } from "@std/assert";
import { accessible, removeFile } from "../../ffi/mod.ts";
import { root } from "./readme_commands.ts";

async function compileWith(runtime: string): Promise<{ code: number; err: string }> {
  const file = `/tmp/ringside-binary-${crypto.randomUUID().slice(0, 8)}`;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "compile", file],
    cwd: root,
    env: { NO_COLOR: "1", DENORT_BIN: runtime },
    stdin: "null",
    stdout: "null",
  }).output();
  if (accessible(file)) removeFile(file);
  return { code, err: new TextDecoder().decode(stderr) };
}

Deno.test("compile without a runtime says which file is needed, and where it is named", async () => {
  const { code, err } = await compileWith("/nowhere/denort");
  assertEquals(code, 1);
  assertMatch(
    err,
    /^compile: there is no runtime to put the program behind \(.*denort-\S+\.zip of release \d.*DENORT_BIN=/m,
  );
});

Deno.test("compile with another program as runtime does not pass it off as ours", async () => {
  const { code, err } = await compileWith(Deno.execPath());
  assertEquals(code, 1);
  assertMatch(err, /^compile: \S+ does not run the program that is in it \(DENORT_BIN is another program/m);
});
