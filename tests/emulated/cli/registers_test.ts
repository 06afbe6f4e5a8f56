import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { readText, replaceFile } from "../../../ffi/mod.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";
import { cli } from "./run_cli.ts";

const root = fromFileUrl(new URL("../../../", import.meta.url));
const NET = "01:00.0", RNG = "02:00.0", MMIO = "a003e00.virtio_mmio";

Deno.test("peek, poke and regs on the embedded host", async (t) => {
  const host = await startEmulatedHost();
  const scratch = makeTemporaryDirectory();
  const run = (...args: string[]) => cli("--host", host.directory, ...args);
  const ok = async (...args: string[]) => {
    const { code, out, err } = await run(...args);
    assertEquals(code, 0, err);
    return { out, err };
  };
  const refused = async (code: number, why: RegExp, ...args: string[]) => {
    const done = await run(...args);
    assertEquals([done.code, done.out], [code, ""], done.err);
    assertMatch(done.err, why);
  };
  const write = (name: string, text: string) => {
    replaceFile(`${scratch}/${name}`, new TextEncoder().encode(text));
    return `${scratch}/${name}`;
  };
  try {
    await t.step(
      "configuration space by name, place and setpci's names, whoever has the function",
      async () => {
        assertEquals((await ok("peek", NET, "config:0.16")).out, "0x1af4\n");
        const { out } = await ok(
          "peek",
          NET,
          "VENDOR_ID",
          "REVISION",
          "config:bars[0]",
          "CAP_EXP.b",
          "sr-iov:14.16",
        );
        assertEquals(
          out.replace(/config:0x(5|1)[0-9a-f]+/g, "config:…"),
          "config:vendorId  0x1af4\nconfig:0x8  0x01\nconfig:bars[0]  0x00000000\nconfig:…  0x10\nconfig:…  0x0004\n",
        );
      },
    );
    await t.step(
      "a BAR needs VFIO, and is not written while the kernel's driver has the function",
      async () => {
        await refused(2, /vfio-pci/, "peek", NET, "common:num_queues");
        await refused(2, /is on virtio-pci, which drives it \(ringside .*bind/, "poke", NET, "command", "0");
        const { out, err } = await ok("regs", NET);
        assertMatch(err, /common is in BAR 4, which can be read when 0000:01:00\.0 is on VFIO/);
        assert(!out.includes("common:"));
        assertMatch(out, /config:vendorId +0x0 +0x1af4/);
      },
    );
    await ok("bind", NET, RNG);
    await t.step("peek: decoded, as text and as JSON", async () => {
      assertEquals((await ok("peek", RNG, "common:num_queues")).out, "0x0001\n");
      assertEquals(
        (await ok("peek", RNG, "NUM_QUEUES", "common:0x12.16")).out.split("\n")[0],
        "common:num_queues  0x0001",
      );
      const told = JSON.parse((await ok("peek", RNG, "headerType", "--json")).out);
      assertEquals(told, {
        function: "0000:02:00.0",
        values: [{
          name: "config:headerType",
          region: "config",
          offset: 14,
          width: 1,
          value: "0x00",
          text: "0x00 multiFunction 0, layout 0",
        }],
      });
      const { out, err } = await ok("peek", RNG, "isr_status");
      assertEquals(out, "0x00 config 0, queue 0\n");
      assertMatch(err, /isr:isr_status is cleared by this read/);
    });
    await t.step(
      "poke: says what was, what it wrote, and what is; --peek reads before it is closed",
      async () => {
        const { out, err } = await ok("poke", NET, "common:queue_select", "8", "--peek", "common:queue_size");
        assertEquals(
          out,
          "0000:01:00.0 common:queue_select: 0x0000 -> 0x0008, reads 0x0008\ncommon:queue_size  0x0100\n",
        );
        assertMatch(err, /is closed now, and VFIO resets it/);
        assertEquals((await ok("peek", NET, "common:queue_select")).out, "0x0000\n");
        const place = "4:0x16.16";
        assertEquals(
          (await ok("poke", NET, place, "1", "--peek", place)).out,
          "0000:01:00.0 4:0x16: 0x0001\n4:0x16  0x0001\n",
        );
        assertMatch(
          (await ok("poke", NET, "COMMAND", "busMaster=1,interruptDisable=1")).out,
          /^0000:01:00\.0 config:command: 0x0002 -> 0x0406, reads 0x0406 .*busMaster 1/,
        );
      },
    );
    await t.step("poke --dry-run writes nothing", async () => {
      const { out, err } = await ok("poke", NET, "device_status", "1", "--dry-run", "--json");
      assertEquals(JSON.parse(out), {
        function: "0000:01:00.0",
        name: "common:device_status",
        region: 4,
        offset: 20,
        width: 1,
        before: "0x00",
        value: "0x01",
        reads: null,
        written: false,
        peeked: [],
      });
      assertEquals(err, "");
      assertMatch((await ok("poke", NET, "device_status", "1", "--dry-run")).err, /nothing was written/);
    });
    await t.step("regs: what reading clears is not read, unless it is asked for", async () => {
      assertMatch((await ok("regs", RNG, "isr*")).out, /isr:isr_status +0x0 +\(cleared by reading\)/);
      const asked = JSON.parse((await ok("regs", RNG, "isr*", "--read-to-clear", "--json")).out);
      assertEquals([asked.clearingReads, asked.registers[0].fields], [1, { config: false, queue: false }]);
      assertEquals(JSON.parse((await ok("regs", RNG, "--json")).out).clearingReads, 0);
    });
    await t.step("a device's own configuration, and the window of a virtio-mmio device", async () => {
      assertMatch(
        (await ok("regs", NET, "device:*")).out,
        /device:mac0 +0x0 +0x52\n[^]*device:mtu +0xa +0x05dc/,
      );
      assertEquals((await ok("peek", NET, "device:mtu")).out, "0x05dc\n");
      await ok("bind", MMIO);
      const { out } = await ok("regs", MMIO);
      assertMatch(out, /mmio:magic_value +0x0 +0x74726976\n[^]*mmio:queue_notify +0x50 +\(write-only\)/);
      assertEquals(
        (await ok("peek", MMIO, "version", "0:0x8.32")).out,
        "mmio:version  0x00000002\n0:0x8  0x00000004\n",
      );
      assertMatch(
        (await ok("poke", MMIO, "mmio:device_status", "1")).out,
        /mmio:device_status: .*0x00000001/,
      );
    });
    await t.step("regs: a pattern that no register has is told", async () => {
      assertEquals((await ok("regs", RNG, "nothing-of-the-kind")).out, "no registers match\n");
    });
    await t.step("regs --diff: against an earlier dump", async () => {
      const kept = write("before.json", (await ok("regs", RNG, "config:*", "--json")).out);
      assertEquals((await ok("regs", RNG, "config:*", "--diff", kept)).out, "no difference\n");
      const other = write("other.json", readText(kept).replace("0x1044", "0x1041"));
      assertEquals(
        (await ok("regs", RNG, "config:*", "--diff", other)).out,
        "config:deviceId  0x1041 -> 0x1044\n",
      );
      const { changes } = JSON.parse((await ok("regs", RNG, "config:*", "--diff", other, "--json")).out);
      assertEquals(changes, [{ name: "config:deviceId", before: "0x1041", after: "0x1044", fields: {} }]);
      await refused(2, /it is no dump of registers/, "regs", RNG, "--diff", write("none.json", "[]"));
    });
    await t.step("--table: registers of a text, in a BAR", async () => {
      const table = write("virtio.regs", "STATUS 0x14 8 RW 0x0\n  ACK 0 RW\n  MODE 2:1 RW idle=0 run=1\n");
      const options = ["--table", table, "--bar", "4"];
      assertEquals((await ok("regs", NET, "table:*", ...options)).out.split("\n").length, 3);
      assertMatch(
        (await ok("poke", NET, "table:STATUS", "ACK=1,MODE=run", ...options)).out,
        /table:STATUS: 0x00 -> 0x03, reads 0x03 MODE run, ACK 1/,
      );
      const wrong = write("wrong.regs", "A 0 32 RW\nB 2 16 RW\n");
      await refused(2, /registers A and B overlap/, "regs", NET, "--table", wrong);
      await refused(2, /line 1 of the table/, "regs", NET, "--table", write("line.regs", "A 0 33 RW\n"));
    });
    await t.step("regs --c-header: the table for a driver in C", async () => {
      const table = write("c.txt", "CTRL 0x10 32 RW\n  SPEED 9:8 RW\n");
      const { out } = await ok("regs", RNG, "--table", table, "--c-header", "NIC");
      assertMatch(out, /^#define NIC_CTRL +0x0010 .*\n#define NIC_CTRL_SPEED +GENMASK\(9, 8\)/m);
      const { header } = JSON.parse(
        (await ok("regs", RNG, "--table", table, "--c-header", "NIC", "--json")).out,
      );
      assertEquals(`${header.trimEnd()}\n`, out);
      await refused(2, /which --table FILE says/, "regs", RNG, "--c-header", "NIC");
      await refused(2, /cannot begin a name of C/, "regs", RNG, "--table", table, "--c-header", "9");
    });
    await t.step("what cannot be is refused before anything is written", async () => {
      await refused(2, /has no BAR 5/, "peek", NET, "5:0");
      await refused(2, /has no 32-bit register at 4:0x2 .*multiples of 4/, "peek", NET, "4:2");
      await refused(2, /has no 16-bit register at config:0x1000/, "peek", NET, "config:0x1000.16");
      await refused(
        2,
        /the function has no nothing \(there is 0 to 5 \(a BAR\), config, /,
        "peek",
        NET,
        "nothing:x",
      );
      await refused(2, /there is no config:bars\[6\]/, "peek", NET, "bars[6]");
      await refused(2, /"0:" is no register/, "peek", NET, "0:");
      await refused(2, /common:num_queues is read-only/, "poke", NET, "num_queues", "1");
      await refused(2, /256 does not fit common:device_status/, "poke", NET, "device_status", "256");
      await refused(2, /"x" is no value/, "poke", NET, "4:0x14.8", "x");
      await refused(2, /has no field "none"/, "poke", NET, "command", "none=1");
      await refused(2, /registers are called control \(say which: /, "peek", NET, "control");
      await refused(2, /needs a FUNCTION and at least one WHERE/, "peek", NET);
    });
    await t.step("completion offers registers by name", async () => {
      const { code, out } = await cli(
        ...["completion", "bash", "--host", host.directory, "peek", NET, "common:queue_s"],
      );
      assertEquals([code, out.match(/\S+/g)], [0, ["common:queue_select", "common:queue_size"]]);
    });
    await t.step("docs/registers.md: its script prints what it says", async () => {
      const page = readText(`${root}docs/registers.md`);
      const [, script] = /```ts\n([\s\S]*?)```/.exec(page)!;
      const [, printed] = /it prints:\n\n```text\n([\s\S]*?)```/.exec(page)!;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-check", "--allow-ffi", "-", host.directory, RNG],
        cwd: root,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(script));
      await writer.close();
      const { code, stdout, stderr } = await child.output();
      const decoder = new TextDecoder();
      assertEquals(code, 0, decoder.decode(stderr));
      assertEquals(decoder.decode(stdout).trimEnd(), printed!.trimEnd());
    });
  } finally {
    removeTree(scratch);
    await host.stop();
  }
});
