/** A Worker's module is read by the runtime, which asks for a permission that no other test here has: the cases are a process of their own. */
import { assert } from "@std/assert";

Deno.test("queue pairs that Workers drive: frames, and the end of either side in every order", async () => {
  const flags = [
    "--no-check",
    "--sanitize-ops",
    "--sanitize-resources",
    "--quiet",
    "--allow-ffi",
    "--allow-run",
  ];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "test",
      ...flags,
      "--allow-env",
      "--allow-sys",
      "--allow-read",
      new URL("./pair_cases.ts", import.meta.url).pathname,
    ],
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert(success, `${text(stdout)}\n${text(stderr)}`);
});
