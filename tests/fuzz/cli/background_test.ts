import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { accessible, processExists, readDirectory, readText, replaceFile } from "../../../ffi/mod.ts";
import { cli, cliWith } from "../../emulated/cli/run_cli.ts";

Deno.test("emulate --background returns when the host serves, and --stop ends it", async (t) => {
  const scratch = makeTemporaryDirectory();
  const directory = `${scratch}/host`;
  try {
    await t.step("what comes next needs no waiting", async () => {
      const { code, out, err } = await cliWith({}, "emulate", directory, "--background", "--total-vfs", "7");
      assertEquals([code, err], [0, ""]);
      assertMatch(
        out,
        /^serving 4 functions in [^]* {2}0000:01:00\.0 {2}virtio-net, up to 7 VFs {2}\(on virtio-pci\)\n/,
      );
      assertMatch(
        out,
        new RegExp(`use it with --host ${directory}; stop it with ringside emulate ${directory} --stop\n$`),
      );
      assertMatch((await cli("--host", directory, "list")).out, /0000:01:00\.0 .* 0\/7 /);
    });
    const pid = Number(readText(`${directory}/ready`));
    await t.step("a second one in the same directory says so, and the first goes on", async () => {
      const { code, out, err } = await cliWith({}, "emulate", directory, "--background");
      assertEquals([code, out], [1, ""]);
      assertMatch(err, new RegExp(`^ringside: ${directory} is served by process ${pid} \\([^\n]*\n$`));
      assert(processExists(pid));
      const json = await cliWith({}, "emulate", directory, "--background", "--json");
      assertStringIncludes(JSON.parse(json.out).error.message, `is served by process ${pid}`);
    });
    await t.step("--stop waits until it is gone", async () => {
      const { code, out, err } = await cli("emulate", directory, "--stop");
      assertEquals([code, out, err], [0, `stopped the host in ${directory}\n`, ""]);
      assertEquals(accessible(`${directory}/ready`), false);
      const again = await cli("emulate", directory, "--stop");
      assert(again.code !== 0);
      assertMatch(again.err, /^ringside: .*(has ended|is not the directory)/);
    });
    await t.step("violations go into a file, as JSON it says its process", async () => {
      const log = `${scratch}/log`;
      const { code, out } = await cliWith(
        {},
        "emulate",
        directory,
        "--background",
        "--json",
        "--verbose",
        "--log",
        log,
      );
      assertEquals(code, 0);
      const ready = JSON.parse(out);
      assertEquals([ready.ready, ready.directory, ready.functions.length], [true, directory, 4]);
      assertEquals(ready.pid, Number(readText(`${directory}/ready`)));
      assertEquals(JSON.parse((await cli("emulate", directory, "--stop", "--json")).out), {
        directory,
        stopped: true,
      });
    });
    await t.step("what cannot be is said before anything is left", async () => {
      const broken = `${scratch}/broken`;
      const topology = `${scratch}/no-disk.json`;
      const disk = { address: "01:00.0", kind: "virtio-blk", file: `${scratch}/no/disk` };
      replaceFile(topology, new TextEncoder().encode(JSON.stringify({ functions: [disk] })));
      for (
        const args of [
          [broken, "--background", "--topology", "/nonexistent.json"],
          [broken, "--background", "--topology", topology],
          [broken, "--topology", topology],
          [broken, "--background", "--temporary"],
          [broken, "--stop"],
          [broken, "--stop", "--verbose"],
          [broken, "--stop", "--total-vfs", "3"],
        ]
      ) {
        const { code, out, err } = await cliWith({}, "emulate", ...args);
        assert(code !== 0, args.join(" "));
        assertEquals(out, "");
        assertMatch(err, /^ringside: [^\n]+\n$/);
        assertEquals(readDirectory(scratch).some(({ name }) => name === "broken"), false);
      }
    });
  } finally {
    removeTree(scratch);
  }
});
