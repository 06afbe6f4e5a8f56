import { assert, assertEquals, assertMatch } from "@std/assert";
import { readText, removeFile } from "../../../ffi/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const SCRIPT = new URL("../../../examples/migrate.ts", import.meta.url).pathname;
const FUNCTIONS = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"];

Deno.test("examples/migrate.ts moves a receiver under traffic, with --allow-ffi and its file alone", async () => {
  const profile = "queue-state";
  await using served = await TopologyHost.start(
    FUNCTIONS.map((address) => ({ address, kind: "virtio-net", totalVfs: 0, profile })),
  );
  const file = `/tmp/ringside-migrate-${crypto.randomUUID()}.json`;
  const permissions = ["--allow-ffi", `--allow-read=${file}`, `--allow-write=${file}`];
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", ...permissions, SCRIPT, served.host.name, ...FUNCTIONS, file],
    stdin: "null",
    env: { NO_COLOR: "1" },
  });
  try {
    const { code, stdout, stderr } = await command.output();
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
    const out = new TextDecoder().decode(stdout);
    assertMatch(
      out,
      /^20000 of 20000 frames, each once and in order; ([1-9]\d*) moved with the device\nrings: went on at their places\n$/,
    );
    const saved = JSON.parse(readText(file));
    assert(out.includes(`; ${saved.pairs[0].receive.frames.length} moved`));
  } finally {
    removeFile(file);
  }
  assertEquals(await served.stop(), []);
});
