import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { readFile, removeFile, replaceFile } from "../../../ffi/mod.ts";
import { CaptureReader, CaptureWriter } from "../../../lib/capture/mod.ts";
import { cli, type CliResult, startCli } from "./run_cli.ts";

const PF = "0000:01:00.0";
const VFS = ["0000:01:00.1", "0000:01:00.2"] as const;
const RNG = "0000:02:00.0";
const MANAGEMENT = "0000:03:00.0";
const PLATFORM = "a003e00.virtio_mmio";

function json(result: CliResult): Record<string, unknown> {
  assertEquals(result.code, 0, result.err);
  return JSON.parse(result.out);
}

Deno.test("the commands on the embedded host, in the order of a bring-up, as text and as JSON", async (t) => {
  const host = await startEmulatedHost();
  const run = (...args: string[]) => cli("--host", host.directory, ...args);
  const scratch = `/tmp/ringside-commands-${crypto.randomUUID()}`;
  try {
    await t.step("list", async () => {
      const result = await run("list");
      assertEquals(result.code, 0);
      assertMatch(result.out, /^FUNCTION +ID +CLASS +NAME +DRIVER +GROUP +NUMA +VFS +USED BY\n/);
      assertMatch(result.out, /0000:01:00\.0 +1af4:1041 .*virtio-pci .*0\/4/);
      const listed = JSON.parse((await run("list", "--json")).out) as { address: string }[];
      assertEquals(listed.map((one) => one.address), [PF, RNG, MANAGEMENT, PLATFORM]);
      const onlyPf = JSON.parse((await run("list", "--json", "--sriov")).out) as { address: string }[];
      assertEquals(onlyPf.map((one) => one.address), [PF]);
    });
    await t.step("bind", async () => {
      assertEquals((await run("bind", "01:00.0")).out, `${PF}: virtio-pci -> vfio-pci\n`);
      assertEquals((await run("bind", "01:00.0")).out, `${PF} is on vfio-pci already\n`);
      assertEquals(json(await run("bind", RNG, "--json")), {
        function: RNG,
        before: "virtio-pci",
        driver: "vfio-pci",
      });
    });
    await t.step("sriov", async () => {
      const made = json(await run("sriov", PF, "2", "--json"));
      assertEquals(made.numVfs, 2);
      assertEquals((made.vfs as { function: string }[]).map((one) => one.function), [...VFS]);
    });
    await t.step("show", async () => {
      const text = (await run("show", PF)).out;
      assertMatch(text, /^01:00\.0 Ethernet controller: Red Hat, Inc\. Virtio 1\.0 network device/);
      assertMatch(text, /Single Root I\/O Virtualization \(SR-IOV\)/);
      assertMatch(text, /Interrupt MSI-X: \d+ vectors/);
      assertMatch(text, /VIRTIO_F_SR_IOV/);
      const vf = (await run("show", VFS[0], "--hex")).out;
      assertMatch(vf, /^01:00\.1 Ethernet controller: Red Hat, Inc\. Virtio 1\.0 network device/);
      assertMatch(vf, /\n000: /);
      const shown = json(await run("show", VFS[0], "--json")) as { vfio: { path: string; virtio: object } };
      assertEquals(shown.vfio.path, "vfio-user");
      assertEquals((shown.vfio.virtio as { deviceId: number }).deviceId, 1);
    });
    await t.step("status", async () => {
      const status = json(await run("status", "--json")) as { journal: unknown[]; vfio: unknown[] };
      assertEquals(status.vfio.length, 4);
      assert(status.journal.length >= 5);
      assertMatch(
        (await run("status")).out,
        /restore would put back:\n.*0000:01:00\.0 driver: vfio-pci -> virtio-pci/,
      );
    });
    for (const name of ["out.pcap", "out.pcapng"]) {
      await t.step(`net send and receive a capture (${name})`, async () => {
        const [sent, got] = [`${scratch}-${name}`, `${scratch}-got-${name}`];
        // To the second VF's address, so that its filter takes them: 52:54:00:01:00:02.
        const frames = Array.from({ length: 200 }, (_, i) => {
          const bytes = new Uint8Array(60 + (i * 7) % 1400).map((_, at) => (i + at) & 0xff);
          bytes.set([0x52, 0x54, 0, 1, 0, 2], 0);
          return bytes;
        });
        {
          using writer = new CaptureWriter(sent);
          for (const frame of frames) writer.write(frame);
        }
        const receiving = run("net", "receive", VFS[1], got, "--count", "200", "--seconds", "120", "--json");
        await until(async () => (await held(run, VFS[1])));
        const sending = json(await run("net", "send", VFS[0], sent, "--json"));
        assertEquals([sending.sent, sending.skipped], [200, 0]);
        assertEquals(json(await receiving).received, 200);
        using reader = CaptureReader.open(got);
        assertEquals([...reader].map((frame) => frame.bytes), frames);
        removeFile(sent);
        removeFile(got);
      });
    }
    await t.step(
      "net send of a capture that breaks off: what comes before is sent and told of, then the error",
      async () => {
        const path = `${scratch}-cut.pcap`;
        {
          using writer = new CaptureWriter(path);
          for (let i = 0; i < 3; i++) writer.write(new Uint8Array(64).fill(i));
        }
        replaceFile(path, readFile(path).slice(0, -20));
        const cut = await run("net", "send", VFS[0], path, "--json");
        const { sent, error } = JSON.parse(cut.out);
        assertEquals([cut.code, sent, error.type], [2, 2, "InputError"]);
        assertMatch(cut.err, /broken pcap file: ends within a frame \(at byte 244, after 2 frames\)/);
        removeFile(path);
      },
    );
    await t.step("net loop, by interrupt and polled, and with a capture", async () => {
      const loop = json(await run("net", "loop", VFS[0], VFS[1], "--count", "500", "--json"));
      assertEquals(loop.frames, 500);
      assertMatch(
        (await run(
          "net",
          "loop",
          VFS[0],
          VFS[1],
          "--count",
          "5000",
          "--interrupts",
          "none",
          "--frame-bytes",
          "200",
        )).out,
        /0000:01:00\.1 -> 0000:01:00\.2: 5000 frames, 1000000 bytes, every byte as sent; \d+ frames\/s, polled\n/,
      );
      const file = `${scratch}-loop.pcap`;
      {
        using writer = new CaptureWriter(file);
        for (let i = 0; i < 10; i++) writer.write(new Uint8Array(64 + i).fill(i));
      }
      const replay = json(
        await run("net", "loop", VFS[0], VFS[1], "--capture", file, "--count", "100", "--json"),
      );
      assertEquals(replay.frames, 100);
      removeFile(file);
    });
    await t.step("rng", async () => {
      assertMatch((await run("rng", RNG, "40")).out, /^[0-9a-f]{64}\n[0-9a-f]{16}\n$/);
      const file = `${scratch}-random`;
      const told = json(await run("rng", RNG, "5000", "--output", file, "--json"));
      assertEquals(told.bytes, 5000);
      const bytes = readFile(file);
      assertEquals(bytes.length, 5000);
      assert(new Set(bytes).size > 200, "not random");
      removeFile(file);
    });
    await t.step("doctor", async () => {
      const found = json(await run("doctor", "--json")) as { ready: boolean };
      assertEquals(found.ready, true);
    });
    await t.step("restore", async () => {
      const restored = json(await run("restore", "--json")) as { done: unknown[]; failed: unknown[] };
      assertEquals(restored.failed, []);
      assert(restored.done.length >= 5);
      assertEquals((await run("restore")).out, "nothing to put back\n");
      const listed = JSON.parse((await run("list", "--json")).out) as { address: string; driver: string }[];
      const there = [PF, RNG, MANAGEMENT].map((address) => [address, "virtio-pci"]);
      assertEquals(listed.map((one) => [one.address, one.driver]), [...there, [PLATFORM, "virtio-mmio"]]);
    });
    await t.step("no violation was reported", () => assertEquals(host.violations(), []));
  } finally {
    await host.stop();
  }
});

