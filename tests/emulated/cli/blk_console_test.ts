import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { O, OwnedFd, readFile, replaceFile, UnixSocket, writeAll } from "../../../ffi/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli, shell, startCli } from "./run_cli.ts";

const SECTOR = 512;

Deno.test("blk: info, id, write, read, zero, discard, flush; the image outside has the bytes", async () => {
  const scratch = makeTemporaryDirectory();
  try {
    await using served = await TopologyHost.start([
      {
        address: "0000:03:00.0",
        kind: "virtio-blk",
        file: `${scratch}/disk.img`,
        sizeBytes: 10_000 * SECTOR,
        serial: "cli test",
        queues: 2,
      },
    ]);
    const blk = async (...args: string[]) => {
      const result = await cli("--host", served.directory, ...args);
      assertEquals(result.code, 0, result.err);
      return result.out;
    };
    await blk("bind", "03:00.0");
    assertEquals((await blk("blk", "id", "03:00.0")).trim(), "cli test");
    const info = JSON.parse(await blk("blk", "info", "03:00.0", "--json"));
    assertEquals([info.sectors, info.queues, info.readOnly, info.id], [10_000, 2, false, "cli test"]);
    assertEquals(Object.keys(info), [
      ..."function id sectors bytes readOnly writeback blockBytes queues segmentBytes segments".split(" "),
      ..."topology geometry discard writeZeroes features".split(" "),
    ]);
    assertStringIncludes(await blk("blk", "info", "03:00.0"), "4.9 MiB: 10000 sectors of 512 bytes");

    const bytes = Uint8Array.from({ length: 5000 * SECTOR }, (_, i) => (i * 7 + (i >> 9)) & 0xff);
    {
      using file = OwnedFd.open(`${scratch}/in`, O.WRONLY | O.CREAT);
      writeAll(file, bytes);
    }
    await blk("blk", "write", "03:00.0", "100", `${scratch}/in`);
    await blk("blk", "read", "03:00.0", "100", "5000", "--output", `${scratch}/out`);
    assert(readFile(`${scratch}/out`).every((byte, i) => byte === bytes[i]));
    assert(
      readFile(`${scratch}/disk.img`).subarray(100 * SECTOR).every((byte, i) => byte === (bytes[i] ?? 0)),
    );
    assertEquals(JSON.parse(await blk("blk", "zero", "03:00.0", "101", "2", "--unmap", "--json")), {
      function: "0000:03:00.0",
      sector: 101,
      sectors: 2,
    });
    assertEquals(
      JSON.parse(await blk("blk", "read", "03:00.0", "101", "2", "--json")).hex,
      "00".repeat(1024),
    );
    const hex = await blk("blk", "read", "03:00.0", "103", "1");
    assertEquals(hex.split("\n").length, 17);
    assertStringIncludes(hex, "000000ce00  ");
    await blk("blk", "discard", "03:00.0", "200", "100");
    assertEquals(JSON.parse(await blk("blk", "flush", "03:00.0", "--json")).flushed, true);

    const piped = await shell(
      `head -c 1024 ${scratch}/in | ringside --host ${served.directory} blk write 03:00.0 0 - && ringside --host ${served.directory} blk read 03:00.0 0 2 -o - | cmp - <(head -c 1024 ${scratch}/in)`,
    );
    assertEquals([piped.code, piped.out], [0, ""], piped.err);

    const outside = await cli("--host", served.directory, "blk", "read", "03:00.0", "9999", "2");
    assertEquals(outside.code, 2);
    assertStringIncludes(outside.err, "2 sectors at 9999; there are 10000");
    const half = await shell(
      `head -c 700 ${scratch}/in | ringside --host ${served.directory} blk write 03:00.0 0 -`,
    );
    assertEquals(half.code, 2);
    assertStringIncludes(half.err, "whole sector");

    // Sector 0 holds what was written before, whatever is wrong with a file.
    const before = await cli("--host", served.directory, "blk", "read", "03:00.0", "0", "2");
    for (
      const [bytes, says] of [[700, "whole sector"], [
        10001 * 512,
        "has 10001 sectors, and from 0 on there are 10000",
      ]] as const
    ) {
      replaceFile(`${scratch}/wrong`, new Uint8Array(bytes).fill(7));
      const wrong = await cli("--host", served.directory, "blk", "write", "03:00.0", "0", `${scratch}/wrong`);
      assertEquals(wrong.code, 2);
      assertStringIncludes(wrong.err, says);
    }
    assertEquals((await cli("--host", served.directory, "blk", "read", "03:00.0", "0", "2")).out, before.out);
    const far = await shell(
      `head -c ${3000 * 512} /dev/zero | ringside --host ${served.directory} blk write 03:00.0 ${
        10000 - 2900
      } -`,
    );
    assertEquals(far.code, 2);
    assertStringIncludes(far.err, "3000 sectors at 7100; there are 10000");
    // How long a pipe is nobody knows: what was written before it turned out to be too long is told.
    const cut = await shell(
      `head -c ${5000 * 512} ${scratch}/in | ringside --host ${served.directory} blk write 03:00.0 5500 -`,
    );
    assertEquals(cut.code, 2);
    assertEquals(cut.err.split("\n").slice(0, 2), [
      "4096 sectors from 5500 on are written; what comes after them is as it was, or partly written",
      "ringside: 0000:03:00.0: write of 904 sectors at 9596; there are 10000",
    ]);
    await blk("blk", "read", "03:00.0", "5500", "4096", "--output", `${scratch}/half`);
    assert(readFile(`${scratch}/half`).every((byte, i) => byte === bytes[i]));
    assertEquals(await served.stop(), []);
  } finally {
    removeTree(scratch);
  }
});

