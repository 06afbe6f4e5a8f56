import { assertEquals, assertMatch } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { accessible } from "../../../ffi/mod.ts";
import { cli, cliWith, startCli } from "./run_cli.ts";

Deno.test("emulate --vhost-user: devices without functions, which other commands use by their sockets", async () => {
  const folder = makeTemporaryDirectory();
  try {
    const [directory, rng, disk] = [`${folder}/host`, `${folder}/rng.sock`, `${folder}/disk.sock`];
    const child = startCli(
      { stdin: "piped" },
      ...["emulate", directory, "--temporary", "--json"],
      ...["--vhost-user", `${rng},rng`, "--vhost-user", `${disk},blk,sizeBytes=1048576,name=d`],
    );
    const output = child.output();
    for (let tries = 0; !accessible(`${directory}/ready`) && tries < 1000; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const bytes = await cli("--host", `vhost-user:${rng},type=rng`, "--json", "rng", "rng", "32");
    assertEquals(bytes.code, 0, bytes.err);
    const info = await cli("--host", `vhost-user:${disk},type=blk`, "--json", "blk", "info", "blk");
    assertEquals([info.code, JSON.parse(info.out || "{}").sectors], [0, 2048], info.err);
    await child.stdin.close();
    const { code, stdout, stderr } = await output;
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    const [ready, ended] = new TextDecoder().decode(stdout).trimEnd().split("\n").map((line) =>
      JSON.parse(line)
    );
    assertEquals(ready.functions, []);
    assertEquals(
      ready.vhostUser.map(({ address, kind, socket }: Record<string, string>) => [address, kind, socket]),
      [["vhost-user:rng", "virtio-rng", rng], ["vhost-user:d", "virtio-blk", disk]],
    );
    assertEquals(ended, { ended: true, violations: 0 });
    assertEquals([rng, disk].map((path) => accessible(path)), [false, false]);
  } finally {
    removeTree(folder);
  }
});

Deno.test("emulate --vhost-user: what is no device is refused by what is wrong with it", async () => {
  for (
    const [text, says] of [
      ["/tmp/a.sock", /names no socket and kind .*SOCKET,net\|blk\|rng\|console/],
      ["/tmp/a.sock,gpu", /--vhost-user\[0\]\.kind: "virtio-gpu" is not a kind of device/],
      ["/tmp/a.sock,net,queuePairs=0", /--vhost-user\[0\]\.queuePairs: 0 is not an integer from 1 to 64/],
      ["/tmp/a.sock,blk", /needs a file, or sizeBytes/],
    ] as const
  ) {
    const { code, err } = await cliWith({}, "emulate", "/tmp/never-made", "--vhost-user", text);
    assertEquals(code, 2, text);
    assertMatch(err, says);
    assertEquals(accessible("/tmp/never-made"), false);
  }
});