async function held(run: (...args: string[]) => Promise<CliResult>, address: string): Promise<boolean> {
  const { held } = json(await run("status", "--json")) as { held: { function: string }[] };
  return held.some((one) => one.function === address);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("it never came true");
}

Deno.test("demo as JSON: counts as asked for, host put back", async () => {
  const result = await cli("demo", "--frames", "3000", "--interrupt-frames", "100", "--vfs", "3", "--json");
  const told = json(result) as { ok: boolean; steps: { step: string; found: string }[] };
  assertEquals(told.ok, true);
  const found = (step: string) =>
    told.steps.filter((one) => one.step === step).map((one) => one.found).join("\n");
  assertMatch(found("polling"), /^3000 frames, \d+ bytes, all as sent/);
  assertMatch(
    found("speed"),
    /^64 bytes [\d.]+ million frames\/s, [\d.]+ Gbit\/s; 1514 bytes [\d.]+ million frames\/s, [\d.]+ Gbit\/s$/,
  );
  assertMatch(found("interrupts"), /^100 frames, .* interrupts by msix$/);
  assertMatch(found("VFs"), /0000:01:00\.1, 0000:01:00\.2, 0000:01:00\.3/);
  assertMatch(found("host"), /as it was/);
});

Deno.test("help, version and completion", async () => {
  assertMatch((await cli("--help")).out, /list +List PCI functions/);
  assertMatch((await cli("net", "loop", "--help")).out, /check every byte/);
  assertMatch((await cli("--version")).out, /0\.1\.0/);
  assertMatch((await cli("completion", "bash")).out, /ringside/);
});

Deno.test("two processes: the second is refused while the first drives the function", async () => {
  const host = await startEmulatedHost();
  const run = (...args: string[]) => cli("--host", host.directory, ...args);
  try {
    await run("bind", PF);
    const capture = `/tmp/ringside-held-${crypto.randomUUID()}.pcap`;
    const first = startCli({}, "--host", host.directory, "net", "receive", PF, capture, "--json");
    const receiving = first.output();
    await until(() => held(run, PF));
    const second = await run("net", "receive", PF, `${capture}.2`, "--seconds", "1");
    assertEquals(second.code, 1);
    assertMatch(second.err, /0000:01:00\.0 is in use by pid \d+/);
    const unbind = await run("bind", PF, "--driver", "virtio-pci");
    assertEquals(unbind.code, 1);
    first.kill("SIGINT");
    const { code, stdout } = await receiving;
    assertEquals([code, JSON.parse(new TextDecoder().decode(stdout)).received], [0, 0]);
    removeFile(capture);
    removeFile(`${capture}.2`);
  } finally {
    await host.stop();
  }
});
