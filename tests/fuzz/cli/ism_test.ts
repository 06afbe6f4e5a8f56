import { assert, assertEquals, assertMatch } from "@std/assert";
import { parseSize } from "../../../cli/byte_size.ts";
import { domainSvg } from "../../../cli/ism/figure_svg.ts";
import { parsePermissions, permissionsText } from "../../../cli/ism/permissions.ts";
import { parseToken, tokenText } from "../../../cli/ism/token.ts";
import { readText } from "../../../ffi/mod.ts";
import type { IsmDomainState } from "../../../lib/emulation/mod.ts";
import {
  domain,
  Holder,
  type Json,
  ONE,
  ONE_LINE,
  Rig,
  RNG,
  STRANGER,
  THREE,
  TWO,
  until,
} from "../../emulated/cli/ism_rig.ts";
import { startCli } from "../../emulated/cli/run_cli.ts";

Deno.test("ism: regions between processes", async (t) => {
  await using rig = await Rig.start();

  await t.step("info: domains, ids, chunks, areas", async () => {
    const infos = [
      await rig.json(ONE, "info"),
      await rig.json(TWO, "info"),
      await rig.json(STRANGER, "info"),
    ];
    const [one, two, stranger] = infos as [Json, Json, Json];
    assertMatch(String(one.domain), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assertEquals([one.domain === two.domain, one.domain === stranger.domain], [true, false]);
    assertEquals(infos.map(({ devid }) => devid), [1, 2, 1]);
    assertEquals([one.chunkBytes, one.chunks, stranger.chunkBytes, stranger.chunks], [65536, 4096, 4096, 64]);
    const mapped = { bytes: 1 << 28, mapped: true };
    assertEquals(one.areas, { regions: mapped, notify: { bytes: 16384, mapped: false } });
    assertEquals(one.deviceMemory, true);
    const { out } = await rig.run(STRANGER, "info");
    assertMatch(out, /regions: 64 chunks of 4 KiB \(256 KiB\), mapped\n.*notify: 64 of 4 B \(256 B\)/);
  });

  await t.step(
    "what a region says of itself, seen by another process, and rights that are refused",
    async () => {
      await using holder = new Holder(
        rig,
        ONE,
        "alloc",
        "200K",
        "--grant",
        "read,attach",
        "--fill",
        "hello",
        "--shell",
      );
      const region = await holder.line();
      const token = String(region.token);
      assertMatch(token, /^0x[0-9a-f]{16}$/);
      assertEquals(region, {
        function: ONE,
        token,
        bytes: 204800,
        rights: ["read", "write"],
        mapped: true,
        chunkBytes: 65536,
        chunks: [{ first: 0, count: 4 }],
        defaultPermissions: ["read", "attach"],
      });
      assertEquals(await rig.json(TWO, "query", token), {
        function: TWO,
        token,
        bytes: 204800,
        permissions: ["read", "attach"],
      });
      const attached = await rig.json(TWO, "attach", token, "--dump", "8");
      assertEquals([attached.rights, attached.hex], [["read"], "68656c6c6f000000"]);
      const { out } = await rig.run(TWO, "attach", token, "--read", "--dump", "20");
      assertMatch(
        out,
        /^0x[0-9a-f]{16}: 200 KiB to read; 4 chunks of 64 KiB: 0–3; mapped\n00000000 {2}68 65 6c/,
      );
      assertMatch(out, /\|hello\.{11}\|\n00000010 {2}00 00 00 00 +\|\.{4}\|\n$/);
      assertEquals((await holder.event()).event, "attach");
      assertEquals(await holder.event(), { event: "detach", token, devid: 2, peers: 0 });

      for (
        const [args, says] of [
          [[TWO, "attach", token, "--write"], /PERM_EWRITE/],
          [[STRANGER, "attach", token], /ENOENT/],
          [[STRANGER, "query", token], /ENOENT/],
          [
            [TWO, "grant", token, "--permissions", "read"],
            /may not manage .*: it may read,attach .*alloc BYTES/,
          ],
          [[ONE, "query", token], /in use|held|busy/i],
        ] as const
      ) {
        const { code, out, err } = await rig.run(...args);
        assertEquals([code, out], [1, ""], err);
        assertMatch(err, ONE_LINE);
        assertMatch(err, says);
      }
      const refused = JSON.parse((await rig.run(TWO, "attach", token, "--write", "--json")).out);
      assertEquals([refused.error.type, refused.error.location.field], ["IsmError", "ack"]);

      assertEquals(await rig.json(TWO, "detach", token), {
        function: TWO,
        token,
        detached: false,
        regionLeft: true,
      });
      assertEquals(await holder.ask("detach"), { command: "detach", detached: true });
      const { code, err } = await holder.end();
      assertEquals([code, err], [0, ""]);
      assertMatch((await rig.run(TWO, "detach", token)).err, /ENOENT/);
    },
  );

  await t.step("the shell: grants, bytes, updates, mistakes", async () => {
    await using holder = new Holder(rig, ONE, "alloc", "4096", "--shell");
    const token = String((await holder.line()).token);
    assertEquals(await holder.ask("grant read,write,attach,manage 2"), {
      command: "grant",
      devid: 2,
      permissions: ["read", "write", "attach", "manage"],
      cleanDefault: false,
    });
    assertEquals((await holder.ask("grant attach,write 3 clean-default")).cleanDefault, true);
    assertEquals((await rig.json(THREE, "query", token)).permissions, ["write", "attach"]);
    // Who may manage a region can grant, too.
    const toThree = [TWO, "grant", token, "--permissions", "read,attach", "--devid", "3"];
    const granted = { function: TWO, token, devid: 3, permissions: ["read", "attach"], cleanDefault: false };
    assertEquals(await rig.json(...toThree, "--dry-run"), granted);
    assertEquals((await rig.json(THREE, "query", token)).permissions, ["write", "attach"]);
    assertEquals(await rig.json(...toThree), granted);
    assertEquals((await rig.json(THREE, "query", token)).permissions, ["read", "attach"]);

    assertEquals(await holder.ask("write 0 two  words "), { command: "write", offset: 0, bytes: 11 });
    assertEquals(await holder.ask("write 4094 0xab0C"), { command: "write", offset: 4094, bytes: 2 });
    assertEquals((await holder.ask("read 0 12")).hex, "74776f2020776f7264732000");
    assertEquals((await holder.ask("read 4092 4")).hex, "0000ab0c");
    assertEquals((await holder.ask("query")).bytes, 4096);

    const mistakes = [
      "frob",
      "grant",
      "grant reed",
      "grant read x",
      "read 0",
      "read 4090 7",
      "write 0",
      "write 4096 x",
    ];
    for (const line of [...mistakes, "query 0x99", "query x"]) {
      const { command, error } = await holder.ask(line);
      assertEquals([command, typeof (error as Json).message], [line.split(" ")[0], "string"], line);
    }

    await using watching = new Holder(rig, THREE, "watch", token, "--count", "2");
    while ((await holder.event()).devid !== 3);
    for (let i = 0; i < 2; i++) {
      await holder.ask("notify");
      assertEquals(await watching.line(), { event: "update", token, devid: 1 });
    }
    assertEquals(await watching.end(), { code: 0, err: "" });

    const { code: status, err } = await holder.end();
    assertEquals([status, err.trimEnd().split("\n").length], [1, mistakes.length + 2]);
    assertMatch((await rig.run(TWO, "query", token)).err, /ENOENT/);
  });

  await t.step("an allocator that is killed: who is attached goes on and is told", async () => {
    await using holder = new Holder(rig, ONE, "alloc", "70000", "--fill", "kept", "--shell");
    const token = String((await holder.line()).token);
    await using other = new Holder(rig, TWO, "attach", token, "--shell");
    await other.line();
    holder.kill("SIGKILL");
    assertEquals(await other.event(), { event: "detach", token, devid: 1, peers: 0 });
    assertEquals((await other.ask("read 0 4")).hex, "6b657074");
    assertEquals((await rig.json(THREE, "query", token)).bytes, 70000);
  });

  await t.step("held regions end with a signal, in order and with status 0", async () => {
    await until(() => domain(rig).regions.length === 0);
    const child = startCli({}, ...rig.args, ONE, "alloc", "1M", "--grant", "none");
    const output = child.output();
    // Signals are listened for before the function is opened.
    await until(() => domain(rig).regions[0]?.defaultPermissions === "");
    const held = domain(rig);
    child.kill("SIGINT");
    const { code, stdout, stderr } = await output;
    assertEquals(held.memoryUsed, 1 << 20);
    assertEquals(code, 0);
    assertMatch(new TextDecoder().decode(stdout), /^0x[0-9a-f]{16}\n$/);
    assertMatch(
      new TextDecoder().decode(stderr),
      /1 MiB to read and write; 16 chunks.*others may: none\nheld until/,
    );
    assertEquals(domain(rig).regions, []);
  });

  await t.step("figure: functions, regions, who may and who does", async () => {
    await using holder = new Holder(rig, TWO, "alloc", "1M", "--grant", "read,attach", "--shell");
    const token = String((await holder.line()).token);
    await holder.ask("grant none 3");
    await using _ = new Holder(rig, ONE, "attach", token, "--shell");
    await until(() => domain(rig).regions[0]!.attached.length === 2);
    const { out, err } = await rig.run(THREE, "figure");
    assertEquals(err, "");
    const start = token.slice(2, 6);
    assertMatch(
      out,
      new RegExp(`\n${start}…\\s+1 MiB\\s+16\\s+2\\s+ra\\s+ra =r\\s+rwam =rw\\s+-\n`),
    );
    assert(!out.includes(STRANGER) && !out.includes(token));
    const shown = await rig.json(TWO, "figure", "--output", `${rig.scratch}/domain.svg`);
    assertEquals([shown.source, shown.domain, (shown.functions as Json[]).length], ["host", "d0", 3]);
    const svg = readText(`${rig.scratch}/domain.svg`);
    assertEquals([svg.match(/<path [^>]*fill="none"/g)?.length, svg.includes(token)], [2, false]);
    assertMatch(svg, /0000:01:00\.0: attached for r, may ra</);
    const refused = await rig.run(RNG, "figure");
    assertEquals(refused.code, 1);
    assertMatch(refused.err, /no virtio-ism function/);
  });

  await t.step("what is wrong with a request: status 2, in a line", async () => {
    for (
      const args of [
        [ONE, "alloc", "12Q"],
        [ONE, "alloc", "4096", "--grant", "read;write"],
        [ONE, "alloc", "4", "--fill", "hello"],
        [ONE, "alloc", "4", "--fill", "h", "--fill-from", "/dev/null"],
        [ONE, "alloc", "4096", "--fill-from", `${rig.scratch}/none`],
        [ONE, "query", "0x1ffffffffffffffff"],
        [ONE, "grant", "0x1", "--permissions", "read", "--clean-default"],
        [ONE, "pipe"],
        [ONE, "pipe", "0x1", "--listen"],
        [ONE, "pipe", "--listen", "--send", "--receive"],
        [ONE, "pipe", "--listen", "--bytes", "1000"],
      ]
    ) {
      const { code, out, err } = await rig.run(...args);
      assertEquals([code, out], [2, ""], `${args.join(" ")}: ${err}`);
      assertMatch(err, ONE_LINE, args.join(" "));
    }
    assertMatch((await rig.run(RNG, "info")).err, /is no ISM device/);
  });
  assertEquals(rig.violations(), []);
});

Deno.test("ism: a device whose process dies ends what holds its regions, with a line and status 1", async () => {
  await using rig = await Rig.start();
  await using holder = new Holder(rig, ONE, "alloc", "4096", "--shell");
  await holder.line();
  Deno.kill(rig.pid, "SIGKILL");
  const { error } = await holder.line();
  assertMatch(
    String((error as Json).message),
    /0000:01:00\.0: the process that serves it behind \S+ is gone/,
  );
  const { code, err } = await holder.end();
  assertEquals(code, 1);
  assertMatch(err, ONE_LINE);
});

Deno.test("sizes, tokens and permissions as text", () => {
  assertEquals(["0", "17", "4k", "1M", "2G", "0x10", "0x10K"].map(parseSize), [
    0,
    17,
    4096,
    1 << 20,
    2 ** 31,
    16,
    16384,
  ]);
  for (const wrong of ["", "K", "1T", "-1", "1.5M", "99999999999999999", "8388608G"]) {
    assertEquals(parseSize(wrong), undefined, wrong);
  }
  assertEquals(["0", "0xAb", "18446744073709551615"].map(parseToken), [0n, 0xabn, 2n ** 64n - 1n]);
  for (const wrong of ["", "0x", "ab", "-1", "18446744073709551616", "0x10000000000000000"]) {
    assertEquals(parseToken(wrong), undefined, wrong);
  }
  assertEquals([tokenText(0xabn), parseToken(tokenText(2n ** 63n))], ["0x00000000000000ab", 2n ** 63n]);
  assertEquals(["none", "read", "manage,read,attach,write"].map(parsePermissions), [0, 1, 15]);
  for (const wrong of ["", "read,", "READ", "none,read"]) {
    assertEquals(parsePermissions(wrong), undefined, wrong);
  }
  for (let bits = 0; bits < 16; bits++) assertEquals(parsePermissions(permissionsText(bits)), bits);
});

Deno.test("a picture: a line for each that is attached or might be, names escaped, nothing where there is nothing", () => {
  const domain: IsmDomainState = {
    domain: "<&>",
    cdid: "c",
    chunkSize: 4096,
    memory: 1 << 20,
    memoryUsed: 8192,
    functions: [1, 2, 3].map((devid) => ({
      function: `f${devid}`,
      devid: `${devid}`,
      chunks: 4,
      chunksUsed: 2,
      eventsWaiting: 0,
    })),
    regions: [{
      token: "abcd…",
      size: "8192",
      chunks: 2,
      allocator: "1",
      driverMemory: false,
      defaultPermissions: "ra",
      permissions: [{ devid: "1", permissions: "rwam" }, { devid: "3", permissions: "rw" }],
      attached: [{ function: "f1", devid: "1", rights: "rw", chunks: [[0, 2]] }],
    }],
  };
  const svg = domainSvg(domain, "");
  const said = [...svg.matchAll(/<path [^>]*><title>([^<]*)</g)].map(([, title]) => title);
  // Device 3 may read and write, but not attach.
  assertEquals(said, ["f1: attached for rw, may rwam", "f2: not attached, may ra"]);
  assert(svg.includes("&lt;&amp;&gt;") && !svg.includes("<&>"));
  const empty = domainSvg({ ...domain, functions: [], regions: [] }, "only so much");
  assert(empty.includes("no regions") && empty.includes("only so much"));
  for (const one of [svg, empty]) {
    assertEquals(one.match(/NaN|undefined|Infinity/), null);
    assertEquals(one.match(/<(text|title|svg)\b/g)?.length, one.match(/<\/(text|title|svg)>/g)?.length);
  }
});
