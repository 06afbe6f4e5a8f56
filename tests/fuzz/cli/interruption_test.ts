import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { accessible, readDirectory, readFile, replaceFile } from "../../../ffi/mod.ts";
import { CaptureReader, CaptureWriter } from "../../../lib/capture/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { cliWith, startCli } from "../../emulated/cli/run_cli.ts";

const PF = "0000:01:00.0";
const VFS = ["0000:01:00.1", "0000:01:00.2"] as const;
const RNG = "0000:02:00.0";
const MAC_OF_SECOND_VF = [0x52, 0x54, 0, 1, 0, 2];
const STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143, SIGKILL: 137 } as const;

const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (condition()) return;
    await pause();
  }
  throw new Error("it never came true");
}

/** Starts a command, signals it once `started` is true, and says how it ended. */
async function interrupted(
  signal: keyof typeof STATUS,
  started: () => boolean,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const child = startCli({ env }, ...args);
  const output = child.output();
  try {
    await until(started);
  } finally {
    child.kill(signal);
  }
  const { code, stdout, stderr } = await output;
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("SIGINT, SIGTERM and SIGHUP end what drives a function in order", async (t) => {
  const served = await startEmulatedHost();
  const scratch = makeTemporaryDirectory();
  try {
    using host = openHost(served.directory);
    host.bind(PF);
    host.setVfCount(PF, 2);
    host.bind(RNG);
    const held = (address: string) => () => host.describe(address).heldBy !== undefined;
    const opened = (address: string) => () => held(address)() && driverIsUp(address);
    const driverIsUp = (address: string) => (host.readConfig(address)[4]! & 4) !== 0;
    const capture = `${scratch}/frames.pcap`;
    {
      using writer = new CaptureWriter(capture);
      for (let i = 0; i < 100; i++) {
        const frame = new Uint8Array(100).fill(i);
        frame.set(MAC_OF_SECOND_VF);
        writer.write(frame);
      }
    }
    const at = ["--host", served.directory];
    const endless = ["--count", "1000000000"];
    const cases: readonly [string, readonly string[], RegExp][] = [
      [VFS[0], ["net", "send", VFS[0], capture, "--repeat", "1000000000"], /, then interrupted\n$/],
      [VFS[0], ["net", "send", VFS[0], capture, "--repeat", "9", "--rate", "1"], /, then interrupted\n$/],
      [VFS[1], ["net", "loop", ...VFS, ...endless], /interrupted by SIG/],
      [VFS[1], ["net", "loop", ...VFS, ...endless, "--interrupts", "none"], /interrupted by SIG/],
      [RNG, ["rng", RNG, "1000000000", "--output", `${scratch}/random`], /interrupted by SIG/],
    ];
    // One place listens for all signals: each command hears one of them.
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
    for (const [turn, signal] of signals.entries()) {
      for (const [address, args, says] of cases.filter((_, i) => i % 3 === turn)) {
        await t.step(`${signal}: ${args.join(" ").replace(scratch, "")}`, async () => {
          const { code, out, err } = await interrupted(signal, opened(address), [...at, ...args]);
          assertEquals(code, STATUS[signal], err);
          assertMatch(out + err, says);
          assertEquals((out + err).split("\n").length, 2, out + err);
          assertEquals(host.describe(address).heldBy, undefined);
        });
      }
      if (signal === "SIGINT") continue;
      await t.step(`${signal}: net receive keeps what came, although more comes all the time`, async () => {
        const got = `${scratch}/got-${signal}.pcap`;
        const sending = startCli({}, ...at, "net", "send", VFS[0], capture, "--repeat", "1000000000");
        const sent = sending.output();
        try {
          await until(opened(VFS[0]));
          // It is written beside its place.
          const some = () => {
            const part = readDirectory(scratch).find(({ name }) => name.startsWith(`got-${signal}.pcap.`));
            return part !== undefined && readFile(`${scratch}/${part.name}`).length > 1 << 20;
          };
          const { code, out } = await interrupted(signal, some, [...at, "net", "receive", VFS[1], got]);
          assertEquals(code, 0);
          using reader = CaptureReader.open(got);
          const frames = [...reader].length;
          assert(frames > 1000);
          assertMatch(out, new RegExp(`: ${frames} frames, ${frames * 100} bytes in `));
        } finally {
          sending.kill("SIGTERM");
          await sent;
        }
      });
    }
    await t.step("SIGINT: bench tells what it has", async () => {
      const args = ["bench", "net", ...VFS, "--seconds", "3600"];
      const { code, out, err } = await interrupted("SIGINT", opened(VFS[1]), [...at, ...args]);
      assertEquals([code, err], [STATUS.SIGINT, "interrupted: what was measured until then\n"]);
      assertMatch(out, /^WAY +BURST /m);
      assertEquals(VFS.map((address) => host.describe(address).heldBy), [undefined, undefined]);
    });
    assertEquals(served.violations(), []);
    const left = readDirectory(scratch).map(({ name }) => name);
    assertEquals(
      left,
      ["frames.pcap", "got-SIGHUP.pcap", "got-SIGTERM.pcap"],
      "nothing of what was cut short",
    );
  } finally {
    removeTree(scratch);
    await served.stop();
  }
});

Deno.test("a demo that is interrupted or killed leaves no directory and no process behind", async (t) => {
  const temporary = makeTemporaryDirectory();
  const env = { TMPDIR: temporary };
  const directories = () => readDirectory(temporary).map(({ name }) => `${temporary}/${name}`);
  const ready = () => directories().some((one) => accessible(`${one}/0000:01:00.2.sock`));
  try {
    for (const [signal, long] of [["SIGINT", "--frames"], ["SIGTERM", "--interrupt-frames"]] as const) {
      await t.step(`${signal}, ${long}: put back first`, async () => {
        const { code, out, err } = await interrupted(signal, ready, ["demo", long, "1000000000"], env);
        assertEquals([code, err], [STATUS[signal], `ringside: interrupted by ${signal}\n`]);
        assertMatch(out, /restore +4 changes undone; 0000:01:00\.0 is on virtio-pci\n$/);
        assertEquals(directories(), []);
      });
    }
    await t.step("SIGKILL: its host ends with it", async () => {
      // `output` ends when the last holder of standard error has gone, the host's process included.
      const { code } = await interrupted("SIGKILL", ready, ["demo", "--frames", "1000000000"], env);
      assertEquals(code, STATUS.SIGKILL);
      assertEquals(directories(), []);
    });
    await t.step("two at once", async () => {
      const small = ["demo", "--frames", "1000", "--interrupt-frames", "10"];
      const results = await Promise.all([cliWith({ env }, ...small), cliWith({ env }, ...small)]);
      assertEquals(results.map((one) => one.code), [0, 0], results.map((one) => one.err).join(""));
      assertEquals(directories(), []);
    });
  } finally {
    removeTree(temporary);
  }
});

Deno.test("demo where no directory can be made: one line, with what to do", async () => {
  const { code, err } = await cliWith({ env: { TMPDIR: "/proc/self" } }, "demo");
  assertEquals(code, 2);
  assertMatch(err, /^ringside: mkdir \/proc\/self\/ringside-\S+: ENOENT [^\n]*TMPDIR[^\n]*\n$/);
});

Deno.test("emulate --temporary ends with standard input; it takes no directory that holds something", async () => {
  const parent = makeTemporaryDirectory();
  try {
    const directory = `${parent}/host`;
    const child = startCli({ stdin: "piped" }, "emulate", directory, "--temporary", "--json");
    const output = child.output();
    await until(() => accessible(`${directory}/ready`));
    await child.stdin.close();
    const { code, stdout } = await output;
    const lines = new TextDecoder().decode(stdout).trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals(code, 0);
    assertEquals(lines.map((one) => [one.ready, one.ended]), [[true, undefined], [undefined, true]]);
    assertEquals(accessible(directory), false);

    replaceFile(`${parent}/something.pcap`, new Uint8Array(1));
    const refused = await cliWith({}, "emulate", parent, "--temporary");
    assertEquals(refused.code, 1);
    assertMatch(refused.err, /is not empty/);
    assert(accessible(`${parent}/something.pcap`));
  } finally {
    removeTree(parent);
  }
});
