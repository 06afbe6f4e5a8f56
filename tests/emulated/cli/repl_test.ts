/** The REPL as its user has it: names, registers, and a host that is as before however it ends. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { isErrno, readText, replaceFile } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";
import { cli, startCli } from "./run_cli.ts";

const main = fromFileUrl(new URL("../../../cli/main.ts", import.meta.url));
const RNG = "02:00.0", NET = "01:00.0";

/** What a host looks like from outside. */
async function seen(directory: string): Promise<string> {
  const outputs = await Promise.all(["list", "status"].map((what) => cli("--host", directory, what)));
  return outputs.map(({ out }) => out).join();
}

/** Lines typed into the REPL, by a pipe. */
async function typed(
  directory: string,
  lines: readonly string[],
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  // On a terminal of no known kind the REPL prints its prompt also for a pipe.
  const child = startCli({ stdin: "piped", env: { TERM: "xterm" } }, "--host", directory, "repl", ...args);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("the REPL by a pipe: registers by name, misspelt ones, a throw, and the host as before", async () => {
  await using disposer = new AsyncDisposableStack();
  const host = await startEmulatedHost();
  disposer.defer(() => host.stop());
  const scratch = makeTemporaryDirectory();
  disposer.defer(() => removeTree(scratch));
  const table = `${scratch}/nic.txt`;
  replaceFile(
    table,
    new TextEncoder().encode(
      "STATUS 0x14 8 RW\n  ACK 0 RW\n  DRV 1 RW\nDOOR 0x18 16 W\nCAUSE 0x19 8 RC\n".replace("0x19", "0x15"),
    ),
  );
  const before = await seen(host.directory);
  const { code, out, err } = await typed(
    host.directory,
    [
      "common.queue_size",
      "common.queue_select = 3; common.queue_select.get()",
      "common.device_status.acknowledge",
      "common.device_status.acknowledge = true",
      "common.device_status",
      "common.device_status.drivr = true",
      "common.nothing = 1",
      "nic.STATUS.DRV = true",
      "nic.STATUS.fields().ACK",
      "nic.DOOR",
      "nic.CAUSE",
      "config.vendorId",
      "bars[4].read8(0x14).toString(2)",
      "pci",
      "throw new Error('mine')",
      `host.setVfCount("${NET}", 2).length`,
      "openTransport(device).readStatus()",
    ],
    RNG,
    "--bind",
    ...["--table", table, "--bar", "4", "--trace", `${scratch}/trace`],
  );
  assertEquals(code, 0, err);
  const [size, select, driver, written, status, ...rest] = out.split("\n");
  assertEquals([size, select, driver, written], ["queue_size 0x0040", "3", "false", "true"]);
  assertMatch(status!, /^device_status 0x01 .*driver 0, acknowledge 1$/);
  assertMatch(
    rest.join("\n"),
    /property drivr,.*\n.*\n.*property nothing,.*\n.*\ntrue\ntrue\nDOOR \(write-only\)\nCAUSE \(cleared by reading: \.get\(\) reads it\)\n/,
  );
  assertMatch(
    out,
    /vendorId 0x1af4\n"11"\n0000:02:00\.0 1af4:1044 Virtio 1\.0 entropy source, driver vfio-pci/,
  );
  assertMatch(out, /\n2\n3\n$/);
  assertMatch(out, /Uncaught Error: mine/);
  assertMatch(err, /0000:01:00\.0 sriov_numvfs: 2 -> 0/);
  assertMatch(err, /0000:02:00\.0 driver: vfio-pci -> virtio-pci/);
  assertEquals(await seen(host.directory), before);
  assertEquals(host.violations(), []);
  assert(readText(`${scratch}/trace`).split("\n").length > 20);
});

Deno.test("the REPL gives a function back that is asked for, says who asks, and goes on without it", async () => {
  await using disposer = new AsyncDisposableStack();
  const served = await startEmulatedHost();
  disposer.defer(() => served.stop());
  using host = openHost(served.directory);
  const address = host.bind(RNG)[0]!.function;
  const until = async (come: () => boolean) => {
    while (!come()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const child = startCli({ stdin: "piped", env: { TERM: "xterm" } }, "--host", served.directory, "repl", RNG);
  const writer = child.stdin.getWriter();
  const write = (text: string) => writer.write(new TextEncoder().encode(text));
  const err = new Response(child.stderr).text();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let out = "";
  const readUntil = async (text?: string) => {
    while (text === undefined || !out.includes(text)) {
      const { value, done } = await reader.read();
      if (done) return;
      out += value;
    }
  };
  // What is asked for while it still opens the function ends it: it answers, so it stands at its prompt.
  await write("`${6 * 7} is it`\n");
  await readUntil("42 is it");
  const unbind = () => {
    using sysfs = new SocketSysfs(`${served.directory}/host.sock`);
    try {
      sysfs.writeText("/sys/bus/pci/drivers/vfio-pci/unbind", address);
    } catch (error) {
      assert(isErrno(error, "EBUSY"), `${error}`);
    }
  };
  // The emulated kernel asks, and does not wait.
  await until(() => {
    if (host.describe(RNG).heldBy !== undefined) unbind();
    return host.describe(RNG).heldBy === undefined;
  });
  await write("[device.closed, 6 * 7]\n");
  await writer.close();
  await readUntil();
  await child.status;
  assertMatch(out, /\[ true, 42 \]/);
  assertMatch(
    await err,
    /^ringside: 0000:02:00\.0: the host that serves it asks for the function back.* \(it was closed at once\)\r?$/m,
  );
});

Deno.test("the REPL: what was bound before stays bound, and what cannot be opened is told", async () => {
  await using disposer = new AsyncDisposableStack();
  const host = await startEmulatedHost();
  disposer.defer(() => host.stop());
  const refused = await typed(host.directory, [], RNG);
  assertEquals([refused.code, refused.out], [2, ""]);
  assertMatch(refused.err, /^ringside: 0000:02:00\.0 is bound to virtio-pci; .*bind 0000:02:00\.0\)\n$/);
  const bare = await typed(host.directory, [], "--bind");
  assertEquals(bare.code, 2);
  assertMatch(bare.err, /--bind and --table are about a function/);
  assertEquals((await cli("--host", host.directory, "bind", NET)).code, 0);
  const before = await seen(host.directory);
  const { code, err } = await typed(
    host.directory,
    [`host.setVfCount("${NET}", 3)`, `host.restore("${RNG}")`, "close()"],
  );
  assertEquals(code, 0, err);
  assertMatch(err, /0000:01:00\.0 sriov_numvfs: 3 -> 0/);
  assertEquals(await seen(host.directory), before);
});

/** A terminal that a test looks at. */
class Terminal implements AsyncDisposable {
  readonly #server = `ringside-${crypto.randomUUID().slice(0, 8)}`;

  static get there(): boolean {
    try {
      return new Deno.Command("tmux", { args: ["-V"], stdout: "null" }).outputSync().success;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  async tmux(...args: string[]): Promise<string> {
    const { stdout, stderr, success } = await new Deno.Command("tmux", {
      args: ["-L", this.#server, "-f", "/dev/null", ...args],
      stdin: "null",
      env: { NO_COLOR: "1", LC_ALL: "C.UTF-8" },
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  }

  start(...command: string[]): Promise<string> {
    return this.tmux("new-session", "-d", "-x", "150", "-y", "50", command.join(" "));
  }

  keys(...keys: string[]): Promise<string> {
    return this.tmux("send-keys", ...keys);
  }

  /** Waits until the screen has this. */
  async shows(what: RegExp): Promise<string> {
    for (const end = performance.now() + 60_000;;) {
      const screen = await this.tmux("capture-pane", "-p");
      if (what.test(screen)) return screen;
      if (performance.now() > end) throw new Error(`no ${what} on the terminal:\n${screen}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tmux("kill-server").catch(() => {});
  }
}

const noTmux = Terminal.there ? "" : " (skipped: needs tmux)";

Deno.test({
  name:
    `the REPL on a terminal: a name completed, a register read; left by Ctrl-D, by Ctrl-C and by signals, the host is as before${noTmux}`,
  ignore: noTmux !== "",
  fn: async () => {
    await using disposer = new AsyncDisposableStack();
    const host = await startEmulatedHost();
    disposer.defer(() => host.stop());
    const terminal = disposer.use(new Terminal());
    const before = await seen(host.directory);
    const permissions = "--quiet --no-check --allow-ffi --allow-env --allow-run";
    const command =
      `${Deno.execPath()} run ${permissions} ${main} --host ${host.directory} repl ${RNG} --bind`;
    await terminal.start("bash", "--norc", "--noprofile");
    const ends: readonly [name: string, status: number, how: () => Promise<unknown>][] = [
      ["Ctrl-D", 0, () => terminal.keys("C-d")],
      ["Ctrl-C in a loop", 130, async () => {
        await terminal.keys("-l", "console.log('lo' + 'ops'); while (true) {}");
        await terminal.keys("Enter");
        await terminal.shows(/^loops$/m);
        await terminal.keys("C-c");
      }],
      ...(["TERM", "HUP", "KILL"] as const).map((signal): [string, number, () => Promise<unknown>] => [
        `SIG${signal}`,
        { TERM: 143, HUP: 143, KILL: 137 }[signal],
        async () => {
          await terminal.keys("-l", "console.log('pid', Deno.pid, Deno.ppid + 0)");
          await terminal.keys("Enter");
          const [, own, parent] = /^pid (\d+) (\d+)$/m.exec(await terminal.shows(/^pid \d+ \d+$/m))!;
          Deno.kill(Number(signal === "KILL" ? own : parent), `SIG${signal}`);
        },
      ]),
    ];
    for (const [name, status, leave] of ends) {
      await terminal.keys("-l", `clear; ${command}; echo left $? $(stty -a | grep -o '.icanon')`);
      await terminal.keys("Enter");
      await terminal.shows(/^Tab completes; Ctrl-D leaves.*\n>/m);
      if (name === "Ctrl-D") {
        await terminal.keys("-l", "common.queue_si");
        await terminal.keys("Tab");
        await terminal.shows(/^> common\.queue_size/m);
        await terminal.keys("Enter");
        await terminal.shows(/^queue_size 0x0040$/m);
        await terminal.keys("-l", "throw new Error('mine')");
        await terminal.keys("Enter");
        await terminal.shows(/Uncaught Error: mine/);
      }
      await leave();
      const screen = await terminal.shows(/^left \d+/m);
      assertMatch(screen, new RegExp(`^left ${status} icanon$`, "m"), name);
      assertEquals(await seen(host.directory), before, name);
    }
    assertEquals(host.violations(), []);
  },
});