Deno.test("console: ports are listed; standard input and output meet a loopback port and a socket", async () => {
  await using served = await TopologyHost.start([
    {
      address: "0000:04:00.0",
      kind: "virtio-console",
      ports: 2,
      portNames: ["tty", "agent"],
      peer: "socket",
    },
    { address: "0000:05:00.0", kind: "virtio-console" },
  ]);
  const at = ["--host", served.directory];
  for (const one of ["04:00.0", "05:00.0"]) await cli(...at, "bind", one);
  const listed = JSON.parse((await cli(...at, "console", "04:00.0", "--list", "--json")).out);
  assertEquals(listed, {
    function: "0000:04:00.0",
    multiport: true,
    ports: [
      { port: 0, name: "tty", console: true, open: false, size: { cols: 80, rows: 25 } },
      { port: 1, name: "agent", console: false, open: false, size: null },
    ],
  });
  assertStringIncludes((await cli(...at, "console", "04:00.0", "--list")).out, "port 1  agent  no peer");
  const none = await cli(...at, "console", "04:00.0", "--port", "2");
  assertEquals([none.code, none.out], [2, ""]);

  const echoed = await shell(
    `echo hello there | ringside --host ${served.directory} console 05:00.0 --linger 300`,
  );
  assertEquals([echoed.code, echoed.out], [0, "hello there\n"], echoed.err);

  using peer = UnixSocket.connect(`${served.directory}/0000:04:00.0.port1`);
  const child = startCli({ stdin: "piped" }, ...at, "console", "04:00.0", "--port", "1");
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode("from the command"));
  const heard = new Uint8Array(16);
  for (let got = 0; got < 16;) {
    got += peer.receive(heard.subarray(got), { wait: false })?.length ?? 0;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assertEquals(new TextDecoder().decode(heard), "from the command");
  peer.send(new TextEncoder().encode("and back") as Uint8Array<ArrayBuffer>);
  peer.close();
  // The peer has closed: the command ends though its standard input has not.
  const { code, stdout } = await child.output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "and back"]);
  await writer.abort().catch(() => {});
  assertEquals(await served.stop(), []);
});
