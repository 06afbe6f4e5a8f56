import { assertEquals } from "@std/assert";
import { O, OwnedFd, pageSizeBytes, removeFile, resizeFile } from "../../../ffi/mod.ts";

const SCRIPT = new URL("./read_child.ts", import.meta.url).pathname;
/** Compiles when the code is hot, not some time later, and into one piece: only then does V8 see that a value is not used, each time. */
const V8_FLAGS =
  "--no-concurrent-recompilation,--max-inlined-bytecode-size=5000,--max-inlined-bytecode-size-cumulative=10000";

/** Runs the child; when it says that it waits, the memory is taken away. @returns its last line, or the signal that ended it */
async function end(what: string, how: "unused" | "waited"): Promise<string> {
  const path = `/tmp/ringside-register-${crypto.randomUUID()}`;
  const file = OwnedFd.open(path, O.RDWR | O.CREAT);
  try {
    resizeFile(file, pageSizeBytes);
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-check",
        "--allow-ffi",
        `--v8-flags=${V8_FLAGS}`,
        SCRIPT,
        what,
        how,
        path,
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let text = "";
    for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += piece;
      if (text === "waiting\n") resizeFile(file, 0);
    }
    return (await child.status).signal ?? text.trim();
  } finally {
    file.close();
    removeFile(path);
  }
}

const READS = ["read", "region"].flatMap((name) => [8, 16, 32, 64].map((bits) => `${name}${bits}`));
for (const what of READS) {
  Deno.test(`${what} is made when its value is not used, and in a loop each time`, async () => {
    assertEquals(await Promise.all([end(what, "unused"), end(what, "waited")]), ["SIGBUS", "SIGBUS"]);
  });
}
